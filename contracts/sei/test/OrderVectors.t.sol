// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ComputeToken} from "../src/ComputeToken.sol";
import {OrderSettlement} from "../src/OrderSettlement.sol";
import {IOrderSettlement, Order, SeatResult, Settlement} from "../src/interfaces/IOrderSettlement.sol";
import {OrderFixture} from "./support/OrderFixture.sol";
import {SpecReader} from "./support/SpecReader.sol";

/// @dev Replays contracts/spec/vectors/orders.json: what Python signs is settled, a share is what the core says, and
/// so is the balance after every call of a run.
contract OrderVectorsTest is OrderFixture, SpecReader {
    /// @dev Columns of a run; see contracts/spec/order_parts.py.
    struct Run {
        int256[] ops;
        int256[] amounts;
        int256[] validUntil;
        int256[] times;
        string[] errors;
        int256[] states;
        int256[] balances;
        int256[] thawing;
        int256[] thawsAt;
        int256[] settled;
        int256[] withdrawn;
    }

    string private constant FILE = "orders.json";
    uint64 private _nonce;

    /// @dev By the real contract, on the chain and at the address that the vector names.
    function test_orders_that_python_signed_are_settled() public {
        token = new ComputeToken(address(this), type(uint96).max);
        (registry, escrow) = _deploy(token);
        bytes memory code = address(new OrderSettlement(token, registry, THAW)).code;
        uint256 n = _count(FILE, ".cases", 10);
        for (uint256 i; i < n; ++i) {
            string memory place = _at(".cases", i);
            orders = OrderSettlement(_a(FILE, place, ".domain.verifyingContract"));
            vm.etch(address(orders), code);
            vm.chainId(_n(FILE, place, ".domain.chainId"));
            _replay(place, _orderAt(place), this.words(FILE, string.concat(place, ".nodes")));
        }
    }

    function _replay(string memory place, Order memory o, bytes32[] memory table) private {
        bytes32 id = _w(FILE, place, ".orderId");
        assertEq(orders.orderIdOf(o, table), id, place);
        Settlement memory s;
        (s.order, s.outputDigest) = (o, _w(FILE, place, ".outputDigest"));
        (s.r, s.vs) = _split(string.concat(place, ".signature"));
        assertEq(ECDSA.recover(id, s.r, s.vs), o.client, "client");
        s.seats = new SeatResult[](table.length);
        for (uint256 i; i < table.length; ++i) {
            bytes32 digest = this.word(FILE, _at(string.concat(place, ".digests"), i));
            assertEq(_resultDigest(id, table[i], s.outputDigest), digest, "result");
            (bytes32 r, bytes32 vs) = _split(_at(string.concat(place, ".results"), i));
            address operator = this.account(FILE, _at(string.concat(place, ".operators"), i));
            assertEq(ECDSA.recover(digest, r, vs), operator, "operator");
            s.seats[i] = SeatResult(uint16(i), r, vs);
            _setNode(table[i], operator, 100_000, 2);
        }
        if (o.fee < 1e6) return; // no network of the tests allows it; its digests are right
        uint256 cost = uint256(o.fee) * table.length;
        _setBalance(o.client, uint96(cost));
        _setPage(o.client, o.nonce >> 8, 1);
        vm.warp(o.validUntil);
        for (uint256 i; i < table.length; ++i) {
            _setNode(table[i], _operatorOf(place, i), 100_000, 2); // of the week in which it is settled
        }
        orders.settle(table, _batch(s));
        uint256 arrived;
        for (uint256 i; i < table.length; ++i) {
            address owner = address(uint160(uint256(table[i]) >> 96));
            assertEq(orders.payeeOf(owner).earned, _paid(o.fee), "paid");
            arrived += orders.payeeOf(owner).earned + orders.payeeOf(owner).fees;
        }
        assertEq(arrived, cost, "all of it");
    }

    function _operatorOf(string memory place, uint256 i) private view returns (address) {
        return this.account(FILE, _at(string.concat(place, ".operators"), i));
    }

    function test_shares_are_what_the_core_says() public {
        _fund(buyer, FUNDS);
        uint256 n = _count(FILE, ".shares", 24);
        for (uint64 i; i < n; ++i) {
            _share(_at(".shares", i), i + 1);
        }
    }

    function _share(string memory place, uint64 nonce) private {
        int256[] memory points = this.numbers(FILE, string.concat(place, ".reputations"));
        string[] memory paid = this.texts(FILE, string.concat(place, ".payments"));
        uint256[] memory who = new uint256[](points.length);
        uint256 fees;
        for (uint256 i; i < who.length; ++i) {
            who[i] = i;
            _setNode(nodes[i], vm.addr(keys[i]), uint256(points[i]), 2);
            fees += _fees(i);
        }
        Order memory o = _order(nonce);
        o.fee = uint96(_n(FILE, place, ".fee"));
        o.policy = who.length == 1 ? NONE : EXACT;
        Settlement memory s = _signed(o, who, BUYER_KEY, _n(FILE, place, ".signed"));
        if (!this.flag(FILE, string.concat(place, ".settled"))) {
            _refused(s, IOrderSettlement.NoQuorum.selector);
            return;
        }
        uint256[] memory before = new uint256[](who.length);
        for (uint256 i; i < who.length; ++i) {
            before[i] = _earned(i);
        }
        _fund(buyer, uint256(o.fee) * who.length);
        _settle(s);
        uint256 after_;
        for (uint256 i; i < who.length; ++i) {
            assertEq(_earned(i) - before[i], _decimal(paid[i]), place);
            after_ += _fees(i);
        }
        assertEq(after_ - fees, _n(FILE, place, ".protocolFee"), "protocol");
    }

    function test_runs_of_one_balance() public {
        uint256 n = _count(FILE, ".runs", 10);
        uint256 start = this.number(FILE, ".start");
        for (uint256 i; i < n; ++i) {
            vm.warp(start);
            orders = new OrderSettlement(token, registry, uint40(this.number(FILE, ".period")));
            _nonce = 0;
            _replayRun(_runAt(_at(".runs", i)));
        }
    }

    function _replayRun(Run memory y) private {
        uint256 had = _has(buyer);
        uint256 put;
        for (uint256 k; k < y.ops.length; ++k) {
            vm.warp(uint256(y.times[k]));
            _setNode(nodes[0], vm.addr(keys[0]), 100_000, 2);
            (bool ok, bytes memory why) =
                _call(uint256(y.ops[k]), uint256(y.amounts[k]), uint256(y.validUntil[k]));
            assertTrue(ok == (bytes(y.errors[k]).length == 0), y.errors[k]);
            if (!ok) {
                bytes4 reason = bytes4(why);
                if (reason == IOrderSettlement.NothingSettled.selector) {
                    assembly {
                        reason := mload(add(why, 36))
                    }
                }
                assertEq(bytes32(reason), bytes32(_selector(y.errors[k])), y.errors[k]);
            } else if (y.ops[k] == 0) {
                put += uint256(y.amounts[k]);
            }
            IOrderSettlement.Account memory a = _account(buyer);
            assertEq(uint256(_stateOf(buyer)), uint256(y.states[k]), "state");
            assertEq(a.balance, uint256(y.balances[k]), "balance");
            assertEq(a.thawing, uint256(y.thawing[k]), "thawing");
            assertEq(a.thawsAt, uint256(y.thawsAt[k]), "thaws at");
            assertEq(_earned(0) + _fees(0), uint256(y.settled[k]), "settled");
            assertEq(_has(buyer) + put - had, uint256(y.withdrawn[k]), "withdrawn");
        }
    }

    function _call(uint256 op, uint256 amount, uint256 validUntil) private returns (bool, bytes memory) {
        if (op == 0) {
            vm.prank(buyer);
            return address(token)
                .call(abi.encodeWithSignature("transferAndCall(address,uint256)", address(orders), amount));
        }
        bytes memory call;
        if (op == 1) {
            uint256[] memory who = new uint256[](1);
            Order memory o = Order(buyer, uint96(amount), NONE, uint40(validUntil), ++_nonce, "spec");
            call = abi.encodeCall(orders.settle, (_table(), _batch(_signed(o, who, BUYER_KEY, 1))));
        } else if (op == 2) {
            call = abi.encodeCall(orders.requestThaw, (uint96(amount)));
        } else {
            call = abi.encodeCall(orders.withdraw, (buyer));
        }
        vm.prank(op == 1 ? OTHER : buyer);
        return address(orders).call(call);
    }

    function _selector(string memory name) private pure returns (bytes4) {
        bytes32 hash = keccak256(bytes(name));
        if (hash == keccak256("BadState")) return IOrderSettlement.BadState.selector;
        if (hash == keccak256("BadData")) return IOrderSettlement.BadData.selector;
        if (hash == keccak256("BadOrder")) return IOrderSettlement.BadOrder.selector;
        if (hash == keccak256("Insufficient")) return IOrderSettlement.Insufficient.selector;
        if (hash == keccak256("PageClosed")) return IOrderSettlement.PageClosed.selector;
        if (hash == keccak256("StillThawing")) return IOrderSettlement.StillThawing.selector;
        if (hash == keccak256("TooLate")) return IOrderSettlement.TooLate.selector;
        revert Untrue(name);
    }

    function _runAt(string memory place) private view returns (Run memory y) {
        y.ops = this.numbers(FILE, string.concat(place, ".ops"));
        y.amounts = this.numbers(FILE, string.concat(place, ".amounts"));
        y.validUntil = this.numbers(FILE, string.concat(place, ".validUntil"));
        y.times = this.numbers(FILE, string.concat(place, ".times"));
        y.errors = this.texts(FILE, string.concat(place, ".errors"));
        y.states = this.numbers(FILE, string.concat(place, ".states"));
        y.balances = this.numbers(FILE, string.concat(place, ".balances"));
        y.thawing = this.numbers(FILE, string.concat(place, ".thawing"));
        y.thawsAt = this.numbers(FILE, string.concat(place, ".thawsAt"));
        y.settled = this.numbers(FILE, string.concat(place, ".settled"));
        y.withdrawn = this.numbers(FILE, string.concat(place, ".withdrawn"));
    }

    function _orderAt(string memory place) private view returns (Order memory o) {
        o.client = _a(FILE, place, ".order.client");
        o.fee = uint96(_n(FILE, place, ".order.fee"));
        o.policy = uint8(_n(FILE, place, ".order.policy"));
        o.validUntil = uint40(_n(FILE, place, ".order.validUntil"));
        o.nonce = uint64(_n(FILE, place, ".order.nonce"));
        o.specHash = _w(FILE, place, ".order.specHash");
    }

    function _split(string memory key) private view returns (bytes32 r, bytes32 vs) {
        return abi.decode(this.data(FILE, key), (bytes32, bytes32));
    }

    function _decimal(string memory text) private pure returns (uint256 value) {
        bytes memory digits = bytes(text);
        for (uint256 i; i < digits.length; ++i) {
            value = value * 10 + uint8(digits[i]) - 48;
        }
    }
}
