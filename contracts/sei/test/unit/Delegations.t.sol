// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ComputeToken} from "../../src/ComputeToken.sol";
import {Delegations} from "../../src/Delegations.sol";
import {NodeOwner} from "../../src/NodeOwner.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {OrderSettlement} from "../../src/OrderSettlement.sol";
import {IDelegations} from "../../src/interfaces/IDelegations.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Vm} from "../support/Base.sol";
import {PoolFixture} from "../support/PoolFixture.sol";

/// @dev Opening, lending, income and the manager's verbs.
contract DelegationsTest is PoolFixture {
    function test_the_contract_says_what_it_was_built_with() public view {
        assertEq(address(pools.token()), address(token), "token");
        assertEq(address(pools.registry()), address(registry), "registry");
        assertEq(address(pools.orders()), address(orders), "orders");
        assertEq(pools.minDelegation(), MIN_DELEGATION, "the least");
    }

    function test_senseless_parameters_cannot_be_deployed() public {
        ComputeToken another = new ComputeToken(address(this), 1);
        (NodeRegistry elsewhere,) = _deploy(token);
        OrderSettlement none = OrderSettlement(address(0));
        vm.expectRevert();
        new Delegations(another, registry, none, 1);
        vm.expectRevert();
        new Delegations(token, registry, none, 0);
        vm.expectRevert();
        new Delegations(token, registry, none, MIN_STAKE + 1);
        vm.expectRevert();
        new Delegations(token, elsewhere, orders, 1);
        new Delegations(token, registry, none, MIN_STAKE);
    }

    // --- opening ----------------------------------------------------------------------------------------------

    function test_opening_registers_a_node_of_an_account_that_nobody_else_drives() public {
        address second = pools.ownerOf(ALICE, 7);
        bytes32 its = bytes32(uint256(uint160(second)) << 96);
        token.transfer(ALICE, 300e18);
        bytes memory data = _opening(ALICE, 7, 2000);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.PoolOpened(its, ALICE, 7, 2000, 300e18);
        vm.prank(ALICE);
        token.transferAndCall(address(pools), 300e18, data);
        INodeRegistry.Node memory n = registry.nodeOf(its);
        assertEq(n.owner, second, "owner");
        assertEq(n.operator, vm.addr(POOL_KEY), "operator");
        assertEq(n.bonded, 300e18, "stake");
        assertTrue(n.standing == INodeRegistry.Standing.PROBATION, "registered");
        IDelegations.Pool memory p = pools.poolOf(its);
        assertEq(p.manager, ALICE, "manager");
        assertEq(p.commission, 2000, "commission");
        assertEq(p.assets, 300e18, "assets");
        assertEq(p.shares, 300e18, "a share per unit");
        assertEq(p.managerShares, 300e18, "the manager's");
        assertEq(p.batch, 1, "the first batch collects");
        assertTrue(escrow.accountOf(second).open, "the vault's slot is bought");
        _expectForbidden(ALICE);
        vm.prank(ALICE);
        NodeOwner(second).run(address(token), "");
    }

    function test_each_manager_and_index_has_an_account_of_its_own() public view {
        address first = pools.ownerOf(MANAGER, 0);
        assertTrue(first != pools.ownerOf(MANAGER, 1) && first != pools.ownerOf(ALICE, 0), "apart");
    }

    function test_a_pool_is_opened_once() public {
        token.transfer(MANAGER, OWN);
        bytes memory data = _opening(MANAGER, 0, 0);
        _expectState(IDelegations.State.OPEN);
        vm.prank(MANAGER);
        token.transferAndCall(address(pools), OWN, data);
    }

    function test_senseless_openings() public {
        token.transfer(ALICE, OWN);
        bytes memory data = _opening(ALICE, 0, 2001);
        _refused(ALICE, OWN, data, abi.encodeWithSelector(IDelegations.CommissionTooHigh.selector, 2001));
        data = _opening(ALICE, 0, 0);
        bytes memory why = abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, 99e18, MIN_STAKE);
        _refused(ALICE, 99e18, data, why);
        // Signed for the node of another pool.
        bytes memory other = _opening(ALICE, 1, 0);
        assembly ("memory-safe") {
            mstore(add(other, 64), 0)
        }
        vm.prank(ALICE);
        vm.expectRevert();
        token.transferAndCall(address(pools), OWN, other);
        assertEq(_has(ALICE), OWN, "nothing left the payer");
    }

    function test_an_allowance_opens_no_pool() public {
        token.transfer(ALICE, OWN);
        bytes memory data = _opening(ALICE, 0, 0);
        vm.prank(ALICE);
        token.approve(BOB, OWN);
        _expectForbidden(BOB);
        vm.prank(BOB);
        token.transferFromAndCall(ALICE, address(pools), OWN, data);
    }

    function test_only_the_token_tells_of_money_and_only_sense_is_heard() public {
        _expectForbidden(address(this));
        pools.onTransferReceived(ALICE, ALICE, OWN, abi.encode(uint8(2), node));
        token.transfer(ALICE, OWN);
        bytes memory bad = abi.encodeWithSelector(IDelegations.BadData.selector);
        _refused(ALICE, OWN, "", bad);
        _refused(ALICE, OWN, abi.encode(uint8(2)), bad);
        _refused(ALICE, OWN, abi.encode(uint8(3), node), bad);
        _refused(ALICE, OWN, abi.encode(uint8(1), node), bad);
        _refused(ALICE, OWN, abi.encode(uint8(0), node), bad);
        vm.expectRevert(bad);
        vm.prank(address(token));
        pools.onTransferReceived(ALICE, ALICE, 1 << 96, abi.encode(uint8(2), node));
    }

    // --- lending ----------------------------------------------------------------------------------------------

    function test_lent_tokens_are_stake_at_once_and_buy_shares_at_their_worth() public {
        token.transfer(ALICE, 400e18);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.Delegated(node, ALICE, 400e18, 400e18);
        _delegateOwn(ALICE, 400e18);
        assertEq(_n().bonded, 1400e18, "stake");
        _earn(280e18 + 1); // a fifth more
        _delegate(BOB, 120e18);
        IDelegations.Pool memory p = _p();
        assertEq(p.assets, 1800e18, "all of it");
        assertEq(_n().bonded, 1800e18, "and staked");
        assertEq(_of(BOB).shares, uint256(120e18) * (p.shares - _of(BOB).shares) / 1680e18, "at its worth");
        assertTrue(_worth(BOB) <= 120e18 && _worth(BOB) >= 120e18 - 1, "no more and no less");
        _assertBacked();
    }

    function test_who_has_an_allowance_lends_for_whom_it_is_from() public {
        token.transfer(ALICE, OWN);
        vm.prank(ALICE);
        token.approve(BOB, OWN);
        vm.prank(BOB);
        token.transferFromAndCall(ALICE, address(pools), OWN, abi.encode(uint8(2), node));
        assertEq(_of(ALICE).shares, OWN, "the payer's");
        assertEq(_of(BOB).shares, 0, "not the sender's");
    }

    function test_others_lend_at_most_nine_times_the_managers_part() public {
        _delegate(ALICE, 5000e18);
        token.transfer(BOB, 5000e18);
        bytes memory why = abi.encodeWithSelector(
            IDelegations.Overleveraged.selector, uint256(10_000e18) + 1e18, uint256(10_000e18)
        );
        _refused(BOB, 4001e18, abi.encode(uint8(2), node), why);
        _delegateOwn(BOB, 4000e18);
        why = abi.encodeWithSelector(
            IDelegations.Overleveraged.selector, uint256(10_001e18), uint256(10_000e18)
        );
        _refused(BOB, 1e18, abi.encode(uint8(2), node), why);
        _delegate(MANAGER, 1e18);
        _delegateOwn(BOB, 9e18);
    }

    function test_senseless_delegations() public {
        token.transfer(ALICE, OWN);
        bytes memory why = abi.encodeWithSelector(IDelegations.TooSmall.selector, 1e18 - 1, MIN_DELEGATION);
        _refused(ALICE, 1e18 - 1, abi.encode(uint8(2), node), why);
        _expectStateOf(nodes[0], IDelegations.State.NONE);
        vm.prank(ALICE);
        token.transferAndCall(address(pools), OWN, abi.encode(uint8(2), nodes[0]));
    }

    function test_the_guardian_stops_lending_and_no_way_out() public {
        _delegate(ALICE, 100e18);
        vm.prank(GUARDIAN);
        registry.pause();
        token.transfer(BOB, OWN);
        bytes memory why = abi.encodeWithSelector(IDelegations.IsPaused.selector);
        _refused(BOB, OWN, abi.encode(uint8(2), node), why);
        _refused(BOB, OWN, _opening(BOB, 0, 0), why);
        token.transfer(owner, 10e18);
        _leave(ALICE);
        _close();
        _period();
        assertTrue(_claim(ALICE) > 100e18, "with its part of the income");
        _period();
        _claim(MANAGER);
    }

    // --- income -----------------------------------------------------------------------------------------------

    function test_income_comes_from_everywhere_and_commission_is_shares() public {
        _delegate(ALICE, 1000e18);
        _earn(50e18);
        token.transfer(owner, 30e18);
        token.transferAndCall(address(registry), 20e18, abi.encode(node));
        // One unit stays with the account, so that no payer buys its slot again.
        uint256 income = 100e18 - 1;
        uint256 kept = income / 10;
        uint256 bought = kept * 2000e18 / (2000e18 + income - kept);
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.IncomeShared(node, uint96(income), uint96(kept), uint128(bought));
        _advance();
        IDelegations.Pool memory p = _p();
        assertEq(p.assets, 2000e18 + income, "all of it");
        assertEq(p.managerShares, OWN + bought, "commission");
        assertEq(_n().bonded, p.assets, "staked");
        assertEq(_has(owner), 1, "a unit stays");
        assertTrue(_worth(ALICE) - 1045e18 <= 1 && _worth(MANAGER) >= 1055e18 - 3, "45 and 55");
        _assertBacked();
    }

    function test_signed_orders_pay_the_pool() public {
        _seatThePool();
        _fund(buyer, FUNDS);
        _settle(_settlement(1));
        uint256 earned = orders.payeeOf(owner).earned;
        assertTrue(earned != 0, "it was paid");
        _advance();
        assertEq(_p().assets, OWN + earned - 1, "income");
        assertEq(orders.payeeOf(owner).earned, 0, "collected");
    }

    function test_tasks_pay_the_pool_and_a_proof_takes_from_it() public {
        _delegate(ALICE, 1000e18);
        _seatThePool();
        Job memory j = _start(3, EXACT);
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        uint256 earned = _bal(owner);
        assertTrue(earned != 0, "it was paid");
        _advance();
        assertEq(_bal(owner), 0, "withdrawn");
        assertEq(_p().assets, 2000e18 + earned - 1, "income");
        j = _start(3, EXACT);
        uint96 taken = (_n().bonded + 4) / 5;
        escrow.proveEquivocation(
            j.t, j.committee, 0, _result(j, 0, A, 0, POOL_KEY), _result(j, 0, B, 0, POOL_KEY)
        );
        uint256 before = _p().assets;
        _advance();
        assertEq(_p().assets, before - taken, "a fifth");
        assertTrue(_n().standing == INodeRegistry.Standing.JAILED, "jailed");
        _assertBacked();
    }

    function test_where_there_are_no_orders_none_are_asked_for() public {
        bytes memory arguments = abi.encode(token, registry, address(0), MIN_DELEGATION);
        pools = Delegations(_create("Delegations", type(Delegations).creationCode, arguments));
        owner = pools.ownerOf(MANAGER, 0);
        node = bytes32(uint256(uint160(owner)) << 96);
        _open(MANAGER, 0, 0, OWN);
        _earn(10e18);
        _advance();
        assertEq(_p().assets, OWN + 10e18 - 1, "the rest works");
    }

    function test_advancing_when_nothing_happened_changes_nothing() public {
        _delegate(ALICE, 100e18);
        bytes32 before = keccak256(abi.encode(_p()));
        vm.recordLogs();
        _advance();
        assertEq(vm.getRecordedLogs().length, 0, "no word");
        assertEq(keccak256(abi.encode(_p())), before, "no change");
        _expectStateOf(nodes[0], IDelegations.State.NONE);
        pools.advance(nodes[0]);
    }

    // --- commission -------------------------------------------------------------------------------------------

    function test_an_announced_commission_waits_for_a_whole_epoch() public {
        vm.warp(block.timestamp / EPOCHS * EPOCHS + 5);
        uint40 epoch = uint40(block.timestamp / EPOCHS) + 2;
        vm.expectEmit(true, true, true, true, address(pools));
        emit IDelegations.CommissionAnnounced(node, 2000, epoch);
        _announce(2000);
        assertEq(_p().nextCommission, 2000, "it waits");
        assertEq(_p().nextCommissionEpoch, epoch, "until then");
        vm.warp(uint256(epoch) * EPOCHS - 1);
        _earn(100e18 + 1);
        _advance();
        assertEq(_p().commission, COMMISSION, "the old one, to the last second");
        vm.warp(uint256(epoch) * EPOCHS);
        assertEq(_p().commission, 2000, "in force by itself");
        assertEq(_p().nextCommissionEpoch, 0, "nothing waits");
        _earn(100e18);
        vm.recordLogs();
        _advance();
        (uint256 income, uint256 kept,) = abi.decode(_lastData(), (uint256, uint256, uint256));
        assertEq(kept * 5, income, "a fifth");
    }

    function test_a_new_announcement_replaces_the_one_that_waits_and_its_clock() public {
        _announce(2000);
        uint40 first = _p().nextCommissionEpoch;
        vm.warp(block.timestamp + EPOCHS);
        _announce(0);
        assertEq(_p().nextCommissionEpoch, first + 1, "the clock starts again");
        vm.warp(uint256(first) * EPOCHS);
        assertEq(_p().commission, COMMISSION, "the first never comes");
        vm.warp(uint256(first + 1) * EPOCHS);
        assertEq(_p().commission, 0, "the second does");
    }

    function test_senseless_announcements() public {
        vm.expectRevert(abi.encodeWithSelector(IDelegations.CommissionTooHigh.selector, 2001));
        _announce(2001);
        _expectForbidden(ALICE);
        vm.prank(ALICE);
        pools.announceCommission(node, 0);
        _close();
        _expectState(IDelegations.State.CLOSING);
        _announce(0);
    }

    // --- the manager's other verbs ----------------------------------------------------------------------------

    function test_the_manager_changes_the_operator_by_its_consent() public {
        uint256 key = 0xBEEF;
        bytes memory signature = _operate(node, key, type(uint40).max);
        _expectForbidden(ALICE);
        vm.prank(ALICE);
        pools.rotateOperator(node, vm.addr(key), type(uint40).max, signature);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.SignatureExpired.selector, 1));
        vm.prank(MANAGER);
        pools.rotateOperator(node, vm.addr(key), 1, signature);
        vm.prank(MANAGER);
        pools.rotateOperator(node, vm.addr(key), type(uint40).max, signature);
        assertEq(_n().operator, vm.addr(key), "rotated");
    }

    function test_out_of_jail_with_a_whole_part_of_ones_own() public {
        _delegate(ALICE, 900e18);
        _undelegate(MANAGER, OWN - 100e18);
        _slash();
        _expectForbidden(ALICE);
        vm.prank(ALICE);
        pools.unjail(node);
        _advance();
        uint256 own = _worth(MANAGER);
        assertTrue(own < MIN_STAKE && _n().bonded > MIN_STAKE, "others' stake would do");
        _expectPair(IDelegations.OwnPartTooLow.selector, own, MIN_STAKE);
        _unjail();
        token.transfer(BOB, OWN);
        _refused(
            BOB, OWN, abi.encode(uint8(2), node), abi.encodeWithSelector(IDelegations.Jailed.selector, node)
        );
        _delegate(MANAGER, MIN_STAKE - own + 2);
        _unjail();
        assertTrue(_n().standing == INodeRegistry.Standing.PROBATION, "out");
        _delegateOwn(BOB, 10e18);
        _assertBacked();
    }

    function test_only_who_is_in_jail_is_let_out() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.BadStanding.selector, node, 1));
        _unjail();
        _slash();
        _close();
        _expectState(IDelegations.State.CLOSING);
        _unjail();
    }

    function test_nothing_is_known_of_what_is_not() public view {
        IDelegations.Pool memory p = pools.poolOf(nodes[0]);
        assertTrue(p.state == IDelegations.State.NONE && p.manager == address(0), "no pool");
        IDelegations.Delegation memory d = pools.delegationOf(nodes[0], ALICE);
        assertEq(d.shares + d.queued + d.claimable + d.queuedBatch, 0, "no part");
    }

    // --- helpers ----------------------------------------------------------------------------------------------

    uint256 private constant EPOCHS = 6 hours;

    function _announce(uint16 commission) private {
        vm.prank(MANAGER);
        pools.announceCommission(node, commission);
    }

    function _refused(address who, uint256 amount, bytes memory data, bytes memory why) private {
        vm.expectRevert(why);
        vm.prank(who);
        token.transferAndCall(address(pools), amount, data);
    }

    function _expectStateOf(bytes32 which, IDelegations.State found) private {
        vm.expectRevert(abi.encodeWithSelector(IDelegations.BadState.selector, which, found));
    }

    /// @dev Of the pool's own last event.
    function _lastData() private returns (bytes memory data) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter == address(pools)) data = logs[i].data;
        }
    }

    /// @dev The pool's node sits where the fixture's first node would.
    function _seatThePool() private {
        (nodes[0], keys[0]) = (node, POOL_KEY);
    }
}
