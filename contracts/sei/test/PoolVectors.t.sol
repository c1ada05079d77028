// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Delegations} from "../src/Delegations.sol";
import {PoolMath} from "../src/lib/PoolMath.sol";
import {PoolFixture} from "./support/PoolFixture.sol";
import {SpecReader} from "./support/SpecReader.sol";

/// @dev Replays contracts/spec/vectors/pools.json; see contracts/spec/pool_parts.py.
contract PoolVectorsTest is PoolFixture, SpecReader {
    /// @dev Columns of a run.
    struct Run {
        int256[] ops;
        int256[] amounts;
        int256[] bps;
        int256[] assets;
        int256[] shares;
        int256[] managerShares;
        int256[] leaving;
        int256[] leavingShares;
    }

    struct State {
        uint256 assets;
        uint256 shares;
        uint256 own;
        uint256 leaving;
        uint256 leavingShares;
    }

    string private constant FILE = "pools.json";

    /// @dev By the real contract, created at the address that the vector names.
    function test_owners_of_pools() public {
        uint256 n = _count(FILE, ".owners", 6);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".owners", i);
            Delegations place = _createAt(_a(FILE, at, ".delegations"));
            assertEq(vm.computeCreateAddress(address(place), 1), _a(FILE, at, ".template"), "template");
            address its = place.ownerOf(_a(FILE, at, ".manager"), uint96(_n(FILE, at, ".index")));
            assertEq(its, _a(FILE, at, ".owner"), "owner");
            assertEq(bytes32(uint256(uint160(its)) << 96), _w(FILE, at, ".node"), "node");
        }
    }

    /// @dev Code that creates runs wherever it lies; what it returns is put in its place.
    function _createAt(address place) private returns (Delegations) {
        bytes memory arguments = abi.encode(token, registry, orders, MIN_DELEGATION);
        vm.etch(place, bytes.concat(type(Delegations).creationCode, arguments));
        vm.setNonce(place, 1);
        (bool ok, bytes memory code) = place.call("");
        assertTrue(ok, "created");
        vm.etch(place, code);
        return Delegations(place);
    }

    function test_worth_of_shares() public view {
        uint256 n = _count(FILE, ".worth", 16);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".worth", i);
            uint256 found =
                PoolMath.worth(_n(FILE, at, ".some"), _n(FILE, at, ".shares"), _n(FILE, at, ".assets"));
            assertEq(found, _n(FILE, at, ".worth"), at);
        }
    }

    function test_shares_for_an_amount() public view {
        uint256 n = _count(FILE, ".minted", 16);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".minted", i);
            uint256 found =
                PoolMath.minted(_n(FILE, at, ".amount"), _n(FILE, at, ".shares"), _n(FILE, at, ".assets"));
            assertEq(found, _n(FILE, at, ".minted"), at);
        }
    }

    function test_commissions() public view {
        uint256 n = _count(FILE, ".commissions", 24);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".commissions", i);
            (uint256 kept, uint256 bought) = PoolMath.commission(
                _n(FILE, at, ".income"),
                _n(FILE, at, ".bps"),
                _n(FILE, at, ".shares"),
                _n(FILE, at, ".assets")
            );
            assertEq(kept, _n(FILE, at, ".kept"), at);
            assertEq(bought, _n(FILE, at, ".bought"), at);
        }
    }

    function test_slashes() public view {
        uint256 n = _count(FILE, ".slashes", 32);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".slashes", i);
            PoolMath.Slash memory s = PoolMath.slash(
                _n(FILE, at, ".amount"),
                _n(FILE, at, ".fixedBounty"),
                _n(FILE, at, ".assets"),
                _n(FILE, at, ".leaving"),
                _n(FILE, at, ".shares"),
                _n(FILE, at, ".free")
            );
            assertEq(s.lost, _n(FILE, at, ".lost"), at);
            assertEq(s.bounty, _n(FILE, at, ".bounty"), at);
            assertEq(s.burnt, _n(FILE, at, ".burnt"), at);
        }
    }

    function test_runs_of_steps() public view {
        uint256 n = _count(FILE, ".runs", 8);
        uint256 bounty = this.number(FILE, ".bounty");
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".runs", i);
            uint256 stake = _n(FILE, at, ".stake");
            _run(_columns(at), State(stake, stake, stake, 0, 0), bounty);
        }
    }

    function _run(Run memory y, State memory s, uint256 bounty) private pure {
        assertTrue(y.ops.length != 0, "steps");
        for (uint256 k; k < y.ops.length; ++k) {
            _step(s, uint256(y.ops[k]), uint256(y.amounts[k]), uint256(y.bps[k]), bounty);
            assertEq(s.assets, uint256(y.assets[k]), "assets");
            assertEq(s.shares, uint256(y.shares[k]), "shares");
            assertEq(s.own, uint256(y.managerShares[k]), "the manager's");
            assertEq(s.leaving, uint256(y.leaving[k]), "leaving");
            assertEq(s.leavingShares, uint256(y.leavingShares[k]), "shares that leave");
        }
    }

    /// @dev Numbered as `ops` of the file: delegate, own, income, batch, slash, mature.
    function _step(State memory s, uint256 op, uint256 amount, uint256 bps, uint256 bounty) private pure {
        if (op < 3) {
            uint256 bought;
            if (op == 2) (, bought) = PoolMath.commission(amount, bps, s.shares, s.assets);
            else bought = PoolMath.minted(amount, s.shares, s.assets);
            (s.assets, s.shares) = (s.assets + amount, s.shares + bought);
            if (op != 0) s.own += bought;
        } else if (op == 3) {
            (s.leaving, s.leavingShares) = (PoolMath.worth(amount, s.shares, s.assets), amount);
            (s.assets, s.shares) = (s.assets - s.leaving, s.shares - amount);
        } else if (op == 4) {
            PoolMath.Slash memory found = PoolMath.slash(amount, bounty, s.assets, s.leaving, s.shares, s.own);
            (s.assets, s.leaving) = (s.assets - (amount - found.lost), s.leaving - found.lost);
            (s.shares, s.own) = (s.shares - found.burnt, s.own - found.burnt);
        } else {
            (s.leaving, s.leavingShares) = (0, 0);
        }
    }

    function _columns(string memory at) private view returns (Run memory y) {
        y.ops = _column(at, ".ops");
        y.amounts = _column(at, ".amounts");
        y.bps = _column(at, ".bps");
        y.assets = _column(at, ".assets");
        y.shares = _column(at, ".shares");
        y.managerShares = _column(at, ".managerShares");
        y.leaving = _column(at, ".leaving");
        y.leavingShares = _column(at, ".leavingShares");
    }

    function _column(string memory at, string memory name) private view returns (int256[] memory) {
        return this.numbers(FILE, string.concat(at, name));
    }
}
