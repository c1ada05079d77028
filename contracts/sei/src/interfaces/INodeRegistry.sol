// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @dev What a seat did. `NodeRegistry.settle` takes four bits each and acts on the first five; the others only
/// explain an outcome in `TaskFinalised`.
library Verdict {
    uint256 internal constant NONE = 0; // never committed: refunded, no record is touched
    uint256 internal constant UNCHECKED = 1; // paid, but nobody checked (`none/1`): R is read for the fee, never moved
    uint256 internal constant PAID = 2;
    uint256 internal constant LOST = 3; // another digest than the winner: forfeited
    uint256 internal constant SILENT = 4; // committed and never revealed: refunded
    uint256 internal constant FORFEITED = 5; // revealed and unpaid without a lost vote
    uint256 internal constant FAULT = 6; // a tenth of the fee: every revealed seat says that the task is bad
}

/// @title NodeRegistry
/// @notice Stake, standing, keys and reputation of nodes.
/// @dev A node id is `owner << 96 | index`: who owns a node is read from its id, not from storage.
interface INodeRegistry {
    enum Standing {
        NONE, // never registered
        PROBATION, // assignable; fewer than 20 tasks paid and checked
        ACTIVE,
        UNBONDING, // all of the stake is leaving; slashable, not assignable
        JAILED, // slashed; its owner releases it
        EXITED // stake withdrawn; the id is not used again
    }

    /// @param minStake base units a node must bond
    /// @param w0 base units of protocol fee in one seat that move reputation at full weight
    /// @param epochLength seconds; a node beats once in each
    /// @param unbondingPeriod seconds for which leaving stake stays slashable
    /// @param bounty base units for whoever proves equivocation, at most a tenth of what is slashed
    struct Parameters {
        uint96 minStake;
        uint96 w0;
        uint40 epochLength;
        uint40 unbondingPeriod;
        uint96 bounty;
    }

    /// @param reputation thousandths of a point, 0..1,000,000, idle weeks until now included
    /// @param epoch of the last heartbeat (chain time / epochLength)
    /// @param week of the last settled seat that was checked (chain time / 7 days)
    /// @param checkedTasks saturates at 20, which ends probation
    struct Node {
        address owner;
        address operator;
        Standing standing;
        uint24 reputation;
        uint40 epoch;
        uint16 week;
        uint8 checkedTasks;
        uint96 bonded;
        uint96 unbonding;
        uint40 unbondAt;
    }

    event NodeRegistered(
        bytes32 indexed node,
        address indexed owner,
        address operator,
        uint96 stake,
        bytes peerId,
        string addresses
    );
    event NodeAnnounced(bytes32 indexed node, bytes peerId, string addresses);
    event OperatorRotated(bytes32 indexed node, address operator);
    /// @param bonded after the addition
    event StakeAdded(bytes32 indexed node, uint96 added, uint96 bonded);
    /// @param amount all that is unbonding now; a new request restarts the clock for all of it
    event UnbondingStarted(bytes32 indexed node, uint96 amount, uint40 unbondAt);
    event StakeWithdrawn(bytes32 indexed node, address indexed to, uint96 amount);
    event Heartbeat(bytes32 indexed node, uint40 epoch);
    /// @notice The node is jailed and its reputation 0. `amount` = `bounty` + `burned`.
    event NodeSlashed(
        bytes32 indexed node, address indexed submitter, uint96 amount, uint96 bounty, uint96 burned
    );
    /// @notice Its owner took the node out of jail.
    event NodeReleased(bytes32 indexed node, Standing standing);
    /// @notice Every change of standing that none of the events above tells: active, unbonding, exited.
    event NodeStatus(bytes32 indexed node, Standing standing);

    error Forbidden(address caller);
    error BadData();
    error BadStanding(bytes32 node, Standing standing);
    error BadOperator(address recovered);
    error SignatureExpired(uint40 validUntil);
    error StakeTooLow(uint256 stake, uint256 minimum);
    error TooEarly(uint256 time);
    error NoHeartbeat(bytes32 node, uint40 last);
    error AlreadyBeaten(bytes32 node, uint40 epoch);

    function token() external view returns (IERC20);
    function escrow() external view returns (address);
    function unbondingPeriod() external view returns (uint40);
    function epochLength() external view returns (uint40);

    /// @notice New hot key at any time. Seats taken with the old key keep it: the lane records the key that signed.
    /// @param signature of `Operate` by the new operator, so that nobody can claim somebody else's key
    function rotateOperator(bytes32 node, address operator, uint40 validUntil, bytes calldata signature)
        external;

    /// @notice Owner: starts unbonding `amount`: what exceeds the minimum stake, or everything.
    function requestUnstake(bytes32 node, uint96 amount) external;

    /// @notice Owner: takes out everything that is unbonding, once its time is over. Slashable until this call.
    function withdrawStake(bytes32 node, address to) external;

    /// @notice Owner: takes the node out of jail, into probation; needs the minimum stake.
    function unjail(bytes32 node) external;

    /// @notice Operator: publishes where the node listens. An event only.
    function announce(bytes32 node, bytes calldata peerId, string calldata addresses) external;

    /// @notice Operator: once per epoch. A node without a beat in this epoch or the one before gets no seats.
    function heartbeat(bytes32 node) external;

    /// @notice The operator keys of nodes that may take a seat now; reverts when one may not.
    function assignable(bytes32[] calldata nodes) external view returns (address[] memory operators);

    /// @notice Escrow: moves reputation at the end of a task. Never reverts.
    /// @param verdicts four bits each, in the order of `nodes`
    /// @param fee of one seat, base units
    /// @return r per node: R before 24 | R after 24 << 24, thousandths; zero where the record was not read
    function settle(bytes32[] calldata nodes, uint256 verdicts, uint256 fee)
        external
        returns (uint256[] memory r);

    /// @notice Escrow: a fifth of the stake, R = 0, jail. Reverts while jailed already, and after the exit.
    function equivocated(bytes32 node, address submitter) external;

    /// @notice Everything known about a node, decoded.
    function nodeOf(bytes32 node) external view returns (Node memory);
}
