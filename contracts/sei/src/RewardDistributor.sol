// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC1363Receiver} from "@openzeppelin/contracts/interfaces/IERC1363Receiver.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IRewardDistributor} from "./interfaces/IRewardDistributor.sol";

/// @dev The record of `deai/claims.py`. A root's total is never more than what came in, and no more than a root's
/// total is ever paid, so a wrong root can misplace money between accounts but promise none that is not here; the
/// guardian has the delay to notice, by computing the root again from the events of the chain. Tokens leave to the
/// account of a leaf only. The tree has SHA-256 because the other chain has it too: RFC 6962, leaves and nodes told
/// apart. A path needs no place or count: whatever leads to the root from a leaf's hash is in the tree.
contract RewardDistributor is
    IRewardDistributor,
    IERC1363Receiver,
    AccessControlDefaultAdminRules,
    EIP712,
    ReentrancyGuardTransient
{
    using SafeERC20 for IERC20;

    /// @dev 40 + 96 + 96 = 232 bits; never zero again.
    struct Head {
        uint40 epoch;
        uint96 total;
        uint96 paid;
    }

    /// @dev 40 + 96 + 40 = 176 bits; `activeAt` 0 means that nothing waits. Never zero again.
    struct Next {
        uint40 epoch;
        uint96 total;
        uint40 activeAt;
    }

    bytes32 public constant PROPOSER_ROLE = keccak256("PROPOSER_ROLE");
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");
    bytes32 private constant CLAIM = keccak256("Claim(address account,uint96 cumulativeAmount)");
    uint256 private constant MAX_SHARES = 200;
    uint256 private constant MAX_PATH = 64;
    uint256 private constant LAST_REASON = 4;
    uint40 private constant MAX_DELAY = 30 days;

    IERC20 public immutable token;
    /// @inheritdoc IRewardDistributor
    uint40 public immutable delay;
    /// @notice Seconds of an epoch, as the registry counts them.
    uint40 public immutable epochLength;
    Head private _head;
    bytes32 private _root;
    Next private _next;
    bytes32 private _nextRoot;
    mapping(address account => uint96) private _claimed;

    /// @param admin grants roles; hands over in two steps, `adminDelay` seconds apart
    constructor(
        IERC20 token_,
        INodeRegistry registry,
        address admin,
        uint48 adminDelay,
        address proposer,
        address guardian,
        uint40 delay_
    ) AccessControlDefaultAdminRules(adminDelay, admin) EIP712("deai rewards", "1") {
        require(token_.totalSupply() <= type(uint96).max); // no sum of amounts overflows
        require(address(registry.token()) == address(token_));
        require(delay_ != 0 && delay_ <= MAX_DELAY);
        (token, delay, epochLength) = (token_, delay_, registry.epochLength());
        _grantRole(PROPOSER_ROLE, proposer);
        _grantRole(GUARDIAN_ROLE, guardian);
    }

    /// @notice Called by the token's `transferAndCall`. `abi.encode(uint8 reason, uint256[] shares)` divides the
    /// tokens, or a part of them, among accounts; no data leaves them all to nobody, as a plain transfer does.
    function onTransferReceived(address, address from, uint256 value, bytes calldata data)
        external
        returns (bytes4)
    {
        if (msg.sender != address(token)) revert Forbidden(msg.sender);
        if (value == 0 || value > type(uint96).max) revert BadData();
        uint8 reason;
        uint256[] memory shares;
        if (data.length != 0) {
            (reason, shares) = abi.decode(data, (uint8, uint256[]));
            _checkShares(reason, shares, value);
        }
        emit RewardsFunded(from, reason, uint96(value), shares);
        return IERC1363Receiver.onTransferReceived.selector;
    }

    /// @inheritdoc IRewardDistributor
    function propose(uint40 epoch, bytes32 root, uint96 total, bytes32 statement) external {
        if (!hasRole(PROPOSER_ROLE, msg.sender)) revert Forbidden(msg.sender);
        uint256 ends = (uint256(epoch) + 1) * epochLength;
        if (block.timestamp < ends) {
            revert TooEarly(ends > type(uint40).max ? type(uint40).max : uint40(ends));
        }
        Head memory h = _mature();
        uint40 activeAt = _next.activeAt;
        if (activeAt != 0) revert StillWaiting(activeAt);
        if (epoch <= h.epoch) revert BadEpoch(h.epoch);
        if (root == 0 || total < h.total) revert BadData();
        uint256 available = h.paid + token.balanceOf(address(this));
        if (total > available) revert Unfunded(total, available);
        activeAt = uint40(block.timestamp) + delay;
        (_next, _nextRoot) = (Next(epoch, total, activeAt), root);
        emit RewardsProposed(epoch, root, total, statement, activeAt);
    }

    /// @inheritdoc IRewardDistributor
    function cancel(uint40 epoch) external {
        if (!hasRole(GUARDIAN_ROLE, msg.sender)) revert Forbidden(msg.sender);
        Next memory n = _next;
        if (n.activeAt <= block.timestamp || n.epoch != epoch) revert NothingWaits();
        _next.activeAt = 0;
        emit RewardsCancelled(epoch, _nextRoot);
    }

    /// @inheritdoc IRewardDistributor
    function claim(address account, uint96 cumulative, uint256 sides, bytes32[] calldata path)
        external
        nonReentrant
    {
        Head memory h = _mature();
        if (path.length > MAX_PATH || _rootOf(leafOf(account, cumulative), sides, path) != _root) {
            revert BadProof();
        }
        uint96 before = _claimed[account];
        if (cumulative <= before) revert NothingNew(before);
        uint96 amount = cumulative - before;
        if (amount > h.total - h.paid) revert Exhausted(h.total - h.paid);
        _claimed[account] = cumulative;
        _head.paid = h.paid + amount;
        emit RewardsClaimed(account, amount, cumulative);
        token.safeTransfer(account, amount);
    }

    // --- views ------------------------------------------------------------------------------------------------

    /// @inheritdoc IRewardDistributor
    function leafOf(address account, uint96 cumulative) public view returns (bytes32) {
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(CLAIM, account, cumulative)));
        return sha256(abi.encodePacked(hex"00", digest));
    }

    /// @inheritdoc IRewardDistributor
    function roots() external view returns (Active memory active, Waiting memory waiting) {
        (Head memory h, Next memory n) = (_head, _next);
        if (n.activeAt == 0) {
            active = Active(h.epoch, _root, h.total, h.paid);
        } else if (n.activeAt <= block.timestamp) {
            active = Active(n.epoch, _nextRoot, n.total, h.paid);
        } else {
            active = Active(h.epoch, _root, h.total, h.paid);
            waiting = Waiting(n.epoch, _nextRoot, n.total, n.activeAt);
        }
    }

    /// @inheritdoc IRewardDistributor
    function claimedBy(address account) external view returns (uint96) {
        return _claimed[account];
    }

    // --- internals --------------------------------------------------------------------------------------------

    /// @dev The waiting root comes into force once its time has come.
    function _mature() private returns (Head memory h) {
        h = _head;
        Next memory n = _next;
        if (n.activeAt == 0 || n.activeAt > block.timestamp) return h;
        (h.epoch, h.total) = (n.epoch, n.total);
        (_head, _root) = (h, _nextRoot);
        _next.activeAt = 0;
    }

    function _checkShares(uint8 reason, uint256[] memory shares, uint256 value) private pure {
        uint256 n = shares.length;
        if (reason == 0 || reason > LAST_REASON || n == 0 || n > MAX_SHARES) revert BadData();
        uint256 sum;
        for (uint256 i; i < n; ++i) {
            if (shares[i] >> 96 == 0 || uint96(shares[i]) == 0) revert BadData();
            sum += uint96(shares[i]);
        }
        if (sum > value) revert BadData();
    }

    function _rootOf(bytes32 node, uint256 sides, bytes32[] calldata path) private pure returns (bytes32) {
        for (uint256 k; k < path.length; ++k) {
            node = (sides >> k) & 1 == 1
                ? sha256(abi.encodePacked(hex"01", path[k], node))
                : sha256(abi.encodePacked(hex"01", node, path[k]));
        }
        return node;
    }
}
