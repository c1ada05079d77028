// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RewardDistributor} from "../../src/RewardDistributor.sol";
import {IRewardDistributor} from "../../src/interfaces/IRewardDistributor.sol";
import {Fixture} from "./Fixture.sol";

/// @dev The distributor beside the other contracts, and trees of three accounts.
abstract contract RewardFixture is Fixture {
    uint40 internal constant DELAY = 100;
    uint40 internal constant EPOCH = 6 hours;
    address internal constant PROPOSER = address(0x9909);
    bytes32 internal constant STATEMENT = "statement";
    uint256 internal constant LEAVES = 3;

    RewardDistributor internal rewards;

    function setUp() public virtual override {
        super.setUp();
        rewards = _deployRewards(DELAY);
    }

    function _deployRewards(uint40 delay) internal returns (RewardDistributor) {
        bytes memory arguments = abi.encode(token, registry, ADMIN, 2 days, PROPOSER, GUARDIAN, delay);
        return
            RewardDistributor(_create("RewardDistributor", type(RewardDistributor).creationCode, arguments));
    }

    function _account(uint256 i) internal pure returns (address) {
        return address(uint160(0x1000 + i));
    }

    // --- trees ------------------------------------------------------------------------------------------------

    /// @dev Written again here, from RFC 6962, so that a slip in the contract does not hide in the tests.
    function _leaf(address account, uint256 amount) internal view returns (bytes32) {
        bytes32 hash = keccak256("Claim(address account,uint96 cumulativeAmount)");
        hash = keccak256(abi.encode(hash, account, amount));
        return sha256(abi.encodePacked(uint8(0), _digest(hash, "deai rewards", address(rewards))));
    }

    function _pair(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(uint8(1), left, right));
    }

    function _root(uint256[LEAVES] memory owed) internal view returns (bytes32) {
        bytes32 left = _pair(_leaf(_account(0), owed[0]), _leaf(_account(1), owed[1]));
        return _pair(left, _leaf(_account(2), owed[2]));
    }

    function _path(uint256 who, uint256[LEAVES] memory owed)
        internal
        view
        returns (uint256 sides, bytes32[] memory path)
    {
        bytes32[3] memory leaves =
            [_leaf(_account(0), owed[0]), _leaf(_account(1), owed[1]), _leaf(_account(2), owed[2])];
        if (who == 2) {
            path = new bytes32[](1);
            path[0] = _pair(leaves[0], leaves[1]);
            return (1, path);
        }
        path = new bytes32[](2);
        (path[0], path[1]) = (leaves[1 - who], leaves[2]);
        sides = who;
    }

    // --- calls ------------------------------------------------------------------------------------------------

    function _fund(uint256 amount) internal {
        token.transfer(address(rewards), amount);
    }

    function _lastEpoch() internal view returns (uint40) {
        return uint40(block.timestamp / EPOCH - 1);
    }

    function _propose(uint40 epoch, uint256[LEAVES] memory owed, uint256 total) internal {
        bytes32 root = _root(owed);
        vm.prank(PROPOSER);
        rewards.propose(epoch, root, uint96(total), STATEMENT);
    }

    function _cancel(uint40 epoch) internal {
        vm.prank(GUARDIAN);
        rewards.cancel(epoch);
    }

    /// @dev By somebody whose business it is not.
    function _claim(uint256 who, uint256[LEAVES] memory owed) internal {
        (uint256 sides, bytes32[] memory path) = _path(who, owed);
        vm.prank(OTHER);
        rewards.claim(_account(who), uint96(owed[who]), sides, path);
    }

    /// @dev A root in force, with the money for it.
    function _inForce(uint256[LEAVES] memory owed) internal {
        uint256 total = owed[0] + owed[1] + owed[2];
        _fund(total);
        _propose(_lastEpoch(), owed, total);
        vm.warp(block.timestamp + DELAY);
    }

    function _has(address a) internal view returns (uint256) {
        return token.balanceOf(a);
    }

    function _active() internal view returns (IRewardDistributor.Active memory active) {
        (active,) = rewards.roots();
    }

    function _waiting() internal view returns (IRewardDistributor.Waiting memory waiting) {
        (, waiting) = rewards.roots();
    }

    function _expectForbidden(address caller) internal {
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.Forbidden.selector, caller));
    }
}
