// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ComputeToken} from "../src/ComputeToken.sol";
import {RewardDistributor} from "../src/RewardDistributor.sol";
import {IRewardDistributor} from "../src/interfaces/IRewardDistributor.sol";
import {RewardFixture} from "./support/RewardFixture.sol";
import {SpecReader} from "./support/SpecReader.sol";

/// @dev Replays contracts/spec/vectors/rewards.json: trees that Python made are claimed from, and what the core says
/// of a run of calls is what the contract does.
contract RewardVectorsTest is RewardFixture, SpecReader {
    /// @dev Columns of a run; see contracts/spec/reward_parts.py.
    struct Run {
        int256[] ops;
        int256[] who;
        int256[] first;
        int256[] second;
        int256[] third;
        int256[] epochs;
        int256[] totals;
        int256[] times;
        string[] errors;
        int256[] active;
        int256[] promised;
        int256[] paid;
        int256[] waits;
        int256[] held;
        int256[] has0;
        int256[] has1;
        int256[] has2;
    }

    string private constant FILE = "rewards.json";

    /// @dev By the real contract, on the chain and at the address that the vector names.
    function test_trees_that_python_made_are_claimed_from() public {
        uint256 n = _count(FILE, ".cases", 6);
        for (uint256 i; i < n; ++i) {
            string memory place = _at(".cases", i);
            uint256 leaves = _count(FILE, string.concat(place, ".claims"), 1);
            for (uint256 k; k < leaves; ++k) {
                _replay(place, _at(string.concat(place, ".claims"), k));
            }
        }
    }

    /// @dev Each with the whole supply, because an amount may be all that there is.
    function _replay(string memory place, string memory at) private {
        token = new ComputeToken(address(this), type(uint96).max);
        (registry, escrow) = _deploy(token);
        bytes memory code =
            address(new RewardDistributor(token, registry, ADMIN, 2 days, PROPOSER, GUARDIAN, DELAY)).code;
        rewards = RewardDistributor(_a(FILE, place, ".domain.verifyingContract"));
        vm.etch(address(rewards), code);
        vm.chainId(_n(FILE, place, ".domain.chainId"));
        address account = _a(FILE, at, ".account");
        uint96 amount = uint96(_n(FILE, at, ".cumulativeAmount"));
        assertEq(rewards.leafOf(account, amount), _w(FILE, at, ".leaf"), "leaf");
        _store(account, amount, _w(FILE, place, ".root"));
        _fund(amount);
        bytes32[] memory path = this.words(FILE, string.concat(at, ".path"));
        rewards.claim(account, amount, _n(FILE, at, ".sides"), path);
        assertEq(_has(account), amount, "the contract pays it");
    }

    /// @dev The words of the head, the root and what the account had; see the storage layout.
    function _store(address account, uint96 total, bytes32 root) private {
        uint256 slot = _headSlot();
        vm.store(address(rewards), bytes32(slot), bytes32(uint256(1) | (uint256(total) << 40)));
        vm.store(address(rewards), bytes32(slot + 1), root);
        vm.store(address(rewards), keccak256(abi.encode(account, slot + 4)), 0);
        assertEq(_active().root, root, "the root's place");
        assertEq(_active().total, total, "the total's place");
    }

    /// @dev The first slot behind those of the roles.
    function _headSlot() private returns (uint256 slot) {
        bytes32 mark = keccak256("mark");
        for (; slot < 16; ++slot) {
            bytes32 before = vm.load(address(rewards), bytes32(slot + 1));
            vm.store(address(rewards), bytes32(slot + 1), mark);
            bool found = _active().root == mark;
            vm.store(address(rewards), bytes32(slot + 1), before);
            if (found) return slot;
        }
        revert Untrue("no slot holds the root");
    }

    function test_runs_of_calls() public {
        uint256 n = _count(FILE, ".runs", 10);
        uint256 start = block.timestamp;
        for (uint256 i; i < n; ++i) {
            vm.warp(start);
            rewards = _deployRewards(uint40(this.number(FILE, ".delay")));
            _run(_runAt(_at(".runs", i)));
        }
    }

    function _run(Run memory y) private {
        uint256[3] memory before = [_has(_account(0)), _has(_account(1)), _has(_account(2))];
        for (uint256 k; k < y.ops.length; ++k) {
            vm.warp(uint256(y.times[k]));
            uint256[3] memory owed = [uint256(y.first[k]), uint256(y.second[k]), uint256(y.third[k])];
            (bool ok, bytes memory why) = _step(
                uint256(y.ops[k]), uint256(y.who[k]), owed, uint40(uint256(y.epochs[k])), uint256(y.totals[k])
            );
            assertTrue(ok == (bytes(y.errors[k]).length == 0), y.errors[k]);
            if (!ok) assertEq(bytes32(bytes4(why)), bytes32(_selector(y.errors[k])), y.errors[k]);
            assertEq(_active().epoch, uint256(y.active[k]), "epoch");
            assertEq(_active().total, uint256(y.promised[k]), "total");
            assertEq(_active().paid, uint256(y.paid[k]), "paid");
            assertEq(_waiting().activeAt, uint256(y.waits[k]), "waits until");
            assertEq(_has(address(rewards)), uint256(y.held[k]), "held");
            assertEq(_has(_account(0)) - before[0], uint256(y.has0[k]), "first account");
            assertEq(_has(_account(1)) - before[1], uint256(y.has1[k]), "second account");
            assertEq(_has(_account(2)) - before[2], uint256(y.has2[k]), "third account");
        }
    }

    function _step(uint256 op, uint256 who, uint256[3] memory owed, uint40 epoch, uint256 total)
        private
        returns (bool, bytes memory)
    {
        if (op == 0) {
            _fund(total);
            return (true, "");
        }
        bytes memory call;
        if (op == 1) {
            call = abi.encodeCall(rewards.propose, (epoch, _root(owed), uint96(total), STATEMENT));
        } else if (op == 2) {
            call = abi.encodeCall(rewards.cancel, (epoch));
        } else {
            (uint256 sides, bytes32[] memory path) = _path(who, owed);
            call = abi.encodeCall(rewards.claim, (_account(who), uint96(owed[who]), sides, path));
        }
        vm.prank(op == 1 ? PROPOSER : op == 2 ? GUARDIAN : OTHER);
        return address(rewards).call(call);
    }

    function _selector(string memory name) private pure returns (bytes4) {
        bytes4[8] memory all = [
            IRewardDistributor.BadData.selector,
            IRewardDistributor.BadEpoch.selector,
            IRewardDistributor.TooEarly.selector,
            IRewardDistributor.StillWaiting.selector,
            IRewardDistributor.NothingWaits.selector,
            IRewardDistributor.BadProof.selector,
            IRewardDistributor.NothingNew.selector,
            IRewardDistributor.Exhausted.selector
        ];
        string[8] memory names = [
            "BadData()",
            "BadEpoch(uint40)",
            "TooEarly(uint40)",
            "StillWaiting(uint40)",
            "NothingWaits()",
            "BadProof()",
            "NothingNew(uint96)",
            "Exhausted(uint96)"
        ];
        bytes32 wanted = keccak256(bytes(name));
        for (uint256 i; i < 8; ++i) {
            assertEq(bytes32(bytes4(keccak256(bytes(names[i])))), bytes32(all[i]), names[i]);
            if (_beginning(names[i]) == wanted) return all[i];
        }
        if (keccak256("Unfunded") == wanted) return IRewardDistributor.Unfunded.selector;
        revert Untrue(name);
    }

    /// @dev The hash of a signature's name.
    function _beginning(string memory signature) private pure returns (bytes32 hash) {
        bytes memory all = bytes(signature);
        uint256 n;
        while (all[n] != "(") ++n;
        assembly ("memory-safe") {
            hash := keccak256(add(all, 32), n)
        }
    }

    function _runAt(string memory place) private view returns (Run memory y) {
        y.ops = this.numbers(FILE, string.concat(place, ".ops"));
        y.who = this.numbers(FILE, string.concat(place, ".who"));
        y.first = this.numbers(FILE, string.concat(place, ".first"));
        y.second = this.numbers(FILE, string.concat(place, ".second"));
        y.third = this.numbers(FILE, string.concat(place, ".third"));
        y.epochs = this.numbers(FILE, string.concat(place, ".epochs"));
        y.totals = this.numbers(FILE, string.concat(place, ".totals"));
        y.times = this.numbers(FILE, string.concat(place, ".times"));
        y.errors = this.texts(FILE, string.concat(place, ".errors"));
        y.active = this.numbers(FILE, string.concat(place, ".active"));
        y.promised = this.numbers(FILE, string.concat(place, ".promised"));
        y.paid = this.numbers(FILE, string.concat(place, ".paid"));
        y.waits = this.numbers(FILE, string.concat(place, ".waits"));
        y.held = this.numbers(FILE, string.concat(place, ".held"));
        y.has0 = this.numbers(FILE, string.concat(place, ".has0"));
        y.has1 = this.numbers(FILE, string.concat(place, ".has1"));
        y.has2 = this.numbers(FILE, string.concat(place, ".has2"));
    }
}
