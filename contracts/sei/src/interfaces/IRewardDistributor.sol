// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title RewardDistributor
/// @notice One Merkle root per epoch over what every account was ever owed; accounts claim what they have not had.
interface IRewardDistributor {
    /// @param epoch of the root; 0 before the first
    /// @param total of all leaves: no more is paid under it and the roots before it
    /// @param paid to everybody since ever
    struct Active {
        uint40 epoch;
        bytes32 root;
        uint96 total;
        uint96 paid;
    }

    /// @param activeAt from then on it is the active root; all is 0 when none waits
    struct Waiting {
        uint40 epoch;
        bytes32 root;
        uint96 total;
        uint40 activeAt;
    }

    /// @notice Tokens came with word of what they are for. A plain transfer is as good, and nobody's.
    /// @param reason 1 audit, 2 refund, 3 slash, 4 delegation; 0 where there are no shares
    /// @param shares account 160 << 96 | amount 96, together at most `amount`; the rest is nobody's
    event RewardsFunded(address indexed payer, uint8 reason, uint96 amount, uint256[] shares);
    /// @param statement hash of the document from which anybody computes the root again
    event RewardsProposed(
        uint40 indexed epoch, bytes32 root, uint96 total, bytes32 statement, uint40 activeAt
    );
    event RewardsCancelled(uint40 indexed epoch, bytes32 root);
    /// @param cumulative paid to the account since ever
    event RewardsClaimed(address indexed account, uint96 amount, uint96 cumulative);

    error Forbidden(address caller);
    error BadData(); // no root, a total below the last, or shares that make no sense
    error BadEpoch(uint40 epoch); // not after the active root's
    error TooEarly(uint40 closesAt); // the epoch is not over
    error StillWaiting(uint40 activeAt); // one root waits already
    error NothingWaits();
    error Unfunded(uint96 total, uint256 available);
    error BadProof(); // not a leaf of the active root, or of another contract or chain
    error NothingNew(uint96 claimed);
    error Exhausted(uint96 left); // leaves add up to more than the root's total

    /// @notice Proposer: a root for an epoch that is over; it may be claimed under after the delay. Epochs may be left
    /// out: amounts are cumulative.
    function propose(uint40 epoch, bytes32 root, uint96 total, bytes32 statement) external;

    /// @notice Guardian: takes the waiting root back. Nothing else of this contract can be stopped.
    function cancel(uint40 epoch) external;

    /// @notice Anybody, for any account: pays the account what it has not had. Never paused.
    /// @param cumulative what it was ever owed, as its leaf says
    /// @param sides bit k: sibling k stands on the left
    /// @param path siblings from the leaf to the root
    function claim(address account, uint96 cumulative, uint256 sides, bytes32[] calldata path) external;

    /// @notice The leaf of an account: SHA-256 of 0x00 and its EIP-712 digest.
    function leafOf(address account, uint96 cumulative) external view returns (bytes32);

    /// @notice The root in force now, and the one that waits.
    function roots() external view returns (Active memory active, Waiting memory waiting);

    /// @notice Base units paid to an account since ever.
    function claimedBy(address account) external view returns (uint96);

    /// @notice Seconds in which the guardian may cancel.
    function delay() external view returns (uint40);
}
