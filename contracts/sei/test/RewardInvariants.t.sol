// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRewardDistributor} from "../src/interfaces/IRewardDistributor.sol";
import {RewardFixture} from "./support/RewardFixture.sol";

/// @dev Three accounts and a proposer that now and then lies, in any order and with any time in between. It keeps its
/// own book: what came in, what each account was paid by which root.
contract RewardHandler is RewardFixture {
    uint256[LEAVES] private _dues;
    mapping(bytes32 root => uint256[LEAVES]) private _trees;
    uint256 public came;
    uint256[LEAVES] private _begun;
    uint256 public overpaid; // accounts that had more than a leaf in force ever promised
    uint256 public fell; // cumulative amounts, totals or epochs in force that became smaller
    uint256 public early; // roots in force before their delay was over
    uint256 public claims;
    uint256 public cancels;
    mapping(bytes32 root => uint256) private _since;
    IRewardDistributor.Active private _last;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < LEAVES; ++i) {
            _begun[i] = _has(_account(i));
        }
    }

    function active() external view returns (IRewardDistributor.Active memory) {
        return _active();
    }

    function waiting() external view returns (IRewardDistributor.Waiting memory) {
        return _waiting();
    }

    function held() external view returns (uint256) {
        return _has(address(rewards));
    }

    function got(uint256 who) public view returns (uint256 has, uint256 book) {
        return (_has(_account(who)) - _begun[who], rewards.claimedBy(_account(who)));
    }

    function fund(uint96 amount, bool told) external {
        amount = 1 + amount % 1e20;
        if (told) token.transferAndCall(address(rewards), amount);
        else _fund(amount);
        came += amount;
        _look();
    }

    function propose(uint256 seed, uint256 total, bool honest) external {
        uint256 left = came - _sum();
        for (uint256 i; i < LEAVES; ++i) {
            uint256 more = honest ? (seed >> (80 * i)) % (left / LEAVES + 1) : (seed >> (80 * i)) % 1e20;
            _dues[i] += more;
        }
        if (honest) total = _sum();
        else total = total % (2 * came + 1);
        bytes32 root = _root(_dues);
        _trees[root] = _dues;
        _since[root] = block.timestamp;
        _propose(_lastEpoch(), _dues, total);
        _look();
    }

    function cancel() external {
        _cancel(_waiting().epoch);
        ++cancels;
        _look();
    }

    function claim(uint256 who, bool old) external {
        who %= LEAVES;
        uint256[LEAVES] memory owed = old ? _dues : _trees[_active().root];
        _claim(who, owed);
        ++claims;
        if (rewards.claimedBy(_account(who)) > owed[who]) ++overpaid;
        _look();
    }

    function wait(uint256 s) external {
        vm.warp(block.timestamp + s % (2 * uint256(EPOCH)));
        _look();
    }

    function waitALittle(uint256 s) external {
        vm.warp(block.timestamp + s % DELAY);
        _look();
    }

    function _sum() private view returns (uint256) {
        return _dues[0] + _dues[1] + _dues[2] > came ? came : _dues[0] + _dues[1] + _dues[2];
    }

    function _look() private {
        IRewardDistributor.Active memory now_ = _active();
        if (now_.total < _last.total || now_.epoch < _last.epoch || now_.paid < _last.paid) ++fell;
        if (now_.root != _last.root && block.timestamp < _since[now_.root] + DELAY) ++early;
        _last = now_;
    }
}

contract RewardInvariantsTest is RewardFixture {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    RewardHandler private _handler;

    function setUp() public override {
        _handler = new RewardHandler();
        _handler.setUp();
        targetContract(address(_handler));
    }

    function targetSelectors() public view returns (FuzzSelector[] memory f) {
        f = new FuzzSelector[](1);
        bytes4[8] memory calls = [
            RewardHandler.fund.selector,
            RewardHandler.propose.selector,
            RewardHandler.propose.selector,
            RewardHandler.cancel.selector,
            RewardHandler.claim.selector,
            RewardHandler.claim.selector,
            RewardHandler.wait.selector,
            RewardHandler.waitALittle.selector
        ];
        f[0].addr = address(_handler);
        f[0].selectors = new bytes4[](8);
        for (uint256 i; i < 8; ++i) {
            f[0].selectors[i] = calls[i];
        }
    }

    /// @dev One invariant, because each of them drives the handler anew.
    function invariant_no_more_is_paid_than_was_promised_and_came_in() public view {
        IRewardDistributor.Active memory active = _handler.active();
        assertTrue(active.paid <= active.total, "paid is a part of the total");
        assertTrue(active.total <= _handler.came(), "no root promises what did not come in");
        assertTrue(_handler.waiting().total <= _handler.came(), "nor does one that waits");
        assertEq(_handler.held() + active.paid, _handler.came(), "tokens = came - paid");
        uint256 sum;
        for (uint256 i; i < LEAVES; ++i) {
            (uint256 has, uint256 book) = _handler.got(i);
            assertEq(has, book, "what an account had");
            sum += has;
        }
        assertEq(sum, active.paid, "all claims together");
        assertEq(_handler.overpaid() + _handler.fell() + _handler.early(), 0, "slips");
    }

    /// @dev The handler does reach claims and cancels; otherwise the invariant would hold for want of events.
    function test_the_handler_reaches_claims_and_cancels() public {
        _handler.fund(1e18, true);
        _handler.propose(77 + (uint256(55) << 80) + (uint256(33) << 160), 0, true);
        _handler.cancel();
        _handler.propose(7, 0, true);
        for (uint256 i; i < 2; ++i) {
            _handler.waitALittle(DELAY - 1);
        }
        _handler.claim(0, false);
        _handler.claim(1, false);
        assertEq(_handler.claims(), 2, "claimed");
        assertEq(_handler.cancels(), 1, "cancelled");
        invariant_no_more_is_paid_than_was_promised_and_came_in();
    }
}
