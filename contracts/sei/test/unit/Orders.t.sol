// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ComputeToken} from "../../src/ComputeToken.sol";
import {OrderSettlement} from "../../src/OrderSettlement.sol";
import {BalanceState, IOrderSettlement, Order, Settlement} from "../../src/interfaces/IOrderSettlement.sol";
import {Vm} from "../support/Base.sol";
import {OrderFixture} from "../support/OrderFixture.sol";

contract OrdersTest is OrderFixture {
    function test_the_contract_says_what_it_was_built_with() public view {
        assertEq(address(orders.token()), address(token), "token");
        assertEq(address(orders.registry()), address(registry), "registry");
        IOrderSettlement.Parameters memory p = orders.parameters();
        assertEq(p.thawPeriod, THAW, "thaw");
        assertEq(p.treasury, TREASURY, "the escrow's treasury");
        assertEq(p.minFee, 1e6, "the escrow's least fee");
        bytes32[] memory committee = _committee(_three(0));
        assertEq(orders.orderIdOf(_order(1), committee), _id(_order(1), committee), "EIP-712 over all");
    }

    function test_senseless_parameters_cannot_be_deployed() public {
        ComputeToken another = new ComputeToken(address(this), 1);
        vm.expectRevert();
        new OrderSettlement(token, registry, 0);
        vm.expectRevert();
        new OrderSettlement(token, registry, 30 days + 1);
        vm.expectRevert();
        new OrderSettlement(another, registry, THAW); // not what the registry's nodes stake
        new OrderSettlement(token, registry, 30 days);
    }

    function test_the_first_deposit_opens_balance_and_page() public {
        assertTrue(_stateOf(buyer) == BalanceState.NONE, "none");
        vm.expectEmit(true, true, true, true, address(orders));
        emit IOrderSettlement.PageOpened(buyer, 0);
        vm.expectEmit(true, true, true, true, address(orders));
        emit IOrderSettlement.OrdersFunded(buyer, FUNDS, FUNDS);
        _fund(buyer, FUNDS);
        assertTrue(_stateOf(buyer) == BalanceState.FUNDED, "funded");
        assertEq(_account(buyer).balance, FUNDS, "balance");
        assertEq(orders.pageOf(buyer, 0), 1, "bit 0 says that it is bought");
        assertEq(orders.pageOf(buyer, 1), 0, "no other");
        _fund(buyer, 5);
        assertEq(_account(buyer).balance, FUNDS + 5, "more");
    }

    function test_a_deposit_buys_the_page_it_names() public {
        uint56[2] memory pages = [uint56(1), type(uint56).max];
        for (uint256 i; i < 2; ++i) {
            vm.prank(buyer);
            token.transferAndCall(address(orders), 1e20, abi.encode(pages[i]));
            assertEq(orders.pageOf(buyer, pages[i]), 1, "bought");
        }
        assertEq(orders.pageOf(buyer, 0), 0, "and nothing besides");
        _settle(_settlement(0x1FF));
        _settle(_settlement(type(uint64).max));
        assertEq(orders.pageOf(buyer, 1), 1 | (1 << 255), "the last of a page");
        vm.prank(buyer);
        token.transferAndCall(address(orders), 1, abi.encode(uint56(1)));
        assertEq(orders.pageOf(buyer, 1), 1 | (1 << 255), "a page that is bought stays as it is");
    }

    function test_what_no_deposit_can_be() public {
        bytes[3] memory bad = [bytes(hex"00"), abi.encode(uint256(0), uint256(0)), abi.encode(1 << 56)];
        for (uint256 i; i < 3; ++i) {
            vm.prank(buyer);
            vm.expectRevert();
            token.transferAndCall(address(orders), 1, bad[i]);
        }
        vm.prank(buyer);
        expect(IOrderSettlement.BadData.selector);
        token.transferAndCall(address(orders), 0);
        expect(IOrderSettlement.Forbidden.selector, uint160(address(this)));
        orders.onTransferReceived(buyer, buyer, 1, "");
        vm.prank(buyer);
        token.approve(OTHER, 5);
        vm.prank(OTHER);
        expect(IOrderSettlement.Forbidden.selector, uint160(OTHER)); // an allowance is no consent
        token.transferFromAndCall(buyer, address(orders), 5);
    }

    function test_a_settled_order_pays_its_seats_and_the_protocol() public {
        _fund(buyer, FUNDS);
        Settlement memory s = _settlement(1);
        bytes32 id = _id(s.order, _committee(_three(0)));
        uint256 pay = _paid(FEE);
        uint256[] memory seats = new uint256[](6);
        for (uint256 i; i < 3; ++i) {
            (seats[i], seats[3 + i]) = (uint256(nodes[i]), pay);
        }
        uint256 terms = uint256(FEE) | (1 << 96) | (uint256(s.order.validUntil) << 104) | (uint256(1) << 144);
        vm.expectEmit(true, true, true, true, address(orders));
        emit IOrderSettlement.OrderSettled(id, buyer, terms, "spec", OUTPUT, seats);
        _settle(s);
        assertEq(_account(buyer).balance, FUNDS - 3 * uint256(FEE), "the fee of every seat");
        for (uint256 i; i < 3; ++i) {
            assertEq(_earned(i), pay, "each its own");
        }
        assertEq(_fees(0), 3 * (FEE - pay), "the rest is the protocol's");
        assertEq(_fees(1) + _fees(2), 0, "once");
        assertEq(orders.pageOf(buyer, 0), 3, "one bit");
        assertTrue(_stateOf(buyer) == BalanceState.FUNDED, "and it goes on");
    }

    function test_a_seat_that_did_not_sign_is_forfeited_not_refunded() public {
        _fund(buyer, FUNDS);
        _settle(_signed(_order(1), _three(0), BUYER_KEY, 6));
        assertEq(_account(buyer).balance, FUNDS - 3 * uint256(FEE), "leaving a seat out saves nothing");
        assertEq(_earned(0), 0, "silent");
        assertEq(_earned(1), _paid(FEE), "paid");
        assertEq(_fees(1), 3 * uint256(FEE) - 2 * _paid(FEE), "beside the first that is paid");
    }

    function test_reputation_moves_the_fee_and_is_not_moved() public {
        _fund(buyer, FUNDS);
        _setNode(nodes[0], vm.addr(keys[0]), 1_000_000, 2);
        _setNode(nodes[1], vm.addr(keys[1]), 0, 1);
        _settle(_settlement(1));
        assertEq(_earned(0), uint256(FEE) * 95 / 100, "5 %");
        assertEq(_earned(1), uint256(FEE) * 85 / 100, "15 %");
        assertEq(_rep(1), 0, "as before");
        assertEq(_node(2).checkedTasks, 0, "no probation ends with it");
    }

    function test_one_seat_needs_no_company() public {
        _fund(buyer, FUNDS);
        uint256[] memory who = new uint256[](1);
        who[0] = 5;
        Order memory o = _order(1);
        o.policy = NONE;
        _settle(_signed(o, who, BUYER_KEY, 1));
        assertEq(_earned(5), _paid(FEE), "paid");
    }

    function test_fifteen_seats() public {
        _fund(buyer, FUNDS);
        uint256[] memory who = new uint256[](15);
        for (uint256 i; i < 15; ++i) {
            who[i] = 15 - i;
        }
        _settle(_signed(_order(1), who, BUYER_KEY, 0x1FF)); // nine of fifteen
        assertEq(_earned(15), _paid(FEE), "the first");
        assertEq(_earned(1), 0, "the last");
        assertEq(_fees(15), 15 * uint256(FEE) - 9 * _paid(FEE), "the rest");
        _refused(_signed(_order(2), who, BUYER_KEY, 0xFF), IOrderSettlement.NoQuorum.selector);
    }

    function test_earnings_go_to_the_owner_and_fees_to_the_treasury() public {
        _fund(buyer, FUNDS);
        _settle(_settlement(1));
        uint256 before = _has(owners[1]);
        vm.expectEmit(true, true, true, true, address(orders));
        emit IOrderSettlement.EarningsCollected(owners[1], uint96(_paid(FEE)));
        vm.prank(OTHER);
        orders.collect(owners[1]);
        assertEq(_has(owners[1]) - before, _paid(FEE), "whoever asks");
        expect(IOrderSettlement.NothingEarned.selector, uint160(owners[1]));
        orders.collect(owners[1]);
        address[] memory who = new address[](3);
        (who[0], who[1], who[2]) = (owners[0], owners[0], OTHER);
        uint256 fees = _fees(0);
        vm.expectEmit(true, true, true, true, address(orders));
        emit IOrderSettlement.OrderFeesSwept(owners[0], uint96(fees));
        orders.sweep(who);
        assertEq(_has(TREASURY), fees, "once");
        assertEq(_earned(0), _paid(FEE), "the owner's own stays");
        orders.sweep(who);
        assertTrue(orders.payeeOf(owners[0]).open && orders.payeeOf(owners[1]).open, "slots stay bought");
    }

    function test_money_thaws_and_leaves() public {
        _fund(buyer, FUNDS);
        uint40 end = uint40(block.timestamp) + THAW;
        vm.expectEmit(true, true, true, true, address(orders));
        emit IOrderSettlement.ThawRequested(buyer, 7e18, end);
        _thaw(buyer, 7e18);
        assertTrue(_stateOf(buyer) == BalanceState.THAWING, "thawing");
        vm.warp(end);
        expect(IOrderSettlement.StillThawing.selector, end);
        _take(buyer);
        vm.warp(uint256(end) + 1);
        vm.expectEmit(true, true, true, true, address(orders));
        emit IOrderSettlement.ThawWithdrawn(buyer, OTHER, 7e18);
        vm.prank(buyer);
        orders.withdraw(OTHER);
        assertEq(_has(OTHER), 7e18, "where it was sent");
        assertEq(_account(buyer).balance, FUNDS - 7e18, "the rest");
        assertTrue(_stateOf(buyer) == BalanceState.FUNDED, "funded");
        _expectState(buyer, BalanceState.FUNDED);
        _take(buyer);
    }

    function test_a_request_replaces_the_one_before_and_starts_the_clock_anew() public {
        _fund(buyer, FUNDS);
        _thaw(buyer, 7e18);
        vm.warp(block.timestamp + THAW);
        _thaw(buyer, 9e18);
        assertEq(_account(buyer).thawing, 9e18, "not 16");
        assertEq(_account(buyer).thawsAt, block.timestamp + THAW, "from now");
        _thaw(buyer, 0);
        assertTrue(_stateOf(buyer) == BalanceState.FUNDED, "taken back");
        assertEq(uint256(_account(buyer).thawing) + _account(buyer).thawsAt, 0, "nothing asked for");
        _expectState(buyer, BalanceState.FUNDED);
        _thaw(buyer, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IOrderSettlement.Insufficient.selector, buyer, FUNDS, FUNDS + 1)
        );
        _thaw(buyer, FUNDS + 1);
    }

    function test_nobody_thaws_what_he_never_had() public {
        _expectState(OTHER, BalanceState.NONE);
        _thaw(OTHER, 1);
        _expectState(OTHER, BalanceState.NONE);
        _take(OTHER);
    }

    function test_a_pause_stops_deposits_and_nothing_else() public {
        _fund(buyer, FUNDS);
        vm.prank(GUARDIAN);
        registry.pause();
        vm.prank(buyer);
        expect(IOrderSettlement.IsPaused.selector);
        token.transferAndCall(address(orders), 1);
        _settle(_settlement(1));
        orders.collect(owners[0]);
        _thaw(buyer, 1e18);
        vm.warp(block.timestamp + THAW + 1);
        _take(buyer);
        assertEq(_account(buyer).balance, FUNDS - 3 * uint256(FEE) - 1e18, "all of it went on");
    }

    function _expectState(address client, BalanceState state) private {
        vm.expectRevert(abi.encodeWithSelector(IOrderSettlement.BadState.selector, client, state));
    }
}
