// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ComputeToken} from "../../src/ComputeToken.sol";
import {RewardDistributor} from "../../src/RewardDistributor.sol";
import {IRewardDistributor} from "../../src/interfaces/IRewardDistributor.sol";
import {RewardFixture} from "../support/RewardFixture.sol";

contract RewardsTest is RewardFixture {
    function test_the_contract_says_what_it_was_built_with() public view {
        assertEq(address(rewards.token()), address(token), "token");
        assertEq(rewards.delay(), DELAY, "delay");
        assertEq(rewards.epochLength(), registry.epochLength(), "epochs are the registry's");
        assertTrue(rewards.hasRole(rewards.PROPOSER_ROLE(), PROPOSER), "proposer");
        assertTrue(rewards.hasRole(rewards.GUARDIAN_ROLE(), GUARDIAN), "guardian");
        assertEq(rewards.owner(), ADMIN, "admin");
        assertEq(rewards.leafOf(CLIENT, 7), _leaf(CLIENT, 7), "a leaf is EIP-712 and RFC 6962");
    }

    function test_senseless_parameters_cannot_be_deployed() public {
        ComputeToken another = new ComputeToken(address(this), 1);
        vm.expectRevert();
        new RewardDistributor(token, registry, ADMIN, 2 days, PROPOSER, GUARDIAN, 0);
        vm.expectRevert();
        new RewardDistributor(token, registry, ADMIN, 2 days, PROPOSER, GUARDIAN, 30 days + 1);
        vm.expectRevert();
        new RewardDistributor(another, registry, ADMIN, 2 days, PROPOSER, GUARDIAN, 1);
        vm.expectRevert();
        new RewardDistributor(token, registry, address(0), 2 days, PROPOSER, GUARDIAN, 1);
        new RewardDistributor(token, registry, ADMIN, 2 days, PROPOSER, GUARDIAN, 30 days);
    }

    function test_a_root_comes_into_force_after_the_delay_and_everybody_is_paid_once() public {
        uint256[3] memory owed = [uint256(10), 20, 30];
        _fund(100);
        uint40 epoch = _lastEpoch();
        uint40 activeAt = uint40(block.timestamp) + DELAY;
        vm.expectEmit(true, true, true, true, address(rewards));
        emit IRewardDistributor.RewardsProposed(epoch, _root(owed), 60, STATEMENT, activeAt);
        _propose(epoch, owed, 60);
        assertEq(_waiting().activeAt, activeAt, "waits");
        assertEq(_active().root, 0, "not in force");
        vm.warp(activeAt);
        assertEq(_active().root, _root(owed), "in force by itself");
        assertEq(_waiting().activeAt, 0, "nothing waits");
        uint256 before = _has(_account(1));
        vm.expectEmit(true, true, true, true, address(rewards));
        emit IRewardDistributor.RewardsClaimed(_account(1), 20, 20);
        _claim(1, owed);
        assertEq(_has(_account(1)) - before, 20, "paid");
        assertEq(rewards.claimedBy(_account(1)), 20, "remembered");
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.NothingNew.selector, 20));
        this.claimAsIs(1, owed);
        _claim(0, owed);
        _claim(2, owed);
        assertEq(_active().paid, 60, "all of it");
        assertEq(_has(address(rewards)), 40, "the rest stays");
    }

    function test_missed_epochs_roll_up_into_one_claim() public {
        _inForce([uint256(10), 20, 30]);
        vm.warp(block.timestamp + 3 * uint256(EPOCH));
        _inForce([uint256(15), 20, 31]);
        vm.warp(block.timestamp + EPOCH);
        uint256[3] memory owed = [uint256(18), 20, 40];
        _inForce(owed);
        uint256 before = _has(_account(2));
        _claim(2, owed);
        assertEq(_has(_account(2)) - before, 40, "three epochs at once");
    }

    function test_a_later_root_pays_the_difference() public {
        uint256[3] memory first = [uint256(10), 20, 30];
        _inForce(first);
        _claim(0, first);
        vm.warp(block.timestamp + EPOCH);
        uint256[3] memory second = [uint256(25), 20, 30];
        _inForce(second);
        vm.expectEmit(true, true, true, true, address(rewards));
        emit IRewardDistributor.RewardsClaimed(_account(0), 15, 25);
        _claim(0, second);
    }

    function test_the_guardian_takes_a_root_back_within_the_delay_and_another_may_follow() public {
        uint256[3] memory wrong = [uint256(60), 0, 0];
        uint256[3] memory right = [uint256(10), 20, 30];
        _fund(60);
        uint40 epoch = _lastEpoch();
        _propose(epoch, wrong, 60);
        vm.warp(block.timestamp + DELAY - 1);
        vm.expectEmit(true, true, true, true, address(rewards));
        emit IRewardDistributor.RewardsCancelled(epoch, _root(wrong));
        _cancel(epoch);
        vm.warp(block.timestamp + DELAY);
        assertEq(_active().root, 0, "never in force");
        _propose(epoch, right, 60);
        vm.warp(block.timestamp + DELAY);
        _claim(2, right);
        expect(IRewardDistributor.BadProof.selector);
        this.claimAsIs(0, wrong);
    }

    function test_tokens_come_with_word_of_what_they_are_for() public {
        uint256[] memory shares = new uint256[](2);
        (shares[0], shares[1]) = (_share(_account(0), 7), _share(_account(1), 5));
        vm.expectEmit(true, true, true, true, address(rewards));
        emit IRewardDistributor.RewardsFunded(address(this), 1, 20, shares);
        token.transferAndCall(address(rewards), 20, abi.encode(uint8(1), shares));
        vm.expectEmit(true, true, true, true, address(rewards));
        emit IRewardDistributor.RewardsFunded(address(this), 0, 3, new uint256[](0));
        token.transferAndCall(address(rewards), 3);
        assertEq(_has(address(rewards)), 23, "here");
    }

    function test_shares_that_make_no_sense_are_refused() public {
        uint256[] memory none = new uint256[](0);
        uint256[] memory one = new uint256[](1);
        one[0] = _share(_account(0), 7);
        _refused(7, 0, one); // no reason
        _refused(7, 5, one); // no such reason
        _refused(7, 1, none); // a reason for nobody
        _refused(6, 1, one); // more than came
        one[0] = _share(address(0), 7);
        _refused(7, 1, one);
        one[0] = _share(_account(0), 0);
        _refused(7, 1, one);
        _refused(1e18, 1, _many(201));
        token.transferAndCall(address(rewards), 1e18, abi.encode(uint8(4), _many(200)));
        expect(IRewardDistributor.BadData.selector);
        token.transferAndCall(address(rewards), 0);
    }

    function test_a_root_needs_an_epoch_that_is_over_and_later_than_the_last() public {
        uint256[3] memory owed = [uint256(10), 20, 30];
        _inForce(owed);
        uint40 done = _active().epoch;
        uint40 ends = (done + 2) * EPOCH;
        vm.warp(ends - 1);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.TooEarly.selector, ends));
        this.proposeAsIs(done + 1, owed, 60);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.TooEarly.selector, type(uint40).max));
        this.proposeAsIs(type(uint40).max, owed, 60);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.BadEpoch.selector, done));
        this.proposeAsIs(done, owed, 60);
        vm.warp(ends);
        expect(IRewardDistributor.BadData.selector);
        this.proposeAsIs(done + 1, owed, 59); // a total never falls
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.Unfunded.selector, 61, 60));
        this.proposeAsIs(done + 1, owed, 61);
        vm.prank(PROPOSER);
        expect(IRewardDistributor.BadData.selector);
        rewards.propose(done + 1, 0, 60, STATEMENT);
        _propose(done + 1, owed, 60);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.StillWaiting.selector, ends + DELAY));
        this.proposeAsIs(done + 1, owed, 60);
        vm.warp(ends + DELAY);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.BadEpoch.selector, done + 1));
        this.proposeAsIs(done + 1, owed, 60);
    }

    function test_what_does_not_wait_cannot_be_cancelled() public {
        uint256[3] memory owed = [uint256(10), 20, 30];
        expect(IRewardDistributor.NothingWaits.selector);
        this.cancelAsIs(0);
        _fund(60);
        uint40 epoch = _lastEpoch();
        _propose(epoch, owed, 60);
        expect(IRewardDistributor.NothingWaits.selector);
        this.cancelAsIs(epoch - 1);
        vm.warp(block.timestamp + DELAY);
        expect(IRewardDistributor.NothingWaits.selector);
        this.cancelAsIs(epoch);
    }

    function testFuzz_no_other_amount_account_or_path_is_paid(
        uint96 a,
        uint96 b,
        uint96 cumulative,
        uint256 sides,
        bytes32 sibling,
        uint8 who
    ) public {
        uint256[3] memory owed = [uint256(a) % 1e24, uint256(b) % 1e24, 5];
        _inForce(owed);
        bytes32[] memory path = new bytes32[](2);
        (path[0], path[1]) = (sibling, _leaf(_account(2), 5));
        if (cumulative == owed[who % 3] && who % 3 < 2) return;
        vm.expectRevert();
        rewards.claim(_account(who % 3), cumulative, sides, path);
        assertEq(_active().paid, 0, "nothing");
    }

    function testFuzz_everybody_gets_what_the_tree_says(uint80 a, uint80 b, uint80 c) public {
        uint256[3] memory owed = [1 + uint256(a) % 1e24, 1 + uint256(b) % 1e24, 1 + uint256(c) % 1e24];
        _inForce(owed);
        for (uint256 who; who < 3; ++who) {
            uint256 before = _has(_account(who));
            _claim(who, owed);
            assertEq(_has(_account(who)) - before, owed[who], "its leaf");
        }
        assertEq(_has(address(rewards)), 0, "nothing is left");
    }

    // --- what reverts in a call of its own ----------------------------------------------------------------------

    function claimAsIs(uint256 who, uint256[3] calldata owed) external {
        (uint256 sides, bytes32[] memory path) = _path(who, owed);
        rewards.claim(_account(who), uint96(owed[who]), sides, path);
    }

    function proposeAsIs(uint40 epoch, uint256[3] calldata owed, uint96 total) external {
        bytes32 root = _root(owed);
        vm.prank(PROPOSER);
        rewards.propose(epoch, root, total, STATEMENT);
    }

    function cancelAsIs(uint40 epoch) external {
        vm.prank(GUARDIAN);
        rewards.cancel(epoch);
    }

    function _share(address to, uint96 amount) private pure returns (uint256) {
        return (uint256(uint160(to)) << 96) | amount;
    }

    function _many(uint256 n) private pure returns (uint256[] memory shares) {
        shares = new uint256[](n);
        for (uint256 i; i < n; ++i) {
            shares[i] = _share(_account(i), 1);
        }
    }

    function _refused(uint256 amount, uint8 reason, uint256[] memory shares) private {
        expect(IRewardDistributor.BadData.selector);
        token.transferAndCall(address(rewards), amount, abi.encode(reason, shares));
    }
}
