// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Reputation, fee and slash arithmetic
/// @notice Integers, non-negative, divisions round down. R is in thousandths of a point, 0..1,000,000.
/// @dev  payment  fee · (8,500,000 + R) / 10,000,000                        (φ = 1500 - R bps, R in points, unrounded)
///       w        min(fee · (1,500,000 - R) / 10,000,000, w0)               (w / w0 is the weight, 0..1)
///       paid     R + 10,000 · w · (1,000,000 - R) / (w0 · 1,000,000)
///       lost     R - R · w / (10 · w0)
///       silent   R - R / 20
///       slash    a fifth of what is bonded and unbonding, rounded up; bonded first; of it the smaller of the fixed
///                bounty and a tenth to the submitter, the rest burned
///       idle     for each whole week: R - (R - 100,000) / 10 while R > 100,000
/// R is the value before the update everywhere, after idle weeks were charged. Python mirrors these lines and both
/// replay the same vectors. No product overflows: fee and w0 are below 2^96.
library Reputation {
    uint256 internal constant MAX = 1_000_000;
    uint256 internal constant START = 100_000;

    function payment(uint256 fee, uint256 r) internal pure returns (uint256) {
        unchecked {
            return fee * (8_500_000 + r) / 10_000_000;
        }
    }

    function weight(uint256 fee, uint256 r, uint256 w0) internal pure returns (uint256 w) {
        unchecked {
            w = fee * (1_500_000 - r) / 10_000_000;
            if (w > w0) w = w0;
        }
    }

    function paid(uint256 r, uint256 w, uint256 w0) internal pure returns (uint256) {
        unchecked {
            return r + 10_000 * w * (MAX - r) / (w0 * MAX);
        }
    }

    function lost(uint256 r, uint256 w, uint256 w0) internal pure returns (uint256) {
        unchecked {
            return r - r * w / (10 * w0);
        }
    }

    function silent(uint256 r) internal pure returns (uint256) {
        unchecked {
            return r - r / 20;
        }
    }

    /// @dev Ends when a week changes nothing any more (R - 100,000 < 10): after 110 rounds at most.
    function idle(uint256 r, uint256 lastWeek, uint256 week) internal pure returns (uint256) {
        unchecked {
            for (uint256 k = lastWeek + 1; k < week && r >= START + 10; ++k) {
                r -= (r - START) / 10;
            }
            return r;
        }
    }

    function slash(uint256 bonded, uint256 unbonding, uint256 fixedBounty)
        internal
        pure
        returns (uint256 amount, uint256 fromBonded, uint256 bounty)
    {
        unchecked {
            amount = (bonded + unbonding + 4) / 5;
            fromBonded = amount < bonded ? amount : bonded;
            bounty = amount / 10 < fixedBounty ? amount / 10 : fixedBounty;
        }
    }
}
