// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Approval, Opening, Task} from "../src/interfaces/ITaskEscrow.sol";
import {Judge, Tally} from "../src/lib/Judge.sol";
import {Reputation} from "../src/lib/Reputation.sol";
import {Fixture} from "./support/Fixture.sol";

/// @dev Properties of the arithmetic and of whole tasks, for any input.
contract FuzzTest is Fixture {
    function testFuzz_payment_and_cut_make_the_fee(uint96 fee, uint256 r) public pure {
        r = bound(r, 0, Reputation.MAX);
        uint256 payment = Reputation.payment(fee, r);
        assertTrue(payment <= fee, "no more than the fee");
        assertTrue(payment >= uint256(fee) * 85 / 100 && payment <= uint256(fee) * 95 / 100, "5 to 15 %");
    }

    function testFuzz_reputation_stays_in_bounds(uint96 fee, uint256 r, uint96 w0, uint256 weeks_)
        public
        pure
    {
        r = bound(r, 0, Reputation.MAX);
        uint256 unit = bound(w0, 1, type(uint96).max);
        uint256 w = Reputation.weight(fee, r, unit);
        assertTrue(w <= unit, "weight is at most one");
        uint256 up = Reputation.paid(r, w, unit);
        assertTrue(up >= r && up <= Reputation.MAX, "never above 1000");
        assertTrue(up - r <= 10_000, "ten points at most");
        uint256 down = Reputation.lost(r, w, unit);
        assertTrue(down <= r && down + r / 10 + 1 >= r, "a tenth at most");
        assertTrue(Reputation.silent(r) <= r, "down");
        uint256 idle = Reputation.idle(r, 1000, 1000 + bound(weeks_, 0, 10_000));
        assertTrue(idle <= r && (r <= 100_000 || idle >= 100_000), "not below 100");
    }

    function testFuzz_more_reputation_earns_more(uint96 fee, uint256 r) public pure {
        r = bound(r, 0, Reputation.MAX - 1);
        assertTrue(Reputation.payment(fee, r + 1) >= Reputation.payment(fee, r), "monotone");
    }

    function testFuzz_a_slash_is_a_fifth_rounded_up(uint96 bonded, uint96 unbonding, uint96 bounty)
        public
        pure
    {
        uint256 total = uint256(bonded) + unbonding;
        (uint256 amount, uint256 fromBonded, uint256 reward) = Reputation.slash(bonded, unbonding, bounty);
        assertTrue(amount * 5 >= total && amount * 5 < total + 5, "a fifth, rounded up");
        assertTrue(fromBonded <= bonded && amount - fromBonded <= unbonding, "never more than there is");
        assertTrue(reward <= bounty && reward * 10 <= amount, "a tenth at most");
    }

    /// @dev Boyer-Moore against counting.
    function testFuzz_the_winner_is_the_digest_of_enough_seats(uint256 seed, uint8 size) public pure {
        uint256 seats = 3 + 2 * bound(size, 0, 6);
        Tally memory y;
        y.digests = new bytes32[](seats);
        for (uint256 i; i < seats; ++i) {
            y.digests[i] = bytes32((seed >> (2 * i)) & 3);
            if (y.digests[i] != 0) y.opened |= 1 << i;
        }
        Judge.digests(y, seats);
        for (uint256 d = 1; d < 4; ++d) {
            (uint256 count, uint256 mask) = (0, 0);
            for (uint256 i; i < seats; ++i) {
                if (y.digests[i] == bytes32(d)) (count, mask) = (count + 1, mask | (1 << i));
            }
            bool wins = count * 10 >= seats * 6;
            assertTrue(wins == (y.result == bytes32(d)), "60 % of the seats");
            if (wins) assertEq(y.paid, mask, "and all of those");
        }
    }

    function testFuzz_any_outcome_conserves_money(
        uint256 seed,
        uint96 fee,
        uint96 tip,
        bool client,
        bool tolerance
    ) public conserved {
        Task memory t = _task(uint8(3 + 2 * (seed % 7)), tolerance ? TOL32 : EXACT);
        (t.fee, t.tip) = (uint96(bound(fee, 1e6, 1e21)), uint96(bound(tip, 0, 1e21)));
        Job memory j = _start(t);
        Approval[] memory a = new Approval[](tolerance ? t.seats : 0);
        for (uint8 i; i < t.seats; ++i) {
            _commit(j, i, bytes32(1 + ((seed >> (8 + 2 * i)) & 3) % 3));
        }
        for (uint8 i; i < a.length; ++i) {
            a[i] = _approval(j, i, uint16(uint256(keccak256(abi.encode(seed, i)))));
        }
        uint256 reveals = (seed >> 64) & 0x7fff;
        if (seed & 1 == 0 || reveals & ((1 << t.seats) - 1) == 0) {
            _finalise(j, client ? CLIENT : OTHER, j.openings, a);
        } else {
            _reveal(j, reveals);
            for (uint8 i; i < a.length; ++i) {
                if (a[i].mask << 1 != 0) escrow.approve(j.t, j.committee, a[i]);
            }
            _afterWindow(j);
            Opening[] memory o = _only(j, reveals);
            _finalise(j, client ? CLIENT : OTHER, o, noApprovals);
        }
    }
}
