// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1363Receiver} from "@openzeppelin/contracts/interfaces/IERC1363Receiver.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {
    Channel,
    ChannelState,
    IPaymentChannels,
    Redemption,
    Voucher
} from "./interfaces/IPaymentChannels.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ChannelHash} from "./lib/ChannelHash.sol";

/// @dev The table of `deai/channels.py`. Tokens come in by `transferAndCall` and leave to the owner's and the client's
/// own accounts: there is no balance to withdraw, so a hot key may redeem, and nothing that pays out can be paused.
/// A channel buys its one slot when it is first opened and keeps it. Every amount is a part of the supply, which the
/// constructor bounds by 2^96 - 1; no sum of them overflows.
contract PaymentChannels is IPaymentChannels, IERC1363Receiver, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint40 private constant MAX_CLOSE_PERIOD = 30 days;
    bytes4 private constant FINE = 0;

    IERC20 public immutable token;
    /// @notice Whose guardian may stop openings and top-ups, and nothing else.
    INodeRegistry public immutable registry;
    /// @inheritdoc IPaymentChannels
    uint40 public immutable closePeriod;
    mapping(bytes32 id => Record) private _records;

    constructor(IERC20 token_, INodeRegistry registry_, uint40 closePeriod_) EIP712("deai channels", "1") {
        require(token_.totalSupply() <= type(uint96).max);
        require(address(registry_.token()) == address(token_) && !Pausable(address(registry_)).paused());
        require(closePeriod_ != 0 && closePeriod_ <= MAX_CLOSE_PERIOD);
        (token, registry, closePeriod) = (token_, registry_, closePeriod_);
    }

    /// @notice The only way in: `transferAndCall` of the token. `abi.encode(bytes32 node, address sessionKey)` opens
    /// the payer's channel with them, `abi.encode(bytes32 id)` adds them to a channel that is open.
    function onTransferReceived(address sender, address from, uint256 value, bytes calldata data)
        external
        nonReentrant
        returns (bytes4)
    {
        if (msg.sender != address(token)) revert Forbidden(msg.sender);
        if (Pausable(address(registry)).paused()) revert IsPaused();
        if (value == 0 || value > type(uint96).max) revert BadData();
        if (data.length == 32) _topUp(abi.decode(data, (bytes32)), uint96(value));
        else if (data.length != 64) revert BadData();
        else if (sender != from) revert Forbidden(sender); // an allowance is no consent to be a client
        else _open(from, uint96(value), data);
        return IERC1363Receiver.onTransferReceived.selector;
    }

    /// @inheritdoc IPaymentChannels
    function redeem(Channel calldata c, Voucher calldata v) external nonReentrant {
        bytes32 id = channelIdOf(c);
        Record memory s = _records[id];
        (uint96 paid, bytes4 fault) = _judge(id, s, c.sessionKey, v);
        if (fault != FINE) _refuse(fault, id, s);
        _take(id, s, paid, v.receiptsRoot);
        token.safeTransfer(_ownerOf(c.node), paid);
    }

    /// @inheritdoc IPaymentChannels
    function redeemMany(Redemption[] calldata batch) external nonReentrant {
        uint256[] memory dues = new uint256[](batch.length); // owner 160 << 96 | amount 96
        for (uint256 i; i < batch.length; ++i) {
            Redemption calldata one = batch[i];
            bytes32 id = channelIdOf(one.channel);
            Record memory s = _records[id];
            (uint96 amount, bytes4 fault) = _judge(id, s, one.channel.sessionKey, one.voucher);
            if (fault != FINE) {
                emit VoucherSkipped(id, fault);
                continue;
            }
            _take(id, s, amount, one.voucher.receiptsRoot);
            dues[i] = (uint256(one.channel.node) >> 96 << 96) | amount;
        }
        _payRuns(dues);
    }

    /// @inheritdoc IPaymentChannels
    function close(Channel calldata c, Voucher calldata v) external nonReentrant {
        address owner = _ownerOf(c.node);
        if (msg.sender != owner) revert Forbidden(msg.sender);
        (bytes32 id, Record memory s) = _live(c);
        uint96 paid = _payable(s, v.cumulativeAmount);
        if (paid != 0) {
            bytes4 fault;
            (paid, fault) = _judge(id, s, c.sessionKey, v);
            if (fault != FINE) _refuse(fault, id, s);
            _take(id, s, paid, v.receiptsRoot);
        }
        uint96 refunded = _end(id, s);
        if (paid != 0) token.safeTransfer(owner, paid);
        if (refunded != 0) token.safeTransfer(c.client, refunded);
    }

    /// @inheritdoc IPaymentChannels
    function requestClose(Channel calldata c) external {
        if (msg.sender != c.client) revert Forbidden(msg.sender);
        (bytes32 id, Record memory s) = _live(c);
        if (s.closesAt != 0) revert BadState(id, ChannelState.CLOSING);
        s.closesAt = uint40(block.timestamp) + closePeriod;
        _records[id] = s;
        emit ChannelClosing(id, s.closesAt);
    }

    /// @inheritdoc IPaymentChannels
    function finish(Channel calldata c) external nonReentrant {
        (bytes32 id, Record memory s) = _live(c);
        if (s.closesAt == 0) revert BadState(id, ChannelState.OPEN);
        if (block.timestamp <= s.closesAt) revert TooEarly(s.closesAt);
        uint96 refunded = _end(id, s);
        if (refunded != 0) token.safeTransfer(c.client, refunded);
    }

    // --- views ------------------------------------------------------------------------------------------------

    /// @inheritdoc IPaymentChannels
    function channelIdOf(Channel calldata c) public view returns (bytes32) {
        return _idOf(c.client, c.node, c.sessionKey);
    }

    /// @inheritdoc IPaymentChannels
    function channelOf(bytes32 id) external view returns (ChannelState, Record memory) {
        Record memory s = _records[id];
        return (_stateOf(s), s);
    }

    // --- internals --------------------------------------------------------------------------------------------

    function _open(address client, uint96 deposit, bytes calldata data) private {
        (bytes32 node, address sessionKey) = abi.decode(data, (bytes32, address));
        // A failed recovery gives address 0, and nobody can be paid there.
        if (sessionKey == address(0) || _ownerOf(node) == address(0)) revert BadData();
        bytes32 id = _idOf(client, node, sessionKey);
        Record memory s = _records[id];
        if (s.deposit != 0) revert BadState(id, _stateOf(s));
        if (s.epoch == type(uint24).max) revert UsedUp(id);
        _records[id] = Record(deposit, 0, 0, s.epoch + 1);
        emit ChannelOpened(id, client, node, sessionKey, s.epoch + 1, deposit);
    }

    function _topUp(bytes32 id, uint96 amount) private {
        Record memory s = _records[id];
        ChannelState state = _stateOf(s);
        if (state != ChannelState.OPEN) revert BadState(id, state);
        s.deposit += amount;
        _records[id] = s;
        emit ChannelToppedUp(id, amount, s.deposit);
    }

    /// @dev What a voucher pays, or the error that it is refused with.
    function _judge(bytes32 id, Record memory s, address sessionKey, Voucher calldata v)
        private
        view
        returns (uint96 paid, bytes4 fault)
    {
        if (s.deposit == 0) return (0, BadState.selector);
        paid = _payable(s, v.cumulativeAmount);
        if (paid == 0) return (0, NothingNew.selector);
        if (s.closesAt != 0 && block.timestamp > s.closesAt) return (0, TooLate.selector);
        bytes32 hash = ChannelHash.voucher(id, s.epoch, v.cumulativeAmount, v.receiptsRoot);
        (address signer,,) = ECDSA.tryRecover(_hashTypedDataV4(hash), v.r, v.vs);
        // No channel has the key 0, so a failed recovery never equals it.
        if (signer != sessionKey) return (0, BadSignature.selector);
    }

    function _refuse(bytes4 fault, bytes32 id, Record memory s) private pure {
        if (fault == BadState.selector) revert BadState(id, _stateOf(s));
        if (fault == NothingNew.selector) revert NothingNew(s.claimed);
        if (fault == TooLate.selector) revert TooLate(s.closesAt);
        revert BadSignature();
    }

    /// @dev Changes `s` as well.
    function _take(bytes32 id, Record memory s, uint96 paid, bytes32 receiptsRoot) private {
        unchecked {
            s.claimed += paid;
        }
        _records[id] = s;
        emit VoucherRedeemed(id, paid, s.claimed, receiptsRoot);
    }

    /// @dev Neighbours of one owner together; after every channel's record is written.
    function _payRuns(uint256[] memory dues) private {
        (address owner, uint256 sum) = (address(0), 0);
        for (uint256 i; i < dues.length; ++i) {
            uint256 due = dues[i];
            if (due == 0) continue;
            address next = address(uint160(due >> 96));
            if (next != owner) {
                if (sum != 0) token.safeTransfer(owner, sum);
                (owner, sum) = (next, 0);
            }
            sum += uint96(due);
        }
        if (sum == 0) revert NothingRedeemed();
        token.safeTransfer(owner, sum);
    }

    /// @dev A closed channel holds nothing, and its slot stays bought.
    function _end(bytes32 id, Record memory s) private returns (uint96 refunded) {
        refunded = s.deposit - s.claimed;
        _records[id] = Record(0, 0, 0, s.epoch);
        emit ChannelClosed(id, s.epoch, s.claimed, refunded);
    }

    /// @dev Of a channel that holds money.
    function _live(Channel calldata c) private view returns (bytes32 id, Record memory s) {
        id = channelIdOf(c);
        s = _records[id];
        if (s.deposit == 0) revert BadState(id, _stateOf(s));
    }

    function _idOf(address client, bytes32 node, address sessionKey) private view returns (bytes32) {
        return _hashTypedDataV4(ChannelHash.channel(client, node, sessionKey));
    }

    function _payable(Record memory s, uint96 cumulativeAmount) private pure returns (uint96) {
        uint96 total = cumulativeAmount < s.deposit ? cumulativeAmount : s.deposit;
        return total > s.claimed ? total - s.claimed : 0;
    }

    function _stateOf(Record memory s) private pure returns (ChannelState) {
        if (s.deposit == 0) return s.epoch == 0 ? ChannelState.NONE : ChannelState.CLOSED;
        return s.closesAt == 0 ? ChannelState.OPEN : ChannelState.CLOSING;
    }

    function _ownerOf(bytes32 node) private pure returns (address) {
        return address(uint160(uint256(node) >> 96));
    }
}
