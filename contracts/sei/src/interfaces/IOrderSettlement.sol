// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev Signed by the client, together with the nodes of its committee. Travels in calldata and in the event.
/// @param fee of one seat, base units; settling costs the fee of every seat
/// @param policy 0 `none/1` for one seat, else any policy of `TaskEscrow` for an odd number of 3 to 15
/// @param validUntil chain time; the only thing that ends an order
/// @param nonce page 56 << 8 | bit 8 (1..255) of the client's word that remembers it
struct Order {
    address client;
    uint96 fee;
    uint8 policy;
    uint40 validUntil;
    uint64 nonce;
    bytes32 specHash;
}

/// @param node index into the table of nodes that the batch brings
/// @param r, vs of `OrderResult` by the node's operator (EIP-2098); both 0: this seat signed nothing
struct SeatResult {
    uint16 node;
    bytes32 r;
    bytes32 vs;
}

/// @param r, vs of `Order` by its client
/// @param outputDigest what the seats agree on
/// @param seats the committee, in the order's own order
struct Settlement {
    Order order;
    bytes32 r;
    bytes32 vs;
    bytes32 outputDigest;
    SeatResult[] seats;
}

enum BalanceState {
    NONE,
    FUNDED,
    THAWING
}

/// @title OrderSettlement
/// @notice Lane T1: tasks paid from orders that clients and committees signed, settled many at once. One bit each.
interface IOrderSettlement {
    /// @param treasury receives swept protocol fees, as of `TaskEscrow`
    /// @param minFee base units per seat, as of `TaskEscrow`
    /// @param thawPeriod seconds from asking for money to taking it
    struct Parameters {
        address treasury;
        uint96 minFee;
        uint40 thawPeriod;
    }

    /// @dev A client's one slot, never zero again: 96 + 96 + 40 + 8 = 240 bits.
    /// @param balance base units set aside for orders; what thaws is a part of it and can be spent
    /// @param thawing base units asked for
    /// @param thawsAt they may leave after this second; 0 while nothing was asked for
    struct Account {
        uint96 balance;
        uint96 thawing;
        uint40 thawsAt;
        bool open;
    }

    /// @dev An owner's one slot, never zero again: 96 + 96 + 8 = 200 bits.
    /// @param earned base units that wait for `collect`
    /// @param fees the protocol's part of what this owner's seats were paid, and forfeits; wait for `sweep`
    struct Payee {
        uint96 earned;
        uint96 fees;
        bool open;
    }

    event OrdersFunded(address indexed client, uint96 amount, uint96 balance);
    /// @notice The client bought the word of another 255 nonces.
    event PageOpened(address indexed client, uint56 page);
    /// @notice fee · seats = payments + protocol fee.
    /// @param terms of the order: fee 96 | policy 8 << 96 | validUntil 40 << 104 | nonce 64 << 144
    /// @param seats the nodes, by seat, and then by seat what each was paid; 0: it signed nothing or another digest,
    /// and its fee is forfeited
    event OrderSettled(
        bytes32 indexed id,
        address indexed client,
        uint256 terms,
        bytes32 specHash,
        bytes32 outputDigest,
        uint256[] seats
    );
    /// @notice One of many that could not be settled; the others were.
    /// @param id 0 for `BadOrder`
    /// @param reason selector of the error
    event OrderSkipped(bytes32 indexed id, bytes4 reason);
    /// @param amount all that is asked for; 0: nothing any more
    event ThawRequested(address indexed client, uint96 amount, uint40 thawsAt);
    event ThawWithdrawn(address indexed client, address indexed to, uint96 amount);
    event EarningsCollected(address indexed owner, uint96 amount);
    event OrderFeesSwept(address indexed owner, uint96 amount);

    error Forbidden(address caller);
    error IsPaused();
    error BadData(); // no amount, no page
    error BadState(address client, BalanceState state);
    error Insufficient(address account, uint256 available, uint256 needed);
    error StillThawing(uint40 thawsAt);
    error NothingEarned(address owner);
    /// @param reason of the first of them
    error NothingSettled(bytes4 reason);

    // What a settlement is skipped for, in the order in which it is asked:
    error BadOrder(); // its seats, owners, nonce, fee or digest; or a node that the table lacks
    error TooLate();
    error PageClosed(); // the client did not buy that word
    error AlreadySettled();
    // Insufficient
    error BadSignature(); // not the client's: another order, contract or chain
    error NoQuorum(); // below 60 % of the seats

    /// @notice Anybody: settles what can be settled; one that cannot does not stop the others. Its client pays the fee
    /// of every seat; who signed the digest and has stake is paid, the rest is the protocol's. Never paused. Reverts
    /// with `NothingSettled` when none could be.
    /// @param nodes every node of the committees, once
    function settle(bytes32[] calldata nodes, Settlement[] calldata batch) external;

    /// @notice Client: asks for `amount` in all, in place of what it asked for before, and the clock starts anew.
    /// Settlements take from it until it is withdrawn. 0 takes the request back. Never paused.
    function requestThaw(uint96 amount) external;

    /// @notice Client, after the thaw: takes what was asked for, as far as settlements left it. Never paused.
    function withdraw(address to) external;

    /// @notice Anybody: sends what an owner has earned to the owner. Never paused.
    function collect(address owner) external;

    /// @notice Anybody: sends the fees that accrued beside the earnings of these owners to the treasury.
    function sweep(address[] calldata owners) external;

    /// @notice The EIP-712 digest of an order: binds chain, contract, every field and the committee.
    function orderIdOf(Order calldata order, bytes32[] calldata nodes) external view returns (bytes32);

    function balanceOf(address client) external view returns (BalanceState state, Account memory account);

    /// @notice A client's word: bit 0 once it is bought, bit i once nonce `page << 8 | i` is settled.
    function pageOf(address client, uint56 page) external view returns (uint256);

    function payeeOf(address owner) external view returns (Payee memory);

    function parameters() external view returns (Parameters memory);
}
