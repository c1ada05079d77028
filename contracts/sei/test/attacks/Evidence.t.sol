// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {ITaskEscrow, Result, Seat, Task} from "../../src/interfaces/ITaskEscrow.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev Two results of one seat: the only thing in this lane that takes stake.
contract EvidenceAttacks is Fixture {
    uint256 private constant NEW_KEY = 0xC0FFEE;

    function test_equivocation_takes_a_fifth_and_enriches_nobody() public conserved {
        Job memory j = _start(3, EXACT);
        uint256 supply = token.totalSupply();
        vm.expectEmit(true, true, true, true, address(escrow));
        emit ITaskEscrow.EquivocationProven(j.id, 1, nodes[1], OTHER);
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.NodeSlashed(nodes[1], OTHER, 200e18, 1e18, 199e18);
        _prove(j, 1, A, B);
        INodeRegistry.Node memory n = _node(1);
        assertTrue(n.standing == INodeRegistry.Standing.JAILED, "jailed");
        assertEq(n.bonded, 800e18, "a fifth");
        assertEq(n.reputation, 0, "R = 0");
        assertEq(token.balanceOf(OTHER), 1e18, "a bounty near the gas");
        assertEq(supply - token.totalSupply(), 199e18, "the rest burned");
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT); // the task goes on
    }

    function test_the_bounty_is_at_most_a_tenth_and_the_cut_rounds_up() public {
        vm.startPrank(owners[1]);
        registry.requestUnstake(nodes[1], 900e18);
        vm.warp(block.timestamp + 7 days + 1);
        registry.withdrawStake(nodes[1], owners[1]);
        registry.requestUnstake(nodes[1], 100e18);
        vm.stopPrank();
        // 100e18 unbonding, nothing bonded, and seven units on top.
        assertEq(_node(1).unbonding, 100e18, "all of it leaving");
        vm.prank(address(escrow));
        registry.equivocated(nodes[1], OTHER);
        assertEq(_node(1).unbonding, 80e18, "unbonding stake is stake");
        assertTrue(_node(1).standing == INodeRegistry.Standing.JAILED, "jailed while leaving");
        vm.warp(block.timestamp + 7 days + 1);
        vm.prank(owners[1]);
        registry.withdrawStake(nodes[1], owners[1]);
        assertTrue(
            _node(1).standing == INodeRegistry.Standing.JAILED, "it may take the rest, and stays in jail"
        );
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, 0, 100e18));
        vm.prank(owners[1]);
        registry.unjail(nodes[1]);
        token.transferAndCall(address(registry), 101, abi.encode(nodes[2]));
        vm.prank(address(escrow));
        registry.equivocated(nodes[2], OTHER);
        assertEq(_node(2).bonded, STAKE + 101 - 200e18 - 21, "20.2 units are 21");
    }

    function test_bonded_stake_is_taken_first_and_then_what_is_leaving() public {
        vm.prank(owners[1]);
        registry.requestUnstake(nodes[1], 900e18);
        vm.prank(address(escrow));
        registry.equivocated(nodes[1], OTHER);
        assertEq(_node(1).bonded, 0, "100 of 200");
        assertEq(_node(1).unbonding, 800e18, "100 of 200");
    }

    function test_evidence_for_a_task_never_posted() public {
        Job memory j;
        j.t = _task(3, EXACT);
        j.id = escrow.taskIdOf(j.t);
        j.committee = new Seat[](3);
        for (uint256 i; i < 3; ++i) {
            j.committee[i] = _seat(i, 300, 0);
        }
        (Result memory a, Result memory b) = _pair(j, 1, A, B, keys[1]);
        expect(ITaskEscrow.NotOpen.selector);
        escrow.proveEquivocation(j.t, j.committee, 1, a, b);
    }

    function test_evidence_twice() public {
        Job memory j = _start(3, EXACT);
        _prove(j, 1, A, B);
        (Result memory a, Result memory b) = _pair(j, 1, A, C, keys[1]);
        expect(ITaskEscrow.BadEvidence.selector);
        escrow.proveEquivocation(j.t, j.committee, 1, a, b);
        vm.prank(owners[1]);
        registry.unjail(nodes[1]);
        expect(ITaskEscrow.BadEvidence.selector);
        escrow.proveEquivocation(j.t, j.committee, 1, a, b); // not even when it is free again
        assertEq(_node(1).bonded, 800e18, "once");
    }

    function test_nothing_more_while_jailed() public {
        Job memory j = _start(3, EXACT);
        Task memory t = _task(3, EXACT);
        (t.lane, t.nonce) = (1, 1);
        Job memory k = _start(t);
        _prove(j, 1, A, B);
        (Result memory a, Result memory b) = _pair(k, 1, A, B, keys[1]);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, nodes[1], 4));
        escrow.proveEquivocation(k.t, k.committee, 1, a, b);
        vm.prank(owners[1]);
        registry.unjail(nodes[1]);
        _prove(k, 1, A, B); // it was not used up meanwhile
        assertEq(_node(1).bonded, 640e18, "a fifth of the rest");
    }

    function test_evidence_across_attempts() public {
        Job memory j = _start(3, EXACT);
        Result memory first = _result(j, 1, A, 0, keys[1]);
        _release(j, 1);
        _reassign(j, 1, 5);
        Result memory second = _result(j, 1, B, 0, keys[5]);
        expect(ITaskEscrow.BadSignature.selector, 1);
        escrow.proveEquivocation(j.t, j.committee, 1, first, second); // two holders, one result each
        _release(j, 1);
        _reassign(j, 1, 1); // the first one returns, as attempt 2
        second = _result(j, 1, B, 0, keys[1]);
        expect(ITaskEscrow.BadSignature.selector, 1);
        escrow.proveEquivocation(j.t, j.committee, 1, first, second); // one holder, two attempts
    }

    function test_a_former_holders_conviction_does_not_shield_the_next() public {
        Job memory j = _start(3, EXACT);
        _prove(j, 1, A, B);
        _release(j, 1);
        _reassign(j, 1, 5);
        assertEq(_lane().equivocated, 0, "the bit was the former holder's");
        (Result memory a, Result memory b) = _pair(j, 1, A, B, keys[5]);
        escrow.proveEquivocation(j.t, j.committee, 1, a, b);
        assertEq(_node(5).bonded, 800e18, "a fifth");
    }

    function test_evidence_with_a_rotated_key() public {
        Job memory j = _start(3, EXACT);
        bytes memory signature = _operate(nodes[1], NEW_KEY, type(uint40).max);
        vm.prank(owners[1]);
        registry.rotateOperator(nodes[1], vm.addr(NEW_KEY), type(uint40).max, signature);
        (Result memory a, Result memory b) = _pair(j, 1, A, B, NEW_KEY);
        expect(ITaskEscrow.BadSignature.selector, 1);
        escrow.proveEquivocation(j.t, j.committee, 1, a, b); // the new key took no seat here
        _commitAll(j, A, A, A); // and the old one still holds its own
        _prove(j, 1, A, B);
    }

    function test_evidence_differing_only_in_evidence() public {
        Job memory j = _start(3, EXACT);
        Result memory a = _result(j, 1, A, "x", keys[1]);
        Result memory b = _result(j, 1, A, "y", keys[1]);
        expect(ITaskEscrow.BadEvidence.selector);
        escrow.proveEquivocation(j.t, j.committee, 1, a, b);
    }

    function test_evidence_of_another_seat_or_nobodys() public {
        Job memory j = _start(3, EXACT);
        (Result memory a, Result memory b) = _pair(j, 1, A, B, keys[1]);
        expect(ITaskEscrow.BadSignature.selector, 2);
        escrow.proveEquivocation(j.t, j.committee, 2, a, b);
        expect(ITaskEscrow.BadSeat.selector, 3);
        escrow.proveEquivocation(j.t, j.committee, 3, a, b);
        b.r = 0;
        expect(ITaskEscrow.BadSignature.selector, 1);
        escrow.proveEquivocation(j.t, j.committee, 1, a, b);
    }

    function test_evidence_until_the_lane_is_used_again() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        Job memory k = _start(3, EXACT);
        (Result memory a, Result memory b) = _pair(j, 2, A, B, keys[2]);
        expect(ITaskEscrow.NotOpen.selector);
        escrow.proveEquivocation(j.t, j.committee, 2, a, b);
        _commitAll(k, A, A, A);
        _finalise(k, CLIENT);
        vm.warp(block.timestamp + 365 days); // a client that was deceived does not hurry
        _prove(k, 2, A, B);
        assertEq(_node(2).bonded, 800e18, "long after the end");
        assertEq(_lane().equivocated, 4, "by one bit");
    }

    function test_an_exited_node_has_nothing_to_lose() public {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        vm.prank(owners[0]);
        registry.requestUnstake(nodes[0], STAKE);
        vm.warp(block.timestamp + 7 days + 1);
        vm.prank(owners[0]);
        registry.withdrawStake(nodes[0], owners[0]);
        (Result memory a, Result memory b) = _pair(j, 0, A, B, keys[0]);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, nodes[0], 5));
        escrow.proveEquivocation(j.t, j.committee, 0, a, b);
    }

    function test_the_owner_gains_nothing_by_convicting_itself() public {
        Job memory j = _start(3, EXACT);
        (Result memory a, Result memory b) = _pair(j, 0, A, B, keys[0]);
        vm.prank(owners[0]);
        escrow.proveEquivocation(j.t, j.committee, 0, a, b);
        assertEq(token.balanceOf(owners[0]), 1e18, "a two-hundredth of what it lost");
    }

    function _pair(Job memory j, uint8 seat, bytes32 x, bytes32 y, uint256 key)
        private
        view
        returns (Result memory a, Result memory b)
    {
        return (_result(j, seat, x, 0, key), _result(j, seat, y, 0, key));
    }

    function _prove(Job memory j, uint8 seat, bytes32 x, bytes32 y) private {
        (Result memory a, Result memory b) = _pair(j, seat, x, y, keys[j.holders[seat]]);
        vm.prank(OTHER);
        escrow.proveEquivocation(j.t, j.committee, seat, a, b);
    }
}
