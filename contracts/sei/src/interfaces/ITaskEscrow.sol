// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev What a client pays for. Travels in calldata and events; storage keeps its hash.
/// @param nonce 1, 2, 3 … in each lane of the client
/// @param fee of one seat, base units
/// @param tip for whoever finalises, base units
/// @param seats 1 exactly for policy 0, else odd, 3 to 15
/// @param policy 0 `none/1`, 1–127 digest policies, 128–255 tolerance policies
/// @param lease seconds a seat has from its assignment
/// @param commitDeadline chain time; commits and assignments end with it
/// @param window seconds from the last commit, or else from the commit deadline, in which openings count
struct Task {
    address client;
    uint32 lane;
    uint32 nonce;
    uint96 fee;
    uint96 tip;
    uint8 seats;
    uint8 policy;
    uint32 lease;
    uint40 commitDeadline;
    uint32 window;
    bytes32 specHash;
}

/// @param info operator key 160 (low) | lease end 40 << 160 | attempt 8 << 200, attempts counted from 0
struct Seat {
    bytes32 node;
    uint256 info;
}

/// @dev Signed by the node's operator key; its seat is its index, or named by the call. EIP-2098 throughout.
struct Accept {
    bytes32 node;
    uint40 validUntil;
    bytes32 r;
    bytes32 vs;
}

/// @dev `r` = `vs` = 0: the sender is the seat's key.
struct Commitment {
    uint8 seat;
    bytes32 value;
    bytes32 r;
    bytes32 vs;
}

/// @dev One for every committed seat, in the order of the commits. `digest` zero: not opened, and `salt` holds the
/// commitment itself. Under `none/1` the digest is the delivered one and the salt ignored.
struct Opening {
    uint8 seat;
    bytes32 digest;
    bytes32 salt;
}

struct Result {
    bytes32 outputDigest;
    bytes32 evidenceDigest;
    bytes32 r;
    bytes32 vs;
}

/// @param mask bit i: the output of seat i is within tolerance of the signer's own
struct Approval {
    uint8 seat;
    uint16 mask;
    bytes32 r;
    bytes32 vs;
}

/// @title TaskEscrow
/// @notice Lane T0: an escrowed task from client to payout. Whoever acts does so while now ≤ deadline; the next phase
/// begins with a later block.
interface ITaskEscrow {
    /// @param treasury receives swept protocol fees and forfeits
    /// @param minFee base units per seat
    /// @param minLease seconds
    /// @param minWindow seconds
    /// @param maxSpan seconds: the longest time from post to commit deadline, and the longest window
    struct Parameters {
        address treasury;
        uint96 minFee;
        uint32 minLease;
        uint32 minWindow;
        uint32 maxSpan;
    }

    /// @notice A lane: its three words (and the masks of tolerance tasks) raw and decoded.
    /// @param nonce of the last task posted
    /// @param closed nonce of the last task that ended; the lane is busy while nonce = closed + 1
    /// @param committed, revealed, released, equivocated seats of task `nonce` (equivocated also once it has ended)
    /// @param windowLead seconds before the commit deadline at which the last seat committed; 0 if one has not
    /// @param accrued base units waiting for `sweep`
    /// @param approvals mask by seat on chain, 15 bits each from bit 0; 0 where none
    struct LaneInfo {
        uint256 key;
        uint256 acc;
        uint256 state;
        uint32 nonce;
        uint32 closed;
        uint16 committed;
        uint16 revealed;
        uint16 released;
        uint16 equivocated;
        uint24 windowLead;
        uint96 accrued;
        uint256 approvals;
    }

    event TaskPosted(bytes32 indexed id, address indexed client, Task task);
    event TaskAssigned(bytes32 indexed id, Seat[] committee);
    event SeatReassigned(
        bytes32 indexed id, uint8 seat, bytes32 indexed from, bool released, Seat[] committee
    );
    event SeatReleased(bytes32 indexed id, uint8 seat);
    event ResultCommitted(bytes32 indexed id, uint8 seat, uint8 attempt, bytes32 commitment);
    /// @notice `none/1`: commit and reveal at once.
    event ResultDelivered(
        bytes32 indexed id, bytes32 node, bytes32 outputDigest, bytes32 evidenceDigest, bytes32 r, bytes32 vs
    );
    event ResultRevealed(bytes32 indexed id, uint8 seat, bytes32 digest, bytes32 salt);
    event ResultApproved(bytes32 indexed id, uint8 seat, uint16 mask, bytes32 r, bytes32 vs);
    /// @notice fee · seats + tip of the task = payments + refunded + protocolFee + tip of this event.
    /// @param result the winning digest; 0: nobody won
    /// @param fault every revealed seat says that the task itself is bad
    /// @param refunded to the client, its own tip included
    /// @param protocolFee fees and forfeits that accrued in the lane
    /// @param tip what `finaliser` got for it; 0 when it is the client
    /// @param seats per seat: payment 96 | R before 24 << 96 | R after 24 << 120 | verdict 8 << 144
    event TaskFinalised(
        bytes32 indexed id,
        bytes32 result,
        bool fault,
        uint256 refunded,
        uint256 protocolFee,
        address finaliser,
        uint256 tip,
        uint256[] seats
    );
    event TaskExpired(bytes32 indexed id, uint256 refunded);
    event TaskCancelled(bytes32 indexed id, uint256 refunded);
    event TaskObjected(bytes32 indexed id, uint256 protocolFee, uint256 refunded);
    event EquivocationProven(bytes32 indexed id, uint8 seat, bytes32 node, address submitter);
    event FeesSwept(address indexed client, uint32 lane, uint256 amount);

    error BadTask();
    error BadNonce(uint32 expected);
    error LaneBusy();
    error NotOpen(); // another task or committee, or already ended
    error BadSeat(uint256 seat);
    error SeatTaken(uint256 seat); // it has committed
    error BadSignature(uint256 seat);
    error AcceptExpired(uint40 validUntil);
    error OwnerTwice(address owner);
    error TooEarly(uint256 time);
    error TooLate(uint256 deadline);
    error BadOpening();
    error BadApproval();
    error BadEvidence();

    /// @notice Client: moves fee · seats + tip from its account into escrow.
    function post(Task calldata t) external returns (bytes32 id);

    /// @notice Client: seats the committee, one accept per seat, attempt 0. Leases run from this block's time.
    function assign(Task calldata t, Accept[] calldata accepts) external;

    /// @notice `post` and `assign` in one transaction.
    function postAndAssign(Task calldata t, Accept[] calldata accepts) external returns (bytes32 id);

    /// @notice Client: takes everything back while no seat has been assigned.
    function cancel(Task calldata t) external;

    /// @notice Anybody: puts commitments on chain. Seats that have committed already are passed over; reverts with
    /// `SeatTaken` when no commitment was new.
    function commit(Task calldata t, Seat[] calldata committee, Commitment[] calldata commitments) external;

    /// @notice Anybody, `none/1`: the signed result is commit and reveal at once.
    function deliver(Task calldata t, Seat[] calldata committee, Result calldata result) external;

    /// @notice Client, `none/1`, within the window: ends the task; the fee goes to the pot, the tip returns.
    function object(Task calldata t, Seat[] calldata committee) external;

    /// @notice The seat's key, before it commits: gives the seat back. It may still commit until it is reassigned.
    function release(Task calldata t, Seat[] calldata committee, uint8 seat) external;

    /// @notice Client: gives a released or lapsed seat to another node, three times at most.
    function reassign(Task calldata t, Seat[] calldata committee, uint8 seat, Accept calldata accept) external;

    /// @notice Anybody, within the window (tolerance policies: its first half): records every seat opened here.
    function reveal(Task calldata t, Seat[] calldata committee, Opening[] calldata openings) external;

    /// @notice Anybody, tolerance policies, within the window: records a member's approval, the first one it gave.
    function approve(Task calldata t, Seat[] calldata committee, Approval calldata approval) external;

    /// @notice Anybody: ends a task: pays, forfeits, refunds, moves reputation. The tip goes to the sender.
    /// Within the window with the opening (tolerance: and the approval) of every committed seat; after it with
    /// exactly those on chain.
    function finalise(
        Task calldata t,
        Seat[] calldata committee,
        Opening[] calldata openings,
        Approval[] calldata approvals
    ) external;

    /// @notice Anybody, after the commit deadline: ends a task in which nobody committed; all of it returns.
    /// @param committee empty when none was assigned
    function expire(Task calldata t, Seat[] calldata committee) external;

    /// @notice Anybody, until the lane is used again: two results of one seat and attempt with different outputs,
    /// signed by the key that the lane records. Once per attempt.
    function proveEquivocation(
        Task calldata t,
        Seat[] calldata committee,
        uint8 seat,
        Result calldata a,
        Result calldata b
    ) external;

    /// @notice Anybody: sends what accrued in lanes of a client to the treasury.
    function sweep(address client, uint32[] calldata lanes) external;

    /// @notice The EIP-712 digest of a task: binds chain, contract and every field.
    function taskIdOf(Task calldata t) external view returns (bytes32);

    function laneOf(address client, uint32 lane) external view returns (LaneInfo memory);

    function parameters() external view returns (Parameters memory);
}
