// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TaskEscrow} from "../../src/TaskEscrow.sol";
import {
    Accept,
    Approval,
    Commitment,
    ITaskEscrow,
    Opening,
    Result,
    Task
} from "../../src/interfaces/ITaskEscrow.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev What was signed or opened for one thing and is used for another.
contract ReplayAttacks is Fixture {
    function test_accept_on_another_task_seat_or_attempt() public {
        Task memory t = _task(3, EXACT);
        Accept[] memory good = _accepts(escrow.taskIdOf(t), 3);
        Task memory other = _task(3, EXACT);
        other.specHash = "another spec";
        vm.startPrank(CLIENT);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.postAndAssign(other, good);
        Accept[] memory swapped = new Accept[](3);
        (swapped[0], swapped[1], swapped[2]) = (good[1], good[0], good[2]);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.postAndAssign(t, swapped);
        vm.stopPrank();
        Job memory j = _start(t);
        _release(j, 1);
        Accept memory first = _accept(j.id, 1, 0, 5); // signed for attempt 0
        expect(ITaskEscrow.BadSignature.selector, 1);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 1, first);
    }

    function test_accept_on_another_contract_or_chain() public {
        Task memory t = _task(3, EXACT);
        Accept[] memory good = _accepts(escrow.taskIdOf(t), 3);
        vm.chainId(1328);
        assertTrue(
            keccak256(abi.encode(good)) != keccak256(abi.encode(_accepts(escrow.taskIdOf(t), 3))), "other"
        );
        expect(ITaskEscrow.BadSignature.selector, 0);
        vm.prank(CLIENT);
        escrow.postAndAssign(t, good);
        vm.chainId(31337);
        // A second deployment over the same nodes' keys.
        TaskEscrow first = escrow;
        (registry, escrow) = _deploy(token);
        for (uint256 i; i < 3; ++i) {
            _register(owners[i], keys[i], 0);
        }
        token.transfer(CLIENT, 100e18);
        vm.startPrank(CLIENT);
        token.transferAndCall(address(escrow), 100e18);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.postAndAssign(t, good);
        vm.stopPrank();
        escrow = first;
    }

    function test_accept_after_lane_reuse() public {
        Job memory j = _start(3, EXACT);
        Accept[] memory old = _accepts(j.id, 3);
        vm.warp(block.timestamp + 50);
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        Task memory next = _task(3, EXACT);
        next.commitDeadline = j.t.commitDeadline;
        expect(ITaskEscrow.BadSignature.selector, 0);
        vm.prank(CLIENT);
        escrow.postAndAssign(next, old); // only the nonce differs
    }

    function test_accept_used_twice_on_another_seat_and_after_its_validity() public {
        Task memory t = _task(3, EXACT);
        bytes32 id = escrow.taskIdOf(t);
        Accept[] memory a = _accepts(id, 3);
        a[1] = a[0];
        vm.startPrank(CLIENT);
        vm.expectRevert(abi.encodeWithSelector(ITaskEscrow.OwnerTwice.selector, owners[0]));
        escrow.postAndAssign(t, a);
        a = _accepts(id, 3);
        escrow.post(t);
        vm.warp(uint256(a[0].validUntil) + 1);
        expect(ITaskEscrow.AcceptExpired.selector, a[0].validUntil);
        escrow.assign(t, a);
        vm.warp(a[0].validUntil);
        escrow.assign(t, a);
        vm.stopPrank();
    }

    function test_result_on_another_task_or_attempt() public {
        Job memory j = _start(1, NONE);
        Result memory r = _result(j, 0, A, 0, keys[0]);
        _release(j, 0);
        _reassign(j, 0, 5);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.deliver(j.t, j.committee, r); // of the former holder
        _release(j, 0);
        _reassign(j, 0, 0);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.deliver(j.t, j.committee, r); // the same node, two attempts later
        _deliver(j, A);
        _finalise(j, CLIENT);
        Job memory k = _start(1, NONE);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.deliver(k.t, k.committee, r);
    }

    function test_commit_signature_on_another_task_seat_or_attempt() public {
        Job memory j = _start(3, EXACT);
        Commitment[] memory c = new Commitment[](1);
        c[0] = _signedCommitment(j, 0, A);
        c[0].seat = 1;
        expect(ITaskEscrow.BadSignature.selector, 1);
        escrow.commit(j.t, j.committee, c);
        c[0] = _signedCommitment(j, 0, A);
        c[0].value = bytes32(uint256(c[0].value) ^ 1);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.commit(j.t, j.committee, c);
        c[0] = _signedCommitment(j, 0, A);
        _release(j, 0);
        _reassign(j, 0, 5);
        _release(j, 0);
        _reassign(j, 0, 0);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.commit(j.t, j.committee, c);
        c[0] = Commitment(0, A, 0, 0);
        expect(ITaskEscrow.BadSignature.selector, 0);
        vm.prank(OTHER);
        escrow.commit(j.t, j.committee, c); // unsigned, by a stranger
        c[0].seat = 3;
        expect(ITaskEscrow.BadSeat.selector, 3);
        escrow.commit(j.t, j.committee, c);
    }

    function test_approval_on_another_task_or_other_commitments() public {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        Approval memory old = _approval(j, 0, 7);
        _finalise(j, CLIENT, j.openings, _approvals(j, [uint16(7), 7, 7]));
        Job memory k = _start(3, TOL32);
        _commitAll(k, A, B, C);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.approve(k.t, k.committee, old);
        Approval memory forged = _approval(k, 0, 3);
        forged.mask = 7;
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.approve(k.t, k.committee, forged);
        forged = _approval(k, 0, 3);
        forged.seat = 1;
        expect(ITaskEscrow.BadSignature.selector, 1);
        escrow.approve(k.t, k.committee, forged);
        // Before the last commit the word is another one, and so is what was signed.
        vm.warp(block.timestamp + 1);
        _finalise(k, CLIENT, k.openings, _approvals(k, [uint16(7), 7, 7]));
        Job memory m = _start(3, TOL32);
        _commit(m, 0, A);
        _commit(m, 1, B);
        Approval memory early = _approval(m, 0, 7);
        _commit(m, 2, C);
        expect(ITaskEscrow.BadSignature.selector, 0);
        escrow.approve(m.t, m.committee, early);
    }

    function test_approvals_on_chain_do_not_outlive_their_task() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        for (uint8 i; i < 3; ++i) {
            _approve(j, i, 7);
        }
        assertTrue(_lane().approvals != 0, "there");
        _finalise(j, CLIENT);
        Job memory k = _start(3, TOL32);
        assertEq(_lane().approvals, 0, "not this task's");
        _commitAll(k, A, B, C);
        expect(ITaskEscrow.BadApproval.selector);
        _finalise(k, CLIENT);
        _finalise(k, CLIENT, k.openings, _approvals(k, [uint16(7), 7, 7]));
    }

    function test_opening_on_another_task_or_seat() public {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        Job memory k = _start(3, EXACT);
        _commitAll(k, B, B, B);
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(k, CLIENT, j.openings, noApprovals);
        Opening[] memory swapped = new Opening[](3);
        (swapped[0], swapped[1], swapped[2]) = (k.openings[1], k.openings[0], k.openings[2]);
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(k, CLIENT, swapped, noApprovals); // in the order of the commits, or not at all
        _finalise(k, CLIENT);
    }

    function test_a_malleable_signature() public {
        Task memory t = _task(3, EXACT);
        bytes32 id = escrow.taskIdOf(t);
        Accept[] memory a = _accepts(id, 3);
        // n - s with the other parity is the same signature in clothes that EIP-2 forbids.
        uint256 n = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        uint256 s = uint256(a[0].vs) & (type(uint256).max >> 1);
        a[0].vs = bytes32((n - s) & (type(uint256).max >> 1)) | (~a[0].vs & bytes32(uint256(1) << 255));
        expect(ITaskEscrow.BadSignature.selector, 0);
        vm.prank(CLIENT);
        escrow.postAndAssign(t, a);
    }
}
