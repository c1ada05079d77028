// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry, Verdict} from "../../src/interfaces/INodeRegistry.sol";
import {Accept, Approval, Commitment, ITaskEscrow, Seat, Task} from "../../src/interfaces/ITaskEscrow.sol";
import {TaskHash} from "../../src/lib/TaskHash.sol";
import {Vm} from "../support/Base.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev The paths a task takes when everybody behaves, and the money on each.
contract PathsTest is Fixture {
    function test_three_equal_digests_pay_three_seats() public conserved {
        uint256 before = _bal(CLIENT);
        Job memory j = _start(3, EXACT);
        assertEq(before - _bal(CLIENT), 3 * uint256(FEE) + TIP, "escrowed");
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        // R = 100: φ = 14 %; weight = 0.42 of w0: R += 10 · 0.42 · 0.9 = 3.78
        for (uint256 i; i < 3; ++i) {
            assertEq(_bal(owners[i]), uint256(FEE) * 86 / 100, "paid");
            assertEq(_rep(i), 103_780, "R");
            assertEq(_node(i).checkedTasks, 1, "checked");
        }
        assertEq(_accrued(), 3 * (uint256(FEE) * 14 / 100), "protocol fee");
        assertEq(before - _bal(CLIENT), 3 * uint256(FEE), "the tip came back");
        expect(ITaskEscrow.NotOpen.selector);
        _finalise(j, CLIENT);
    }

    function test_post_and_assign_in_two_transactions() public conserved {
        Task memory t = _task(3, EXACT);
        Accept[] memory a = _accepts(escrow.taskIdOf(t), 3);
        vm.startPrank(CLIENT);
        escrow.post(t);
        expect(ITaskEscrow.LaneBusy.selector);
        escrow.post(t);
        vm.warp(block.timestamp + 5);
        escrow.assign(t, a);
        expect(ITaskEscrow.NotOpen.selector);
        escrow.assign(t, a);
        expect(ITaskEscrow.NotOpen.selector);
        escrow.cancel(t);
        vm.stopPrank();
        Job memory j;
        (j.t, j.id, j.committee, j.holders) = (t, escrow.taskIdOf(t), new Seat[](3), new uint256[](3));
        for (uint256 i; i < 3; ++i) {
            (j.committee[i], j.holders[i]) = (_seat(i, t.lease, 0), i);
        }
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
    }

    function test_a_pending_task_can_be_cancelled_or_expires() public conserved {
        Task memory t = _task(3, EXACT);
        uint256 before = _bal(CLIENT);
        vm.prank(CLIENT);
        escrow.post(t);
        expect(ITaskEscrow.TooEarly.selector, t.commitDeadline);
        escrow.expire(t, new Seat[](0));
        vm.prank(CLIENT);
        escrow.cancel(t);
        assertEq(_bal(CLIENT), before, "all of it");
        expect(ITaskEscrow.NotOpen.selector);
        vm.prank(CLIENT);
        escrow.cancel(t);
        t.nonce = 2;
        vm.prank(CLIENT);
        escrow.post(t);
        vm.warp(t.commitDeadline + 1);
        escrow.expire(t, new Seat[](0));
        assertEq(_bal(CLIENT), before, "all of it again");
    }

    function test_an_assigned_task_without_commits_expires_and_moves_no_reputation() public conserved {
        uint256 before = _bal(CLIENT);
        Job memory j = _start(3, EXACT);
        vm.warp(j.t.commitDeadline);
        expect(ITaskEscrow.TooEarly.selector, j.t.commitDeadline);
        escrow.expire(j.t, j.committee);
        vm.warp(j.t.commitDeadline + 1);
        vm.prank(OTHER);
        escrow.expire(j.t, j.committee);
        assertEq(_bal(CLIENT), before, "tip included");
        assertEq(_rep(0), 100_000, "an unsent input is not the node's fault");
    }

    function test_a_committed_task_never_expires() public {
        Job memory j = _start(3, EXACT);
        _commit(j, 0, A);
        vm.warp(block.timestamp + 365 days);
        expect(ITaskEscrow.SeatTaken.selector, 0);
        escrow.expire(j.t, j.committee);
    }

    function test_commitments_relayed_in_one_transaction() public conserved {
        Job memory j = _start(3, EXACT);
        Commitment[] memory c = new Commitment[](3);
        for (uint8 i; i < 3; ++i) {
            c[i] = _signedCommitment(j, 2 - i, A);
            _remember(j, _opening(2 - i, A));
        }
        vm.prank(OTHER);
        escrow.commit(j.t, j.committee, c);
        assertEq(_lane().committed, 7, "all of them");
        _finalise(j, OTHER);
        assertEq(_bal(OTHER), TIP, "the tip went to the sender");
        assertEq(_bal(owners[2]), uint256(FEE) * 86 / 100, "paid");
    }

    function test_a_lost_vote_is_forfeited_and_costs_reputation() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, B);
        _finalise(j, OTHER);
        assertEq(_bal(owners[2]), 0, "unpaid");
        assertEq(_accrued(), 2 * (uint256(FEE) * 14 / 100) + FEE, "forfeited, not refunded");
        assertEq(_rep(2), 100_000 - 4_200, "a tenth of R, weighted");
        assertEq(_node(2).bonded, STAKE, "a lost vote never takes stake");
    }

    function test_the_window_opens_with_the_last_commit_and_counts_from_it() public {
        Job memory j = _start(3, EXACT);
        _commit(j, 0, A);
        vm.warp(block.timestamp + 100);
        _commit(j, 1, A);
        assertEq(_lane().windowLead, 0, "a seat is missing");
        vm.warp(block.timestamp + 100);
        _commit(j, 2, A);
        uint256 start = block.timestamp;
        assertEq(j.t.commitDeadline - _lane().windowLead, start, "opened now");
        vm.warp(start + j.t.window);
        _reveal(j, 1);
        vm.warp(start + j.t.window + 1);
        expect(ITaskEscrow.TooLate.selector, start + j.t.window);
        _reveal(j, 2);
        _finalise(j, OTHER, _only(j, 1), noApprovals);
    }

    function test_reveals_on_chain_decide_after_the_window() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        _reveal(j, 1);
        _reveal(j, 3); // two opened, one of them new
        expect(ITaskEscrow.BadOpening.selector);
        _reveal(j, 3);
        _afterWindow(j);
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(j, OTHER, _only(j, 7), noApprovals);
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(j, OTHER, _only(j, 1), noApprovals);
        uint256 before = _bal(CLIENT);
        _finalise(j, OTHER, _only(j, 3), noApprovals);
        assertEq(_bal(owners[0]), uint256(FEE) * 86 / 100, "two of three are enough");
        assertEq(_bal(CLIENT) - before, FEE, "the silent seat is refunded");
        assertEq(_rep(2), 95_000, "R -= R / 20");
    }

    function test_a_seat_that_never_committed_is_refunded_and_unblamed() public conserved {
        Job memory j = _start(3, EXACT);
        _commit(j, 0, A);
        _commit(j, 2, A);
        vm.warp(j.t.commitDeadline + 1);
        uint256 before = _bal(CLIENT);
        _finalise(j, CLIENT);
        assertEq(_bal(CLIENT) - before, uint256(FEE) + TIP, "one fee and the tip");
        assertEq(_rep(1), 100_000, "a lost lease moves nothing on chain");
        assertEq(_bal(owners[2]), uint256(FEE) * 86 / 100, "paid");
    }

    function test_a_released_seat_goes_to_another_node() public conserved {
        Job memory j = _start(3, EXACT);
        _release(j, 1);
        assertEq(_lane().released, 2, "a bit beside the committee");
        _commit(j, 0, A); // the committee's hash has not changed
        _reassign(j, 1, 5);
        assertEq(_lane().released, 0, "taken again");
        _commit(j, 1, A);
        _commit(j, 2, A);
        _finalise(j, CLIENT);
        assertEq(_bal(owners[5]), uint256(FEE) * 86 / 100, "the substitute is paid");
        assertEq(_bal(owners[1]), 0, "the other is not");
        assertEq(_rep(1), 100_000, "nor blamed");
    }

    function test_unchecked_delivery_is_paid_after_the_window_or_by_the_client_at_once() public conserved {
        Job memory j = _start(1, NONE);
        _deliver(j, A);
        uint256 end = block.timestamp + j.t.window;
        vm.warp(end);
        expect(ITaskEscrow.TooEarly.selector, end);
        _finalise(j, OTHER, _only(j, 1), noApprovals);
        vm.warp(end + 1);
        _finalise(j, OTHER);
        assertEq(_bal(owners[0]), uint256(FEE) * 86 / 100, "paid");
        assertEq(_rep(0), 100_000, "nobody checked: R stays");
        assertEq(_node(0).checkedTasks, 0, "nor does it end probation");
        j = _start(1, NONE);
        _deliver(j, B);
        _finalise(j, CLIENT);
        assertEq(_bal(owners[0]), 2 * (uint256(FEE) * 86 / 100), "the client waived the rest");
    }

    function test_tolerance_pays_who_is_masked_by_enough_and_masked_itself() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        _finalise(j, CLIENT, j.openings, _approvals(j, [uint16(3), 3, 4]));
        assertEq(_bal(owners[0]), uint256(FEE) * 86 / 100, "0 and 1 approve each other");
        assertEq(_bal(owners[1]), uint256(FEE) * 86 / 100, "0 and 1 approve each other");
        assertEq(_bal(owners[2]), 0, "alone");
        assertEq(_rep(2), 100_000, "unapproved: no change");
        assertEq(_accrued(), 2 * (uint256(FEE) * 14 / 100) + FEE, "and forfeited");
    }

    function test_tolerance_result_is_the_seat_with_the_most_masks() public {
        Job memory j = _start(5, TOL32);
        bytes32[5] memory d = [A, B, C, bytes32("d"), bytes32("e")];
        uint16[5] memory masks = [uint16(7), 7, 15, 14, 16];
        Approval[] memory a = new Approval[](5);
        for (uint8 i; i < 5; ++i) {
            _commit(j, i, d[i]);
        }
        for (uint8 i; i < 5; ++i) {
            a[i] = _approval(j, i, masks[i]);
        }
        vm.recordLogs();
        _finalise(j, CLIENT, j.openings, a);
        (bytes32 result, uint256[] memory seats) = _outcome();
        // masks: seat 0: 3, seat 1: 4, seat 2: 4, seat 3: 2, seat 4: 1
        assertEq(result, B, "most masks, lowest index");
        assertEq(seats[0] >> 144, Verdict.PAID, "three of five");
        assertEq(seats[3] >> 144, Verdict.FORFEITED, "two of five");
    }

    function test_the_event_accounts_for_every_unit() public {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, B);
        vm.recordLogs();
        _finalise(j, OTHER);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        (
            bytes32 result,
            bool fault,
            uint256 refunded,
            uint256 protocolFee,
            address by,
            uint256 tip,
            uint256[] memory seats
        ) = abi.decode(
            logs[logs.length - 1].data, (bytes32, bool, uint256, uint256, address, uint256, uint256[])
        );
        assertEq(logs[logs.length - 1].topics[1], j.id, "id");
        assertEq(result, A, "result");
        assertTrue(!fault, "no fault");
        assertEq(by, OTHER, "finaliser");
        uint256 paid;
        for (uint256 i; i < 3; ++i) {
            paid += uint96(seats[i]);
            assertEq(uint24(seats[i] >> 96), 100_000, "R before");
            assertEq(uint24(seats[i] >> 120), i < 2 ? 103_780 : 95_800, "R after");
            assertEq(seats[i] >> 144, i < 2 ? Verdict.PAID : Verdict.LOST, "verdict");
        }
        assertEq(paid + refunded + protocolFee + tip, 3 * uint256(FEE) + TIP, "escrowed");
    }

    function test_probation_ends_after_twenty_checked_tasks() public {
        for (uint256 i; i < 20; ++i) {
            assertTrue(_node(0).standing == INodeRegistry.Standing.PROBATION, "probation");
            Job memory j = _start(3, EXACT);
            _commitAll(j, A, A, A);
            if (i == 19) {
                vm.expectEmit(true, true, true, true, address(registry));
                emit INodeRegistry.NodeStatus(nodes[0], INodeRegistry.Standing.ACTIVE);
            }
            _finalise(j, CLIENT);
        }
        assertTrue(_node(0).standing == INodeRegistry.Standing.ACTIVE, "active");
    }

    function test_sweeping_sends_fees_of_many_lanes_to_the_treasury() public {
        uint256 sum;
        for (uint32 lane; lane < 3; ++lane) {
            Task memory t = _task(3, EXACT);
            (t.lane, t.nonce) = (lane, 1);
            Job memory j = _start(t);
            _commitAll(j, A, A, A);
            _finalise(j, CLIENT);
            sum += escrow.laneOf(CLIENT, lane).accrued;
        }
        assertTrue(sum > uint256(FEE), "9 fees of about 14 %");
        uint32[] memory lanes = new uint32[](4);
        (lanes[1], lanes[2], lanes[3]) = (1, 2, 7); // one of them was never used
        escrow.sweep(CLIENT, lanes);
        assertEq(token.balanceOf(TREASURY), sum, "all of it");
        escrow.sweep(CLIENT, lanes);
        assertEq(token.balanceOf(TREASURY), sum, "once");
    }

    function test_ids_and_hashes_do_not_depend_on_the_spelling() public view {
        Task memory t = _task(3, EXACT);
        bytes32 hash = keccak256(abi.encode(TaskHash.TASK, t));
        assertEq(escrow.taskIdOf(t), _digest(hash, "deai escrow", address(escrow)), "the raw words");
    }
}
