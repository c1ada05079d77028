// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RewardDistributor} from "../../src/RewardDistributor.sol";
import {IRewardDistributor} from "../../src/interfaces/IRewardDistributor.sol";
import {RewardFixture} from "../support/RewardFixture.sol";

/// @dev A proposer that lies, and accounts that want more than their leaf.
contract RootsTest is RewardFixture {
    uint256[3] private _dues = [uint256(10), 20, 30];

    function test_only_the_proposer_proposes_and_only_the_guardian_cancels() public {
        _fund(60);
        bytes32 root = _root(_dues);
        uint40 epoch = _lastEpoch();
        address[3] memory others = [GUARDIAN, ADMIN, OTHER];
        for (uint256 i; i < 3; ++i) {
            _expectForbidden(others[i]);
            vm.prank(others[i]);
            rewards.propose(epoch, root, 60, STATEMENT);
        }
        _propose(epoch, _dues, 60);
        others[0] = PROPOSER;
        for (uint256 i; i < 3; ++i) {
            _expectForbidden(others[i]);
            vm.prank(others[i]);
            rewards.cancel(epoch);
        }
    }

    function test_a_root_promises_no_more_than_came_in() public {
        _fund(59);
        bytes32 root = _root(_dues);
        uint40 epoch = _lastEpoch();
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.Unfunded.selector, 60, 59));
        vm.prank(PROPOSER);
        rewards.propose(epoch, root, 60, STATEMENT);
    }

    /// @dev The leaves hold more than the total says: who comes first is paid, the rest is safe for others.
    function test_a_tree_of_more_than_its_total_pays_its_total() public {
        _fund(100);
        _propose(_lastEpoch(), _dues, 35);
        vm.warp(block.timestamp + DELAY);
        _claim(2, _dues);
        _refuseClaim(0, abi.encodeWithSelector(IRewardDistributor.Exhausted.selector, 5));
        assertEq(_has(address(rewards)), 70, "the pot");
    }

    function test_what_was_paid_counts_for_every_later_root() public {
        _inForce(_dues);
        for (uint256 who; who < 3; ++who) {
            _claim(who, _dues);
        }
        vm.warp(block.timestamp + EPOCH);
        _fund(7);
        uint40 epoch = _lastEpoch();
        bytes32 root = _root([uint256(10), 20, 38]);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.Unfunded.selector, 68, 67));
        vm.prank(PROPOSER);
        rewards.propose(epoch, root, 68, STATEMENT);
    }

    function test_a_leaf_of_another_contract_or_chain_is_worth_nothing() public {
        RewardDistributor here = rewards;
        rewards = _deployRewards(DELAY);
        bytes32 root = _root(_dues); // of the other contract
        (uint256 sides, bytes32[] memory path) = _path(0, _dues);
        rewards = here;
        _fund(60);
        uint40 epoch = _lastEpoch();
        vm.prank(PROPOSER);
        rewards.propose(epoch, root, 60, STATEMENT);
        vm.warp(block.timestamp + DELAY);
        expect(IRewardDistributor.BadProof.selector);
        rewards.claim(_account(0), 10, sides, path);
        vm.chainId(1);
        vm.warp(block.timestamp + EPOCH);
        _inForce(_dues);
        (sides, path) = _path(0, _dues);
        vm.chainId(2);
        expect(IRewardDistributor.BadProof.selector);
        rewards.claim(_account(0), 10, sides, path);
        vm.chainId(1);
        rewards.claim(_account(0), 10, sides, path);
    }

    /// @dev An inner node shown as a leaf, a leaf as a node, a path cut short or too long.
    function test_no_second_preimage_is_a_leaf() public {
        _inForce(_dues);
        (uint256 sides, bytes32[] memory path) = _path(0, _dues);
        bytes32[] memory short = new bytes32[](1);
        short[0] = path[1];
        _refuse(0, 10, sides, short);
        bytes32[] memory long = new bytes32[](3);
        (long[0], long[1]) = (path[0], path[1]);
        _refuse(0, 10, sides, long);
        _refuse(0, 10, sides ^ 1, path);
        _refuse(0, 10, sides ^ 2, path);
        _refuse(0, 11, sides, path);
        _refuse(1, 10, sides, path);
        _refuse(0, 10, sides, new bytes32[](0));
        _refuse(0, 10, sides, new bytes32[](65));
        rewards.claim(_account(0), 10, sides, path);
    }

    function test_an_old_root_is_worth_nothing_once_another_is_in_force() public {
        _inForce(_dues);
        (uint256 sides, bytes32[] memory path) = _path(0, _dues);
        vm.warp(block.timestamp + EPOCH);
        _inForce([uint256(10), 20, 31]);
        _refuse(0, 10, sides, path);
    }

    function test_a_claim_for_another_pays_only_that_account() public {
        _inForce(_dues);
        uint256 before = _has(OTHER);
        uint256 its = _has(_account(1));
        _claim(1, _dues); // sent by OTHER
        assertEq(_has(OTHER), before, "the sender gets nothing");
        assertEq(_has(_account(1)) - its, 20, "the account does");
    }

    function test_nothing_can_be_claimed_before_the_first_root_or_within_the_delay() public {
        _refuse(0, 10, 0, new bytes32[](0));
        _fund(60);
        _propose(_lastEpoch(), _dues, 60);
        vm.warp(block.timestamp + DELAY - 1);
        (uint256 sides, bytes32[] memory path) = _path(0, _dues);
        _refuse(0, 10, sides, path);
    }

    function test_only_the_token_tells_of_money() public {
        _expectForbidden(address(this));
        rewards.onTransferReceived(address(this), address(this), 5, "");
    }

    function test_pausing_the_network_stops_no_claim() public {
        _inForce(_dues);
        vm.prank(GUARDIAN);
        registry.pause();
        _claim(0, _dues);
    }

    function _refuse(uint256 who, uint96 amount, uint256 sides, bytes32[] memory path) private {
        expect(IRewardDistributor.BadProof.selector);
        rewards.claim(_account(who), amount, sides, path);
    }

    function _refuseClaim(uint256 who, bytes memory why) private {
        (uint256 sides, bytes32[] memory path) = _path(who, _dues);
        vm.expectRevert(why);
        rewards.claim(_account(who), uint96(_dues[who]), sides, path);
    }
}
