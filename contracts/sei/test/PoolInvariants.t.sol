// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDelegations} from "../src/interfaces/IDelegations.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {PoolMath} from "../src/lib/PoolMath.sol";
import {PoolFixture} from "./support/PoolFixture.sol";

/// @dev A manager and three that lend, on the real registry, escrow and token: every verb in any order, slashes, income
/// by every way and gifts in between. It keeps its own book of what each put in, and of the price of a share.
contract PoolHandler is PoolFixture {
    /// @dev Worths are multiplied by this: their own rounding shall not hide the contract's.
    uint256 private constant FINE = 1e12;

    address[4] private _who = [MANAGER, ALICE, BOB, CAROL];
    uint256 public came; // by all, as stake or income
    uint256 public taken; // by slashes
    uint256 public unseen; // of it, what the pool was not told of yet
    uint256[4] private _begun;
    uint256[4] private _put;
    uint256 public stuck; // calls of `advance` that reverted
    uint256 public unfair; // verbs that made others' shares worth less, or more
    uint256 public uneven; // slashes that took more of somebody than its part, and income that gave more
    uint256 public postponed; // clocks that were moved
    uint256 public fell; // the manager's own part below the minimum, without a slash or the end
    uint256 public slashes;
    uint256 public paid;
    uint256 public ends;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 4; ++i) {
            token.transfer(_who[i], 1e5 * E18);
            _begun[i] = _has(_who[i]);
        }
        came = OWN;
        vm.warp(block.timestamp + 1);
    }

    function pool() external view returns (IDelegations.Pool memory) {
        return _p();
    }

    /// @dev Where the tokens are that the pool's books speak of.
    function there() public view returns (uint256) {
        return uint256(_n().bonded) + _n().unbonding + _has(owner) + _has(address(pools));
    }

    function inVault() external view returns (uint256) {
        return _bal(owner);
    }

    function paidOut() public view returns (uint256 sum) {
        for (uint256 i; i < 4; ++i) {
            sum += _has(_who[i]) + _put[i] - _begun[i];
        }
    }

    /// @dev What all could take if what leaves had left.
    function owed() external view returns (uint256 sum) {
        IDelegations.Pool memory p = _p();
        sum = uint256(p.assets) + p.leaving;
        if (p.state == IDelegations.State.CLOSED) sum = 0;
        for (uint256 i; i < 4; ++i) {
            sum += _of(_who[i]).claimable;
        }
    }

    function counted() external view returns (uint256 shares, uint256 queued, uint256 leaving) {
        uint32 batch = _p().batch;
        for (uint256 i; i < 4; ++i) {
            IDelegations.Delegation memory d = _of(_who[i]);
            shares += d.shares;
            if (d.queued == 0) continue;
            if (d.queuedBatch == batch) queued += d.queued;
            else if (d.queuedBatch + 1 == batch && _p().leavingShares != 0) leaving += d.queued;
        }
    }

    // --- delegators -------------------------------------------------------------------------------------------

    function lend(uint256 i, uint256 amount) external {
        i %= 4;
        amount = bound(amount, MIN_DELEGATION, 500e18);
        _sync();
        IDelegations.Pool memory before = _p();
        _delegateOwn(_who[i], amount);
        _put[i] += amount;
        came += amount;
        _compare(before);
    }

    function quit(uint256 i, uint256 part) external {
        i %= 4;
        _sync();
        IDelegations.Pool memory before = _p();
        uint256 shares = uint256(_of(_who[i]).shares) * (1 + part % 8) / 8;
        if (part % 11 == 0) shares = 1;
        _undelegate(_who[i], shares);
        _compare(before);
        if (i == 0 && _p().state == IDelegations.State.OPEN && _worth(MANAGER) < MIN_STAKE) ++fell;
    }

    function take(uint256 i) external {
        i %= 4;
        _sync();
        IDelegations.Pool memory before = _p();
        paid += _claim(_who[i]);
        _compare(before);
    }

    // --- the manager ------------------------------------------------------------------------------------------

    function close(uint256 seed) external {
        if (seed % 8 != 0) return;
        _sync();
        _close();
        ++ends;
        _sync();
    }

    function announce(uint16 bps) external {
        vm.prank(MANAGER);
        pools.announceCommission(node, bps % 2001);
    }

    function unjail() external {
        _sync();
        _unjail();
    }

    // --- the node and the world -------------------------------------------------------------------------------

    function earn(uint96 amount, uint256 how) external {
        amount = uint96(bound(amount, 1, how % 3 == 0 ? 10 : 50e18));
        _sync();
        IDelegations.Pool memory p = _p();
        uint256[4] memory worths = _worths(p);
        if (how % 4 == 0) _earn(amount);
        else if (how % 4 == 1) token.transfer(owner, amount);
        else if (how % 4 == 2) token.transferAndCall(address(registry), amount, abi.encode(node));
        else _earnBoth(amount);
        came += amount;
        if (how % 5 == 0 || p.assets == 0) return;
        _sync();
        uint256[4] memory after_ = _worths(_p());
        for (uint256 i = 1; i < 4; ++i) {
            if (after_[i] > worths[i] + worths[i] * amount / p.assets + 2 * FINE) ++uneven;
            if (after_[i] + 2 * FINE < worths[i]) ++uneven;
        }
    }

    function slash(uint256 seed) external {
        if (seed % 2 == 0) _sync();
        uint256 before = uint256(_n().bonded) + _n().unbonding;
        bool synced = seed % 2 == 0;
        IDelegations.Pool memory p = _p();
        uint256[4] memory worths = _worths(p);
        _slash();
        ++slashes;
        uint256 amount = before - _n().bonded - _n().unbonding;
        taken += amount;
        unseen += amount;
        if (!synced) return;
        _sync();
        uint256 common = amount - (amount / 10 < 1e18 ? amount / 10 : 1e18);
        uint256[4] memory after_ = _worths(_p());
        uint256 all = uint256(p.assets) + p.leaving;
        for (uint256 i = 1; i < 4; ++i) {
            // Its part of what was burned, and two units for the divisions on the way.
            if (after_[i] + (worths[i] * common / all) + 2 * FINE < worths[i]) ++uneven;
        }
    }

    function advance() external {
        _sync();
    }

    function wait(uint256 s) external {
        vm.warp(block.timestamp + s % (s % 3 == 0 ? 2 weeks : 2 days));
        if (s % 2 == 0) _sync();
    }

    // --- the end ----------------------------------------------------------------------------------------------

    /// @dev Everybody but the manager leaves, without it; three periods are enough for who asked before, too.
    function everybodyLeaves() external returns (bool) {
        for (uint256 round; round < 3; ++round) {
            _sync();
            for (uint256 i = 1; i < 4; ++i) {
                IDelegations.Pool memory p = _p();
                IDelegations.Delegation memory d = _of(_who[i]);
                bool leaves = d.queued != 0 && d.queuedBatch + 1 == p.batch && p.leavingShares != 0;
                if (d.claimable != 0) _claim(_who[i]);
                if (d.shares != 0 && p.state == IDelegations.State.OPEN && !leaves) {
                    _undelegate(_who[i], d.shares);
                }
            }
            vm.warp(block.timestamp + PERIOD + 1);
        }
        _sync();
        vm.warp(block.timestamp + PERIOD + 1);
        _sync();
        for (uint256 i = 1; i < 4; ++i) {
            IDelegations.Delegation memory d = _of(_who[i]);
            if (d.claimable != 0) _claim(_who[i]);
            d = _of(_who[i]);
            if (d.shares != 0 && _p().state == IDelegations.State.CLOSED) _claim(_who[i]);
            if (_of(_who[i]).shares != 0 || _of(_who[i]).claimable != 0) return false;
        }
        return stuck == 0;
    }

    // --- internals --------------------------------------------------------------------------------------------

    function _earnBoth(uint96 amount) private {
        _earn(amount / 2);
        token.transfer(owner, amount - amount / 2);
    }

    /// @dev Anybody may at any time; it must not revert, nor move a clock.
    function _sync() private {
        (uint40 matures, uint32 batch) = (_p().maturesAt, _p().batch);
        try pools.advance(node) {
            unseen = 0;
        } catch {
            ++stuck;
        }
        if (matures != 0 && block.timestamp <= matures && (_p().maturesAt != matures || _p().batch != batch))
        {
            ++postponed;
        }
    }

    /// @dev A share is worth no less after another's verb, and no more than the units that rounding left behind.
    function _compare(IDelegations.Pool memory b) private {
        IDelegations.Pool memory a = _p();
        if (a.shares == 0 || b.shares == 0) return;
        (uint256 now_, uint256 before) = (uint256(a.assets) * b.shares, uint256(b.assets) * a.shares);
        if (now_ < before || now_ > before + 2 * uint256(b.shares)) ++unfair;
    }

    function _worths(IDelegations.Pool memory p) private view returns (uint256[4] memory worths) {
        for (uint256 i; i < 4; ++i) {
            IDelegations.Delegation memory d = _of(_who[i]);
            bool leaves = d.queued != 0 && d.queuedBatch + 1 == p.batch && p.leavingShares != 0;
            bool waits = d.queued != 0 && d.queuedBatch == p.batch;
            uint256 shares = uint256(d.shares) + (waits ? d.queued : 0);
            worths[i] = PoolMath.worth(shares * FINE, p.shares, p.assets);
            if (leaves) worths[i] += PoolMath.worth(uint256(d.queued) * FINE, p.leavingShares, p.leaving);
        }
    }
}

contract PoolInvariantsTest is PoolFixture {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    PoolHandler private _handler;

    function setUp() public override {
        _handler = new PoolHandler();
        _handler.setUp();
        targetContract(address(_handler));
    }

    function targetSelectors() public view returns (FuzzSelector[] memory f) {
        f = new FuzzSelector[](1);
        bytes4[14] memory calls = [
            PoolHandler.lend.selector,
            PoolHandler.lend.selector,
            PoolHandler.lend.selector,
            PoolHandler.quit.selector,
            PoolHandler.quit.selector,
            PoolHandler.take.selector,
            PoolHandler.earn.selector,
            PoolHandler.earn.selector,
            PoolHandler.slash.selector,
            PoolHandler.unjail.selector,
            PoolHandler.announce.selector,
            PoolHandler.close.selector,
            PoolHandler.advance.selector,
            PoolHandler.wait.selector
        ];
        f[0].addr = address(_handler);
        f[0].selectors = new bytes4[](14);
        for (uint256 i; i < 14; ++i) {
            f[0].selectors[i] = calls[i];
        }
    }

    function invariant_what_is_owed_is_there_and_shares_are_fair() public view {
        assertEq(_handler.stuck(), 0, "advance never reverts");
        assertEq(_handler.unfair(), 0, "no verb changes what others have");
        assertEq(_handler.uneven(), 0, "a slash is borne by all alike");
        assertEq(_handler.postponed(), 0, "no clock is moved");
        assertEq(_handler.fell(), 0, "the manager keeps its part");
        IDelegations.Pool memory p = _handler.pool();
        (uint256 shares, uint256 queued, uint256 leaving) = _handler.counted();
        assertEq(shares + queued, p.shares, "shares of all");
        assertEq(queued, p.queued, "shares that wait");
        assertEq(leaving, p.leavingShares, "shares that leave");
        assertTrue(_handler.owed() <= _handler.there() + _handler.unseen(), "what is owed is there");
        uint256 all = _handler.there() + _handler.inVault() + _handler.paidOut();
        assertEq(all, _handler.came() - _handler.taken(), "what came is there, or was paid or taken");
    }

    /// @dev The state that this leaves behind is thrown away.
    function invariant_everybody_gets_out_in_bounded_time_without_the_manager() public {
        assertTrue(_handler.everybodyLeaves(), "out");
        assertTrue(_handler.owed() <= _handler.there(), "what is owed is there");
    }

    /// @dev The handler does reach payments, slashes and ends; otherwise the invariants would hold for want of events.
    function test_the_handler_reaches_payments_slashes_and_ends() public {
        _handler.lend(1, 400e18);
        _handler.lend(2, 300e18);
        _handler.earn(30e18, 1);
        _handler.quit(1, 3);
        _handler.slash(2);
        _handler.unjail();
        _handler.wait(11 days); // 950,400: two weeks at most
        _handler.take(1);
        assertTrue(_handler.paid() != 0, "paid");
        _handler.slash(1);
        _handler.quit(2, 8);
        _handler.close(0);
        assertEq(_handler.slashes(), 2, "slashed");
        assertEq(_handler.ends(), 1, "closed");
        invariant_what_is_owed_is_there_and_shares_are_fair();
        invariant_everybody_gets_out_in_bounded_time_without_the_manager();
    }
}
