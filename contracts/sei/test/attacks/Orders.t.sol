// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ComputeToken} from "../../src/ComputeToken.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {OrderSettlement} from "../../src/OrderSettlement.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IOrderSettlement, Order, SeatResult, Settlement} from "../../src/interfaces/IOrderSettlement.sol";
import {Vm} from "../support/Base.sol";
import {OrderFixture} from "../support/OrderFixture.sol";
import {CallingToken} from "./Limits.t.sol";

/// @dev Settlements that should not pay, batches that somebody wants to spoil, and money that somebody wants back.
contract OrdersAttacks is OrderFixture {
    uint256 private constant CURVE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public override {
        super.setUp();
        _fund(buyer, FUNDS);
    }

    // --- one item ---------------------------------------------------------------------------------------------

    function test_an_order_settles_once() public {
        Settlement memory s = _settlement(1);
        _settle(s);
        _refused(s, IOrderSettlement.AlreadySettled.selector);
        s = _signed(_order(1), _three(3), BUYER_KEY, 7);
        _refused(s, IOrderSettlement.AlreadySettled.selector); // one nonce, one order, whatever it says
        assertEq(_account(buyer).balance, FUNDS - 3 * uint256(FEE), "paid once");
    }

    function test_an_order_ends_with_its_expiry_and_nothing_else() public {
        Settlement memory s = _settlement(1);
        Settlement memory late = _settlement(2);
        _thaw(buyer, FUNDS); // the client cannot call it off
        vm.warp(s.order.validUntil);
        _settle(s);
        vm.warp(uint256(late.order.validUntil) + 1);
        _refused(late, IOrderSettlement.TooLate.selector);
    }

    function test_a_signature_is_for_one_contract_on_one_chain() public {
        Settlement memory s = _settlement(1);
        uint256 here = block.chainid;
        vm.chainId(here + 1);
        _refused(s, IOrderSettlement.BadSignature.selector);
        vm.chainId(here);
        OrderSettlement first = orders;
        orders = new OrderSettlement(token, registry, THAW);
        _fund(buyer, FUNDS);
        _refused(s, IOrderSettlement.BadSignature.selector);
        orders = first;
        _settle(s);
    }

    function test_every_field_of_an_order_is_signed() public {
        Settlement memory s = _settlement(1);
        Settlement memory t;
        for (uint256 i; i < 6; ++i) {
            t = _copy(s);
            if (i == 0) t.order.fee -= 1;
            if (i == 1) t.order.policy = TOL32;
            if (i == 2) t.order.validUntil += 1;
            if (i == 3) t.order.nonce += 1;
            if (i == 4) t.order.specHash = "another spec";
            if (i == 5) t.seats[2].node = 3; // another committee
            _refused(t, IOrderSettlement.BadSignature.selector);
        }
        t = _copy(s);
        (t.seats[0], t.seats[1]) = (s.seats[1], s.seats[0]); // the same nodes on other seats
        _refused(t, IOrderSettlement.BadSignature.selector);
        t = _copy(s);
        t.outputDigest = "another output";
        _refused(t, IOrderSettlement.NoQuorum.selector);
        t.outputDigest = 0;
        _refused(t, IOrderSettlement.BadOrder.selector);
        _fund(CLIENT, FUNDS);
        t = _copy(s);
        t.order.client = CLIENT; // somebody else is to pay
        _refused(t, IOrderSettlement.BadSignature.selector);
        _settle(s);
    }

    function test_results_of_another_order_are_worth_nothing() public {
        Settlement memory s = _settlement(1);
        s.seats = _settlement(2).seats;
        _refused(s, IOrderSettlement.NoQuorum.selector);
    }

    function test_malleable_signatures() public {
        Settlement memory s = _settlement(1);
        (uint8 v, bytes32 r, bytes32 low) = vm.sign(BUYER_KEY, _id(s.order, _committee(_three(0))));
        uint256 high = CURVE - uint256(low);
        for (uint256 flip; flip < 2; ++flip) {
            s.r = r;
            s.vs = bytes32((high & (type(uint256).max >> 1)) | ((uint256(v - 27) ^ flip) << 255));
            _refused(s, IOrderSettlement.BadSignature.selector);
        }
        s = _settlement(1);
        for (uint256 i; i < 2; ++i) {
            (v, r, low) =
                vm.sign(keys[i], _resultDigest(_id(s.order, _committee(_three(0))), nodes[i], OUTPUT));
            high = CURVE - uint256(low);
            s.seats[i].vs = bytes32((high & (type(uint256).max >> 1)) | (uint256(28 - v) << 255));
        }
        _refused(s, IOrderSettlement.NoQuorum.selector);
    }

    function test_empty_signatures_recover_nobody() public {
        Settlement memory s = _settlement(1);
        (s.r, s.vs) = (0, 0);
        _refused(s, IOrderSettlement.BadSignature.selector);
        s = _settlement(1);
        s.order.client = address(0); // whom a failed recovery would name
        _setBalance(address(0), FUNDS);
        _setPage(address(0), 0, 1);
        (s.r, s.vs) = (bytes32(uint256(1)), bytes32(uint256(1)));
        _refused(s, IOrderSettlement.BadSignature.selector);
        (s.r, s.vs) = (0, 0);
        _refused(s, IOrderSettlement.BadSignature.selector);
        // And a node that never registered has the operator 0.
        s = _settlement(1);
        _setNode(nodes[0], address(0), 0, 0);
        _setNode(nodes[1], address(0), 0, 0);
        (s.seats[0].r, s.seats[0].vs) = (bytes32(uint256(1)), bytes32(uint256(1)));
        (s.seats[1].r, s.seats[1].vs) = (bytes32(uint256(1)), bytes32(uint256(1)));
        _refused(s, IOrderSettlement.NoQuorum.selector);
    }

    function test_a_seat_counts_once() public {
        uint256[] memory who = _three(0);
        who[1] = 0; // the same node twice
        _refused(_signed(_order(1), who, BUYER_KEY, 7), IOrderSettlement.BadOrder.selector);
        // The same owner with two nodes.
        nodes[1] = _register(owners[0], keys[1], 1);
        _refused(_signed(_order(1), _three(0), BUYER_KEY, 7), IOrderSettlement.BadOrder.selector);
    }

    function test_a_signature_of_one_seat_does_not_serve_another() public {
        Settlement memory s = _signed(_order(1), _three(0), BUYER_KEY, 1);
        (s.seats[1].r, s.seats[1].vs) = (s.seats[0].r, s.seats[0].vs);
        (s.seats[2].r, s.seats[2].vs) = (s.seats[0].r, s.seats[0].vs);
        _refused(s, IOrderSettlement.NoQuorum.selector);
    }

    function test_one_operator_of_two_nodes_signs_for_each_alone() public {
        _setNode(nodes[1], vm.addr(keys[0]), 100_000, 2);
        Settlement memory s = _signed(_order(1), _three(0), BUYER_KEY, 1);
        (s.seats[1].r, s.seats[1].vs) = (s.seats[0].r, s.seats[0].vs);
        _refused(s, IOrderSettlement.NoQuorum.selector);
    }

    function test_only_nodes_with_stake_are_paid() public {
        // none, probation, active, unbonding, jailed, exited
        bool[6] memory counts = [false, true, true, true, false, false];
        uint64 nonce;
        for (uint256 standing; standing < 6; ++standing) {
            _setStanding(2, standing);
            uint256 before = _earned(2);
            _settle(_settlement(++nonce)); // the other two are a quorum
            assertEq(_earned(2) - before, counts[standing] ? _paid(FEE) : 0, "by standing");
            Settlement memory s = _signed(_order(++nonce), _three(0), BUYER_KEY, 5);
            if (counts[standing]) _settle(s);
            else _refused(s, IOrderSettlement.NoQuorum.selector);
        }
    }

    function test_a_made_up_node_is_paid_nothing() public {
        nodes[2] = bytes32((uint256(uint160(OTHER)) << 96) | 7);
        Settlement memory s = _signed(_order(1), _three(0), BUYER_KEY, 7);
        _settle(s);
        assertEq(orders.payeeOf(OTHER).earned, 0, "nobody registered it");
        assertEq(_earned(0), _paid(FEE), "the others are a quorum");
    }

    function test_the_key_that_counts_is_the_present_one() public {
        Settlement memory s = _signed(_order(1), _three(0), BUYER_KEY, 3);
        _setNode(nodes[0], vm.addr(0xBEEF), 100_000, 2); // the owner rotated: the old key may be stolen
        _refused(s, IOrderSettlement.NoQuorum.selector);
        keys[0] = 0xBEEF;
        _settle(_signed(_order(1), _three(0), BUYER_KEY, 3));
    }

    function test_seats_fees_and_nonces_out_of_range() public {
        Settlement memory s;
        for (uint256 n; n <= 16; ++n) {
            for (uint8 policy; policy < 2; ++policy) {
                if (policy == 0 ? n == 1 : n > 2 && n < 16 && n % 2 == 1) continue;
                uint256[] memory who = new uint256[](n);
                for (uint256 i; i < n; ++i) {
                    who[i] = i;
                }
                Order memory o = _order(1);
                o.policy = policy;
                _refused(_signed(o, who, BUYER_KEY, type(uint256).max), IOrderSettlement.BadOrder.selector);
            }
        }
        _refused(_settlement(0), IOrderSettlement.BadOrder.selector);
        _refused(_settlement(256), IOrderSettlement.BadOrder.selector);
        _refused(_settlement(257), IOrderSettlement.PageClosed.selector);
        s = _settlement(1);
        s.seats[1].node = uint16(N); // behind the table
        _refused(s, IOrderSettlement.BadOrder.selector);
        Order memory cheap = _order(1);
        cheap.fee = 1e6 - 1;
        _refused(_signed(cheap, _three(0), BUYER_KEY, 7), IOrderSettlement.BadOrder.selector);
        cheap.fee = 1e6;
        _settle(_signed(cheap, _three(0), BUYER_KEY, 7));
    }

    function test_a_fee_of_one_unit_leaves_all_of_it_to_the_protocol() public {
        // A network may allow it: then payments round down to nothing.
        token = new ComputeToken(address(this), 1e28);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        registry = new NodeRegistry(token, predicted, ADMIN, 2 days, GUARDIAN, _registryParameters());
        bytes memory arguments = abi.encode(token, registry, TREASURY, uint96(1), 10, 600, 24 hours);
        _create("TaskEscrow", _escrowCode(), arguments);
        for (uint256 i; i < 3; ++i) {
            nodes[i] = _register(owners[i], keys[i], 0);
        }
        orders = new OrderSettlement(token, registry, THAW);
        token.transfer(buyer, 10);
        _fund(buyer, 10);
        Order memory o = _order(1);
        o.fee = 1;
        _settle(_signed(o, _three(0), BUYER_KEY, 6));
        assertEq(_account(buyer).balance, 7, "three seats");
        assertEq(_fees(0) + _fees(1) + _fees(2), 3, "all to the protocol");
    }

    // --- batches ----------------------------------------------------------------------------------------------

    function test_one_bad_item_never_stops_the_others() public {
        Settlement[] memory batch = new Settlement[](12);
        bytes4[12] memory faults;
        for (uint256 i; i < 12; ++i) {
            batch[i] = _settlement(uint64(i + 1));
        }
        (batch[1].outputDigest, faults[1]) = (0, IOrderSettlement.BadOrder.selector);
        batch[2].order.validUntil = 0;
        faults[2] = IOrderSettlement.TooLate.selector;
        (batch[3].order.nonce, faults[3]) = (1 << 40 | 1, IOrderSettlement.PageClosed.selector);
        (batch[4], faults[4]) = (batch[0], IOrderSettlement.AlreadySettled.selector); // twice in one batch
        (batch[5].order.fee, faults[5]) = (type(uint96).max, IOrderSettlement.Insufficient.selector);
        (batch[6].r, faults[6]) = (bytes32(type(uint256).max), IOrderSettlement.BadSignature.selector);
        (batch[7].seats[0].r, batch[7].seats[1].vs) = ("r", bytes32(type(uint256).max));
        faults[7] = IOrderSettlement.NoQuorum.selector;
        (batch[8].seats[0].node, faults[8]) = (type(uint16).max, IOrderSettlement.BadOrder.selector);
        (batch[9].seats, faults[9]) = (new SeatResult[](0), IOrderSettlement.BadOrder.selector);
        (batch[10].seats, faults[10]) = (new SeatResult[](300), IOrderSettlement.BadOrder.selector);
        vm.recordLogs();
        _settleAll(batch);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 12, "one word about each");
        uint256 settled;
        for (uint256 i; i < 12; ++i) {
            if (faults[i] == 0) {
                assertEq(logs[i].topics[0], IOrderSettlement.OrderSettled.selector, "settled");
                ++settled;
            } else {
                assertEq(logs[i].topics[0], IOrderSettlement.OrderSkipped.selector, "skipped");
                assertEq(bytes32(logs[i].data), bytes32(faults[i]), "and why");
            }
        }
        assertEq(settled, 2, "the two good ones");
        assertEq(_account(buyer).balance, FUNDS - settled * 3 * FEE, "only they cost anything");
        assertEq(_earned(0), settled * _paid(FEE), "and they are paid");
        assertEq(orders.pageOf(buyer, 0), 3 | (1 << 12), "what was skipped may come again");
        _settle(_settlement(8));
    }

    /// @dev Fifty items that fail as late as possible: every signature is looked at. What is left must do for the last.
    function test_fifty_bad_items_cannot_use_up_the_gas_of_a_good_one() public {
        Settlement[] memory batch = new Settlement[](51);
        for (uint256 i; i < 51; ++i) {
            batch[i] = _settlement(uint64(i + 1));
            if (i == 50) continue;
            batch[i].seats[0].vs ^= bytes32(uint256(1));
            batch[i].seats[1].vs ^= bytes32(uint256(1));
        }
        bytes32[] memory table = _table();
        uint256 left = gasleft();
        orders.settle(table, batch);
        assertTrue(left - gasleft() < 51 * 60_000, "no more than if they were good");
        assertEq(_earned(0), _paid(FEE), "settled");
    }

    function test_a_balance_pays_as_far_as_it_goes_in_the_order_of_the_batch() public {
        _setBalance(buyer, FEE * 7);
        Settlement[] memory batch = new Settlement[](3);
        for (uint256 i; i < 3; ++i) {
            batch[i] = _settlement(uint64(i + 1));
        }
        _settleAll(batch);
        assertEq(_account(buyer).balance, FEE, "two of three");
        assertEq(orders.pageOf(buyer, 0), 7, "the third was not used up");
        token.transfer(buyer, 2 * FEE);
        _fund(buyer, 2 * FEE);
        _settle(batch[2]);
        assertEq(_account(buyer).balance, 0, "later");
        assertTrue(_account(buyer).open, "and the slot stays bought");
    }

    function test_a_batch_without_a_good_item_reverts_with_the_first_reason() public {
        Settlement[] memory batch = new Settlement[](2);
        (batch[0], batch[1]) = (_settlement(257), _settlement(0));
        bytes32[] memory table = _table();
        vm.expectRevert(
            abi.encodeWithSelector(
                IOrderSettlement.NothingSettled.selector, IOrderSettlement.PageClosed.selector
            )
        );
        orders.settle(table, batch);
        vm.expectRevert(abi.encodeWithSelector(IOrderSettlement.NothingSettled.selector, bytes4(0)));
        orders.settle(table, new Settlement[](0));
    }

    function test_a_node_that_stands_twice_in_the_table_is_paid_for_both_places() public {
        bytes32[] memory table = new bytes32[](6);
        for (uint256 i; i < 6; ++i) {
            table[i] = nodes[i % 3];
        }
        Settlement[] memory batch = new Settlement[](2);
        (batch[0], batch[1]) = (_settlement(1), _settlement(2));
        for (uint16 i; i < 3; ++i) {
            batch[1].seats[i].node = 3 + i;
        }
        orders.settle(table, batch);
        assertEq(_earned(0), 2 * _paid(FEE), "nothing is lost between two places");
    }

    function testFuzz_what_leaves_a_balance_arrives(uint96 fee, uint256 mask, uint24[3] memory r) public {
        fee = uint96(bound(fee, 1e6, FUNDS / 3));
        for (uint256 i; i < 3; ++i) {
            _setNode(nodes[i], vm.addr(keys[i]), bound(r[i], 0, 1_000_000), 2);
        }
        Order memory o = _order(1);
        o.fee = fee;
        mask = bound(mask, 0, 7);
        Settlement memory s = _signed(o, _three(0), BUYER_KEY, mask);
        if ((mask & 1) + ((mask >> 1) & 1) + (mask >> 2) < 2) {
            _refused(s, IOrderSettlement.NoQuorum.selector);
            return;
        }
        _settle(s);
        uint256 arrived;
        for (uint256 i; i < 3; ++i) {
            uint256 paid = mask & (1 << i) == 0 ? 0 : uint256(fee) * (8_500_000 + _rep(i)) / 10_000_000;
            assertEq(_earned(i), paid, "by reputation");
            arrived += paid + _fees(i);
        }
        assertEq(arrived, 3 * uint256(fee), "paid + protocol = fee of every seat");
        assertEq(_account(buyer).balance, FUNDS - arrived, "and no more");
    }

    function test_high_bits_of_a_field_are_refused() public {
        bytes memory call = abi.encodeCall(orders.settle, (_table(), _batch(_settlement(1))));
        // The first item begins after selector, two offsets, 17 words of table, length, offset.
        uint256 start = 4 + 32 * (2 + 17 + 2);
        uint256[5] memory bits = [uint256(160), 96, 8, 40, 64];
        for (uint256 i; i < 5; ++i) {
            bytes memory bad = bytes.concat(call);
            uint256 place = start + 32 * i;
            uint256 bit = bits[i];
            assembly {
                let word := add(add(bad, 32), place)
                mstore(word, or(mload(word), shl(bit, 1)))
            }
            (bool ok,) = address(orders).call(bad);
            assertTrue(!ok, "high bits are refused");
        }
        (bool good,) = address(orders).call(call);
        assertTrue(good, "and the rest was right");
    }

    // --- the thaw ---------------------------------------------------------------------------------------------

    function test_a_thaw_cannot_outrun_an_order_that_ends_within_its_period() public {
        Order memory o = _order(1);
        o.validUntil = uint40(block.timestamp + THAW);
        Settlement memory s = _signed(o, _three(0), BUYER_KEY, 7);
        _thaw(buyer, FUNDS); // in the block in which the node began to work
        vm.warp(o.validUntil);
        uint40 end = _account(buyer).thawsAt;
        expect(IOrderSettlement.StillThawing.selector, end);
        _take(buyer);
        _settle(s); // in the last second
        vm.warp(block.timestamp + 1);
        uint256 before = _has(buyer);
        _take(buyer);
        assertEq(_has(buyer) - before, FUNDS - 3 * uint256(FEE), "what the settlement left");
    }

    function test_an_old_thaw_takes_only_what_was_asked_for() public {
        _thaw(buyer, FUNDS);
        vm.warp(block.timestamp + THAW + 1);
        _fund(buyer, FUNDS); // looks like new cover; payees subtract what thaws
        assertEq(_account(buyer).balance - _account(buyer).thawing, FUNDS, "free");
        _take(buyer);
        assertEq(_account(buyer).balance, FUNDS, "that stays");
        _settle(_settlement(1));
    }

    function test_a_thaw_of_what_was_settled_meanwhile_takes_nothing() public {
        _setBalance(buyer, 3 * FEE);
        _thaw(buyer, 3 * FEE);
        _settle(_settlement(1));
        vm.warp(block.timestamp + THAW + 1);
        uint256 before = _has(buyer);
        _take(buyer);
        assertEq(_has(buyer), before, "nothing is left");
        assertTrue(_account(buyer).open, "and the slot stays bought");
    }

    function test_asking_again_does_not_shorten_the_thaw() public {
        _thaw(buyer, 1e18);
        vm.warp(block.timestamp + THAW);
        _thaw(buyer, FUNDS);
        vm.warp(block.timestamp + 1);
        uint40 end = _account(buyer).thawsAt;
        expect(IOrderSettlement.StillThawing.selector, end);
        _take(buyer);
    }

    // --- edges ------------------------------------------------------------------------------------------------

    function test_the_whole_supply_in_one_balance() public {
        _setBalance(buyer, type(uint96).max);
        Order memory o = _order(1);
        o.fee = type(uint96).max / 3;
        _settle(_signed(o, _three(0), BUYER_KEY, 7));
        assertEq(_account(buyer).balance, 0, "all of it");
        assertEq(_earned(0) + _earned(1) + _earned(2) + _fees(0), type(uint96).max, "arrived");
        o = _order(2);
        o.fee = type(uint96).max;
        _refused(_signed(o, _three(0), BUYER_KEY, 7), IOrderSettlement.Insufficient.selector);
    }

    function test_reentrancy_through_the_token() public {
        CallingToken wild = new CallingToken(1e24);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        NodeRegistry r = new NodeRegistry(
            ComputeToken(address(wild)), predicted, ADMIN, 2 days, GUARDIAN, _registryParameters()
        );
        _create("TaskEscrow", _escrowCode(), abi.encode(wild, r, _escrowParameters()));
        OrderSettlement target = new OrderSettlement(ComputeToken(address(wild)), r, THAW);
        bytes32 slot = keccak256(abi.encode(OTHER, 3));
        vm.store(address(target), slot, bytes32(uint256(5e18) | (uint256(5e18) << 96) | (uint256(1) << 192)));
        wild.transfer(address(target), 20e18);
        bytes[3] memory calls = [
            abi.encodeCall(target.collect, (OTHER)),
            abi.encodeCall(target.settle, (_table(), _batch(_settlement(1)))),
            abi.encodeCall(target.withdraw, (OTHER))
        ];
        for (uint256 i; i < 3; ++i) {
            wild.arm(address(target), calls[i]);
            expect(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            target.collect(OTHER);
            address[] memory who = new address[](1);
            who[0] = OTHER;
            expect(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            target.sweep(who);
        }
        wild.arm(address(0), "");
        target.collect(OTHER);
        assertEq(wild.balanceOf(OTHER), 5e18, "once");
    }

    function _copy(Settlement memory s) private pure returns (Settlement memory) {
        return abi.decode(abi.encode(s), (Settlement));
    }

    function _escrowCode() private view returns (bytes memory) {
        return vm.parseJsonBytes(vm.readFile("../../deai/chain/artifacts/sei/TaskEscrow.json"), ".bytecode");
    }
}
