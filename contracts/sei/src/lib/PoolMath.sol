// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Arithmetic of shares
/// @notice Integers, non-negative; divisions round down unless said. Assets are what all shares are worth; what unbonds
/// for a batch (`leaving`) has left them.
/// @dev  worth    shares · assets / all shares
///       minted   amount · shares / assets
///       income   of I the commission C = I · bps / 10,000; it buys C · shares / (assets + I - C) shares; assets + I
///       slash    of S the bounty b = min(S / 10, the registry's); the rest is borne by all:
///                leaving - ceil((S - b) · leaving / (assets + leaving)), assets the remainder of it;
///                then b off the assets (as far as they go, the rest off what leaves), and
///                ceil(b · shares / assets before) shares off the manager's, as far as these go
/// Python mirrors these lines and both replay the same vectors. Amounts are below 2^96 and shares below 2^112: no
/// product overflows.
library PoolMath {
    /// @dev The widest count of shares: a delegation above it is refused, a commission above it cut.
    uint256 internal constant MAX_SHARES = type(uint112).max;

    /// @param lost what the batch that unbonds loses
    /// @param bounty borne by the manager alone
    /// @param burnt the manager's shares for it
    struct Slash {
        uint256 lost;
        uint256 bounty;
        uint256 burnt;
    }

    function worth(uint256 some, uint256 shares, uint256 assets) internal pure returns (uint256) {
        return shares == 0 ? 0 : some * assets / shares;
    }

    /// @dev `assets` is not 0: an open pool has the manager's stake.
    function minted(uint256 amount, uint256 shares, uint256 assets) internal pure returns (uint256) {
        return amount * shares / assets;
    }

    /// @param income not 0, nor are the shares
    function commission(uint256 income, uint256 bps, uint256 shares, uint256 assets)
        internal
        pure
        returns (uint256 kept, uint256 bought)
    {
        kept = income * bps / 10_000;
        bought = kept * shares / (assets + income - kept);
        if (bought > MAX_SHARES - shares) bought = MAX_SHARES - shares;
    }

    /// @param amount taken: at most assets + leaving, and not 0
    /// @param free the manager's shares that do not leave
    function slash(
        uint256 amount,
        uint256 fixedBounty,
        uint256 assets,
        uint256 leaving,
        uint256 shares,
        uint256 free
    ) internal pure returns (Slash memory s) {
        s.bounty = amount / 10 < fixedBounty ? amount / 10 : fixedBounty;
        uint256 common = amount - s.bounty;
        s.lost = (common * leaving + assets + leaving - 1) / (assets + leaving);
        assets -= common - s.lost;
        if (s.bounty > assets) (s.lost, s.bounty) = (s.lost + s.bounty - assets, assets);
        if (s.bounty == 0) return s;
        s.burnt = (s.bounty * shares + assets - 1) / assets;
        if (s.burnt > free) s.burnt = free;
    }
}
