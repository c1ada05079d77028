// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Verdict} from "../../src/interfaces/INodeRegistry.sol";
import {Approval, Commitment, ITaskEscrow, Opening, Seat, Task} from "../../src/interfaces/ITaskEscrow.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev Attacks on commitments, openings and the window.
///
/// The attacks that a contract can show are the tests in this folder, one file per subject. Tested elsewhere, because
/// they happen off chain:
///
///   output leaks before openings of 60 % of the seats    the node's conversation with client and members
///   openings withheld from members, not from the chain   the same; members dial each other after two seconds
///   a lease shorter than this input takes                the node declines; here: not below the minimum
///   a restored or duplicated journal                     the node's store and its one lock
///   a Sybil filling the drawn committee                  the client's draw
contract OpeningsAttacks is Fixture {
    function test_copying_a_commitment() public conserved {
        Job memory j = _start(3, EXACT);
        _commit(j, 0, A);
        bytes32 copied = _commitment(j, 0, A);
        Commitment[] memory c = new Commitment[](1);
        c[0] = Commitment(1, copied, 0, 0);
        vm.prank(vm.addr(keys[1]));
        escrow.commit(j.t, j.committee, c);
        _commit(j, 2, A);
        Opening[] memory o = new Opening[](3);
        (o[0], o[1], o[2]) = (_opening(0, A), Opening(1, A, _salt(0)), _opening(2, A));
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(j, OTHER, o, noApprovals); // the salt it was made with opens it for seat 0 only
        o[1] = Opening(1, 0, copied);
        escrow.reveal(j.t, j.committee, o);
        _afterWindowFrom(block.timestamp, j);
        _finalise(j, OTHER, o, noApprovals);
        assertEq(_bal(owners[2]), uint256(FEE) * 86 / 100, "the others are paid");
        assertEq(_rep(1), 95_000, "the copier is silent");
    }

    function test_copying_a_result_after_a_reveal() public {
        Job memory j = _start(3, EXACT);
        _commit(j, 0, A);
        _commit(j, 1, A);
        expect(ITaskEscrow.TooEarly.selector, j.t.commitDeadline);
        _reveal(j, 1); // there is nothing to copy while somebody may still commit
        vm.warp(j.t.commitDeadline + 1);
        _reveal(j, 1);
        expect(ITaskEscrow.TooLate.selector, j.t.commitDeadline);
        _commit(j, 2, A);
    }

    function test_a_digest_leaked_early_to_a_partner() public conserved {
        // Node 3 guesses and tells node 4: two equal wrong digests of five neither win nor come back.
        Job memory j = _start(5, EXACT);
        for (uint8 i; i < 5; ++i) {
            _commit(j, i, i < 3 ? A : B);
        }
        uint256 before = _bal(CLIENT);
        _finalise(j, CLIENT);
        assertEq(_bal(owners[3]) + _bal(owners[4]), 0, "unpaid");
        assertEq(_bal(CLIENT) - before, TIP, "and not refunded");
        assertEq(_rep(3), 95_800, "and known for it");
    }

    function test_two_client_nodes_outvote_one_honest() public conserved {
        Job memory j = _start(3, EXACT);
        uint256 before = _bal(CLIENT);
        _commitAll(j, B, B, A);
        _finalise(j, CLIENT);
        assertEq(_bal(CLIENT) - before, TIP, "no refund but its own tip");
        assertEq(_node(2).bonded, STAKE, "no stake");
        assertEq(_rep(2), 95_800, "at most a tenth of R, weighted by the fee the client burned");
    }

    function test_two_client_nodes_stay_silent_beside_one_honest() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, B, B, A);
        _reveal(j, 4);
        _afterWindowFrom(block.timestamp, j);
        uint256 accrued = _accrued();
        _finalise(j, CLIENT, _only(j, 4), noApprovals);
        assertEq(_accrued() - accrued, FEE, "the client does not get the honest seat's fee back");
        assertEq(_rep(2), 100_000, "nobody won: the honest node loses no reputation");
        assertEq(_rep(0), 95_000, "the silent ones do");
    }

    function test_no_quorum_forfeits_everything_revealed() public conserved {
        uint256 before = _bal(CLIENT);
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, B, C);
        vm.recordLogs();
        _finalise(j, CLIENT);
        (bytes32 result, uint256[] memory seats) = _outcome();
        assertEq(result, 0, "nobody won");
        assertEq(seats[1] >> 144, Verdict.FORFEITED, "no vote was lost");
        assertEq(before - _bal(CLIENT), 3 * uint256(FEE), "nothing back but the tip");
        assertEq(_rep(0), 100_000, "no vote penalty");
    }

    function test_finalising_before_everybody_committed() public {
        Job memory j = _start(3, EXACT);
        _commit(j, 0, A);
        _commit(j, 1, A);
        vm.warp(j.t.commitDeadline);
        expect(ITaskEscrow.TooEarly.selector, j.t.commitDeadline);
        _finalise(j, CLIENT);
        _commit(j, 2, A); // the slow one still has its turn
        _finalise(j, CLIENT);
        assertEq(_bal(owners[2]), uint256(FEE) * 86 / 100, "paid");
    }

    function test_finalising_without_somebodys_approval() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        Approval[] memory two = _approvals(j, [uint16(7), 7, 0]);
        expect(ITaskEscrow.BadApproval.selector);
        _finalise(j, CLIENT, j.openings, two);
        _approve(j, 2, 7); // the one on chain counts beside those sent along
        _finalise(j, CLIENT, j.openings, two);
        assertEq(_bal(owners[2]), uint256(FEE) * 86 / 100, "paid");
    }

    function test_an_approval_on_chain_is_the_one_that_counts() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        _approve(j, 2, 7);
        // Seat 2 signs a second, unfriendly mask and finalises with it.
        _finalise(j, OTHER, j.openings, _approvals(j, [uint16(7), 2, 4]));
        assertEq(_bal(owners[0]), uint256(FEE) * 86 / 100, "its own mask and the one on chain");
    }

    function test_finalising_with_a_stale_committee() public conserved {
        Job memory j = _start(3, EXACT);
        Seat[] memory stale = new Seat[](3);
        for (uint256 i; i < 3; ++i) {
            stale[i] = j.committee[i];
        }
        _release(j, 1);
        _reassign(j, 1, 5);
        _commitAll(j, A, A, A);
        expect(ITaskEscrow.NotOpen.selector);
        escrow.finalise(j.t, stale, j.openings, noApprovals);
        expect(ITaskEscrow.NotOpen.selector);
        escrow.reveal(j.t, stale, j.openings);
        expect(ITaskEscrow.NotOpen.selector);
        escrow.commit(j.t, stale, new Commitment[](1));
        _finalise(j, CLIENT);
    }

    function test_leaving_a_member_out() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        Opening[] memory two = new Opening[](2);
        (two[0], two[1]) = (j.openings[0], j.openings[1]);
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(j, CLIENT, two, noApprovals); // dropped
        uint256 end = block.timestamp + j.t.window;
        expect(ITaskEscrow.TooEarly.selector, end);
        _finalise(j, CLIENT, _only(j, 3), noApprovals); // left closed
        Opening[] memory twice = new Opening[](3);
        (twice[0], twice[1], twice[2]) = (j.openings[0], j.openings[1], j.openings[1]);
        expect(ITaskEscrow.BadOpening.selector);
        _finalise(j, CLIENT, twice, noApprovals); // another in its place
        _finalise(j, CLIENT);
    }

    function test_seat_numbers_beyond_the_committee() public {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        Opening[] memory more = new Opening[](4);
        (more[0], more[1], more[2]) = (j.openings[0], j.openings[1], j.openings[2]);
        more[3] = Opening(200, 0, 0); // its bit would lie in the chain of commitments
        expect(ITaskEscrow.BadSeat.selector, 200);
        _finalise(j, CLIENT, more, noApprovals);
        more[3] = Opening(3, A, 0);
        expect(ITaskEscrow.BadSeat.selector, 3);
        _finalise(j, CLIENT, more, noApprovals);
    }

    function test_an_opening_shown_to_members_and_withheld_from_the_chain() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        // Seat 2 showed its opening to the others and is gone. Whoever saw it may carry it.
        vm.prank(OTHER);
        escrow.reveal(j.t, j.committee, _only(j, 7));
        _afterWindowFrom(block.timestamp, j);
        _finalise(j, OTHER);
        assertEq(_bal(owners[2]), uint256(FEE) * 86 / 100, "even the one that kept quiet");
    }

    function test_a_window_of_one_second() public {
        Task memory t = _task(3, EXACT);
        t.window = 599;
        expect(ITaskEscrow.BadTask.selector);
        vm.prank(CLIENT);
        escrow.post(t);
        t.window = 600;
        vm.prank(CLIENT);
        escrow.post(t);
    }

    function test_a_partner_that_dies_after_the_outputs_were_exchanged() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        uint256 start = block.timestamp;
        vm.warp(start + j.t.window / 4);
        _reveal(j, 1);
        _reveal(j, 2);
        _approve(j, 0, 7);
        _approve(j, 1, 7);
        _afterWindowFrom(start, j);
        uint256 before = _bal(CLIENT);
        _finalise(j, OTHER, _only(j, 3), noApprovals);
        assertEq(_bal(owners[0]), uint256(FEE) * 86 / 100, "paid without it");
        assertEq(_bal(owners[1]), uint256(FEE) * 86 / 100, "paid without it");
        assertEq(_bal(CLIENT) - before, FEE, "its fee goes back");
        assertEq(_rep(2), 95_000, "committed and not revealed");
    }

    function test_withholding_salts_to_the_end() public conserved {
        Job memory j = _start(3, TOL32);
        _commitAll(j, A, B, C);
        uint256 start = block.timestamp;
        uint256 half = start + j.t.window / 2;
        vm.warp(half);
        _reveal(j, 3);
        vm.warp(half + 1);
        expect(ITaskEscrow.TooLate.selector, half);
        _reveal(j, 4); // late openings cannot spoil approvals: half of the window is left for those
        _approve(j, 0, 3);
        vm.warp(start + j.t.window);
        _approve(j, 1, 3);
        vm.warp(start + j.t.window + 1);
        expect(ITaskEscrow.TooLate.selector, start + j.t.window);
        escrow.approve(j.t, j.committee, Approval(2, 7, 0, 0));
        Approval[] memory late = new Approval[](1);
        expect(ITaskEscrow.BadApproval.selector);
        _finalise(j, OTHER, _only(j, 3), late);
        _finalise(j, OTHER, _only(j, 3), noApprovals);
        assertEq(_bal(owners[0]) + _bal(owners[1]), 2 * (uint256(FEE) * 86 / 100), "paid");
    }

    function test_nobody_finalises_for_a_month() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        _reveal(j, 7);
        vm.prank(owners[0]);
        registry.requestUnstake(nodes[0], STAKE);
        vm.warp(block.timestamp + 30 days);
        vm.prank(owners[0]);
        registry.withdrawStake(nodes[0], owners[0]);
        _finalise(j, OTHER); // from the event log alone, for the tip
        assertEq(_bal(owners[0]), uint256(FEE) * 86 / 100, "paid, though it has left");
        assertEq(_bal(OTHER), TIP, "the tip");
    }

    function test_nothing_was_revealed_and_the_money_still_moves() public conserved {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        _afterWindowFrom(block.timestamp, j);
        uint256 before = _bal(CLIENT);
        _finalise(j, OTHER, _only(j, 0), noApprovals);
        assertEq(_bal(CLIENT) - before, 3 * uint256(FEE), "silent seats go back to the client");
        assertEq(_rep(0), 95_000, "R -= R / 20");
    }

    function test_reveal_and_approve_only_where_they_belong() public {
        Job memory j = _start(1, NONE);
        _deliver(j, A);
        expect(ITaskEscrow.BadTask.selector);
        escrow.reveal(j.t, j.committee, j.openings);
        _finalise(j, CLIENT);
        j = _start(3, EXACT);
        expect(ITaskEscrow.BadTask.selector);
        escrow.approve(j.t, j.committee, Approval(0, 1, 0, 0));
        _commitAll(j, A, A, A);
        Approval[] memory useless = new Approval[](1);
        expect(ITaskEscrow.BadApproval.selector);
        _finalise(j, CLIENT, j.openings, useless);
        _finalise(j, CLIENT);
        j = _start(3, TOL32);
        _commit(j, 0, A);
        expect(ITaskEscrow.TooEarly.selector, j.t.commitDeadline);
        escrow.approve(j.t, j.committee, Approval(0, 1, 0, 0));
        vm.warp(j.t.commitDeadline + 1);
        Approval memory unsigned = Approval(1, 1, 0, 0);
        expect(ITaskEscrow.BadSeat.selector, 1);
        escrow.approve(j.t, j.committee, unsigned); // never committed
        unsigned.seat = 200; // its bit would lie in the chain of commitments
        expect(ITaskEscrow.BadSeat.selector, 200);
        escrow.approve(j.t, j.committee, unsigned);
        Approval[] memory beyond = new Approval[](1);
        beyond[0] = Approval(3, 1, 0, 0);
        expect(ITaskEscrow.BadSeat.selector, 3);
        _finalise(j, CLIENT, j.openings, beyond);
    }

    /// @dev Past a window that began at `start`.
    function _afterWindowFrom(uint256 start, Job memory j) private {
        vm.warp(start + j.t.window + 1);
    }
}
