// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Delegations
/// @notice Nodes whose stake many lend. Such a node is owned by an account that only this contract drives, so all that
/// its owner is paid and all that is taken from its stake reaches everybody who lent, by shares.
/// @dev Tokens come in by the token's `transferAndCall`:
///  - `abi.encode(uint8(1), uint96 index, uint16 commission, address operator, uint40 validUntil, bytes operatorSig,
///    bytes peerId, string addresses)`: the payer opens its pool number `index` with them, as its own part. The node is
///    `ownerOf(payer, index) << 96`; the operator signs for that, as at `NodeRegistry`.
///  - `abi.encode(uint8(2), bytes32 node)`: the payer delegates them.
/// Every verb that changes a pool first does what `advance` does, so nobody trades shares at a stale price. Errors of
/// `NodeRegistry` are passed on as they are. The arithmetic is that of `lib/PoolMath.sol`.
interface IDelegations {
    enum State {
        NONE, // no pool
        OPEN,
        CLOSING, // everything leaves: at once, or when the batch that unbonds has been paid
        CLOSED // everything has left; `claim` redeems shares
    }

    /// @dev As of the last verb: a slash and income since then are not in it.
    /// @param commission of income, in force now; hundredths of a percent
    /// @param nextCommission announced, in force from `nextCommissionEpoch` (chain time / epochLength) on; 0: none waits
    /// @param batch the one that collects requests; the one before it may be unbonding
    /// @param maturesAt after this second what unbonds is paid; 0: nothing unbonds
    /// @param assets base units that `shares` are worth together
    /// @param leaving what the batch that unbonds will be paid, unless a slash takes its part
    /// @param unbonding base units of the node's stake that unbond
    /// @param shares of everybody, those that wait in `batch` included, those that are leaving not
    /// @param managerShares the manager's, those that wait not included
    /// @param queued shares that wait in `batch`
    /// @param leavingShares shares that `leaving` is divided among
    struct Pool {
        address manager;
        uint16 commission;
        uint16 nextCommission;
        uint40 nextCommissionEpoch;
        State state;
        uint32 batch;
        uint40 maturesAt;
        uint96 assets;
        uint96 leaving;
        uint96 unbonding;
        uint128 shares;
        uint128 managerShares;
        uint128 queued;
        uint128 leavingShares;
    }

    /// @param shares that do not leave
    /// @param queued shares that wait in batch `queuedBatch`, unbond with it or were paid with it
    /// @param claimable base units that `claim` pays now, without what `advance` would add first
    struct Delegation {
        uint128 shares;
        uint128 queued;
        uint32 queuedBatch;
        uint96 claimable;
    }

    /// @param stake the manager's own; one share per base unit
    event PoolOpened(
        bytes32 indexed node, address indexed manager, uint96 index, uint16 commission, uint96 stake
    );
    event Delegated(bytes32 indexed node, address indexed account, uint96 amount, uint128 shares);
    event UndelegationRequested(bytes32 indexed node, address indexed account, uint128 shares, uint32 batch);
    /// @notice What these shares were worth unbonds. Batch 0 is the whole pool, for good.
    event BatchStarted(bytes32 indexed node, uint32 batch, uint128 shares, uint96 amount, uint40 maturesAt);
    /// @notice Its accounts may claim. Batch 0: all others may.
    event BatchMatured(bytes32 indexed node, uint32 batch, uint96 amount);
    event UndelegationPaid(bytes32 indexed node, address indexed account, uint32 batch, uint96 amount);
    /// @param commission the part of `income` for which the manager was given `commissionShares`. When nobody has
    /// shares any more, both are paid out to the manager and `commissionShares` is 0
    event IncomeShared(bytes32 indexed node, uint96 income, uint96 commission, uint128 commissionShares);
    /// @param amount what the registry took
    /// @param bounty the part of it that the manager alone bears, with `bountyShares`
    event PoolSlashed(bytes32 indexed node, uint96 amount, uint96 bounty, uint128 bountyShares);
    event CommissionAnnounced(bytes32 indexed node, uint16 commission, uint40 epoch);
    /// @notice By the manager, or because what would stay is below the minimum stake.
    event PoolClosed(bytes32 indexed node);

    error Forbidden(address caller);
    error IsPaused();
    error BadData();
    error BadState(bytes32 node, State state);
    error Jailed(bytes32 node); // only its manager may add to it
    error CommissionTooHigh(uint16 commission);
    error TooSmall(uint256 found, uint256 least); // base units, or shares that they would buy
    error Overleveraged(uint256 shares, uint256 most); // more than the manager's own shares allow
    error OwnPartTooLow(uint256 amount, uint256 least); // of the manager: add to it, or close the pool
    error Insufficient(uint256 available, uint256 needed); // shares
    error StillLeaving(uint32 batch); // the account's shares in it come first
    error NothingToClaim(address account);

    /// @notice Anybody, at any time: recognises a slash, shares out income, pays a batch whose time is over, and starts
    /// to unbond the next.
    function advance(bytes32 node) external;

    /// @notice Puts shares of the caller into the next batch, which starts at once if none unbonds. The manager keeps the
    /// minimum stake, and a tenth of all shares, until it closes the pool. Never paused.
    function undelegate(bytes32 node, uint128 shares) external;

    /// @notice Anybody, for any account: pays the account what matured; of a closed pool, all that its shares are worth.
    /// Never paused.
    function claim(bytes32 node, address account) external;

    /// @notice Manager: in force from the second epoch boundary on; replaces what was announced and waits.
    function announceCommission(bytes32 node, uint16 commission) external;

    /// @notice Manager: everything unbonds, and nobody can delegate any more. Never paused.
    function close(bytes32 node) external;

    /// @notice Manager: as `NodeRegistry.rotateOperator`.
    function rotateOperator(bytes32 node, address operator, uint40 validUntil, bytes calldata signature)
        external;

    /// @notice Manager, whose own part must be the minimum stake: as `NodeRegistry.unjail`.
    function unjail(bytes32 node) external;

    /// @notice The account that owns a manager's pool number `index`, also before it exists.
    function ownerOf(address manager, uint96 index) external view returns (address);

    function poolOf(bytes32 node) external view returns (Pool memory);

    function delegationOf(bytes32 node, address account) external view returns (Delegation memory);

    /// @notice Base units: the least that may be delegated at once.
    function minDelegation() external view returns (uint96);
}
