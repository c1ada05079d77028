// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OrderSettlement} from "../../src/OrderSettlement.sol";
import {
    BalanceState,
    IOrderSettlement,
    Order,
    SeatResult,
    Settlement
} from "../../src/interfaces/IOrderSettlement.sol";
import {Fixture} from "./Fixture.sol";

/// @dev The order contract beside the others, a client with a key, and orders for the fixture's nodes.
abstract contract OrderFixture is Fixture {
    uint40 internal constant THAW = 24 hours;
    uint96 internal constant FUNDS = 1000e18;
    uint256 internal constant BUYER_KEY = 0xB0B;
    bytes32 internal constant OUTPUT = "output";

    OrderSettlement internal orders;
    address internal buyer;

    function setUp() public virtual override {
        super.setUp();
        bytes memory arguments = abi.encode(token, registry, THAW);
        orders = OrderSettlement(_create("OrderSettlement", type(OrderSettlement).creationCode, arguments));
        buyer = vm.addr(BUYER_KEY);
        token.transfer(buyer, 1e6 * E18);
    }

    // --- what is signed ---------------------------------------------------------------------------------------

    function _order(uint64 nonce) internal view returns (Order memory) {
        return Order(buyer, FEE, EXACT, uint40(block.timestamp + 1 hours), nonce, "spec");
    }

    /// @dev Written again from EIP-712, so that a slip in the contract does not hide in the tests.
    function _id(Order memory o, bytes32[] memory committee) internal view returns (bytes32) {
        bytes32 hash = keccak256(
            abi.encode(
                keccak256(
                    "Order(address client,uint96 fee,uint8 policy,uint40 validUntil,uint64 nonce,bytes32 specHash,bytes32[] nodes)"
                ),
                o.client,
                o.fee,
                o.policy,
                o.validUntil,
                o.nonce,
                o.specHash,
                keccak256(abi.encodePacked(committee))
            )
        );
        return _digest(hash, "deai orders", address(orders));
    }

    function _resultDigest(bytes32 id, bytes32 node, bytes32 output) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("OrderResult(bytes32 orderId,bytes32 node,bytes32 outputDigest)");
        return _digest(keccak256(abi.encode(typeHash, id, node, output)), "deai orders", address(orders));
    }

    /// @dev Every node of the fixture is in the table, so that place = number.
    function _table() internal view returns (bytes32[] memory) {
        return nodes;
    }

    function _three(uint256 first) internal pure returns (uint256[] memory who) {
        who = new uint256[](3);
        for (uint256 i; i < 3; ++i) {
            who[i] = first + i;
        }
    }

    function _committee(uint256[] memory who) internal view returns (bytes32[] memory committee) {
        committee = new bytes32[](who.length);
        for (uint256 i; i < who.length; ++i) {
            committee[i] = nodes[who[i]];
        }
    }

    /// @dev Signed by `key` and by the seats in `mask`.
    function _signed(Order memory o, uint256[] memory who, uint256 key, uint256 mask)
        internal
        view
        returns (Settlement memory s)
    {
        bytes32 id = _id(o, _committee(who));
        (s.order, s.outputDigest, s.seats) = (o, OUTPUT, new SeatResult[](who.length));
        (s.r, s.vs) = compact(key, id);
        for (uint256 i; i < who.length; ++i) {
            s.seats[i].node = uint16(who[i]);
            if (mask & (1 << i) != 0) {
                (s.seats[i].r, s.seats[i].vs) =
                    compact(keys[who[i]], _resultDigest(id, nodes[who[i]], OUTPUT));
            }
        }
    }

    function _settlement(uint64 nonce) internal view returns (Settlement memory) {
        return _signed(_order(nonce), _three(0), BUYER_KEY, 7);
    }

    function _batch(Settlement memory s) internal pure returns (Settlement[] memory batch) {
        batch = new Settlement[](1);
        batch[0] = s;
    }

    // --- calls ------------------------------------------------------------------------------------------------

    function _fund(address client, uint256 amount) internal {
        vm.prank(client);
        token.transferAndCall(address(orders), amount);
    }

    /// @dev By somebody whose business it is not.
    function _settle(Settlement memory s) internal {
        _settleAll(_batch(s));
    }

    function _settleAll(Settlement[] memory batch) internal {
        bytes32[] memory table = _table();
        vm.prank(OTHER);
        orders.settle(table, batch);
    }

    function _refused(Settlement memory s, bytes4 reason) internal {
        Settlement[] memory batch = _batch(s);
        bytes32[] memory table = _table();
        vm.expectRevert(abi.encodeWithSelector(IOrderSettlement.NothingSettled.selector, reason));
        orders.settle(table, batch);
    }

    function _thaw(address client, uint96 amount) internal {
        vm.prank(client);
        orders.requestThaw(amount);
    }

    function _take(address client) internal {
        vm.prank(client);
        orders.withdraw(client);
    }

    // --- what is where ----------------------------------------------------------------------------------------

    function _account(address client) internal view returns (IOrderSettlement.Account memory a) {
        (, a) = orders.balanceOf(client);
    }

    function _stateOf(address client) internal view returns (BalanceState state) {
        (state,) = orders.balanceOf(client);
    }

    function _earned(uint256 i) internal view returns (uint256) {
        return orders.payeeOf(owners[i]).earned;
    }

    function _fees(uint256 i) internal view returns (uint256) {
        return orders.payeeOf(owners[i]).fees;
    }

    /// @dev At the reputation of a new node: φ = 1400 bps.
    function _paid(uint256 fee) internal pure returns (uint256) {
        return fee * 8_600_000 / 10_000_000;
    }

    function _has(address a) internal view returns (uint256) {
        return token.balanceOf(a);
    }

    /// @dev Key, reputation, this week and standing of a node: fields of its first word.
    function _setNode(bytes32 node, address operator, uint256 r, uint256 standing) internal {
        uint256 word = uint160(operator) | (r << 160) | (block.timestamp / 7 days) << 224 | (standing << 248);
        vm.store(address(registry), keccak256(abi.encode(node, 6)), bytes32(word));
    }

    function _setStanding(uint256 i, uint256 standing) internal {
        _setNode(nodes[i], vm.addr(keys[i]), 100_000, standing);
    }

    function _setBalance(address client, uint96 balance) internal {
        vm.store(
            address(orders), keccak256(abi.encode(client, 2)), bytes32(uint256(balance) | (uint256(1) << 232))
        );
        assertEq(_account(client).balance, balance, "the right slot");
    }

    function _setPage(address client, uint256 page, uint256 word) internal {
        uint256 pages = uint256(keccak256(abi.encode(client, 2))) + 1;
        vm.store(address(orders), keccak256(abi.encode(page, pages)), bytes32(word));
        assertEq(orders.pageOf(client, uint56(page)), word, "the right slot");
    }
}
