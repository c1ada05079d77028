// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {
    Channel,
    ChannelState,
    IPaymentChannels,
    Redemption,
    Voucher
} from "../src/interfaces/IPaymentChannels.sol";
import {ChannelFixture} from "./support/ChannelFixture.sol";

/// @dev Six channels of two clients, three nodes of two owners, driven at random: every call in any order, with any
/// time in between. It keeps its own book: what was put in, the largest voucher that was taken, what is due.
contract ChannelHandler is ChannelFixture {
    uint256 internal constant K = 6;
    Channel[K] private _all;
    mapping(uint256 k => uint256) public put; // in this epoch
    mapping(uint256 k => uint256) public best; // largest voucher taken in this epoch, capped by the deposit then
    mapping(uint256 k => uint24) public epoch;
    mapping(address => uint256) public earned; // by the book
    mapping(address => uint256) public returned;
    mapping(address => uint256) public spent;
    mapping(ChannelState => uint256) public seen;
    uint256 public rebought; // slots that were non-zero and became zero
    uint256 public early; // refunds before the challenge period was over

    function setUp() public override {
        super.setUp();
        token.transfer(OTHER, 1e6 * E18);
        bytes32 sibling = bytes32(uint256(nodes[0]) + 1); // another node of the first owner
        bytes32[3] memory where = [nodes[0], sibling, nodes[1]];
        for (uint256 k; k < K; ++k) {
            _all[k] = Channel(k % 2 == 0 ? CLIENT : OTHER, where[k / 2], vm.addr(SESSION));
        }
    }

    // --- what the invariants read -----------------------------------------------------------------------------

    function channel(uint256 k) public view returns (ChannelState state, IPaymentChannels.Record memory s) {
        return channels.channelOf(_id(_all[k]));
    }

    function inContract() external view returns (uint256) {
        return _has(address(channels));
    }

    function ownerBalance(uint256 i) external view returns (uint256 has, uint256 book) {
        return (_has(owners[i]), earned[owners[i]]);
    }

    function clientBalance(bool first) external view returns (uint256 has, uint256 book) {
        address c = first ? CLIENT : OTHER;
        return (_has(c) + spent[c], (first ? 9e5 : 1e6) * E18 + returned[c]);
    }

    // --- calls ------------------------------------------------------------------------------------------------

    function open(uint256 k, uint96 amount) external {
        k %= K;
        amount %= 1e20;
        uint24 before = _record(_all[k]).epoch;
        _open(_all[k], amount);
        if (_record(_all[k]).epoch != before + 1) ++rebought;
        (epoch[k], put[k], best[k]) = (before + 1, amount, 0);
        spent[_all[k].client] += amount;
        _look(k);
    }

    function topUp(uint256 k, uint96 amount) external {
        k %= K;
        amount %= 1e20;
        _topUp(_all[k], amount);
        put[k] += amount;
        spent[_all[k].client] += amount;
        _look(k);
    }

    function redeem(uint256 k, uint256 amount, uint8 slip) external {
        k %= K;
        Voucher memory v = _signed(k, amount, slip);
        vm.prank(OTHER);
        channels.redeem(_all[k], v);
        _taken(k, v.cumulativeAmount);
    }

    function redeemMany(uint256 seed, uint8 slip) external {
        Redemption[] memory batch = new Redemption[](4);
        uint256[4] memory which;
        uint96[4] memory claimed;
        for (uint256 i; i < 4; ++i) {
            which[i] = (seed >> (8 * i)) % K;
            batch[i] = Redemption(
                _all[which[i]], _signed(which[i], uint256(keccak256(abi.encode(seed, i))), slip + uint8(i))
            );
            claimed[i] = _record(_all[which[i]]).claimed;
        }
        channels.redeemMany(batch);
        for (uint256 i; i < 4; ++i) {
            if (_record(_all[which[i]]).claimed != claimed[i]) {
                if (_valid(slip + uint8(i))) _taken(which[i], batch[i].voucher.cumulativeAmount);
            }
        }
    }

    function close(uint256 k, uint256 amount, uint8 slip) external {
        k %= K;
        Voucher memory v = amount % 4 == 0 ? _noVoucher() : _signed(k, amount, slip);
        _close(_all[k], v);
        if (v.cumulativeAmount != 0 && _valid(slip)) _taken(k, v.cumulativeAmount);
        _ended(k);
    }

    function requestClose(uint256 k) external {
        k %= K;
        _requestClose(_all[k]);
        _look(k);
    }

    function finish(uint256 k) external {
        k %= K;
        uint40 end = _record(_all[k]).closesAt;
        channels.finish(_all[k]);
        if (block.timestamp <= end) ++early;
        _ended(k);
    }

    function wait(uint256 s) external {
        vm.warp(block.timestamp + s % 4 hours);
    }

    // --- the book ---------------------------------------------------------------------------------------------

    /// @dev One in eight is signed by the wrong key, one for the epoch before.
    function _signed(uint256 k, uint256 amount, uint8 slip) private view returns (Voucher memory) {
        uint24 e = slip % 8 == 1 ? epoch[k] - 1 : epoch[k];
        amount = 1 + amount % (put[k] + put[k] / 4 + 1);
        return _voucher(_all[k], slip % 8 == 0 ? SESSION + 1 : SESSION, e, amount);
    }

    function _valid(uint8 slip) private pure returns (bool) {
        return slip % 8 > 1;
    }

    function _taken(uint256 k, uint256 amount) private {
        if (amount > put[k]) amount = put[k];
        if (amount > best[k]) {
            earned[address(uint160(uint256(_all[k].node) >> 96))] += amount - best[k];
            best[k] = amount;
        }
        _look(k);
    }

    function _ended(uint256 k) private {
        returned[_all[k].client] += put[k] - best[k];
        (put[k], best[k]) = (0, 0);
        _look(k);
    }

    function _look(uint256 k) private {
        ++seen[_state(_all[k])];
        if (epoch[k] != 0 && _record(_all[k]).epoch == 0) ++rebought;
    }
}

contract ChannelInvariantsTest is ChannelFixture {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint256 private constant K = 6;
    ChannelHandler private _handler;

    function setUp() public override {
        _handler = new ChannelHandler();
        _handler.setUp();
        targetContract(address(_handler));
    }

    function targetSelectors() public view returns (FuzzSelector[] memory f) {
        f = new FuzzSelector[](1);
        bytes4[9] memory calls = [
            ChannelHandler.open.selector,
            ChannelHandler.open.selector, // most of the rest needs a channel
            ChannelHandler.topUp.selector,
            ChannelHandler.redeem.selector,
            ChannelHandler.redeemMany.selector,
            ChannelHandler.close.selector,
            ChannelHandler.requestClose.selector,
            ChannelHandler.finish.selector,
            ChannelHandler.wait.selector
        ];
        f[0].addr = address(_handler);
        f[0].selectors = new bytes4[](9);
        for (uint256 i; i < 9; ++i) {
            f[0].selectors[i] = calls[i];
        }
    }

    /// @dev One invariant, because each of them drives the handler anew.
    function invariant_every_unit_is_where_the_book_says() public view {
        uint256 locked;
        for (uint256 k; k < K; ++k) {
            (ChannelState state, IPaymentChannels.Record memory s) = _handler.channel(k);
            assertTrue(s.claimed <= s.deposit, "claimed is a part of the deposit");
            assertEq(s.deposit, _handler.put(k), "deposit");
            assertEq(s.claimed, _handler.best(k), "the largest valid voucher");
            assertEq(s.epoch, _handler.epoch(k), "every opening counts");
            if (state == ChannelState.NONE || state == ChannelState.CLOSED) {
                assertEq(uint256(s.deposit) + s.claimed + s.closesAt, 0, "a closed channel holds nothing");
            }
            locked += s.deposit - s.claimed;
        }
        assertEq(_handler.inContract(), locked, "tokens = what open channels hold");
        for (uint256 i; i < 2; ++i) {
            (uint256 has, uint256 book) = _handler.ownerBalance(i);
            assertEq(has, book, "an owner's total");
            (has, book) = _handler.clientBalance(i == 0);
            assertEq(has, book, "a client's rest");
        }
        assertEq(_handler.rebought(), 0, "no slot is bought twice");
        assertEq(_handler.early(), 0, "no refund before its time");
    }

    /// @dev The handler does reach every state; otherwise the invariant would hold for want of events.
    function test_the_handler_reaches_every_state() public {
        _handler.open(0, 1e19);
        _handler.topUp(0, 5);
        _handler.redeem(0, 77, 2);
        _handler.requestClose(0);
        _handler.redeem(0, 1e18, 2);
        for (uint256 i; i < 3; ++i) {
            _handler.wait(4 hours - 1);
        }
        _handler.finish(0);
        _handler.open(0, 1e19);
        _handler.open(5, 1e19);
        _handler.redeemMany(0x05000500, 2);
        _handler.close(5, 1e18 + 1, 3);
        assertTrue(_handler.seen(ChannelState.OPEN) != 0, "opened, topped up, redeemed");
        assertTrue(_handler.seen(ChannelState.CLOSING) != 0, "asked for, and answered");
        assertTrue(_handler.seen(ChannelState.CLOSED) != 0, "finished, and closed");
        invariant_every_unit_is_where_the_book_says();
    }
}
