// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Accept, Commitment, ITaskEscrow, Seat, Task} from "../../src/interfaces/ITaskEscrow.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev Who may sit where, and until when.
contract SeatsAttacks is Fixture {
    uint40 private constant FOREVER = type(uint40).max;

    function test_one_owner_on_two_seats_through_two_nodes() public {
        bytes32 second = _register(owners[0], 0xBEEF, 1);
        Task memory t = _task(3, EXACT);
        bytes32 id = escrow.taskIdOf(t);
        Accept[] memory a = _accepts(id, 3);
        a[2] = _accept(id, 2, 0, second, 0xBEEF, FOREVER);
        vm.expectRevert(abi.encodeWithSelector(ITaskEscrow.OwnerTwice.selector, owners[0]));
        vm.prank(CLIENT);
        escrow.postAndAssign(t, a);
        Job memory j = _start(t);
        _release(j, 2);
        Accept memory late = _accept(j.id, 2, 1, second, 0xBEEF, FOREVER);
        vm.expectRevert(abi.encodeWithSelector(ITaskEscrow.OwnerTwice.selector, owners[0]));
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 2, late);
        // The seat it has given back itself is another matter.
        _release(j, 0);
        late = _accept(j.id, 0, 1, second, 0xBEEF, FOREVER);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 0, late);
    }

    function test_a_node_that_is_unbonding_or_jailed_or_unknown_at_assign() public {
        vm.prank(owners[0]);
        registry.requestUnstake(nodes[0], STAKE);
        _refused(INodeRegistry.BadStanding.selector, 3);
        vm.prank(address(escrow));
        registry.equivocated(nodes[0], OTHER);
        _refused(INodeRegistry.BadStanding.selector, 4);
        nodes[0] = bytes32(uint256(0xABC) << 96);
        _refused(INodeRegistry.BadStanding.selector, 0);
    }

    function test_a_node_without_a_heartbeat_at_assign() public {
        uint256 epoch = _node(0).epoch;
        vm.warp((epoch + 2) * 6 hours - 1);
        _start(3, EXACT); // the epoch before still counts
        vm.warp((epoch + 2) * 6 hours);
        Task memory t = _task(3, EXACT);
        t.lane = 1;
        t.nonce = 1;
        Accept[] memory a = _accepts(escrow.taskIdOf(t), 3);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NoHeartbeat.selector, nodes[0], epoch));
        vm.prank(CLIENT);
        escrow.postAndAssign(t, a);
        _beat();
        vm.prank(CLIENT);
        escrow.postAndAssign(t, a);
    }

    function _refused(bytes4 selector, uint256 standing) private {
        Task memory t = _task(3, EXACT);
        Accept[] memory a = _accepts(escrow.taskIdOf(t), 3);
        vm.expectRevert(abi.encodeWithSelector(selector, nodes[0], standing));
        vm.prank(CLIENT);
        escrow.postAndAssign(t, a);
    }

    function test_too_few_or_too_many_accepts() public {
        Task memory t = _task(3, EXACT);
        bytes32 id = escrow.taskIdOf(t);
        Accept[] memory two = _accepts(id, 2);
        Accept[] memory four = _accepts(id, 4);
        vm.startPrank(CLIENT);
        expect(ITaskEscrow.BadSeat.selector, 2);
        escrow.postAndAssign(t, two);
        expect(ITaskEscrow.BadSeat.selector, 4);
        escrow.postAndAssign(t, four);
        vm.stopPrank();
    }

    function test_reassigning_a_live_lease() public conserved {
        Job memory j = _start(3, EXACT);
        uint256 end = block.timestamp + j.t.lease;
        vm.warp(end);
        Accept memory a = _accept(j.id, 1, 1, 5);
        expect(ITaskEscrow.TooEarly.selector, end);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 1, a);
        vm.warp(end + 1);
        _reassign(j, 1, 5);
        assertEq(_rep(1), 100_000, "a lost lease moves no reputation on chain");
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
    }

    function test_reassigning_a_committed_seat() public {
        Job memory j = _start(3, EXACT);
        _commit(j, 1, A);
        vm.warp(block.timestamp + j.t.lease + 1);
        Accept memory a = _accept(j.id, 1, 1, 5);
        expect(ITaskEscrow.SeatTaken.selector, 1);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 1, a);
        expect(ITaskEscrow.SeatTaken.selector, 1);
        _release(j, 1);
    }

    function test_reassigning_one_second_before_the_deadline() public {
        Job memory j = _start(3, EXACT);
        vm.warp(uint256(j.t.commitDeadline) - j.t.lease + 1);
        Accept memory a = _accept(j.id, 1, 1, 5);
        expect(ITaskEscrow.TooLate.selector, j.t.commitDeadline);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 1, a); // the lease would outlast the deadline
        vm.warp(uint256(j.t.commitDeadline) - j.t.lease);
        _reassign(j, 1, 5);
    }

    function test_a_seat_changes_hands_three_times_at_most() public {
        Task memory t = _task(3, EXACT);
        Job memory j = _start(t);
        for (uint256 k; k < 3; ++k) {
            _release(j, 1);
            _reassign(j, 1, 5 + k);
        }
        _release(j, 1);
        Accept memory a = _accept(j.id, 1, 4, 9);
        expect(ITaskEscrow.BadSeat.selector, 1);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 1, a);
    }

    function test_reassigning_is_the_clients_and_to_somebody_else() public {
        Job memory j = _start(3, EXACT);
        _release(j, 1);
        Accept memory a = _accept(j.id, 1, 1, 5);
        vm.expectRevert(abi.encodeWithSelector(IVault.Forbidden.selector, OTHER));
        vm.prank(OTHER);
        escrow.reassign(j.t, j.committee, 1, a);
        a = _accept(j.id, 1, 1, 1);
        expect(ITaskEscrow.BadSeat.selector, 1);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 1, a); // the same node: its lease would be extended
        expect(ITaskEscrow.BadSeat.selector, 3);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 3, a);
        a = _accept(j.id, 1, 1, 5);
        a.validUntil += 1;
        expect(ITaskEscrow.BadSignature.selector, 1);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, 1, a);
    }

    function test_a_released_or_lapsed_seat_commits_until_it_is_reassigned() public conserved {
        Job memory j = _start(3, EXACT);
        _release(j, 1);
        vm.warp(block.timestamp + j.t.lease + 1);
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        assertEq(_bal(owners[1]), uint256(FEE) * 86 / 100, "it changed its mind in time");
        Job memory k = _start(3, EXACT);
        _release(k, 1);
        _reassign(k, 1, 5);
        Commitment[] memory c = new Commitment[](1);
        c[0] = Commitment(1, A, 0, 0);
        expect(ITaskEscrow.BadSignature.selector, 1);
        vm.prank(vm.addr(keys[1]));
        escrow.commit(k.t, k.committee, c); // too late: somebody else sits there
        _commitAll(k, A, A, A);
        _finalise(k, CLIENT);
    }

    function test_releasing_somebody_elses_seat_or_twice_or_late() public {
        Job memory j = _start(3, EXACT);
        vm.expectRevert(abi.encodeWithSelector(IVault.Forbidden.selector, OTHER));
        vm.prank(OTHER);
        escrow.release(j.t, j.committee, 1);
        expect(ITaskEscrow.BadSeat.selector, 3);
        escrow.release(j.t, j.committee, 3);
        _release(j, 1);
        expect(ITaskEscrow.SeatTaken.selector, 1);
        _release(j, 1);
        vm.warp(j.t.commitDeadline + 1);
        expect(ITaskEscrow.TooLate.selector, j.t.commitDeadline);
        _release(j, 2);
    }

    function test_a_commit_that_raced_does_not_stop_the_others() public conserved {
        Job memory j = _start(3, EXACT);
        Commitment[] memory c = new Commitment[](3);
        for (uint8 i; i < 3; ++i) {
            c[i] = _signedCommitment(j, i, A);
        }
        _commit(j, 1, A); // its node was impatient
        escrow.commit(j.t, j.committee, c);
        _remember(j, _opening(0, A));
        _remember(j, _opening(2, A));
        expect(ITaskEscrow.SeatTaken.selector, 0);
        escrow.commit(j.t, j.committee, c); // nothing new
        expect(ITaskEscrow.SeatTaken.selector, 0);
        escrow.commit(j.t, j.committee, new Commitment[](0));
        _finalise(j, CLIENT);
    }

    function test_a_lease_below_the_minimum_or_beyond_the_deadline() public {
        Task memory t = _task(3, EXACT);
        vm.startPrank(CLIENT);
        t.lease = 9;
        expect(ITaskEscrow.BadTask.selector);
        escrow.post(t);
        t.lease = 1001;
        expect(ITaskEscrow.BadTask.selector);
        escrow.post(t);
        t.lease = 1000;
        escrow.post(t);
        Accept[] memory a = _accepts(escrow.taskIdOf(t), 3);
        vm.warp(block.timestamp + 1);
        expect(ITaskEscrow.TooLate.selector, t.commitDeadline);
        escrow.assign(t, a);
        vm.stopPrank();
    }

    function test_input_withheld_from_fifteen_nodes() public conserved {
        uint256 before = _bal(CLIENT);
        Job memory j = _start(15, EXACT);
        for (uint8 i; i < 15; ++i) {
            if (i % 2 == 0) _release(j, i); // the others just let their leases run out
        }
        vm.warp(j.t.commitDeadline + 1);
        escrow.expire(j.t, j.committee);
        for (uint256 i; i < 15; ++i) {
            assertEq(_rep(i), 100_000, "nobody can prove that an input was sent");
            assertEq(_node(i).bonded, STAKE, "stake");
        }
        assertEq(_bal(CLIENT), before, "refunded");
    }

    function test_strangers_neither_assign_nor_cancel() public {
        Task memory t = _task(3, EXACT);
        Accept[] memory a = _accepts(escrow.taskIdOf(t), 3);
        vm.prank(CLIENT);
        escrow.post(t);
        vm.startPrank(OTHER);
        bytes memory forbidden = abi.encodeWithSelector(IVault.Forbidden.selector, OTHER);
        vm.expectRevert(forbidden);
        escrow.assign(t, a);
        vm.expectRevert(forbidden);
        escrow.cancel(t);
        vm.expectRevert(forbidden);
        escrow.post(t);
        vm.expectRevert(forbidden);
        escrow.postAndAssign(t, a);
        vm.stopPrank();
    }

    function test_nothing_but_assign_cancel_and_expire_reaches_a_pending_task() public {
        Task memory t = _task(3, EXACT);
        vm.prank(CLIENT);
        escrow.post(t);
        Seat[] memory nobody = new Seat[](0);
        vm.warp(t.commitDeadline);
        expect(ITaskEscrow.BadSeat.selector, 0);
        escrow.release(t, nobody, 0);
        Commitment[] memory c = new Commitment[](1);
        expect(ITaskEscrow.BadSeat.selector, 0);
        escrow.commit(t, nobody, c);
        Accept memory a = Accept(nodes[0], FOREVER, 0, 0);
        expect(ITaskEscrow.BadSeat.selector, 0);
        vm.prank(CLIENT);
        escrow.reassign(t, nobody, 0, a);
        vm.warp(t.commitDeadline + 1);
        Job memory j;
        j.t = t;
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(j, OTHER);
    }
}
