// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1363Receiver} from "@openzeppelin/contracts/interfaces/IERC1363Receiver.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {
    BalanceState,
    IOrderSettlement,
    Order,
    SeatResult,
    Settlement
} from "./interfaces/IOrderSettlement.sol";
import {ITaskEscrow} from "./interfaces/ITaskEscrow.sol";
import {OrderHash} from "./lib/OrderHash.sol";
import {Reputation} from "./lib/Reputation.sol";

/// @dev The table of `deai/orders.py`. A settlement writes two words of its client, both bought by the client with its
/// deposits, and one of each owner that is paid, once per batch; that one is bought with the owner's first earnings.
/// The protocol's part accrues in the owners' words, so that no two batches touch one slot for its sake.
/// Nothing here calls anybody but the token and the registry's view. Every amount is a part of the supply, which the
/// constructor bounds by 2^96 - 1; no sum of them overflows.
contract OrderSettlement is IOrderSettlement, IERC1363Receiver, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Client {
        Account account;
        mapping(uint256 page => uint256) pages;
    }

    /// @dev What every item of a batch needs.
    /// @param members by node: operator 160 | R 24 << 160 | whether its signature counts 1 << 184
    /// @param dues by node, what the items give its owner: earned 96 | fees 96 << 96
    struct Batch {
        bytes32 separator;
        bytes32[] nodes;
        uint256[] members;
        uint256[] dues;
    }

    /// @param places of the nodes in the table, by seat
    /// @param seats the nodes, by seat, and then what each is paid: as the event tells it
    /// @param committee hash of the nodes
    struct Item {
        bytes32 id;
        bytes32 output;
        uint256 fee;
        uint256[] places;
        uint256[] seats;
        bytes32 committee;
    }

    uint40 private constant MAX_THAW_PERIOD = 30 days;
    uint256 private constant MAX_SEATS = 15;
    uint256 private constant COUNTS = 1 << 184;
    bytes4 private constant FINE = 0;

    IERC20 public immutable token;
    /// @notice Whose guardian may stop deposits, and nothing else.
    INodeRegistry public immutable registry;
    address private immutable _treasury;
    uint96 private immutable _minFee;
    uint40 private immutable _thawPeriod;
    mapping(address client => Client) private _clients;
    mapping(address owner => Payee) private _payees;

    constructor(IERC20 token_, INodeRegistry registry_, uint40 thawPeriod_) EIP712("deai orders", "1") {
        require(token_.totalSupply() <= type(uint96).max);
        require(address(registry_.token()) == address(token_) && !Pausable(address(registry_)).paused());
        require(thawPeriod_ != 0 && thawPeriod_ <= MAX_THAW_PERIOD);
        ITaskEscrow.Parameters memory p = ITaskEscrow(registry_.escrow()).parameters();
        (token, registry, _thawPeriod) = (token_, registry_, thawPeriod_);
        (_treasury, _minFee) = (p.treasury, p.minFee);
    }

    /// @notice The only way in: `transferAndCall` of the token sets the amount aside for the payer's orders. `data`
    /// names the page that it buys besides, if it is not bought yet: `abi.encode(uint56)`, or nothing for page 0.
    function onTransferReceived(address sender, address from, uint256 value, bytes calldata data)
        external
        nonReentrant
        returns (bytes4)
    {
        if (msg.sender != address(token)) revert Forbidden(msg.sender);
        if (Pausable(address(registry)).paused()) revert IsPaused();
        if (sender != from) revert Forbidden(sender); // an allowance is no consent to pay for orders
        if (value == 0 || value > type(uint96).max) revert BadData();
        if (data.length != 0 && data.length != 32) revert BadData();
        _openPage(from, data.length == 0 ? 0 : abi.decode(data, (uint56)));
        Account memory a = _clients[from].account;
        (a.balance, a.open) = (a.balance + uint96(value), true);
        _clients[from].account = a;
        emit OrdersFunded(from, uint96(value), a.balance);
        return IERC1363Receiver.onTransferReceived.selector;
    }

    /// @inheritdoc IOrderSettlement
    function settle(bytes32[] calldata nodes, Settlement[] calldata batch) external nonReentrant {
        Batch memory b = _read(nodes);
        bytes4 reason;
        bool settled;
        uint256 free = _freeMemory();
        for (uint256 i; i < batch.length; ++i) {
            _resetMemory(free); // nothing of an item outlives it, and memory grows dearer the more there is
            (bytes32 id, bytes4 fault) = _settle(b, batch[i]);
            if (fault == FINE) {
                settled = true;
                continue;
            }
            if (reason == FINE) reason = fault;
            emit OrderSkipped(id, fault);
        }
        if (!settled) revert NothingSettled(reason);
        _credit(b);
    }

    /// @inheritdoc IOrderSettlement
    function requestThaw(uint96 amount) external {
        Account memory a = _clients[msg.sender].account;
        if (!a.open || (amount == 0 && a.thawsAt == 0)) revert BadState(msg.sender, _stateOf(a));
        if (amount > a.balance) revert Insufficient(msg.sender, a.balance, amount);
        (a.thawing, a.thawsAt) = (amount, amount == 0 ? 0 : uint40(block.timestamp) + _thawPeriod);
        _clients[msg.sender].account = a;
        emit ThawRequested(msg.sender, amount, a.thawsAt);
    }

    /// @inheritdoc IOrderSettlement
    function withdraw(address to) external nonReentrant {
        Account memory a = _clients[msg.sender].account;
        if (a.thawsAt == 0) revert BadState(msg.sender, _stateOf(a));
        if (block.timestamp <= a.thawsAt) revert StillThawing(a.thawsAt);
        uint96 amount = a.thawing < a.balance ? a.thawing : a.balance;
        _clients[msg.sender].account = Account(a.balance - amount, 0, 0, true);
        emit ThawWithdrawn(msg.sender, to, amount);
        if (amount != 0) token.safeTransfer(to, amount);
    }

    /// @inheritdoc IOrderSettlement
    function collect(address owner) external nonReentrant {
        Payee storage p = _payees[owner];
        uint96 amount = p.earned;
        if (amount == 0) revert NothingEarned(owner);
        p.earned = 0;
        emit EarningsCollected(owner, amount);
        token.safeTransfer(owner, amount);
    }

    /// @inheritdoc IOrderSettlement
    function sweep(address[] calldata owners) external nonReentrant {
        uint256 total;
        for (uint256 i; i < owners.length; ++i) {
            Payee storage p = _payees[owners[i]];
            uint96 amount = p.fees;
            if (amount == 0) continue;
            p.fees = 0;
            total += amount;
            emit OrderFeesSwept(owners[i], amount);
        }
        if (total != 0) token.safeTransfer(_treasury, total);
    }

    // --- views ------------------------------------------------------------------------------------------------

    /// @inheritdoc IOrderSettlement
    function orderIdOf(Order calldata o, bytes32[] calldata nodes) external view returns (bytes32) {
        return _hashTypedDataV4(OrderHash.order(o, keccak256(abi.encodePacked(nodes))));
    }

    /// @inheritdoc IOrderSettlement
    function balanceOf(address client) external view returns (BalanceState, Account memory) {
        Account memory a = _clients[client].account;
        return (_stateOf(a), a);
    }

    /// @inheritdoc IOrderSettlement
    function pageOf(address client, uint56 page) external view returns (uint256) {
        return _clients[client].pages[page];
    }

    /// @inheritdoc IOrderSettlement
    function payeeOf(address owner) external view returns (Payee memory) {
        return _payees[owner];
    }

    /// @inheritdoc IOrderSettlement
    function parameters() external view returns (Parameters memory) {
        return Parameters(_treasury, _minFee, _thawPeriod);
    }

    // --- internals --------------------------------------------------------------------------------------------

    function _openPage(address client, uint56 page) private {
        if (_clients[client].pages[page] != 0) return;
        _clients[client].pages[page] = 1;
        emit PageOpened(client, page);
    }

    /// @dev Asks the registry once for each node.
    function _read(bytes32[] calldata nodes) private view returns (Batch memory b) {
        uint256 n = nodes.length;
        (b.separator, b.nodes) = (_domainSeparatorV4(), nodes);
        (b.members, b.dues) = (new uint256[](n), new uint256[](n));
        for (uint256 i; i < n; ++i) {
            INodeRegistry.Node memory node = registry.nodeOf(nodes[i]);
            // Jailed is who was caught, exited who has nothing left to lose.
            bool counts = node.standing == INodeRegistry.Standing.PROBATION
                || node.standing == INodeRegistry.Standing.ACTIVE
                || node.standing == INodeRegistry.Standing.UNBONDING;
            if (counts) b.members[i] = uint160(node.operator) | (uint256(node.reputation) << 160) | COUNTS;
        }
    }

    /// @dev Changes `b.dues` as well. Reverts for nothing that a client or a node could have signed.
    function _settle(Batch memory b, Settlement calldata s) private returns (bytes32 id, bytes4 fault) {
        Order memory o = s.order;
        Item memory x = _committee(b, s.seats);
        if (!_sound(o, x.places.length) || s.outputDigest == 0) return (0, BadOrder.selector);
        id = MessageHashUtils.toTypedDataHash(b.separator, OrderHash.order(o, x.committee));
        if (block.timestamp > o.validUntil) return (id, TooLate.selector);
        Client storage c = _clients[o.client];
        uint256 page = c.pages[o.nonce >> 8];
        if (page & 1 == 0) return (id, PageClosed.selector);
        if (page & (1 << (o.nonce & 0xff)) != 0) return (id, AlreadySettled.selector);
        uint256 cost = uint256(o.fee) * x.places.length;
        uint256 balance = c.account.balance;
        if (balance < cost) return (id, Insufficient.selector);
        (address signer,,) = ECDSA.tryRecover(id, s.r, s.vs);
        if (signer == address(0) || signer != o.client) return (id, BadSignature.selector);
        (x.id, x.fee, x.output) = (id, o.fee, s.outputDigest);
        if (!_agree(b, x, s.seats)) return (id, NoQuorum.selector);
        c.pages[o.nonce >> 8] = page | (1 << (o.nonce & 0xff));
        c.account.balance = uint96(balance - cost);
        _owe(b, x, cost);
        emit OrderSettled(id, o.client, _terms(o), o.specHash, x.output, x.seats);
    }

    function _sound(Order memory o, uint256 n) private view returns (bool) {
        return (o.policy == 0 ? n == 1 : n >= 3 && n & 1 == 1) && o.nonce & 0xff != 0 && o.fee >= _minFee;
    }

    /// @dev No seats if they are too many, if the table lacks one, or if one owner has two.
    function _committee(Batch memory b, SeatResult[] calldata results) private pure returns (Item memory x) {
        uint256 n = results.length;
        if (n > MAX_SEATS) return x;
        uint256[] memory places = new uint256[](n);
        uint256[] memory seats = new uint256[](2 * n);
        for (uint256 i; i < n; ++i) {
            uint256 k = results[i].node;
            if (k >= b.nodes.length) return x;
            uint256 node = uint256(b.nodes[k]);
            for (uint256 j; j < i; ++j) {
                if ((seats[j] ^ node) >> 96 == 0) return x; // an owner has one voice
            }
            (places[i], seats[i]) = (k, node);
        }
        (x.places, x.seats, x.committee) = (places, seats, OrderHash.words(seats, n));
    }

    /// @dev Whether 60 % of the seats signed the output; what they are paid stands behind the nodes then.
    function _agree(Batch memory b, Item memory x, SeatResult[] calldata results)
        private
        pure
        returns (bool)
    {
        uint256 n = x.places.length;
        uint256 count;
        for (uint256 i; i < n; ++i) {
            uint256 member = b.members[x.places[i]];
            SeatResult calldata seat = results[i];
            if (member & COUNTS == 0 || seat.r | seat.vs == 0) continue;
            bytes32 digest =
                MessageHashUtils.toTypedDataHash(b.separator, OrderHash.result(x.id, x.seats[i], x.output));
            (address signer,,) = ECDSA.tryRecover(digest, seat.r, seat.vs);
            // A registered node's operator is never zero, so a failed recovery never equals it.
            if (signer != address(uint160(member))) continue;
            x.seats[n + i] = Reputation.payment(x.fee, uint24(member >> 160));
            ++count;
        }
        return count * 5 >= n * 3;
    }

    /// @dev What is not paid accrues beside the first seat that is. No sum overflows: all are parts of balances.
    function _owe(Batch memory b, Item memory x, uint256 rest) private pure {
        unchecked {
            uint256 n = x.places.length;
            uint256 first;
            for (uint256 i = n; i-- != 0;) {
                uint256 payment = x.seats[n + i];
                if (payment == 0) continue;
                first = i;
                b.dues[x.places[i]] += payment;
                rest -= payment;
            }
            b.dues[x.places[first]] += rest << 96;
        }
    }

    function _terms(Order memory o) private pure returns (uint256) {
        return o.fee | (uint256(o.policy) << 96) | (uint256(o.validUntil) << 104) | (uint256(o.nonce) << 144);
    }

    function _credit(Batch memory b) private {
        for (uint256 i; i < b.dues.length; ++i) {
            uint256 due = b.dues[i];
            if (due == 0) continue;
            address owner = address(uint160(uint256(b.nodes[i]) >> 96));
            Payee memory p = _payees[owner];
            unchecked {
                _payees[owner] = Payee(p.earned + uint96(due), p.fees + uint96(due >> 96), true);
            }
        }
    }

    function _freeMemory() private pure returns (uint256 free) {
        assembly ("memory-safe") {
            free := mload(0x40)
        }
    }

    function _resetMemory(uint256 free) private pure {
        assembly ("memory-safe") {
            mstore(0x40, free)
        }
    }

    function _stateOf(Account memory a) private pure returns (BalanceState) {
        if (!a.open) return BalanceState.NONE;
        return a.thawsAt == 0 ? BalanceState.FUNDED : BalanceState.THAWING;
    }
}
