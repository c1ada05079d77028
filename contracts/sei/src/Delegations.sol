// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1363} from "@openzeppelin/contracts/interfaces/IERC1363.sol";
import {IERC1363Receiver} from "@openzeppelin/contracts/interfaces/IERC1363Receiver.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {NodeOwner} from "./NodeOwner.sol";
import {NodeRegistry} from "./NodeRegistry.sol";
import {OrderSettlement} from "./OrderSettlement.sol";
import {IDelegations} from "./interfaces/IDelegations.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {PoolMath} from "./lib/PoolMath.sol";

/// @dev The rules of `deai/pools.py`. Nothing here calls anybody but the token and the contracts that the constructor
/// names, and a pool's tokens lie with its own owner account: no pool can pay out what another holds.
///
///     assets + leaving = stake bonded + stake unbonding + tokens held - tokens held for batches that were paid
///
/// One slash at most lies between two looks at the registry: after it a node is in jail, and only this contract lets it
/// out. Every amount is a part of the supply, which the constructor bounds by 2^96 - 1; no sum of them overflows.
/// Longer than other modules because all that moves a pool's assets is here.
contract Delegations is IDelegations, IERC1363Receiver, ReentrancyGuardTransient {
    using SafeERC20 for IERC1363;

    /// @dev Five slots, none of which becomes zero while the pool is open: a slot that returned to zero would be bought
    /// again, for 72,000 gas on Sei.
    /// @param bonded, unbonding the node's stake as the registry last showed it, and as it was changed from here since
    /// @param held tokens of the owner account that were income once, or stake
    struct Book {
        address manager;
        uint16 commission;
        uint16 nextCommission;
        uint40 nextCommissionEpoch;
        State state;
        uint96 assets;
        uint96 leaving;
        uint112 shares;
        uint112 leavingShares;
        uint112 queued;
        uint96 bonded;
        uint40 maturesAt;
        uint96 unbonding;
        uint96 held;
        uint32 batch;
    }

    /// @dev One slot.
    struct Lent {
        uint112 shares;
        uint112 queued;
        uint32 queuedBatch;
    }

    /// @dev A batch that was paid, less what was claimed of it.
    struct Batch {
        uint112 shares;
        uint96 amount;
    }

    /// @notice Hundredths of a percent of income.
    uint16 public constant MAX_COMMISSION = 2000;
    /// @notice Times the manager's own part that others may lend.
    uint256 public constant LEVERAGE = 9;
    uint256 private constant OPENS = 1;
    uint256 private constant DELEGATES = 2;
    uint256 private constant EPOCHS_AHEAD = 2;
    /// @dev Fewer would lose more than a millionth to rounding. Donations can make a share that dear.
    uint256 private constant MIN_MINTED = 1e6;
    /// @dev Stays with an owner account for good: a balance that touches zero is bought again.
    uint256 private constant KEEPSAKE = 1;

    IERC1363 public immutable token;
    INodeRegistry public immutable registry;
    OrderSettlement public immutable orders;
    /// @inheritdoc IDelegations
    uint96 public immutable minDelegation;
    address private immutable _escrow;
    address private immutable _template;
    uint96 private immutable _minStake;
    uint96 private immutable _bounty;
    uint40 private immutable _epochLength;
    uint40 private immutable _unbondingPeriod;
    mapping(bytes32 node => Book) private _books;
    mapping(bytes32 node => mapping(address account => Lent)) private _lent;
    mapping(bytes32 node => mapping(uint32 batch => Batch)) private _batches;

    /// @param orders_ 0 where there are no signed orders
    constructor(IERC1363 token_, NodeRegistry registry_, OrderSettlement orders_, uint96 minDelegation_) {
        require(token_.totalSupply() <= type(uint96).max);
        require(address(registry_.token()) == address(token_));
        require(address(orders_) == address(0) || address(orders_.registry()) == address(registry_));
        INodeRegistry.Parameters memory p = registry_.parameters();
        require(minDelegation_ != 0 && minDelegation_ <= p.minStake);
        (token, registry, orders) = (token_, registry_, orders_);
        (minDelegation, _escrow, _template) = (minDelegation_, registry_.escrow(), address(new NodeOwner()));
        (_minStake, _bounty) = (p.minStake, p.bounty);
        (_epochLength, _unbondingPeriod) = (p.epochLength, p.unbondingPeriod);
    }

    /// @notice The only way in; see `IDelegations`.
    function onTransferReceived(address sender, address from, uint256 value, bytes calldata data)
        external
        nonReentrant
        returns (bytes4)
    {
        if (msg.sender != address(token)) revert Forbidden(msg.sender);
        if (Pausable(address(registry)).paused()) revert IsPaused();
        if (value > type(uint96).max || data.length < 64) revert BadData();
        uint256 verb = uint256(bytes32(data[:32]));
        if (verb == DELEGATES) {
            _delegate(from, uint96(value), bytes32(data[32:64]));
        } else {
            if (verb != OPENS) revert BadData();
            if (sender != from) revert Forbidden(sender); // an allowance is no consent to run a node
            _open(from, uint96(value), data);
        }
        return IERC1363Receiver.onTransferReceived.selector;
    }

    /// @inheritdoc IDelegations
    function advance(bytes32 node) external nonReentrant {
        Book memory p = _book(node);
        _advance(node, p);
        _books[node] = p;
    }

    /// @inheritdoc IDelegations
    function undelegate(bytes32 node, uint128 shares) external nonReentrant {
        Book memory p = _book(node);
        _advance(node, p);
        _pay(node, p, msg.sender);
        if (p.state != State.OPEN) revert BadState(node, p.state);
        Lent memory l = _lent[node][msg.sender];
        if (shares == 0) revert BadData();
        if (shares > l.shares) revert Insufficient(l.shares, shares);
        if (l.queued != 0 && l.queuedBatch != p.batch) revert StillLeaving(l.queuedBatch);
        l.shares -= uint112(shares);
        (l.queued, l.queuedBatch) = (l.queued + uint112(shares), p.batch);
        p.queued += uint112(shares);
        if (msg.sender == p.manager) {
            _checkOwnPart(p, l.shares);
            _checkLeverage(p, l.shares);
        }
        _lent[node][msg.sender] = l;
        emit UndelegationRequested(node, msg.sender, shares, p.batch);
        _begin(node, p);
        _books[node] = p;
    }

    /// @inheritdoc IDelegations
    function claim(bytes32 node, address account) external nonReentrant {
        Book memory p = _book(node);
        _advance(node, p);
        if (!_pay(node, p, account)) revert NothingToClaim(account);
        _books[node] = p;
    }

    // --- the manager ------------------------------------------------------------------------------------------

    /// @inheritdoc IDelegations
    function announceCommission(bytes32 node, uint16 commission) external nonReentrant {
        Book memory p = _managed(node);
        if (commission > MAX_COMMISSION) revert CommissionTooHigh(commission);
        _advance(node, p);
        if (p.state != State.OPEN) revert BadState(node, p.state);
        (p.nextCommission, p.nextCommissionEpoch) = (commission, uint40(_epoch() + EPOCHS_AHEAD));
        _books[node] = p;
        emit CommissionAnnounced(node, commission, p.nextCommissionEpoch);
    }

    /// @inheritdoc IDelegations
    function close(bytes32 node) external nonReentrant {
        Book memory p = _managed(node);
        _advance(node, p);
        if (p.state != State.OPEN) revert BadState(node, p.state);
        _shut(node, p);
        _begin(node, p);
        _books[node] = p;
    }

    /// @inheritdoc IDelegations
    function rotateOperator(bytes32 node, address operator, uint40 validUntil, bytes calldata signature)
        external
        nonReentrant
    {
        _managed(node);
        _run(
            node,
            address(registry),
            abi.encodeCall(registry.rotateOperator, (node, operator, validUntil, signature))
        );
    }

    /// @inheritdoc IDelegations
    function unjail(bytes32 node) external nonReentrant {
        Book memory p = _managed(node);
        _advance(node, p);
        if (p.state != State.OPEN) revert BadState(node, p.state);
        _checkOwnPart(p, _lent[node][p.manager].shares);
        _books[node] = p;
        _run(node, address(registry), abi.encodeCall(registry.unjail, (node)));
    }

    // --- views ------------------------------------------------------------------------------------------------

    /// @inheritdoc IDelegations
    function ownerOf(address manager, uint96 index) public view returns (address) {
        return Clones.predictDeterministicAddress(_template, _salt(manager, index));
    }

    /// @inheritdoc IDelegations
    function poolOf(bytes32 node) external view returns (Pool memory) {
        Book memory p = _books[node];
        _ripen(p);
        return Pool(
            p.manager,
            p.commission,
            p.nextCommission,
            p.nextCommissionEpoch,
            p.state,
            p.batch,
            p.maturesAt,
            p.assets,
            p.leaving,
            p.unbonding,
            p.shares,
            _lent[node][p.manager].shares,
            p.queued,
            p.leavingShares
        );
    }

    /// @inheritdoc IDelegations
    function delegationOf(bytes32 node, address account) external view returns (Delegation memory d) {
        Book memory p = _books[node];
        Lent memory l = _lent[node][account];
        if (_unqueued(p, l)) (l.shares, l.queued) = (l.shares + l.queued, 0);
        (d.shares, d.queued, d.queuedBatch) = (l.shares, l.queued, l.queued == 0 ? 0 : l.queuedBatch);
        if (_matured(p, l)) {
            Batch memory b = _batches[node][l.queuedBatch];
            d.claimable = uint96(PoolMath.worth(l.queued, b.shares, b.amount));
        }
        if (p.state == State.CLOSED) d.claimable += uint96(PoolMath.worth(l.shares, p.shares, p.assets));
    }

    // --- coming in --------------------------------------------------------------------------------------------

    function _open(address manager, uint96 stake, bytes calldata data) private {
        if (data.length < 96) revert BadData();
        (, uint96 index, uint16 commission) = abi.decode(data[:96], (uint8, uint96, uint16));
        if (commission > MAX_COMMISSION) revert CommissionTooHigh(commission);
        bytes32 node = _nodeOf(ownerOf(manager, index));
        Book memory p = _books[node];
        if (p.state != State.NONE) revert BadState(node, p.state);
        (p.manager, p.commission, p.state, p.batch) = (manager, commission, State.OPEN, 1);
        (p.assets, p.shares, p.bonded) = (stake, stake, stake);
        _books[node] = p;
        _lent[node][manager].shares = stake;
        emit PoolOpened(node, manager, index, commission, stake);
        token.safeTransfer(Clones.cloneDeterministic(_template, _salt(manager, index)), stake);
        _handOver(node, stake, _registration(data));
    }

    function _registration(bytes calldata data) private pure returns (bytes memory) {
        (
            ,,,
            address operator,
            uint40 validUntil,
            bytes memory signature,
            bytes memory peerId,
            string memory addresses
        ) = abi.decode(data, (uint8, uint96, uint16, address, uint40, bytes, bytes, string));
        return abi.encode(uint96(0), operator, validUntil, signature, peerId, addresses);
    }

    function _delegate(address account, uint96 amount, bytes32 node) private {
        Book memory p = _book(node);
        INodeRegistry.Standing standing = _advance(node, p);
        if (p.state != State.OPEN) revert BadState(node, p.state);
        if (standing == INodeRegistry.Standing.JAILED && account != p.manager) revert Jailed(node);
        if (amount < minDelegation) revert TooSmall(amount, minDelegation);
        uint256 shares = PoolMath.minted(amount, p.shares, p.assets);
        if (shares < MIN_MINTED) revert TooSmall(shares, MIN_MINTED);
        if (shares > PoolMath.MAX_SHARES - p.shares) revert BadData();
        (p.shares, p.assets, p.bonded) = (p.shares + uint112(shares), p.assets + amount, p.bonded + amount);
        _lent[node][account].shares += uint112(shares);
        if (account != p.manager) _checkLeverage(p, _lent[node][p.manager].shares);
        _books[node] = p;
        emit Delegated(node, account, amount, uint128(shares));
        token.transferAndCallRelaxed(address(registry), amount, abi.encode(node));
    }

    // --- what `advance` does ----------------------------------------------------------------------------------

    /// @dev Changes `p`, as all below do; the caller writes it. Must not revert for any state of the node.
    function _advance(bytes32 node, Book memory p) private returns (INodeRegistry.Standing) {
        INodeRegistry.Node memory n = registry.nodeOf(node);
        _ripen(p);
        uint96 given = _compare(node, p, n);
        _harvest(node, p, given);
        _mature(node, p);
        _begin(node, p);
        return n.standing;
    }

    /// @dev Recognises a slash. Anybody may add to a node's stake: what was `given` is income.
    function _compare(bytes32 node, Book memory p, INodeRegistry.Node memory n)
        private
        returns (uint96 given)
    {
        uint96 taken;
        if (n.unbonding < p.unbonding) (taken, p.unbonding) = (p.unbonding - n.unbonding, n.unbonding);
        if (n.bonded < p.bonded) (taken, p.bonded) = (taken + p.bonded - n.bonded, n.bonded);
        if (taken != 0) _slash(node, p, taken);
        // Once everything unbonds, more stake could not follow: whoever adds it to a node in jail has given it away.
        if (n.bonded > p.bonded && (p.state == State.OPEN || p.leavingShares != 0)) {
            (given, p.bonded) = (n.bonded - p.bonded, n.bonded);
        }
    }

    function _slash(bytes32 node, Book memory p, uint96 taken) private {
        Lent storage own = _lent[node][p.manager];
        PoolMath.Slash memory s = PoolMath.slash(taken, _bounty, p.assets, p.leaving, p.shares, own.shares);
        p.leaving -= uint96(s.lost);
        p.assets -= uint96(taken - s.lost);
        p.shares -= uint112(s.burnt);
        own.shares -= uint112(s.burnt);
        emit PoolSlashed(node, taken, uint96(s.bounty), uint128(s.burnt));
    }

    /// @dev Vault, orders, and whatever was paid to the owner account.
    function _harvest(bytes32 node, Book memory p, uint96 given) private {
        address owner = _ownerOf(node);
        uint96 earned = IVault(_escrow).accountOf(owner).balance;
        if (earned != 0) _run(node, _escrow, abi.encodeCall(IVault.withdraw, (owner, earned)));
        if (address(orders) != address(0) && orders.payeeOf(owner).earned != 0) orders.collect(owner);
        uint256 balance = token.balanceOf(owner);
        uint96 came = balance > p.held + KEEPSAKE ? uint96(balance - p.held - KEEPSAKE) : 0;
        uint96 income = came + given;
        if (income == 0) return;
        if (p.shares == 0) {
            emit IncomeShared(node, income, income, 0);
            return _send(node, p.manager, came);
        }
        (uint256 kept, uint256 bought) = PoolMath.commission(income, p.commission, p.shares, p.assets);
        (p.assets, p.shares) = (p.assets + income, p.shares + uint112(bought));
        if (bought != 0) _lent[node][p.manager].shares += uint112(bought);
        emit IncomeShared(node, income, uint96(kept), uint128(bought));
        p.held += came;
        _stake(node, p, came);
    }

    /// @dev Pays the batch that unbonds, or ends the pool.
    function _mature(bytes32 node, Book memory p) private {
        if (p.maturesAt == 0 || block.timestamp <= p.maturesAt) return;
        uint96 back = p.unbonding;
        (p.maturesAt, p.unbonding, p.held) = (0, 0, p.held + back);
        if (back != 0) {
            _run(node, address(registry), abi.encodeCall(registry.withdrawStake, (node, _ownerOf(node))));
        }
        if (p.leavingShares == 0) return _end(node, p);
        // Less came back if somebody hid a part of a slash by adding to the stake.
        uint96 paid = p.leaving < back ? p.leaving : back;
        uint32 number = p.batch - 1;
        _batches[node][number] = Batch(p.leavingShares, paid);
        p.assets += p.leaving - paid;
        (p.leaving, p.leavingShares) = (0, 0);
        emit BatchMatured(node, number, paid);
        _stake(node, p, back - paid);
    }

    /// @dev Starts to unbond the next batch, or everything.
    function _begin(bytes32 node, Book memory p) private {
        if (p.maturesAt != 0) return;
        if (p.state == State.OPEN && p.queued != 0) {
            uint96 amount = uint96(PoolMath.worth(p.queued, p.shares, p.assets));
            if (uint256(amount) + _minStake <= p.bonded) return _startBatch(node, p, amount);
            _shut(node, p);
        }
        if (p.state != State.CLOSING) return;
        uint96 all = p.bonded;
        if (all == 0) return _end(node, p);
        p.bonded = 0;
        _unbond(node, p, all);
        emit BatchStarted(node, 0, p.shares, p.assets, p.maturesAt);
    }

    function _startBatch(bytes32 node, Book memory p, uint96 amount) private {
        uint112 shares = p.queued;
        uint32 number = p.batch++;
        (p.queued, p.shares, p.assets) = (0, p.shares - shares, p.assets - amount);
        if (amount == 0) {
            // Worth less than one unit: nothing to wait for.
            _batches[node][number] = Batch(shares, 0);
            emit BatchStarted(node, number, shares, 0, uint40(block.timestamp));
            emit BatchMatured(node, number, 0);
            return;
        }
        (p.leaving, p.leavingShares, p.bonded) = (amount, shares, p.bonded - amount);
        _unbond(node, p, amount);
        emit BatchStarted(node, number, shares, amount, p.maturesAt);
    }

    function _unbond(bytes32 node, Book memory p, uint96 amount) private {
        (p.unbonding, p.maturesAt) = (amount, uint40(block.timestamp) + _unbondingPeriod);
        _run(node, address(registry), abi.encodeCall(registry.requestUnstake, (node, amount)));
    }

    /// @dev Shares that wait go the way of all others then.
    function _shut(bytes32 node, Book memory p) private {
        (p.state, p.queued) = (State.CLOSING, 0);
        Lent storage own = _lent[node][p.manager];
        if (own.queued != 0 && own.queuedBatch == p.batch) {
            (own.shares, own.queued) = (own.shares + own.queued, 0);
        }
        emit PoolClosed(node);
    }

    function _end(bytes32 node, Book memory p) private {
        p.state = State.CLOSED;
        emit BatchMatured(node, 0, p.assets);
    }

    // --- going out --------------------------------------------------------------------------------------------

    /// @dev Whether there was anything, be it worth nothing.
    function _pay(bytes32 node, Book memory p, address account) private returns (bool any) {
        Lent memory l = _lent[node][account];
        uint96 sum;
        if (_unqueued(p, l)) (l.shares, l.queued) = (l.shares + l.queued, 0);
        if (_matured(p, l)) {
            Batch memory b = _batches[node][l.queuedBatch];
            sum = uint96(PoolMath.worth(l.queued, b.shares, b.amount));
            _batches[node][l.queuedBatch] = Batch(b.shares - l.queued, b.amount - sum);
            emit UndelegationPaid(node, account, l.queuedBatch, sum);
            (l.queued, any) = (0, true);
        }
        if (p.state == State.CLOSED && l.shares != 0) {
            uint96 part = uint96(PoolMath.worth(l.shares, p.shares, p.assets));
            (p.shares, p.assets) = (p.shares - l.shares, p.assets - part);
            emit UndelegationPaid(node, account, 0, part);
            (l.shares, sum, any) = (0, sum + part, true);
        }
        if (!any) return false;
        _lent[node][account] = l;
        p.held -= sum;
        _send(node, account, sum);
    }

    // --- the owner account ------------------------------------------------------------------------------------

    /// @dev Held tokens become stake, while the pool is open.
    function _stake(bytes32 node, Book memory p, uint96 amount) private {
        if (amount == 0 || p.state != State.OPEN) return;
        (p.held, p.bonded) = (p.held - amount, p.bonded + amount);
        _handOver(node, amount, abi.encode(node));
    }

    function _handOver(bytes32 node, uint96 amount, bytes memory data) private {
        bytes4 selector = bytes4(keccak256("transferAndCall(address,uint256,bytes)"));
        _run(node, address(token), abi.encodeWithSelector(selector, registry, amount, data));
    }

    function _send(bytes32 node, address to, uint96 amount) private {
        if (amount != 0) _run(node, address(token), abi.encodeCall(token.transfer, (to, amount)));
    }

    function _run(bytes32 node, address target, bytes memory data) private {
        NodeOwner(_ownerOf(node)).run(target, data);
    }

    // --- checks and reading -----------------------------------------------------------------------------------

    function _checkOwnPart(Book memory p, uint112 own) private view {
        uint256 amount = PoolMath.worth(own, p.shares, p.assets);
        if (amount < _minStake) revert OwnPartTooLow(amount, _minStake);
    }

    function _checkLeverage(Book memory p, uint112 own) private pure {
        uint256 most = (LEVERAGE + 1) * own;
        if (p.shares - p.queued > most) revert Overleveraged(p.shares - p.queued, most);
    }

    /// @dev What was announced comes into force.
    function _ripen(Book memory p) private view {
        if (p.nextCommissionEpoch == 0 || _epoch() < p.nextCommissionEpoch) return;
        (p.commission, p.nextCommission, p.nextCommissionEpoch) = (p.nextCommission, 0, 0);
    }

    function _managed(bytes32 node) private view returns (Book memory p) {
        p = _book(node);
        if (msg.sender != p.manager) revert Forbidden(msg.sender);
    }

    function _book(bytes32 node) private view returns (Book memory p) {
        p = _books[node];
        if (p.state == State.NONE) revert BadState(node, State.NONE);
    }

    /// @dev The batch that they wait for never starts.
    function _unqueued(Book memory p, Lent memory l) private pure returns (bool) {
        return p.state != State.OPEN && l.queued != 0 && l.queuedBatch == p.batch;
    }

    function _matured(Book memory p, Lent memory l) private pure returns (bool) {
        if (l.queued == 0 || l.queuedBatch == p.batch) return false;
        return p.leavingShares == 0 || l.queuedBatch + 1 != p.batch;
    }

    function _epoch() private view returns (uint256) {
        return block.timestamp / _epochLength;
    }

    function _salt(address manager, uint96 index) private pure returns (bytes32) {
        return keccak256(abi.encode(manager, index));
    }

    function _nodeOf(address owner) private pure returns (bytes32) {
        return bytes32(uint256(uint160(owner)) << 96);
    }

    function _ownerOf(bytes32 node) private pure returns (address) {
        return address(uint160(uint256(node) >> 96));
    }
}
