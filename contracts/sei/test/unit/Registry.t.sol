// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev Registration, stake, keys and beats of a node.
contract RegistryTest is Fixture {
    uint256 private constant KEY = 0xC0FFEE;

    function test_a_node_is_registered_in_one_transaction() public {
        token.transfer(OTHER, STAKE);
        bytes32 node = bytes32((uint256(uint160(OTHER)) << 96) | 7);
        bytes memory data = _registration(node, KEY, 7, uint40(block.timestamp));
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.NodeRegistered(node, OTHER, vm.addr(KEY), STAKE, hex"1220", "/ip4/127.0.0.1/tcp/1");
        vm.prank(OTHER);
        token.transferAndCall(address(registry), STAKE, data);
        INodeRegistry.Node memory n = registry.nodeOf(node);
        assertEq(n.owner, OTHER, "owner");
        assertEq(n.operator, vm.addr(KEY), "operator");
        assertTrue(n.standing == INodeRegistry.Standing.PROBATION, "probation");
        assertEq(n.reputation, 100_000, "R = 100");
        assertEq(n.epoch, block.timestamp / 6 hours, "registering is a beat");
        assertEq(n.bonded, STAKE, "stake");
        assertEq(token.balanceOf(address(registry)), (N + 1) * STAKE, "tokens");
    }

    function test_registration_is_refused() public {
        token.transfer(OTHER, 2 * STAKE);
        bytes32 node = bytes32(uint256(uint160(OTHER)) << 96);
        uint40 now_ = uint40(block.timestamp);
        address hot = vm.addr(KEY);
        bytes memory signature = _operate(node, KEY, now_);
        bytes memory good = _registration(node, KEY, 0, now_);
        vm.startPrank(OTHER);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, 100e18 - 1, 100e18));
        token.transferAndCall(address(registry), 100e18 - 1, good);
        // The key of somebody else: it signed for another node.
        bytes memory data = abi.encode(uint96(0), hot, now_, _operate(nodes[0], KEY, now_), hex"00", "");
        vm.expectRevert();
        token.transferAndCall(address(registry), STAKE, data);
        data = abi.encode(uint96(0), vm.addr(2), now_, signature, hex"00", "");
        vm.expectRevert();
        token.transferAndCall(address(registry), STAKE, data);
        data = abi.encode(uint96(0), address(0), now_, new bytes(64), hex"00", "");
        expect(INodeRegistry.BadOperator.selector, 0);
        token.transferAndCall(address(registry), STAKE, data);
        data = abi.encode(uint96(0), hot, now_, new bytes(65), hex"00", "");
        expect(INodeRegistry.BadData.selector);
        token.transferAndCall(address(registry), STAKE, data);
        data = abi.encode(uint96(0), hot, now_, signature, "", "");
        expect(INodeRegistry.BadData.selector); // no peer id
        token.transferAndCall(address(registry), STAKE, data);
        data = abi.encode(uint96(0), hot, now_, signature, new bytes(65), "");
        expect(INodeRegistry.BadData.selector);
        token.transferAndCall(address(registry), STAKE, data);
        data = abi.encode(uint96(0), hot, now_, signature, hex"00", string(new bytes(1025)));
        expect(INodeRegistry.BadData.selector);
        token.transferAndCall(address(registry), STAKE, data);
        vm.warp(now_ + 1);
        expect(INodeRegistry.SignatureExpired.selector, now_);
        token.transferAndCall(address(registry), STAKE, good);
        vm.warp(now_);
        token.transferAndCall(address(registry), STAKE, good);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, node, 1));
        token.transferAndCall(address(registry), STAKE, good);
        vm.stopPrank();
    }

    function test_an_allowance_is_no_consent_to_own_a_node() public {
        token.transfer(OTHER, STAKE);
        vm.prank(OTHER);
        token.approve(CLIENT, STAKE);
        bytes memory data = _registration(bytes32(uint256(uint160(OTHER)) << 96), KEY, 0, type(uint40).max);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.Forbidden.selector, CLIENT));
        vm.prank(CLIENT);
        token.transferFromAndCall(OTHER, address(registry), STAKE, data);
    }

    function test_only_the_token_brings_stake() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.Forbidden.selector, address(this)));
        registry.onTransferReceived(address(this), address(this), STAKE, abi.encode(nodes[0]));
    }

    function test_anybody_adds_stake_to_a_node_that_stays() public {
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.StakeAdded(nodes[2], 5, STAKE + 5);
        token.transferAndCall(address(registry), 5, abi.encode(nodes[2]));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, bytes32("nobody"), 0));
        token.transferAndCall(address(registry), 5, abi.encode(bytes32("nobody")));
        _unstake(2, STAKE + 5);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, nodes[2], 3));
        token.transferAndCall(address(registry), 5, abi.encode(nodes[2]));
    }

    function test_part_of_the_stake_leaves_down_to_the_minimum() public {
        vm.startPrank(owners[1]);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, 100e18 - 1, 100e18));
        registry.requestUnstake(nodes[1], STAKE - 100e18 + 1);
        expect(INodeRegistry.BadData.selector);
        registry.requestUnstake(nodes[1], 0);
        expect(INodeRegistry.BadData.selector);
        registry.requestUnstake(nodes[1], STAKE + 1);
        uint40 due = uint40(block.timestamp + 7 days);
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.UnbondingStarted(nodes[1], STAKE - 100e18, due);
        registry.requestUnstake(nodes[1], STAKE - 100e18);
        assertTrue(_node(1).standing == INodeRegistry.Standing.PROBATION, "still there");
        vm.warp(due);
        expect(INodeRegistry.TooEarly.selector, due);
        registry.withdrawStake(nodes[1], OTHER);
        vm.warp(due + 1);
        registry.withdrawStake(nodes[1], OTHER);
        assertEq(token.balanceOf(OTHER), STAKE - 100e18, "out");
        expect(INodeRegistry.BadData.selector);
        registry.withdrawStake(nodes[1], OTHER);
        vm.stopPrank();
    }

    function test_a_node_leaves_for_good() public {
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.NodeStatus(nodes[1], INodeRegistry.Standing.UNBONDING);
        _unstake(1, STAKE);
        assertTrue(_node(1).standing == INodeRegistry.Standing.UNBONDING, "leaving");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, nodes[1], 3));
        _unstake(1, 1);
        vm.warp(block.timestamp + 7 days + 1);
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.NodeStatus(nodes[1], INodeRegistry.Standing.EXITED);
        vm.prank(owners[1]);
        registry.withdrawStake(nodes[1], owners[1]);
        assertTrue(_node(1).standing == INodeRegistry.Standing.EXITED, "gone");
        bytes memory data = _registration(nodes[1], keys[1], 0, type(uint40).max);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, nodes[1], 5));
        vm.prank(owners[1]);
        token.transferAndCall(address(registry), STAKE, data);
        bytes memory signature = _operate(nodes[1], KEY, type(uint40).max);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, nodes[1], 5));
        vm.prank(owners[1]);
        registry.rotateOperator(nodes[1], vm.addr(KEY), type(uint40).max, signature);
    }

    function test_a_second_request_restarts_the_clock_for_all_of_it() public {
        _unstake(1, 10);
        vm.warp(block.timestamp + 6 days);
        uint40 due = uint40(block.timestamp + 7 days);
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.UnbondingStarted(nodes[1], 30, due);
        _unstake(1, 20);
        vm.warp(due);
        expect(INodeRegistry.TooEarly.selector, due);
        vm.prank(owners[1]);
        registry.withdrawStake(nodes[1], OTHER);
    }

    function test_only_the_owner_moves_stake_and_keys() public {
        bytes memory forbidden = abi.encodeWithSelector(INodeRegistry.Forbidden.selector, OTHER);
        vm.startPrank(OTHER);
        vm.expectRevert(forbidden);
        registry.requestUnstake(nodes[0], 1);
        vm.expectRevert(forbidden);
        registry.withdrawStake(nodes[0], OTHER);
        vm.expectRevert(forbidden);
        registry.unjail(nodes[0]);
        vm.expectRevert(forbidden);
        registry.rotateOperator(nodes[0], OTHER, 0, "");
        vm.expectRevert(forbidden);
        registry.heartbeat(nodes[0]);
        vm.expectRevert(forbidden);
        registry.announce(nodes[0], hex"00", "");
        vm.expectRevert(forbidden);
        registry.settle(nodes, 0, 0);
        vm.expectRevert(forbidden);
        registry.equivocated(nodes[0], OTHER);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, nodes[0], 1));
        vm.prank(owners[0]);
        registry.unjail(nodes[0]); // it is not in jail
    }

    function test_the_hot_key_is_replaced_with_its_consent() public {
        uint40 until = uint40(block.timestamp);
        bytes memory signature = _operate(nodes[0], KEY, until);
        vm.expectRevert();
        vm.prank(owners[0]);
        registry.rotateOperator(nodes[0], vm.addr(2), until, signature);
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.OperatorRotated(nodes[0], vm.addr(KEY));
        vm.prank(owners[0]);
        registry.rotateOperator(nodes[0], vm.addr(KEY), until, signature);
        vm.warp(until + 6 hours);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.Forbidden.selector, vm.addr(keys[0])));
        vm.prank(vm.addr(keys[0]));
        registry.heartbeat(nodes[0]);
        vm.prank(vm.addr(KEY));
        registry.heartbeat(nodes[0]);
    }

    function test_a_node_beats_once_per_epoch() public {
        uint40 epoch = uint40(block.timestamp / 6 hours);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.AlreadyBeaten.selector, nodes[0], epoch));
        vm.prank(vm.addr(keys[0]));
        registry.heartbeat(nodes[0]); // registering was the first
        vm.warp((uint256(epoch) + 1) * 6 hours);
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.Heartbeat(nodes[0], epoch + 1);
        vm.prank(vm.addr(keys[0]));
        registry.heartbeat(nodes[0]);
        assertEq(_node(0).epoch, epoch + 1, "kept");
    }

    function test_the_operator_announces_where_it_listens() public {
        vm.startPrank(vm.addr(keys[0]));
        vm.expectEmit(true, true, true, true, address(registry));
        emit INodeRegistry.NodeAnnounced(nodes[0], hex"1220aa", "/dns4/node.example/tcp/4001");
        registry.announce(nodes[0], hex"1220aa", "/dns4/node.example/tcp/4001");
        expect(INodeRegistry.BadData.selector);
        registry.announce(nodes[0], "", "");
        vm.stopPrank();
    }

    function test_settling_twenty_weeks_later_charges_the_idle_ones() public {
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT); // R = 103.780
        assertEq(_rep(0), 103_780, "this week");
        vm.warp(block.timestamp + 1 weeks);
        assertEq(_rep(0), 103_780, "no whole week was idle");
        vm.warp(block.timestamp + 1 weeks);
        assertEq(_rep(0), 103_402, "one was: a tenth of what exceeds 100");
    }

    function _unstake(uint256 i, uint96 amount) private {
        vm.prank(owners[i]);
        registry.requestUnstake(nodes[i], amount);
    }
}
