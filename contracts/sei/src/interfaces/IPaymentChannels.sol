// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev Fixed for the channel's life; its hash is the channel's id. Travels in calldata and in the event.
/// @param node 20 bytes of its owner, who is paid, and an index: two daemons of one owner that counted on the same
/// voucher would work for money that exists once
/// @param sessionKey signs vouchers for the client. It cannot be changed or revoked: it dies with the channel
struct Channel {
    address client;
    bytes32 node;
    address sessionKey;
}

/// @dev EIP-2098. The epoch is signed too, and is always the channel's own.
/// @param cumulativeAmount base units promised since the channel was opened
/// @param receiptsRoot stands for the receipts of everything that is paid by it
struct Voucher {
    uint96 cumulativeAmount;
    bytes32 receiptsRoot;
    bytes32 r;
    bytes32 vs;
}

struct Redemption {
    Channel channel;
    Voucher voucher;
}

enum ChannelState {
    NONE,
    OPEN,
    CLOSING,
    CLOSED
}

/// @title PaymentChannels
/// @notice Lane T2: a client's deposit for one node, paid out by vouchers of which only the newest counts.
interface IPaymentChannels {
    /// @dev One slot, never zero again: 96 + 96 + 40 + 24 = 256 bits. A closed channel keeps its epoch only.
    /// @param deposit base units put in since the channel was opened
    /// @param claimed base units paid out of it; never more
    /// @param closesAt last second in which a voucher pays; 0 while the client has not asked for the rest
    /// @param epoch how often the channel was opened; vouchers of another epoch are worth nothing
    struct Record {
        uint96 deposit;
        uint96 claimed;
        uint40 closesAt;
        uint24 epoch;
    }

    event ChannelOpened(
        bytes32 indexed id,
        address indexed client,
        bytes32 indexed node,
        address sessionKey,
        uint24 epoch,
        uint96 deposit
    );
    event ChannelToppedUp(bytes32 indexed id, uint96 amount, uint96 deposit);
    /// @param paid to the node's owner by this voucher
    /// @param claimed by all vouchers of this epoch
    event VoucherRedeemed(bytes32 indexed id, uint96 paid, uint96 claimed, bytes32 receiptsRoot);
    /// @notice One of many that could not be redeemed; the others were.
    /// @param reason selector of what `redeem` would have reverted with
    event VoucherSkipped(bytes32 indexed id, bytes4 reason);
    /// @param closesAt vouchers pay until then
    event ChannelClosing(bytes32 indexed id, uint40 closesAt);
    /// @notice deposit = claimed + refunded, since the channel was opened.
    event ChannelClosed(bytes32 indexed id, uint24 epoch, uint96 claimed, uint96 refunded);

    error Forbidden(address caller);
    error IsPaused();
    error BadData(); // no channel, or no amount
    error BadState(bytes32 id, ChannelState state);
    error UsedUp(bytes32 id); // opened as often as its epochs can count
    error BadSignature(); // another key, channel, epoch, contract or chain
    error NothingNew(uint96 claimed);
    error NothingRedeemed();
    error TooEarly(uint40 closesAt);
    error TooLate(uint40 closesAt);

    /// @notice Anybody who holds a voucher: pays the node's owner what it promises beyond what was claimed, as far
    /// as the deposit goes. Never paused.
    function redeem(Channel calldata channel, Voucher calldata voucher) external;

    /// @notice The same for many channels; one that cannot be redeemed does not stop the others. Those of one owner
    /// are paid together where they stand together. Reverts with `NothingRedeemed` when none could be.
    function redeemMany(Redemption[] calldata batch) external;

    /// @notice The node's owner: ends the channel at once, redeeming its last voucher first if that pays anything;
    /// the rest returns to the client. An amount of 0 is no voucher.
    function close(Channel calldata channel, Voucher calldata voucher) external;

    /// @notice The client: starts the challenge period, in which newer vouchers still pay.
    function requestClose(Channel calldata channel) external;

    /// @notice Anybody, after the challenge period: returns the rest to the client.
    function finish(Channel calldata channel) external;

    /// @notice The EIP-712 digest of a channel: binds chain, contract and every field.
    function channelIdOf(Channel calldata channel) external view returns (bytes32);

    function channelOf(bytes32 id) external view returns (ChannelState state, Record memory record);

    /// @notice Seconds of the challenge period.
    function closePeriod() external view returns (uint40);
}
