// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ComputeToken} from "../../src/ComputeToken.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {PaymentChannels} from "../../src/PaymentChannels.sol";
import {
    Channel,
    ChannelState,
    IPaymentChannels,
    Redemption,
    Voucher
} from "../../src/interfaces/IPaymentChannels.sol";
import {ChannelFixture} from "../support/ChannelFixture.sol";
import {CallingToken} from "./Limits.t.sol";

/// @dev Vouchers that should not pay, closes that should not win, and the edges of the channel's word.
contract VouchersAttacks is ChannelFixture {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public override {
        super.setUp();
        _open(chan, DEPOSIT);
    }

    // --- vouchers ---------------------------------------------------------------------------------------------

    function test_a_lower_or_equal_voucher_pays_nothing() public {
        _redeem(chan, 5e18);
        for (uint256 amount = 5e18; amount > 0; amount -= 1e18) {
            Voucher memory v = _voucher(chan, amount);
            expect(IPaymentChannels.NothingNew.selector, 5e18);
            channels.redeem(chan, v);
        }
        assertEq(_has(owner), 5e18, "once");
    }

    function test_a_voucher_above_the_deposit_pays_the_deposit_and_more_only_when_it_grows() public {
        Voucher memory v = _voucher(chan, uint256(DEPOSIT) + 4);
        channels.redeem(chan, v);
        assertEq(_has(owner), DEPOSIT, "no more than there is");
        expect(IPaymentChannels.NothingNew.selector, DEPOSIT);
        channels.redeem(chan, v);
        _topUp(chan, 10);
        channels.redeem(chan, v);
        assertEq(_has(owner), uint256(DEPOSIT) + 4, "what was promised");
    }

    function test_two_vouchers_for_one_window_pay_once() public {
        Voucher memory one = _voucher(chan, 1e18);
        Voucher memory other = _voucher(chan, 1e18);
        other.receiptsRoot = "other receipts";
        _expectBad(other); // the root is signed
        channels.redeem(chan, one);
        expect(IPaymentChannels.NothingNew.selector, 1e18);
        channels.redeem(chan, other);
    }

    function test_vouchers_of_another_epoch() public {
        Voucher memory old = _voucher(chan, 9e18);
        _close(chan, old);
        _expectState(chan, ChannelState.CLOSED);
        channels.redeem(chan, old);
        _open(chan, DEPOSIT);
        _expectBad(old);
        _expectBad(_voucher(chan, SESSION, 3, 9e18)); // signed ahead
        assertEq(_has(owner), 9e18, "once");
        _redeem(chan, 1e18);
        assertEq(_has(owner), 10e18, "the new epoch pays from nought");
    }

    function test_vouchers_of_another_channel() public {
        Channel[3] memory others = [
            Channel(CLIENT, nodes[1], chan.sessionKey),
            Channel(OTHER, nodes[0], chan.sessionKey),
            Channel(CLIENT, bytes32(uint256(nodes[0]) + 1), chan.sessionKey) // another node of the same owner
        ];
        token.transfer(OTHER, DEPOSIT);
        for (uint256 i; i < 3; ++i) {
            _open(others[i], DEPOSIT);
            _expectBad(_voucher(others[i], 1e18));
        }
        _redeem(others[2], 1e18);
        assertEq(_has(owner), 1e18, "each channel of an owner pays by itself");
        assertEq(_record(chan).claimed, 0, "and touches no other");
    }

    function test_vouchers_of_another_chain_or_contract() public {
        Voucher memory here = _voucher(chan, 1e18);
        uint256 chain = block.chainid;
        vm.chainId(1329);
        Voucher memory there = _voucher(chan, 1e18);
        vm.expectRevert(); // there is no such channel on that chain
        channels.redeem(chan, here);
        vm.chainId(chain);
        _expectBad(there);
        PaymentChannels first = channels;
        channels = new PaymentChannels(token, registry, PERIOD);
        _open(chan, DEPOSIT);
        _expectBad(here);
        there = _voucher(chan, 1e18);
        channels = first;
        _expectBad(there);
        channels.redeem(chan, here);
    }

    /// @dev The id binds chain and contract by itself, and so does the digest: what is signed for the right id
    /// elsewhere is not signed here.
    function test_the_right_id_signed_in_another_domain() public {
        bytes32 id = _id(chan);
        bytes32 typeHash =
            keccak256("Voucher(bytes32 channelId,uint24 epoch,uint96 cumulativeAmount,bytes32 receiptsRoot)");
        bytes32 hash = keccak256(abi.encode(typeHash, id, 1, 1e18, ROOT));
        bytes32[3] memory digests = [
            _digest(hash, "deai channels", address(escrow)),
            _digest(hash, "deai escrow", address(channels)),
            hash
        ];
        for (uint256 i; i < 3; ++i) {
            (bytes32 r, bytes32 vs) = compact(SESSION, digests[i]);
            _expectBad(Voucher(1e18, ROOT, r, vs));
        }
        (bytes32 a, bytes32 b) = compact(SESSION, _digest(hash, "deai channels", address(channels)));
        channels.redeem(chan, Voucher(1e18, ROOT, a, b));
    }

    function test_bad_signatures() public {
        Voucher memory v = _voucher(chan, 1e18);
        uint256 s = uint256(v.vs) & (type(uint256).max >> 1);
        uint256 odd = uint256(v.vs) >> 255;
        _expectBad(Voucher(1e18, ROOT, 0, 0));
        _expectBad(Voucher(1e18, ROOT, v.r, 0));
        _expectBad(Voucher(1e18, ROOT, 0, v.vs));
        _expectBad(Voucher(2e18, ROOT, v.r, v.vs));
        _expectBad(Voucher(1e18, "", v.r, v.vs));
        _expectBad(Voucher(1e18, ROOT, v.r, bytes32(s | ((odd ^ 1) << 255))));
        _expectBad(Voucher(1e18, ROOT, v.r, bytes32((ORDER - s) | ((odd ^ 1) << 255)))); // the other half
        _expectBad(_voucher(chan, keys[0], 1, 1e18)); // the node's own key
        channels.redeem(chan, v);
    }

    function testFuzz_nothing_but_the_session_key_signs(bytes32 r, bytes32 vs, uint256 key) public {
        key = bound(key, 1, ORDER - 1);
        if (key != SESSION) _expectBad(_voucher(chan, key, 1, 1e18));
        _expectBad(Voucher(1e18, ROOT, r, vs));
    }

    function testFuzz_the_largest_voucher_pays_whatever_the_order(uint96[8] memory amounts, uint256 batches)
        public
    {
        uint256 most;
        Redemption[] memory pair = new Redemption[](2);
        for (uint256 i; i < 8; i += 2) {
            for (uint256 k; k < 2; ++k) {
                uint96 amount = uint96(bound(amounts[i + k], 1, uint256(DEPOSIT) * 5 / 4));
                if (amount > most) most = amount;
                pair[k] = Redemption(chan, _voucher(chan, amount));
            }
            if ((batches >> i) & 1 == 0) {
                try channels.redeemMany(pair) {} catch {}
            } else {
                try channels.redeem(chan, pair[0].voucher) {} catch {}
                try channels.redeem(chan, pair[1].voucher) {} catch {}
            }
        }
        if (most > DEPOSIT) most = DEPOSIT;
        assertEq(_has(owner), most, "the largest, as far as the deposit goes");
        uint256 before = _has(CLIENT);
        _close(chan, _noVoucher());
        assertEq(_has(CLIENT) - before, DEPOSIT - most, "the rest");
    }

    // --- closes -----------------------------------------------------------------------------------------------

    /// @dev A watchtower that holds vouchers and no key answers for a node that is away.
    function test_a_stale_close_is_answered_by_whoever_holds_the_voucher() public {
        _redeem(chan, 1e18);
        Voucher memory last = _voucher(chan, 80e18);
        _requestClose(chan);
        vm.warp(_record(chan).closesAt);
        vm.prank(OTHER);
        channels.redeem(chan, last);
        assertEq(_has(owner), 80e18, "to the owner, and in full");
        uint256 before = _has(CLIENT);
        _afterPeriod();
        channels.finish(chan);
        assertEq(_has(CLIENT) - before, 20e18, "the client gets no more than its rest");
    }

    function test_a_voucher_that_comes_too_late() public {
        Voucher memory v = _voucher(chan, 1e18);
        _requestClose(chan);
        uint40 end = _record(chan).closesAt;
        _afterPeriod();
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.TooLate.selector, end));
        channels.redeem(chan, v);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.TooLate.selector, end));
        _close(chan, v);
        channels.finish(chan);
        vm.warp(block.timestamp + 365 days);
        _expectState(chan, ChannelState.CLOSED);
        channels.redeem(chan, v);
        _open(chan, DEPOSIT);
        _expectBad(v); // a key that was stolen long ago signs for nothing that was signed then
    }

    function test_the_client_gets_nothing_back_before_the_period_is_over() public {
        uint256 before = _has(CLIENT);
        _requestClose(chan);
        uint40 end = _record(chan).closesAt;
        vm.warp(block.timestamp + 100);
        _expectState(chan, ChannelState.CLOSING); // asking again neither shortens nor prolongs it
        _requestClose(chan);
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.TooEarly.selector, end));
        channels.finish(chan);
        assertEq(_has(CLIENT), before, "nothing");
    }

    function test_a_session_key_lives_as_long_as_its_channel() public {
        Channel memory next = Channel(CLIENT, nodes[0], vm.addr(SESSION + 1));
        _open(next, DEPOSIT); // a new key is a new channel; the old one goes on
        _redeem(chan, 1e18);
        _requestClose(chan);
        _redeem(chan, 2e18); // asking for the rest takes nothing from the node
        Voucher memory v = _voucher(next, SESSION, 1, 1e18);
        expect(IPaymentChannels.BadSignature.selector);
        channels.redeem(next, v);
        assertEq(_has(owner), 2e18, "paid");
    }

    function test_an_owner_that_closes_with_a_bad_voucher_has_not_closed() public {
        Voucher memory v = _voucher(chan, 7e18);
        v.cumulativeAmount += 1;
        expect(IPaymentChannels.BadSignature.selector);
        _close(chan, v);
        _close(chan, _voucher(chan, 7e18));
        assertEq(_has(owner), 7e18, "nothing was lost by the slip");
    }

    function test_a_deposit_is_spent_once() public {
        Channel memory second = Channel(OTHER, nodes[1], chan.sessionKey);
        token.transfer(OTHER, DEPOSIT);
        _open(second, DEPOSIT);
        Channel memory third = Channel(OTHER, nodes[2], chan.sessionKey);
        vm.expectRevert(
            abi.encodeWithSignature("ERC20InsufficientBalance(address,uint256,uint256)", OTHER, 0, DEPOSIT)
        );
        _open(third, DEPOSIT);
        _redeem(second, DEPOSIT);
        _redeem(chan, DEPOSIT);
        assertEq(_has(owners[1]), DEPOSIT, "what one channel locked");
        assertEq(_has(owner), DEPOSIT, "is nobody else's");
    }

    // --- edges ------------------------------------------------------------------------------------------------

    function test_the_whole_supply_in_one_channel() public {
        token = new ComputeToken(CLIENT, type(uint96).max);
        (registry, escrow) = _deploy(token);
        channels = new PaymentChannels(token, registry, PERIOD);
        _open(chan, type(uint96).max - 1);
        _topUp(chan, 1);
        assertEq(_record(chan).deposit, type(uint96).max, "fits");
        _redeem(chan, type(uint96).max - 1);
        assertEq(_record(chan).epoch, 1, "no field runs into the next");
        _redeem(chan, type(uint96).max);
        assertEq(_has(owner), type(uint96).max, "all of it");
        _close(chan, _voucher(chan, type(uint96).max));
        assertTrue(_state(chan) == ChannelState.CLOSED, "closed");
    }

    function test_the_last_epoch() public {
        Channel memory c = Channel(CLIENT, nodes[3], chan.sessionKey);
        _setRecord(_id(c), 0, 0, 0, type(uint24).max - 1);
        assertTrue(_state(c) == ChannelState.CLOSED, "the right slot");
        _open(c, DEPOSIT);
        assertEq(_record(c).epoch, type(uint24).max, "the last");
        _redeem(c, 1e18);
        _close(c, _noVoucher());
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.UsedUp.selector, _id(c)));
        _open(c, DEPOSIT);
    }

    function test_dirty_words_are_no_channel_and_no_voucher() public {
        bytes memory call = abi.encodeCall(channels.redeem, (chan, _voucher(chan, 1e18)));
        uint256[3] memory narrow = [uint256(0), 2, 3]; // client, session key, amount
        for (uint256 i; i < 3; ++i) {
            bytes memory dirty = bytes.concat(call);
            uint256 field = narrow[i];
            assembly {
                let place := add(add(dirty, 36), mul(field, 32))
                mstore(place, or(mload(place), shl(255, 1)))
            }
            (bool ok,) = address(channels).call(dirty);
            assertTrue(!ok, "high bits are refused");
        }
        (bool fine,) = address(channels).call(call);
        assertTrue(fine, "the same without them");
    }

    function test_a_hundred_channels_fit_a_block_several_times() public {
        Redemption[] memory batch = new Redemption[](100);
        for (uint256 i; i < 100; ++i) {
            Channel memory c = Channel(CLIENT, nodes[0], vm.addr(SESSION + 1 + i));
            _open(c, 1e18);
            batch[i] = Redemption(c, _voucher(c, SESSION + 1 + i, 1, 1e18));
        }
        uint256 before = gasleft();
        channels.redeemMany(batch);
        assertTrue(before - gasleft() < 12_500_000 / 4, "a quarter of a block of Sei");
        assertEq(_has(owner), 100e18, "all of them");
    }

    function test_a_token_with_more_units_than_an_amount_holds() public {
        (CallingToken fat, NodeRegistry r) = _strange(1 << 96);
        vm.expectRevert();
        new PaymentChannels(IERC20(address(fat)), r, PERIOD);
    }

    function test_reentrancy_through_the_token() public {
        (CallingToken evil, NodeRegistry r) = _strange(1e27);
        channels = new PaymentChannels(IERC20(address(evil)), r, PERIOD);
        evil.transfer(address(channels), 100);
        vm.prank(address(evil));
        channels.onTransferReceived(CLIENT, CLIENT, 100, abi.encode(chan.node, chan.sessionKey));
        Voucher memory more = _voucher(chan, 9);
        Redemption[] memory batch = new Redemption[](1);
        batch[0] = Redemption(chan, more);
        bytes[4] memory again = [
            abi.encodeCall(channels.redeem, (chan, more)),
            abi.encodeCall(channels.redeemMany, (batch)),
            abi.encodeCall(channels.finish, (chan)),
            abi.encodeCall(channels.onTransferReceived, (CLIENT, CLIENT, 1, ""))
        ];
        Voucher memory v = _voucher(chan, 4);
        for (uint256 i; i < 4; ++i) {
            evil.arm(address(channels), again[i]);
            expect(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            channels.redeem(chan, v);
        }
        evil.arm(address(0), "");
        channels.redeem(chan, v);
        assertEq(evil.balanceOf(owner), 4, "once");
    }

    function _strange(uint256 supply) private returns (CallingToken made, NodeRegistry r) {
        made = new CallingToken(supply);
        r = new NodeRegistry(
            IERC20(address(made)), address(1), ADMIN, 2 days, GUARDIAN, _registryParameters()
        );
    }

    function _expectBad(Voucher memory v) private {
        expect(IPaymentChannels.BadSignature.selector);
        channels.redeem(chan, v);
    }
}
