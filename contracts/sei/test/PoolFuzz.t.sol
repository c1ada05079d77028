// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PoolMath} from "../src/lib/PoolMath.sol";
import {PoolFixture} from "./support/PoolFixture.sol";

/// @dev Properties of the arithmetic of shares, and of one delegator's way in and out, for any input.
contract PoolFuzzTest is PoolFixture {
    function testFuzz_a_slash_takes_what_was_taken_and_no_more(
        uint96 assets,
        uint96 leaving,
        uint112 shares,
        uint112 free,
        uint96 bounty
    ) public pure {
        uint256 all = uint256(assets) + leaving;
        if (all == 0 || all > type(uint96).max || shares == 0) return;
        free = uint112(bound(free, 0, shares));
        uint256 amount = (all + 4) / 5;
        PoolMath.Slash memory s = PoolMath.slash(amount, bounty, assets, leaving, shares, free);
        assertTrue(s.lost <= leaving && amount - s.lost <= assets, "no more than there is");
        assertTrue(s.bounty <= bounty && s.bounty * 10 <= amount, "a tenth at most");
        assertTrue(s.burnt <= free, "of the manager's shares");
        uint256 exact = (amount - s.bounty) * leaving;
        if (s.bounty == (amount / 10 < bounty ? amount / 10 : bounty)) {
            assertTrue(s.lost * all >= exact && s.lost * all < exact + all, "its part, rounded up");
        }
        // Who stays has lost no more than its part of what was burned, if the manager could bear the bounty.
        if (s.burnt == free) return;
        uint256 left = assets - (amount - s.lost);
        uint256 before = assets - (amount - s.lost - s.bounty);
        assertTrue(left * shares >= before * (shares - s.burnt), "the bounty is the manager's alone");
    }

    function testFuzz_shares_are_worth_no_more_than_was_paid(uint96 amount, uint112 shares, uint96 assets)
        public
        pure
    {
        uint256 all = bound(assets, 1, type(uint96).max);
        uint256 supply = bound(shares, 1, type(uint112).max);
        uint256 minted = PoolMath.minted(amount, supply, all);
        if (minted > PoolMath.MAX_SHARES) return; // is refused
        uint256 worth = PoolMath.worth(minted, supply + minted, all + amount);
        assertTrue(worth <= amount, "no more");
        // The others have no less.
        assertTrue((all + amount) * supply >= all * (supply + minted), "nobody is diluted");
    }

    function testFuzz_commission_costs_others_its_part_and_no_more(
        uint96 income,
        uint256 bps,
        uint112 shares,
        uint96 assets
    ) public pure {
        uint256 came = bound(income, 1, type(uint96).max / 2);
        uint256 all = bound(assets, 0, type(uint96).max / 2);
        uint256 supply = bound(shares, 1, type(uint112).max);
        (uint256 kept, uint256 bought) = PoolMath.commission(came, bound(bps, 0, 2000), supply, all);
        assertTrue(kept * 5 <= came, "a fifth at most");
        assertTrue(supply + bought <= PoolMath.MAX_SHARES, "in its field");
        assertTrue(
            (all + came) * supply >= (all + came - kept) * (supply + bought), "the rest is everybody's"
        );
    }

    /// @dev In, income, perhaps a slash, and out: never more than was put in and the part of the income.
    function testFuzz_in_and_out(uint256 amount, uint256 income, uint256 fraction, bool slashed) public {
        amount = bound(amount, MIN_DELEGATION, 9 * uint256(OWN));
        income = bound(income, 0, 1e6 * E18);
        _delegate(ALICE, amount);
        if (income != 0) _earn(income);
        _advance();
        if (slashed) _slash();
        uint256 most = amount + income * amount / (amount + OWN);
        if (slashed) most = most * 4 / 5 + 1e18; // the bounty is not hers
        uint256 some = bound(fraction, 1, amount);
        _undelegate(ALICE, some);
        _period();
        uint256 back = _claim(ALICE);
        if (some != amount) {
            _leave(ALICE);
            _period();
            back += _claim(ALICE);
        }
        assertTrue(back <= most + 2, "no more");
        uint256 least = amount + (income == 0 ? 0 : income - 1) * amount / (amount + OWN) * 9 / 10;
        if (slashed) least = least * 4 / 5;
        assertTrue(back + 4 >= least || back + least / 1e9 >= least, "and no less");
        _assertBacked();
    }
}
