// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry, Verdict} from "../../src/interfaces/INodeRegistry.sol";
import {Approval, Commitment, ITaskEscrow, Result, Task} from "../../src/interfaces/ITaskEscrow.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {TaskHash} from "../../src/lib/TaskHash.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev Clients and nodes that keep the rules and mean harm.
contract GriefingAttacks is Fixture {
    function test_a_client_that_never_finalises() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        vm.prank(owners[0]);
        escrow.finalise(j.t, j.committee, j.openings, noApprovals);
        assertEq(_bal(owners[0]), uint256(FEE) * 86 / 100 + TIP, "a node does it, for the tip");
    }

    function test_a_client_that_objects_to_everything() public {
        uint256 before = _bal(CLIENT);
        for (uint256 i = 1; i <= 3; ++i) {
            Job memory j = _start(1, NONE);
            expect(ITaskEscrow.BadTask.selector);
            vm.prank(CLIENT);
            escrow.object(j.t, j.committee); // nothing was delivered yet
            _deliver(j, A);
            vm.expectRevert(abi.encodeWithSelector(IVault.Forbidden.selector, OTHER));
            vm.prank(OTHER);
            escrow.object(j.t, j.committee);
            vm.expectEmit(true, true, true, true, address(escrow));
            emit ITaskEscrow.TaskObjected(j.id, FEE, TIP);
            vm.prank(CLIENT);
            escrow.object(j.t, j.committee);
            assertEq(before - _bal(CLIENT), i * FEE, "each one costs it the fee");
            assertEq(_accrued(), i * FEE, "which goes to the pot");
            expect(ITaskEscrow.NotOpen.selector);
            _finalise(j, CLIENT);
        }
        assertEq(_rep(0), 100_000, "and the node nothing but the work");
    }

    function test_an_objection_after_the_window_or_to_a_checked_result() public {
        Job memory j = _start(1, NONE);
        _deliver(j, A);
        uint256 end = block.timestamp + j.t.window;
        vm.warp(end + 1);
        expect(ITaskEscrow.TooLate.selector, end);
        vm.prank(CLIENT);
        escrow.object(j.t, j.committee);
        _finalise(j, OTHER);
        j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        expect(ITaskEscrow.BadTask.selector);
        vm.prank(CLIENT);
        escrow.object(j.t, j.committee);
    }

    function test_delivering_and_committing_only_where_they_belong() public {
        Job memory j = _start(1, NONE);
        Commitment[] memory c = new Commitment[](1);
        c[0] = Commitment(0, A, 0, 0);
        expect(ITaskEscrow.BadTask.selector);
        vm.prank(vm.addr(keys[0]));
        escrow.commit(j.t, j.committee, c);
        Result memory r = _result(j, 0, 0, 0, keys[0]);
        expect(ITaskEscrow.BadTask.selector);
        escrow.deliver(j.t, j.committee, r); // zero means "not opened"
        _deliver(j, A);
        r = _result(j, 0, B, 0, keys[0]);
        expect(ITaskEscrow.SeatTaken.selector, 0);
        escrow.deliver(j.t, j.committee, r);
        (j.openings[0].digest, j.openings[0].salt) = (0, A);
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(j, CLIENT); // it was delivered open
        j.openings[0].digest = A;
        _finalise(j, CLIENT);
        j = _start(3, EXACT);
        expect(ITaskEscrow.BadTask.selector);
        _deliver(j, A);
    }

    function test_a_node_that_commits_garbage() public conserved {
        Job memory j = _start(3, EXACT);
        _commit(j, 0, A);
        Commitment[] memory c = new Commitment[](1);
        c[0] = Commitment(1, keccak256("garbage"), 0, 0); // opens to nothing
        vm.prank(vm.addr(keys[1]));
        escrow.commit(j.t, j.committee, c);
        _remember(j, _opening(1, 0));
        j.openings[1].salt = c[0].value;
        _commit(j, 2, A);
        j.openings[1].digest = 0;
        uint256 end = block.timestamp + j.t.window;
        expect(ITaskEscrow.TooEarly.selector, end);
        _finalise(j, CLIENT); // it can delay by one window
        escrow.reveal(j.t, j.committee, j.openings);
        vm.warp(end + 1);
        _finalise(j, CLIENT);
        assertEq(_bal(owners[0]) + _bal(owners[2]), 2 * (uint256(FEE) * 86 / 100), "and no more");
        assertEq(_rep(1), 95_000, "silent");
    }

    function test_the_fault_digest_for_a_good_task() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, TaskHash.fault(j.id, 1), A);
        _finalise(j, CLIENT);
        assertEq(_rep(1), 95_800, "a lost vote like any other");
        Job memory k = _start(3, EXACT);
        bytes32 fault = TaskHash.fault(k.id, 8);
        _commitAll(k, fault, fault, A);
        vm.recordLogs();
        _finalise(k, CLIENT);
        (bytes32 result, uint256[] memory seats) = _outcome();
        assertEq(result, 0, "a fault needs every revealed seat: nobody wins");
        assertEq(seats[0] >> 144, Verdict.FORFEITED, "forfeited");
        assertEq(seats[2] >> 144, Verdict.FORFEITED, "no vote was lost");
    }

    function test_a_bad_task_pays_a_tenth_and_moves_no_reputation() public conserved {
        for (uint256 code = 1; code <= 8; ++code) {
            Job memory j = _start(3, EXACT);
            uint256 paid = _bal(owners[0]);
            uint256 before = _bal(CLIENT);
            bytes32 fault = TaskHash.fault(j.id, code);
            _commitAll(j, fault, fault, fault);
            _finalise(j, CLIENT);
            assertEq(_bal(owners[0]) - paid, FEE / 10, "a tenth, without a fee");
            assertEq(_bal(CLIENT) - before, 3 * uint256(FEE) * 9 / 10 + TIP, "the rest returns");
            assertEq(_rep(0), 100_000, "no reputation");
        }
        Job memory k = _start(3, EXACT);
        bytes32 unlisted = TaskHash.fault(k.id, 9);
        _commitAll(k, unlisted, unlisted, unlisted);
        uint256 had = _bal(owners[0]);
        _finalise(k, CLIENT);
        assertEq(_bal(owners[0]) - had, uint256(FEE) * 86 / 100, "outside the list it is a digest");
    }

    function test_a_bad_task_with_a_silent_seat_moves_no_reputation_either() public conserved {
        Job memory j = _start(3, EXACT);
        bytes32 fault = TaskHash.fault(j.id, 3);
        _commitAll(j, fault, fault, A);
        _reveal(j, 3);
        _afterWindow(j);
        _finalise(j, CLIENT, _only(j, 3), noApprovals);
        assertEq(_bal(owners[0]), FEE / 10, "both revealed seats agree");
        assertEq(_rep(2), 100_000, "silent, but the task was bad");
    }

    function test_a_bad_task_under_none_and_under_tolerance() public conserved {
        Job memory j = _start(1, NONE);
        bytes32 fault = TaskHash.fault(j.id, 2);
        _deliver(j, fault);
        _finalise(j, CLIENT);
        assertEq(_bal(owners[0]), FEE / 10, "a tenth");
        j = _start(3, TOL32);
        fault = TaskHash.fault(j.id, 2);
        _commitAll(j, fault, fault, fault);
        _finalise(j, CLIENT); // there are no outputs to approve
        assertEq(_bal(owners[0]), 2 * (FEE / 10), "a tenth again");
    }

    function test_masks_cannot_pay_a_fault() public conserved {
        Job memory j = _start(3, TOL32);
        bytes32 fault = TaskHash.fault(j.id, 2);
        _commitAll(j, fault, fault, A);
        _finalise(j, CLIENT, j.openings, _approvals(j, [uint16(3), 3, 4]));
        assertEq(_bal(owners[0]) + _bal(owners[1]), 0, "not unanimous: nobody wins");
        assertEq(_accrued(), 3 * uint256(FEE), "forfeited");
    }

    function test_masks_that_approve_nobody() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        Approval memory empty = _approval(j, 0, 0);
        expect(ITaskEscrow.BadApproval.selector);
        escrow.approve(j.t, j.committee, empty);
        Approval[] memory a = new Approval[](3);
        for (uint8 i; i < 3; ++i) {
            a[i] = _approval(j, i, 0);
        }
        _finalise(j, CLIENT, j.openings, a);
        assertEq(_accrued(), 3 * uint256(FEE), "who approves nobody is not paid either");
        assertEq(_rep(0), 100_000, "no change");
    }

    function test_masks_without_oneself() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        _finalise(j, CLIENT, j.openings, _approvals(j, [uint16(6), 7, 7]));
        assertEq(_bal(owners[0]), 0, "masked by two, not by itself");
        assertEq(_bal(owners[1]), uint256(FEE) * 86 / 100, "three masks");
    }

    function test_masks_that_approve_everybody() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        _reveal(j, 3);
        for (uint8 i; i < 3; ++i) {
            _approve(j, i, type(uint16).max);
        }
        Approval memory again = _approval(j, 1, 1);
        expect(ITaskEscrow.BadApproval.selector);
        escrow.approve(j.t, j.committee, again);
        _afterWindow(j);
        _finalise(j, CLIENT, _only(j, 3), noApprovals);
        assertEq(_bal(owners[0]) + _bal(owners[1]), 2 * (uint256(FEE) * 86 / 100), "each other");
        assertEq(_bal(owners[2]), 0, "a bit of a seat that was never revealed counts for nothing");
    }

    function test_a_seat_that_did_not_reveal_has_no_voice() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        _reveal(j, 1);
        _approve(j, 0, 1);
        _approve(j, 1, 1); // it votes for its partner, and its fee would come back
        _approve(j, 2, 1);
        _afterWindow(j);
        _finalise(j, CLIENT, _only(j, 1), noApprovals);
        assertEq(_bal(owners[0]), 0, "one voice of three");
    }

    function test_self_dealing_for_reputation() public {
        // A client that owns every node of its committees buys reputation with protocol fees only.
        uint256 gained;
        for (uint256 i; i < 30; ++i) {
            Job memory j = _start(3, EXACT);
            _commitAll(j, A, A, A);
            _finalise(j, CLIENT);
        }
        for (uint256 i; i < 3; ++i) {
            gained += _rep(i) - 100_000;
        }
        // At most 10 points per w0 of protocol fee, for the first of them: 1e18 · gained / 10,000.
        assertTrue(_accrued() >= 1e18 * gained / 10_000, "no discount");
        for (uint256 i; i < 30; ++i) {
            Job memory j = _start(1, NONE);
            _deliver(j, A);
            _finalise(j, CLIENT);
        }
        assertEq(_rep(0), 100_000 + gained / 3, "unchecked tasks buy none");
        assertEq(_node(0).checkedTasks, 20, "saturated");
    }

    function test_posting_with_no_balance() public {
        Task memory t = _task(3, EXACT);
        t.client = OTHER;
        uint256 needed = 3 * uint256(FEE) + TIP;
        vm.expectRevert(abi.encodeWithSelector(IVault.Insufficient.selector, OTHER, 0, needed));
        vm.prank(OTHER);
        escrow.post(t);
        token.transfer(OTHER, needed);
        vm.startPrank(OTHER);
        token.transferAndCall(address(escrow), needed - 1);
        vm.expectRevert(abi.encodeWithSelector(IVault.Insufficient.selector, OTHER, needed - 1, needed));
        escrow.post(t);
        token.transferAndCall(address(escrow), 1);
        escrow.post(t);
        vm.stopPrank();
    }

    function test_the_same_tokens_do_not_pay_twice() public {
        Task memory t = _task(3, EXACT);
        vm.startPrank(CLIENT);
        escrow.withdraw(CLIENT, uint96(_bal(CLIENT) - 3 * uint256(FEE) - TIP));
        escrow.post(t);
        (t.lane, t.specHash) = (1, "second");
        vm.expectRevert(
            abi.encodeWithSelector(IVault.Insufficient.selector, CLIENT, 0, 3 * uint256(FEE) + TIP)
        );
        escrow.post(t);
        vm.stopPrank();
    }

    function test_probation_restarts_after_jail() public {
        vm.prank(address(escrow));
        registry.equivocated(nodes[0], OTHER);
        vm.prank(owners[0]);
        registry.unjail(nodes[0]);
        assertTrue(_node(0).standing == INodeRegistry.Standing.PROBATION, "again");
        assertEq(_node(0).checkedTasks, 0, "from the beginning");
        assertEq(_rep(0), 0, "and from nothing");
    }
}
