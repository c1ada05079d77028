// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BalanceState, IOrderSettlement, Order, Settlement} from "../src/interfaces/IOrderSettlement.sol";
import {OrderFixture} from "./support/OrderFixture.sol";

/// @dev Three clients and fifteen nodes, driven at random: every call in any order, with any time in between, also with
/// orders that were settled before. It keeps its own book: what was put in, settled and taken, and which orders were.
contract OrderHandler is OrderFixture {
    uint256 internal constant K = 3;
    mapping(uint256 k => uint256) public put;
    mapping(uint256 k => uint256) public spent;
    mapping(uint256 k => uint256) public taken;
    mapping(uint256 k => uint256) public asked; // thawing
    mapping(uint256 k => uint256) public askedAt;
    mapping(uint256 k => mapping(uint64 nonce => uint256)) public times; // settled
    mapping(BalanceState => uint256) public seen;
    uint256 public collected;
    uint256 public again; // orders that were paid twice
    uint256 public early; // money that left before its thaw
    uint256 public rebought; // slots that were non-zero and became zero
    uint256 public skipped;
    uint256 public partly; // settled with a seat missing

    function client(uint256 k) public pure returns (address) {
        return vm.addr(0xC0DE + k % K);
    }

    function held() external view returns (uint256) {
        return _has(address(orders));
    }

    function owed() external view returns (uint256 sum) {
        for (uint256 k; k < K; ++k) {
            sum += _account(client(k)).balance;
        }
        for (uint256 i; i < N; ++i) {
            sum += _earned(i) + _fees(i);
        }
    }

    function account(uint256 k) external view returns (BalanceState, IOrderSettlement.Account memory) {
        return orders.balanceOf(client(k));
    }

    function page(uint256 k) external view returns (uint256) {
        return orders.pageOf(client(k), 0);
    }

    function fund(uint256 k, uint96 amount) external {
        k %= K;
        amount = 1 + amount % 1e20;
        token.transfer(client(k), amount);
        _fund(client(k), amount);
        put[k] += amount;
        _look(k);
    }

    /// @dev Four orders; nonces come again, one in four is spoiled, one in four lacks a seat.
    function settle(uint256 seed, uint8 slip) external {
        Settlement[] memory batch = new Settlement[](4);
        uint256[4] memory before;
        for (uint256 i; i < 4; ++i) {
            uint256 k = (seed >> (8 * i)) % K;
            Order memory o = _order(uint64(1 + (seed >> (40 + 8 * i)) % 60));
            (o.client, o.fee) = (client(k), uint96(1e6 + (seed >> (80 + 40 * i)) % 1e18));
            uint256 fault = (slip + i) % 4;
            batch[i] = _signed(o, _three(seed % 13), 0xC0DE + k, fault == 1 ? 5 : fault == 2 ? 1 : 7);
            before[i] = orders.pageOf(o.client, 0);
        }
        uint256 put_ = _has(address(orders));
        bytes32[] memory table = _table();
        uint256[K] memory had;
        for (uint256 k; k < K; ++k) {
            had[k] = _account(client(k)).balance;
        }
        orders.settle(table, batch);
        for (uint256 k; k < K; ++k) {
            spent[k] += had[k] - _account(client(k)).balance;
        }
        if (_has(address(orders)) != put_) ++again; // a settlement moves no token
        _count(batch, before, seed);
    }

    function _count(Settlement[] memory batch, uint256[4] memory before, uint256 seed) private {
        for (uint256 i; i < 4; ++i) {
            uint256 k = (seed >> (8 * i)) % K;
            uint64 nonce = batch[i].order.nonce;
            bool isNew = before[i] & (1 << nonce) == 0 && orders.pageOf(client(k), 0) & (1 << nonce) != 0;
            // Two items of one batch may carry one nonce: the bit is counted once.
            for (uint256 j; j < i; ++j) {
                if (batch[j].order.client == batch[i].order.client && batch[j].order.nonce == nonce) {
                    isNew = false;
                }
            }
            if (isNew) {
                if (++times[k][nonce] > 1) ++again;
                if (batch[i].seats[1].r == 0) ++partly;
            } else {
                ++skipped;
            }
            _look(k);
        }
    }

    function requestThaw(uint256 k, uint96 amount) external {
        k %= K;
        amount = uint96(amount % (uint256(_account(client(k)).balance) + 1));
        _thaw(client(k), amount);
        (asked[k], askedAt[k]) = (amount, amount == 0 ? 0 : block.timestamp);
        _look(k);
    }

    function withdraw(uint256 k) external {
        k %= K;
        uint256 before = _has(client(k));
        _take(client(k));
        uint256 left = _has(client(k)) - before;
        if (block.timestamp <= askedAt[k] + THAW || left > asked[k]) ++early;
        taken[k] += left;
        (asked[k], askedAt[k]) = (0, 0);
        _look(k);
    }

    function collect(uint256 i) external {
        i %= N;
        uint256 before = _has(owners[i]);
        orders.collect(owners[i]);
        collected += _has(owners[i]) - before;
        if (!orders.payeeOf(owners[i]).open) ++rebought;
    }

    function sweep(uint256 i) external {
        uint256 before = _has(TREASURY);
        address[] memory who = new address[](2);
        (who[0], who[1]) = (owners[i % N], owners[(i + 1) % N]);
        orders.sweep(who);
        collected += _has(TREASURY) - before;
    }

    function wait(uint256 s) external {
        vm.warp(block.timestamp + s % 30 hours);
    }

    function _look(uint256 k) private {
        ++seen[_stateOf(client(k))];
        if (put[k] != 0 && (!_account(client(k)).open || orders.pageOf(client(k), 0) & 1 == 0)) ++rebought;
    }
}

contract OrderInvariantsTest is OrderFixture {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint256 private constant K = 3;
    OrderHandler private _handler;

    function setUp() public override {
        _handler = new OrderHandler();
        _handler.setUp();
        targetContract(address(_handler));
    }

    function targetSelectors() public view returns (FuzzSelector[] memory f) {
        f = new FuzzSelector[](1);
        bytes4[9] memory calls = [
            OrderHandler.fund.selector,
            OrderHandler.fund.selector, // most of the rest needs money
            OrderHandler.settle.selector,
            OrderHandler.settle.selector,
            OrderHandler.requestThaw.selector,
            OrderHandler.withdraw.selector,
            OrderHandler.collect.selector,
            OrderHandler.sweep.selector,
            OrderHandler.wait.selector
        ];
        f[0].addr = address(_handler);
        f[0].selectors = new bytes4[](9);
        for (uint256 i; i < 9; ++i) {
            f[0].selectors[i] = calls[i];
        }
    }

    /// @dev One invariant, because each of them drives the handler anew.
    function invariant_every_unit_is_where_the_book_says() public view {
        uint256 put;
        uint256 taken;
        for (uint256 k; k < K; ++k) {
            (BalanceState state, IOrderSettlement.Account memory a) = _handler.account(k);
            assertEq(a.balance + _handler.spent(k) + _handler.taken(k), _handler.put(k), "client's money");
            assertTrue(_handler.spent(k) <= _handler.put(k), "settled is a part of what was set aside");
            assertTrue((state == BalanceState.THAWING) == (a.thawsAt != 0), "state");
            assertEq(a.thawing, _handler.asked(k), "asked for");
            put += _handler.put(k);
            taken += _handler.taken(k);
        }
        assertEq(_handler.held(), _handler.owed(), "tokens = what is owed");
        assertEq(_handler.held() + taken + _handler.collected(), put, "nothing appears, nothing vanishes");
        assertEq(_handler.again(), 0, "no order is settled twice");
        assertEq(_handler.early(), 0, "no money leaves before its thaw");
        assertEq(_handler.rebought(), 0, "no slot is bought twice");
    }

    /// @dev The handler does reach everything; otherwise the invariant would hold for want of events.
    function test_the_handler_reaches_every_state() public {
        for (uint256 k; k < K; ++k) {
            _handler.fund(k, 9e19);
        }
        _handler.settle(0x1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef, 0);
        _handler.settle(0x1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcd0f, 1);
        _handler.requestThaw(0, 1e18);
        for (uint256 i; i < 2; ++i) {
            _handler.wait(30 hours - 1);
        }
        _handler.withdraw(0);
        for (uint256 i; i < N; ++i) {
            try _handler.collect(i) {} catch {}
            _handler.sweep(i);
        }
        assertTrue(_handler.seen(BalanceState.FUNDED) != 0, "funded");
        assertTrue(_handler.seen(BalanceState.THAWING) != 0, "thawing");
        assertTrue(_handler.skipped() != 0, "skipped");
        assertTrue(_handler.partly() != 0, "with a seat missing");
        assertTrue(_handler.taken(0) != 0 && _handler.collected() != 0, "taken and collected");
        invariant_every_unit_is_where_the_book_says();
    }
}
