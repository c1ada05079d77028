// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC1363Receiver} from "@openzeppelin/contracts/interfaces/IERC1363Receiver.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {INodeRegistry, Verdict} from "./interfaces/INodeRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {Reputation} from "./lib/Reputation.sol";

/// @dev A task touches one slot per node (`Hot`); stake lives in a second slot that the hot path never reads.
/// Longer than other modules because each verb of a node's standing is here.
contract NodeRegistry is
    INodeRegistry,
    IERC1363Receiver,
    AccessControlDefaultAdminRules,
    EIP712,
    Pausable,
    ReentrancyGuardTransient
{
    using SafeERC20 for IERC20;

    /// @dev 160 + 24 + 40 + 16 + 8 + 8 = 256 bits.
    struct Hot {
        address operator;
        uint24 reputation;
        uint40 epoch;
        uint16 week;
        uint8 checkedTasks;
        Standing standing;
    }

    /// @dev 96 + 96 + 40 = 232 bits.
    struct Stake {
        uint96 bonded;
        uint96 unbonding;
        uint40 unbondAt;
    }

    /// @notice May stop deposits, registrations, posts and first assignments, and allow them again; nothing else.
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");
    bytes32 private constant OPERATE = keccak256("Operate(bytes32 node,address operator,uint40 validUntil)");
    uint8 private constant PROBATION_TASKS = 20;
    uint256 private constant MAX_PEER_ID = 64; // bytes
    uint256 private constant MAX_ADDRESSES = 1024;

    IERC20 public immutable token;
    address public immutable escrow;
    uint96 public immutable minStake;
    uint96 public immutable w0;
    uint40 public immutable epochLength;
    uint40 public immutable unbondingPeriod;
    uint96 public immutable bounty;
    mapping(bytes32 node => Hot) private _hot;
    mapping(bytes32 node => Stake) private _stake;

    /// @param escrow_ the TaskEscrow, predicted before it exists: an immutable costs no storage read
    /// @param admin grants roles; hands over in two steps, `adminDelay` seconds apart
    constructor(
        IERC20 token_,
        address escrow_,
        address admin,
        uint48 adminDelay,
        address guardian,
        Parameters memory p
    ) AccessControlDefaultAdminRules(adminDelay, admin) EIP712("deai registry", "1") {
        require(p.w0 != 0 && p.epochLength != 0 && p.unbondingPeriod != 0); // `settle` divides by w0
        // The bounty is at most a tenth of the fifth that the smallest sound node loses.
        require(p.minStake != 0 && uint256(p.bounty) * 50 <= p.minStake);
        (token, escrow) = (token_, escrow_);
        (minStake, w0, bounty) = (p.minStake, p.w0, p.bounty);
        (epochLength, unbondingPeriod) = (p.epochLength, p.unbondingPeriod);
        _grantRole(GUARDIAN_ROLE, guardian);
    }

    modifier onlyOwnerOf(bytes32 node) {
        if (msg.sender != _ownerOf(node)) revert Forbidden(msg.sender);
        _;
    }

    modifier onlyEscrow() {
        if (msg.sender != escrow) revert Forbidden(msg.sender);
        _;
    }

    // --- stake ------------------------------------------------------------------------------------------------

    /// @notice Called by the token's `transferAndCall`. `abi.encode(bytes32 node)` adds the tokens to its stake;
    /// `abi.encode(uint96 index, address operator, uint40 validUntil, bytes operatorSig, bytes peerId, string addresses)`
    /// registers node `index` of the payer with them.
    function onTransferReceived(address sender, address from, uint256 value, bytes calldata data)
        external
        nonReentrant
        returns (bytes4)
    {
        if (msg.sender != address(token)) revert Forbidden(msg.sender);
        if (value > type(uint96).max) revert BadData();
        if (data.length == 32) _addStake(abi.decode(data, (bytes32)), uint96(value));
        else if (sender != from) revert Forbidden(sender); // an allowance is no consent to own a node
        else _register(from, uint96(value), data);
        return IERC1363Receiver.onTransferReceived.selector;
    }

    /// @inheritdoc INodeRegistry
    function requestUnstake(bytes32 node, uint96 amount) external onlyOwnerOf(node) {
        Hot storage h = _hot[node];
        Standing standing = h.standing;
        if (!_staking(standing)) revert BadStanding(node, standing);
        Stake memory s = _stake[node];
        if (amount == 0 || amount > s.bonded) revert BadData();
        s.bonded -= amount;
        if (s.bonded != 0 && s.bonded < minStake) revert StakeTooLow(s.bonded, minStake);
        s.unbonding += amount;
        s.unbondAt = uint40(block.timestamp) + unbondingPeriod;
        _stake[node] = s;
        emit UnbondingStarted(node, s.unbonding, s.unbondAt);
        if (s.bonded == 0) {
            h.standing = Standing.UNBONDING;
            emit NodeStatus(node, Standing.UNBONDING);
        }
    }

    /// @inheritdoc INodeRegistry
    function withdrawStake(bytes32 node, address to) external onlyOwnerOf(node) nonReentrant {
        Stake memory s = _stake[node];
        if (block.timestamp <= s.unbondAt) revert TooEarly(s.unbondAt);
        uint96 amount = s.unbonding;
        if (amount == 0) revert BadData();
        s.unbonding = 0;
        _stake[node] = s;
        emit StakeWithdrawn(node, to, amount);
        if (_hot[node].standing == Standing.UNBONDING) {
            _hot[node].standing = Standing.EXITED;
            emit NodeStatus(node, Standing.EXITED);
        }
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc INodeRegistry
    function unjail(bytes32 node) external onlyOwnerOf(node) {
        Hot storage h = _hot[node];
        if (h.standing != Standing.JAILED) revert BadStanding(node, h.standing);
        if (_stake[node].bonded < minStake) revert StakeTooLow(_stake[node].bonded, minStake);
        (h.standing, h.checkedTasks) = (Standing.PROBATION, 0);
        emit NodeReleased(node, Standing.PROBATION);
    }

    // --- keys and beats ---------------------------------------------------------------------------------------

    /// @inheritdoc INodeRegistry
    function rotateOperator(bytes32 node, address operator, uint40 validUntil, bytes calldata signature)
        external
        onlyOwnerOf(node)
    {
        Standing standing = _hot[node].standing;
        if (standing == Standing.NONE || standing == Standing.EXITED) revert BadStanding(node, standing);
        _checkOperator(node, operator, validUntil, signature);
        _hot[node].operator = operator;
        emit OperatorRotated(node, operator);
    }

    /// @inheritdoc INodeRegistry
    function announce(bytes32 node, bytes calldata peerId, string calldata addresses) external {
        if (msg.sender != _hot[node].operator) revert Forbidden(msg.sender);
        _checkContact(peerId, addresses);
        emit NodeAnnounced(node, peerId, addresses);
    }

    /// @inheritdoc INodeRegistry
    function heartbeat(bytes32 node) external {
        Hot storage h = _hot[node];
        if (msg.sender != h.operator) revert Forbidden(msg.sender);
        uint40 epoch = _epoch();
        if (h.epoch == epoch) revert AlreadyBeaten(node, epoch);
        h.epoch = epoch;
        emit Heartbeat(node, epoch);
    }

    // --- escrow -----------------------------------------------------------------------------------------------

    /// @inheritdoc INodeRegistry
    function assignable(bytes32[] calldata nodes) external view returns (address[] memory operators) {
        operators = new address[](nodes.length);
        uint256 epoch = _epoch();
        for (uint256 i; i < nodes.length; ++i) {
            Hot memory h = _hot[nodes[i]];
            if (h.standing != Standing.PROBATION && h.standing != Standing.ACTIVE) {
                revert BadStanding(nodes[i], h.standing);
            }
            if (uint256(h.epoch) + 1 < epoch) revert NoHeartbeat(nodes[i], h.epoch);
            operators[i] = h.operator;
        }
    }

    /// @inheritdoc INodeRegistry
    /// @dev Must not revert for any stored state: a task's money waits for it.
    function settle(bytes32[] calldata nodes, uint256 verdicts, uint256 fee)
        external
        onlyEscrow
        returns (uint256[] memory r)
    {
        uint256 n = nodes.length;
        r = new uint256[](n);
        uint256 week = _week();
        for (uint256 i; i < n; ++i) {
            uint256 v = (verdicts >> (4 * i)) & 15;
            if (v == Verdict.NONE || v > Verdict.SILENT) continue;
            r[i] = _move(nodes[i], v, fee, week);
        }
    }

    /// @inheritdoc INodeRegistry
    function equivocated(bytes32 node, address submitter) external onlyEscrow {
        Hot storage h = _hot[node];
        Standing standing = h.standing;
        if (standing == Standing.JAILED || standing == Standing.EXITED) revert BadStanding(node, standing);
        Stake memory s = _stake[node];
        (uint256 amount, uint256 fromBonded, uint256 reward) = Reputation.slash(s.bonded, s.unbonding, bounty);
        s.bonded -= uint96(fromBonded);
        s.unbonding -= uint96(amount - fromBonded);
        _stake[node] = s;
        (h.standing, h.reputation) = (Standing.JAILED, 0);
        emit NodeSlashed(node, submitter, uint96(amount), uint96(reward), uint96(amount - reward));
        token.safeTransfer(submitter, reward);
        ERC20Burnable(address(token)).burn(amount - reward);
    }

    // --- roles ------------------------------------------------------------------------------------------------

    /// @notice Guardian: stops deposits, registrations, posts and first assignments. Money in flight goes on.
    function pause() external onlyRole(GUARDIAN_ROLE) {
        _pause();
        IVault(escrow).setPaused(true);
    }

    /// @notice Guardian: allows them again.
    function unpause() external onlyRole(GUARDIAN_ROLE) {
        _unpause();
        IVault(escrow).setPaused(false);
    }

    // --- views ------------------------------------------------------------------------------------------------

    /// @inheritdoc INodeRegistry
    function nodeOf(bytes32 node) external view returns (Node memory) {
        Hot memory h = _hot[node];
        Stake memory s = _stake[node];
        uint24 r = uint24(Reputation.idle(h.reputation, h.week, _week()));
        return Node(
            _ownerOf(node),
            h.operator,
            h.standing,
            r,
            h.epoch,
            h.week,
            h.checkedTasks,
            s.bonded,
            s.unbonding,
            s.unbondAt
        );
    }

    function parameters() external view returns (Parameters memory) {
        return Parameters(minStake, w0, epochLength, unbondingPeriod, bounty);
    }

    function supportsInterface(bytes4 id) public view override returns (bool) {
        return id == type(IERC1363Receiver).interfaceId || super.supportsInterface(id);
    }

    // --- internals --------------------------------------------------------------------------------------------

    function _register(address owner, uint96 stake, bytes calldata data) private whenNotPaused {
        (
            uint96 index,
            address operator,
            uint40 validUntil,
            bytes memory signature,
            bytes memory peerId,
            string memory addresses
        ) = abi.decode(data, (uint96, address, uint40, bytes, bytes, string));
        if (stake < minStake) revert StakeTooLow(stake, minStake);
        bytes32 node = bytes32((uint256(uint160(owner)) << 96) | index);
        if (_hot[node].standing != Standing.NONE) revert BadStanding(node, _hot[node].standing);
        _checkOperator(node, operator, validUntil, signature);
        _checkContact(peerId, addresses);
        _hot[node] = Hot(operator, uint24(Reputation.START), _epoch(), uint16(_week()), 0, Standing.PROBATION);
        _stake[node].bonded = stake;
        emit NodeRegistered(node, owner, operator, stake, peerId, addresses);
        IVault(escrow).openAccount(owner);
    }

    function _addStake(bytes32 node, uint96 amount) private {
        Standing standing = _hot[node].standing;
        if (!_staking(standing)) revert BadStanding(node, standing);
        uint96 bonded = _stake[node].bonded + amount;
        _stake[node].bonded = bonded;
        emit StakeAdded(node, amount, bonded);
    }

    /// @dev Returns R before | R after << 24.
    function _move(bytes32 node, uint256 verdict, uint256 fee, uint256 week) private returns (uint256) {
        Hot memory h = _hot[node];
        uint256 before = Reputation.idle(h.reputation, h.week, week);
        if (verdict == Verdict.UNCHECKED) return before | (before << 24);
        uint256 after_;
        if (verdict == Verdict.SILENT) {
            after_ = Reputation.silent(before);
        } else {
            uint256 w = Reputation.weight(fee, before, w0);
            after_ = verdict == Verdict.PAID ? Reputation.paid(before, w, w0) : Reputation.lost(before, w, w0);
        }
        if (verdict == Verdict.PAID && h.checkedTasks < PROBATION_TASKS) {
            if (++h.checkedTasks == PROBATION_TASKS && h.standing == Standing.PROBATION) {
                h.standing = Standing.ACTIVE;
                emit NodeStatus(node, Standing.ACTIVE);
            }
        }
        (h.reputation, h.week) = (uint24(after_), uint16(week));
        _hot[node] = h;
        return before | (after_ << 24);
    }

    function _checkOperator(bytes32 node, address operator, uint40 validUntil, bytes memory signature)
        private
        view
    {
        if (block.timestamp > validUntil) revert SignatureExpired(validUntil);
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(OPERATE, node, operator, validUntil)));
        if (signature.length != 64) revert BadData(); // EIP-2098, like every signature here
        (bytes32 r, bytes32 vs) = abi.decode(signature, (bytes32, bytes32));
        (address signer,,) = ECDSA.tryRecover(digest, r, vs);
        if (signer != operator || signer == address(0)) revert BadOperator(signer);
    }

    function _checkContact(bytes memory peerId, string memory addresses) private pure {
        if (peerId.length == 0 || peerId.length > MAX_PEER_ID || bytes(addresses).length > MAX_ADDRESSES) {
            revert BadData();
        }
    }

    function _staking(Standing standing) private pure returns (bool) {
        return standing == Standing.PROBATION || standing == Standing.ACTIVE || standing == Standing.JAILED;
    }

    function _ownerOf(bytes32 node) private pure returns (address) {
        return address(uint160(uint256(node) >> 96));
    }

    function _epoch() private view returns (uint40) {
        return uint40(block.timestamp / epochLength);
    }

    function _week() private view returns (uint256) {
        return block.timestamp / 7 days;
    }
}
