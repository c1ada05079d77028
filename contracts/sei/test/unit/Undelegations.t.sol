// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDelegations} from "../../src/interfaces/IDelegations.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {PoolFixture} from "../support/PoolFixture.sol";

/// @dev Ways out: batches, slashes on the way, and the end of a pool.
contract UndelegationsTest is PoolFixture {
    // --- batches ----------------------------------------------------------------------------------------------

    function test_who_leaves_is_paid_after_one_period_when_nobody_else_does() public {
        _delegate(ALICE, 400e18);
        uint40 matures = uint40(block.timestamp) + PERIOD;
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.UndelegationRequested(node, ALICE, 400e18, 1);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.BatchStarted(node, 1, 400e18, 400e18, matures);
        _undelegate(ALICE, 400e18);
        IDelegations.Pool memory p = _p();
        assertEq(p.assets, 1000e18, "what stays");
        assertEq(p.leaving, 400e18, "what leaves");
        assertEq(p.unbonding, _n().unbonding, "at the registry");
        assertEq(p.batch, 2, "the next collects");
        assertEq(_of(ALICE).queuedBatch, 1, "its batch");
        vm.warp(matures);
        _expectNothing(ALICE);
        pools.claim(node, ALICE);
        vm.warp(matures + 1);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.BatchMatured(node, 1, 400e18);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.UndelegationPaid(node, ALICE, 1, 400e18);
        assertEq(_claim(ALICE), 400e18, "in one call, by anybody");
        assertEq(_of(ALICE).queued + _of(ALICE).shares + _of(ALICE).claimable, 0, "nothing is left");
        _expectNothing(ALICE);
        pools.claim(node, ALICE);
        _assertBacked();
    }

    function test_requests_meanwhile_wait_for_the_next_batch_and_postpone_nobody() public {
        _lendAll();
        _leave(ALICE);
        uint40 first = _p().maturesAt;
        vm.warp(block.timestamp + 3 days);
        _undelegate(BOB, 100e18);
        vm.warp(block.timestamp + 1 days);
        _undelegate(BOB, 50e18);
        _leave(CAROL);
        assertEq(_p().maturesAt, first, "the clock goes on");
        assertEq(_p().queued, 150e18 + 300e18, "they wait together");
        assertEq(_p().unbonding, 100e18, "without unbonding");
        vm.warp(first + 1);
        _advance();
        assertEq(_of(ALICE).claimable, 100e18, "paid");
        assertEq(_p().leaving, 450e18, "the next has started");
        _period();
        assertEq(_claim(BOB), 150e18, "both requests");
        assertEq(_claim(CAROL), 300e18, "hers");
        assertEq(_claim(ALICE), 100e18, "which had waited for her");
        assertEq(_worth(BOB), 50e18, "and the rest stays");
        _assertBacked();
    }

    function test_nobody_waits_longer_than_two_periods() public {
        _lendAll();
        _leave(ALICE);
        vm.warp(block.timestamp + 1);
        uint256 asked = block.timestamp;
        _leave(BOB);
        vm.warp(asked + PERIOD);
        _undelegate(CAROL, 1e18);
        vm.warp(asked + 2 * uint256(PERIOD) + 1);
        assertEq(_claim(BOB), 200e18, "two periods later");
    }

    function test_what_leaves_earns_nothing_and_what_waits_does() public {
        _lendAll();
        _leave(ALICE);
        _leave(BOB); // waits
        _earn(160e18 + 1);
        _advance();
        assertEq(_p().leaving, 100e18, "not those who leave");
        _period();
        _advance();
        assertEq(_claim(ALICE), 100e18, "what she asked for");
        _period();
        assertTrue(_claim(BOB) > 200e18, "those who wait do");
    }

    function test_asking_again_pays_what_has_matured_first() public {
        _delegate(ALICE, 400e18);
        _undelegate(ALICE, 100e18);
        vm.expectRevert(abi.encodeWithSelector(IDelegations.StillLeaving.selector, 1));
        _undelegate(ALICE, 50e18);
        _period();
        uint256 before = _has(ALICE);
        _undelegate(ALICE, 50e18);
        assertEq(_has(ALICE) - before, 100e18, "paid on the way");
        assertEq(_of(ALICE).queued, 50e18, "and asked for");
        assertEq(_of(ALICE).queuedBatch, 2, "in the next");
    }

    function test_senseless_requests() public {
        _delegate(ALICE, 400e18);
        expect(IDelegations.BadData.selector);
        _undelegate(ALICE, 0);
        _expectPair(IDelegations.Insufficient.selector, 400e18, 400e18 + 1);
        _undelegate(ALICE, 400e18 + 1);
        _expectPair(IDelegations.Insufficient.selector, 0, 1);
        _undelegate(BOB, 1);
    }

    function test_the_manager_keeps_its_part() public {
        _expectPair(IDelegations.OwnPartTooLow.selector, MIN_STAKE - 1, MIN_STAKE);
        _undelegate(MANAGER, OWN - MIN_STAKE + 1);
        _delegate(ALICE, 4500e18);
        _expectPair(IDelegations.Overleveraged.selector, 5000e18 - 1, 5000e18 - 10);
        _undelegate(MANAGER, 500e18 + 1);
        _undelegate(MANAGER, 500e18);
        _period();
        assertEq(_claim(MANAGER), 500e18, "the rest it may take");
    }

    function test_shares_worth_less_than_a_unit_wait_for_nothing() public {
        _delegate(ALICE, 400e18);
        _slash();
        _advance();
        _undelegate(ALICE, 1); // 0.8 units
        assertEq(_p().maturesAt, 0, "nothing unbonds");
        assertEq(_claim(ALICE), 0, "and nothing is paid");
        _leave(ALICE);
        _period();
        assertTrue(_claim(ALICE) > 319e18, "the rest is not touched by it");
    }

    // --- slashes ----------------------------------------------------------------------------------------------

    function test_a_slash_is_borne_by_all_and_its_bounty_by_the_manager() public {
        _delegate(ALICE, 1000e18);
        _slash(); // 400 of 2000, one of them the bounty
        uint256 burnt = (uint256(1e18) * 2000e18 + 1601e18 - 1) / 1601e18;
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.PoolSlashed(node, 400e18, 1e18, uint128(burnt));
        _advance();
        assertEq(_p().assets, 1600e18, "a fifth");
        assertTrue(_worth(ALICE) - 800.5e18 <= 1, "half of what was burned");
        assertTrue(_worth(MANAGER) <= 799.5e18 && _worth(MANAGER) >= 799.5e18 - 2, "half, and the bounty");
        _assertBacked();
    }

    function test_who_is_leaving_bears_its_part_and_who_waits_does_too() public {
        _lendAll(); // 1600
        _leave(ALICE);
        _leave(BOB); // waits
        _slash(); // 320
        _advance();
        // 319 for all, by what they have: 100 of 1600 leave.
        uint256 lost = (uint256(319e18) * 100 + 1599) / 1600;
        assertEq(_p().leaving, 100e18 - lost, "to a unit");
        _period();
        assertEq(_claim(ALICE), 100e18 - lost, "is paid");
        _period();
        uint256 part = _claim(BOB);
        assertTrue(part + 1 >= 200e18 - 2 * lost && part <= 200e18 - 2 * lost + 1, "the same part");
        _assertBacked();
    }

    function test_income_before_a_slash_hides_none_of_it() public {
        _lendAll();
        _leave(CAROL);
        _earn(500e18);
        _advance();
        _slash();
        _advance();
        assertTrue(_p().leaving < 241e18 && _p().leaving > 239e18, "a fifth of 300, as of all else");
    }

    function test_a_slash_that_reaches_what_unbonds() public {
        _delegate(ALICE, 9000e18);
        _leave(ALICE);
        // 1000 stay, 9000 unbond: 2000 are taken, all that is bonded and 1000 of what unbonds.
        _slash();
        _advance();
        assertEq(_n().bonded, 0, "nothing is bonded");
        assertTrue(_p().leaving < 7201e18 && _p().leaving > 7199e18, "four fifths");
        uint256 stays = _p().assets;
        _period();
        assertTrue(_claim(ALICE) > 7199e18, "are paid");
        assertEq(_n().bonded, stays, "and the rest is stake again");
        _unjail();
        _assertBacked();
    }

    // --- the end ----------------------------------------------------------------------------------------------

    function test_a_closed_pool_pays_everybody_all() public {
        _lendAll();
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.PoolClosed(node);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.BatchStarted(node, 0, 1600e18, 1600e18, uint40(block.timestamp) + PERIOD);
        _close();
        _assertState(IDelegations.State.CLOSING);
        assertTrue(_n().standing == INodeRegistry.Standing.UNBONDING, "the node has left");
        token.transfer(BOB, OWN);
        _expectState(IDelegations.State.CLOSING);
        _delegateOwn(BOB, 10e18);
        _expectState(IDelegations.State.CLOSING);
        _undelegate(BOB, 1);
        _expectState(IDelegations.State.CLOSING);
        _close();
        _expectNothing(ALICE);
        pools.claim(node, ALICE);
        _earn(160e18 + 1); // late
        _period();
        uint256 alice = _claim(ALICE);
        assertTrue(alice >= 109e18 - 1 && alice <= 109e18, "with late income");
        _assertState(IDelegations.State.CLOSED);
        _expectState(IDelegations.State.CLOSED);
        _delegateOwn(BOB, 10e18);
        assertTrue(_claim(BOB) > 217e18 && _claim(CAROL) > 326e18 && _claim(MANAGER) > 1105e18, "all");
        assertEq(_has(owner), 1, "to the last unit but the one that stays");
        assertEq(_p().assets + _p().shares, 0, "nothing is left");
        assertTrue(_n().standing == INodeRegistry.Standing.EXITED, "the end");
        token.transfer(owner, 5e18);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.IncomeShared(node, 5e18, 5e18, 0);
        _advance();
        assertEq(_has(owner), 1, "what comes later is the manager's");
    }

    function test_closing_waits_for_the_batch_that_unbonds_and_not_for_those_behind_it() public {
        _lendAll();
        _leave(ALICE);
        uint40 first = _p().maturesAt;
        vm.warp(block.timestamp + 1 days);
        _leave(BOB); // waits
        _undelegate(MANAGER, 100e18); // waits
        _close();
        assertEq(_p().maturesAt, first, "the batch's clock goes on");
        assertEq(_of(BOB).shares, 200e18, "who waited has plain shares again");
        assertEq(_of(BOB).queued + _p().queued, 0, "and waits for no batch");
        assertEq(_p().managerShares, 1000e18, "so has the manager");
        _earn(10e18);
        vm.warp(first + 1);
        assertEq(_claim(ALICE), 100e18, "paid");
        assertEq(_n().bonded, 0, "now everything unbonds");
        _period();
        assertTrue(_claim(BOB) > 200e18 && _claim(CAROL) > 300e18 && _claim(MANAGER) > 1000e18, "all");
        assertEq(_p().shares, 0, "the end");
        assertEq(_has(owner), 1, "to the unit");
    }

    function test_of_a_closed_pool_a_batch_that_nobody_claimed_is_still_there() public {
        _lendAll();
        _undelegate(ALICE, 40e18);
        _close();
        _period();
        _advance();
        _period();
        _advance();
        assertEq(_of(ALICE).claimable, 100e18, "both at once");
        assertEq(_claim(ALICE), 100e18, "both at once");
    }

    function test_when_too_little_would_stay_everything_goes() public {
        _undelegate(MANAGER, 900e18);
        _period();
        _claim(MANAGER);
        _delegate(ALICE, 100e18);
        _slash(); // 160 stay, 79.5 of them the manager's
        _undelegate(ALICE, 10e18);
        assertEq(_p().maturesAt != 0 ? 1 : 0, 1, "152 may stay");
        _period();
        _claim(ALICE);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.PoolClosed(node);
        _leave(ALICE);
        _assertState(IDelegations.State.CLOSING);
        assertEq(_of(ALICE).queued, 0, "its batch never starts");
        _period();
        assertTrue(_claim(ALICE) > 72e18, "paid");
        assertTrue(_claim(MANAGER) > 79e18, "paid");
    }

    function test_a_slash_while_everything_leaves() public {
        _lendAll();
        _close();
        _slash();
        _period();
        assertTrue(_claim(ALICE) > 80e18 && _of(MANAGER).claimable < 800e18, "borne by all");
        assertTrue(_n().standing == INodeRegistry.Standing.JAILED, "in jail for good");
        _claim(BOB);
        _claim(CAROL);
        _claim(MANAGER);
        assertEq(_p().assets, 0, "all");
    }

    function test_a_pool_that_lost_all_that_was_bonded_closes_without_waiting() public {
        _delegate(ALICE, 9000e18);
        _leave(ALICE);
        _slash();
        _close();
        assertEq(_n().bonded, 0, "nothing is bonded");
        _period();
        _advance();
        _assertState(IDelegations.State.CLOSED);
        assertTrue(_claim(ALICE) > 7199e18 && _claim(MANAGER) > 798e18, "all at once");
        assertEq(_has(owner), 0, "to the unit");
    }

    function test_only_the_manager_closes() public {
        _expectForbidden(ALICE);
        vm.prank(ALICE);
        pools.close(node);
    }

    // --- helpers ----------------------------------------------------------------------------------------------

    /// @dev 100, 200 and 300 beside the manager's 1000.
    function _lendAll() private {
        _delegate(ALICE, 100e18);
        _delegate(BOB, 200e18);
        _delegate(CAROL, 300e18);
    }

    function _expectNothing(address who) private {
        vm.expectRevert(abi.encodeWithSelector(IDelegations.NothingToClaim.selector, who));
    }
}
