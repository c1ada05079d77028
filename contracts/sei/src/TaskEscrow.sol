// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {INodeRegistry, Verdict} from "./interfaces/INodeRegistry.sol";
import {
    Accept,
    Approval,
    Commitment,
    ITaskEscrow,
    Opening,
    Result,
    Seat,
    Task
} from "./interfaces/ITaskEscrow.sol";
import {Judge, Tally} from "./lib/Judge.sol";
import {Reputation} from "./lib/Reputation.sol";
import {TaskHash} from "./lib/TaskHash.sol";
import {Vault} from "./Vault.sol";

/// @dev A lane is reused for every task of its number and its words never return to zero; `post` buys them all, so
/// that no node pays for a slot.
///
///   key       hash(task id, committee) 224 | window lead 24 | nonce 8     post, assign, reassign; the last commit
///   acc       chain of commitments 208 | nonce 32 | committed seats 16    the only word other commits write
///   state     last closed nonce, accrued fees, masks                      once per task, when it ends
///   approvals 15 masks of 15 bits | nonce 31                              tolerance policies, only if not finalised
///
/// The nonce stamps make resets unnecessary: a commit that finds another nonce in `acc` starts a new chain, and the
/// lane is busy exactly while `key` carries the nonce after `state.closed`. `commit` needs no look at `state`: no
/// task ends while one of its seats could still commit. The window lead is how long before the commit deadline the
/// last seat committed, so that the window opens at `commitDeadline - lead` in either case.
/// Longer than other modules because storage words are better not shared between files.
contract TaskEscrow is ITaskEscrow, Vault, EIP712 {
    using SafeERC20 for IERC20;

    /// @dev 32 + 96 + 16 + 16 + 32 + 16 + 8 = 216 bits. `revealed` and `released` belong to the open task,
    /// `equivocated` to task `proven`, which may have ended. `bought`: bit 0 the lane, bit 1 its approvals.
    struct State {
        uint32 closed;
        uint96 accrued;
        uint16 revealed;
        uint16 released;
        uint32 proven;
        uint16 equivocated;
        uint8 bought;
    }

    struct Lane {
        uint256 key;
        uint256 acc;
        State state;
        uint256 approvals;
    }

    uint256 private constant MAX_ATTEMPT = 3;
    uint256 private constant TOLERANCE = 128; // first policy id of its kind
    uint256 private constant KEY_MASK = type(uint256).max << 32;

    address public immutable treasury;
    uint96 public immutable minFee;
    uint32 public immutable minLease;
    uint32 public immutable minWindow;
    uint32 public immutable maxSpan;
    // Written through storage references only, which Slither does not follow.
    // slither-disable-next-line uninitialized-state
    mapping(address client => mapping(uint32 number => Lane)) private _lanes;

    constructor(IERC20 token_, INodeRegistry registry_, Parameters memory p)
        Vault(token_, registry_)
        EIP712("deai escrow", "1")
    {
        require(p.treasury != address(0) && p.minFee != 0 && p.minLease != 0);
        // A window has two halves; a lead of at most `maxSpan` seconds fits its 24 bits.
        require(
            p.minWindow >= 2 && p.minWindow <= p.maxSpan && p.minLease <= p.maxSpan && p.maxSpan < 1 << 24
        );
        // Stake stays slashable for longer than a task can last (F3).
        require(registry_.unbondingPeriod() > 2 * uint256(p.maxSpan));
        (treasury, minFee, minLease, minWindow, maxSpan) =
        (p.treasury, p.minFee, p.minLease, p.minWindow, p.maxSpan);
    }

    // --- client -----------------------------------------------------------------------------------------------

    /// @inheritdoc ITaskEscrow
    function post(Task calldata t) external whenOpen returns (bytes32 id) {
        Lane storage lane;
        (id, lane) = _post(t);
        lane.key = _key(TaskHash.pending(id), t.nonce);
    }

    /// @inheritdoc ITaskEscrow
    function assign(Task calldata t, Accept[] calldata accepts) external whenOpen {
        (bytes32 id, Lane storage lane) = _pendingLane(t);
        lane.key = _key(_assign(id, t, accepts), t.nonce);
    }

    /// @inheritdoc ITaskEscrow
    function postAndAssign(Task calldata t, Accept[] calldata accepts)
        external
        whenOpen
        returns (bytes32 id)
    {
        Lane storage lane;
        (id, lane) = _post(t);
        lane.key = _key(_assign(id, t, accepts), t.nonce);
    }

    /// @inheritdoc ITaskEscrow
    function cancel(Task calldata t) external {
        (bytes32 id, Lane storage lane) = _pendingLane(t);
        uint256 refunded = _escrowed(t);
        _close(lane, t.nonce, 0);
        _credit(t.client, refunded);
        emit TaskCancelled(id, refunded);
    }

    /// @inheritdoc ITaskEscrow
    function reassign(Task calldata t, Seat[] calldata committee, uint8 seat, Accept calldata a) external {
        (bytes32 id, Lane storage lane) = _openLane(t, committee);
        if (msg.sender != t.client) revert Forbidden(msg.sender);
        if (seat >= committee.length) revert BadSeat(seat);
        if (_committed(lane, t.nonce) & (1 << seat) != 0) revert SeatTaken(seat);
        State memory s = lane.state;
        bool released = s.released & (1 << seat) != 0;
        uint256 leaseEnd = _leaseEnd(committee[seat].info);
        if (!released && block.timestamp <= leaseEnd) revert TooEarly(leaseEnd);
        Seat[] memory next = _replaced(id, t, committee, seat, a);
        lane.key = _key(TaskHash.seated(id, next), t.nonce);
        s.released &= ~uint16(1 << seat);
        if (s.proven == t.nonce) s.equivocated &= ~uint16(1 << seat); // the bit was the former holder's
        lane.state = s;
        emit SeatReassigned(id, seat, committee[seat].node, released, next);
    }

    /// @inheritdoc ITaskEscrow
    function object(Task calldata t, Seat[] calldata committee) external {
        (bytes32 id, Lane storage lane) = _openLane(t, committee);
        if (msg.sender != t.client) revert Forbidden(msg.sender);
        if (t.policy != 0 || _committed(lane, t.nonce) == 0) revert BadTask();
        uint256 end = _windowStart(lane, t) + t.window;
        if (block.timestamp > end) revert TooLate(end);
        _close(lane, t.nonce, t.fee);
        _credit(t.client, t.tip);
        emit TaskObjected(id, t.fee, t.tip);
    }

    // --- node -------------------------------------------------------------------------------------------------

    /// @inheritdoc ITaskEscrow
    function commit(Task calldata t, Seat[] calldata committee, Commitment[] calldata commitments) external {
        if (t.policy == 0) revert BadTask();
        (bytes32 id, Lane storage lane, uint256 acc) = _commitLane(t, committee);
        uint256 before = acc;
        for (uint256 i; i < commitments.length; ++i) {
            Commitment calldata c = commitments[i];
            uint256 seat = c.seat;
            if (seat >= committee.length) revert BadSeat(seat);
            if (acc & (1 << seat) != 0) continue; // somebody was faster; it must not stop the others
            uint256 info = committee[seat].info;
            if (c.r | c.vs == 0) {
                if (msg.sender != _operator(info)) revert BadSignature(seat);
            } else {
                _check(TaskHash.commit(id, seat, _attempt(info), c.value), c.r, c.vs, info, seat);
            }
            acc = TaskHash.link(_chain(acc), seat, c.value) | uint48(acc) | (1 << seat);
            emit ResultCommitted(id, c.seat, uint8(_attempt(info)), c.value);
        }
        if (acc == before) revert SeatTaken(commitments.length == 0 ? 0 : commitments[0].seat);
        _commit(lane, t, acc);
    }

    /// @inheritdoc ITaskEscrow
    function deliver(Task calldata t, Seat[] calldata committee, Result calldata x) external {
        if (t.policy != 0 || x.outputDigest == 0) revert BadTask();
        (bytes32 id, Lane storage lane, uint256 acc) = _commitLane(t, committee);
        if (acc & 1 != 0) revert SeatTaken(0);
        _checkResult(id, 0, committee[0].info, x);
        _commit(lane, t, TaskHash.link(0, 0, x.outputDigest) | uint48(acc) | 1);
        emit ResultDelivered(id, committee[0].node, x.outputDigest, x.evidenceDigest, x.r, x.vs);
    }

    /// @inheritdoc ITaskEscrow
    /// @dev A bit beside the committee's hash, so that a release cannot make the commits of others fail.
    function release(Task calldata t, Seat[] calldata committee, uint8 seat) external {
        (bytes32 id, Lane storage lane) = _openLane(t, committee);
        if (seat >= committee.length) revert BadSeat(seat);
        if (msg.sender != _operator(committee[seat].info)) revert Forbidden(msg.sender);
        if (block.timestamp > t.commitDeadline) revert TooLate(t.commitDeadline);
        uint16 released = lane.state.released;
        if ((_committed(lane, t.nonce) | released) & (1 << seat) != 0) revert SeatTaken(seat);
        lane.state.released = released | uint16(1 << seat);
        emit SeatReleased(id, seat);
    }

    // --- anybody ----------------------------------------------------------------------------------------------

    /// @inheritdoc ITaskEscrow
    function reveal(Task calldata t, Seat[] calldata committee, Opening[] calldata openings) external {
        (bytes32 id, Lane storage lane) = _openLane(t, committee);
        if (t.policy == 0) revert BadTask();
        uint256 end = _requireWindow(lane, t) + (t.policy < TOLERANCE ? t.window : t.window / 2);
        if (block.timestamp > end) revert TooLate(end);
        Tally memory y = _openAll(id, lane, t, committee, openings);
        uint256 revealed = lane.state.revealed;
        if (y.opened & ~revealed == 0) revert BadOpening();
        lane.state.revealed = uint16(revealed | y.opened);
        for (uint256 i; i < openings.length; ++i) {
            Opening calldata o = openings[i];
            if (o.digest != 0 && revealed & (1 << o.seat) == 0) {
                emit ResultRevealed(id, o.seat, o.digest, o.salt);
            }
        }
    }

    /// @inheritdoc ITaskEscrow
    function approve(Task calldata t, Seat[] calldata committee, Approval calldata a) external {
        (bytes32 id, Lane storage lane) = _openLane(t, committee);
        if (t.policy < TOLERANCE) revert BadTask();
        uint256 end = _requireWindow(lane, t) + t.window;
        if (block.timestamp > end) revert TooLate(end);
        uint256 acc = lane.acc;
        if (uint16(acc) & (1 << a.seat) == 0) revert BadSeat(a.seat); // only who committed
        uint256 stored = _approvals(lane, t.nonce);
        uint256 mask = a.mask & (type(uint16).max >> 1);
        if (mask == 0 || _maskOf(stored, a.seat) != 0) revert BadApproval();
        _checkApproval(id, acc, committee, a);
        lane.approvals = stored | (mask << (15 * a.seat)) | (uint256(t.nonce) << 225);
        emit ResultApproved(id, a.seat, a.mask, a.r, a.vs);
    }

    /// @inheritdoc ITaskEscrow
    function finalise(
        Task calldata t,
        Seat[] calldata committee,
        Opening[] calldata openings,
        Approval[] calldata approvals
    ) external {
        (bytes32 id, Lane storage lane) = _openLane(t, committee);
        uint256 end = _requireWindow(lane, t) + t.window;
        Tally memory y = _openAll(id, lane, t, committee, openings);
        bool over = block.timestamp > end;
        if (t.policy == 0) {
            if (y.opened == 0) revert BadOpening();
            if (!over && msg.sender != t.client) revert TooEarly(end);
        } else if (over) {
            if (y.opened != lane.state.revealed) revert BadOpening();
        } else if (y.opened != y.committed) {
            revert TooEarly(end);
        }
        Judge.digests(y, t.seats);
        if (t.policy >= TOLERANCE) {
            if (!y.fault) _judgeApprovals(y, lane, t, committee, approvals, over);
        } else if (approvals.length != 0) {
            revert BadApproval();
        }
        _pay(lane, t, committee, y);
    }

    /// @inheritdoc ITaskEscrow
    function expire(Task calldata t, Seat[] calldata committee) external {
        (bytes32 id, Lane storage lane) = _openLane(t, committee);
        if (block.timestamp <= t.commitDeadline) revert TooEarly(t.commitDeadline);
        if (_committed(lane, t.nonce) != 0) revert SeatTaken(0);
        uint256 refunded = _escrowed(t);
        _close(lane, t.nonce, 0);
        _credit(t.client, refunded);
        emit TaskExpired(id, refunded);
    }

    /// @inheritdoc ITaskEscrow
    function proveEquivocation(
        Task calldata t,
        Seat[] calldata committee,
        uint8 seat,
        Result calldata a,
        Result calldata b
    ) external nonReentrant {
        bytes32 id = taskIdOf(t);
        Lane storage lane = _lanes[t.client][t.lane];
        // Not `_openLane`: the task may have ended, as long as the lane was not used again.
        if (!_matches(lane.key, TaskHash.committee(id, committee))) revert NotOpen();
        if (seat >= committee.length) revert BadSeat(seat);
        if (a.outputDigest == b.outputDigest) revert BadEvidence();
        _checkResult(id, seat, committee[seat].info, a);
        _checkResult(id, seat, committee[seat].info, b);
        State memory s = lane.state;
        if (s.proven != t.nonce) (s.proven, s.equivocated) = (t.nonce, 0);
        if (s.equivocated & (1 << seat) != 0) revert BadEvidence();
        s.equivocated |= uint16(1 << seat);
        lane.state = s;
        bytes32 node = committee[seat].node;
        emit EquivocationProven(id, seat, node, msg.sender);
        registry.equivocated(node, msg.sender);
    }

    /// @inheritdoc ITaskEscrow
    function sweep(address client, uint32[] calldata lanes) external nonReentrant {
        uint256 total;
        for (uint256 i; i < lanes.length; ++i) {
            State storage s = _lanes[client][lanes[i]].state;
            uint256 amount = s.accrued;
            if (amount == 0) continue;
            s.accrued = 0;
            total += amount;
            emit FeesSwept(client, lanes[i], amount);
        }
        if (total != 0) token.safeTransfer(treasury, total);
    }

    // --- views ------------------------------------------------------------------------------------------------

    /// @inheritdoc ITaskEscrow
    function taskIdOf(Task calldata t) public view returns (bytes32) {
        return _hashTypedDataV4(TaskHash.task(t));
    }

    /// @inheritdoc ITaskEscrow
    function laneOf(address client, uint32 number) external view returns (LaneInfo memory info) {
        Lane storage lane = _lanes[client][number];
        State memory s = lane.state;
        uint32 nonce = s.closed;
        unchecked {
            if (uint8(lane.key) == uint8(nonce + 1)) ++nonce; // a view must answer after the last nonce, too
        }
        bytes32 word;
        assembly ("memory-safe") {
            word := sload(add(lane.slot, 2))
        }
        info = LaneInfo({
            key: lane.key,
            acc: lane.acc,
            state: uint256(word),
            nonce: nonce,
            closed: s.closed,
            committed: uint16(_committed(lane, nonce)),
            revealed: s.revealed,
            released: s.released,
            equivocated: s.proven == nonce ? s.equivocated : 0,
            windowLead: uint24(lane.key >> 8),
            accrued: s.accrued,
            approvals: _approvals(lane, nonce)
        });
    }

    /// @inheritdoc ITaskEscrow
    function parameters() external view returns (Parameters memory) {
        return Parameters(treasury, minFee, minLease, minWindow, maxSpan);
    }

    // --- post, assign, commit ---------------------------------------------------------------------------------

    function _post(Task calldata t) private returns (bytes32 id, Lane storage lane) {
        if (msg.sender != t.client) revert Forbidden(msg.sender);
        lane = _lanes[t.client][t.lane];
        State memory s = lane.state;
        uint32 next = s.closed + 1;
        if (uint8(lane.key) == uint8(next)) revert LaneBusy();
        if (t.nonce != next) revert BadNonce(next);
        if (
            (t.policy == 0 ? t.seats != 1 : t.seats < 3 || t.seats > 15 || t.seats & 1 == 0) || t.fee < minFee
                || t.lease < minLease || t.window < minWindow || t.window > maxSpan
                || t.commitDeadline < block.timestamp + t.lease
                || t.commitDeadline > block.timestamp + maxSpan
        ) revert BadTask();
        _debit(t.client, _escrowed(t));
        _buy(lane, s, t.policy);
        id = taskIdOf(t);
        emit TaskPosted(id, t.client, t);
    }

    /// @dev The client pays for the lane's words, not the node that would write them first.
    function _buy(Lane storage lane, State memory s, uint256 policy) private {
        uint256 needed = policy < TOLERANCE ? 1 : 3;
        if (s.bought & needed == needed) return;
        if (s.bought & 1 == 0) lane.acc = 1 << 48;
        if (s.bought & needed & 2 == 0 && needed == 3) lane.approvals = 1;
        s.bought |= uint8(needed);
        lane.state = s;
    }

    /// @dev Hash of the committee.
    function _assign(bytes32 id, Task calldata t, Accept[] calldata accepts) private returns (bytes32) {
        uint256 n = accepts.length;
        if (n != t.seats) revert BadSeat(n);
        uint256 leaseEnd = _leaseFrom(t);
        bytes32[] memory nodes = new bytes32[](n);
        for (uint256 i; i < n; ++i) {
            bytes32 node = accepts[i].node;
            for (uint256 j; j < i; ++j) {
                if (_owner(nodes[j]) == _owner(node)) revert OwnerTwice(_owner(node));
            }
            nodes[i] = node;
        }
        address[] memory operators = registry.assignable(nodes);
        Seat[] memory seats = new Seat[](n);
        for (uint256 i; i < n; ++i) {
            seats[i] = Seat(nodes[i], _info(operators[i], leaseEnd, 0));
            _checkAccept(id, i, seats[i].info, accepts[i]);
        }
        emit TaskAssigned(id, seats);
        return TaskHash.seated(id, seats);
    }

    /// @dev The committee with the node of `a` in `seat`.
    function _replaced(bytes32 id, Task calldata t, Seat[] calldata committee, uint8 seat, Accept calldata a)
        private
        view
        returns (Seat[] memory next)
    {
        uint256 attempt = _attempt(committee[seat].info) + 1;
        // Seating the same node again would extend its lease.
        if (attempt > MAX_ATTEMPT || a.node == committee[seat].node) revert BadSeat(seat);
        bytes32[] memory node = new bytes32[](1);
        node[0] = a.node;
        next = committee;
        for (uint256 i; i < next.length; ++i) {
            if (i != seat && _owner(next[i].node) == _owner(a.node)) revert OwnerTwice(_owner(a.node));
        }
        next[seat] = Seat(a.node, _info(registry.assignable(node)[0], _leaseFrom(t), attempt));
        _checkAccept(id, seat, next[seat].info, a);
    }

    function _commitLane(Task calldata t, Seat[] calldata committee)
        private
        view
        returns (bytes32 id, Lane storage lane, uint256 acc)
    {
        id = taskIdOf(t);
        lane = _lanes[t.client][t.lane];
        if (!_matches(lane.key, TaskHash.committee(id, committee))) revert NotOpen();
        if (block.timestamp > t.commitDeadline) revert TooLate(t.commitDeadline);
        acc = lane.acc;
        if (uint32(acc >> 16) != t.nonce) acc = uint256(t.nonce) << 16; // first commit of this task: a new chain
    }

    /// @dev The last commit opens the window.
    function _commit(Lane storage lane, Task calldata t, uint256 acc) private {
        lane.acc = acc;
        if (uint16(acc) == (1 << t.seats) - 1) {
            lane.key |= (t.commitDeadline - block.timestamp) << 8;
        }
    }

    // --- finalise ---------------------------------------------------------------------------------------------

    /// @dev Start of the window; reverts before it. Nobody may open a task that still accepts commits: the seats
    /// that are slower would lose their turn.
    function _requireWindow(Lane storage lane, Task calldata t) private view returns (uint256 start) {
        start = _windowStart(lane, t);
        if (_committed(lane, t.nonce) != (1 << t.seats) - 1 && block.timestamp <= start) {
            revert TooEarly(start);
        }
    }

    /// @dev Rebuilds the chain of commitments, so that none can be dropped, added or changed.
    function _openAll(
        bytes32 id,
        Lane storage lane,
        Task calldata t,
        Seat[] calldata committee,
        Opening[] calldata openings
    ) private view returns (Tally memory y) {
        y.id = id;
        y.digests = new bytes32[](t.seats);
        uint256 chain;
        for (uint256 i; i < openings.length; ++i) {
            Opening calldata o = openings[i];
            uint256 seat = o.seat;
            // Bits beyond the committee would mix with the nonce and the chain in the comparison below.
            if (seat >= committee.length) revert BadSeat(seat);
            bytes32 value = o.salt;
            y.committed |= 1 << seat;
            if (o.digest != 0) {
                Seat calldata s = committee[seat];
                value = t.policy == 0
                    ? o.digest
                    : TaskHash.commitment(id, seat, _attempt(s.info), s.node, o.digest, o.salt);
                y.digests[seat] = o.digest;
                y.opened |= 1 << seat;
            }
            chain = TaskHash.link(chain, seat, value);
        }
        // Equal chains have equal seats in equal order, and `commit` let no seat in twice.
        if (y.committed == 0 || chain | (uint256(t.nonce) << 16) | y.committed != lane.acc) {
            revert BadOpening();
        }
    }

    /// @dev After the window only approvals on chain count. Within it every committed seat must have one, on chain
    /// or here; the one on chain wins.
    function _judgeApprovals(
        Tally memory y,
        Lane storage lane,
        Task calldata t,
        Seat[] calldata committee,
        Approval[] calldata approvals,
        bool over
    ) private view {
        uint256 stored = _approvals(lane, t.nonce);
        uint256[] memory masks = new uint256[](t.seats);
        uint256 seen;
        for (uint256 i; i < masks.length; ++i) {
            masks[i] = _maskOf(stored, i);
            if (masks[i] != 0) seen |= 1 << i;
        }
        if (over && approvals.length != 0) revert BadApproval();
        for (uint256 i; i < approvals.length; ++i) {
            Approval calldata a = approvals[i];
            if (seen & (1 << a.seat) != 0) continue;
            _checkApproval(y.id, lane.acc, committee, a);
            masks[a.seat] = a.mask;
            seen |= 1 << a.seat;
        }
        if (!over && y.committed & ~seen != 0) revert BadApproval();
        (y.result, y.paid) = (0, 0);
        Judge.approvals(y, t.seats, masks);
    }

    /// @dev Moves reputation, pays, and closes the lane; after the registry, whose answer the amounts need and which
    /// calls nobody.
    function _pay(Lane storage lane, Task calldata t, Seat[] calldata committee, Tally memory y) private {
        uint256[] memory seats = _seats(t, committee, y);
        uint256 tip = msg.sender == t.client ? 0 : t.tip;
        y.refunded += t.tip - tip;
        if (tip != 0) _credit(msg.sender, tip);
        if (y.refunded != 0) _credit(t.client, y.refunded);
        _close(lane, t.nonce, y.protocolFee);
        emit TaskFinalised(y.id, y.result, y.fault, y.refunded, y.protocolFee, msg.sender, tip, seats);
    }

    function _seats(Task calldata t, Seat[] calldata committee, Tally memory y)
        private
        returns (uint256[] memory seats)
    {
        uint256 n = committee.length;
        bytes32[] memory nodes = new bytes32[](n);
        uint256 verdicts;
        for (uint256 i; i < n; ++i) {
            nodes[i] = committee[i].node;
            verdicts |= _verdict(t.policy, y, 1 << i) << (4 * i);
        }
        // A fault moves no reputation, not even that of a silent seat.
        seats = y.fault ? new uint256[](n) : registry.settle(nodes, verdicts, t.fee);
        for (uint256 i; i < n; ++i) {
            uint256 amount = _split(y, t.fee, 1 << i, uint24(seats[i]));
            if (amount != 0) _credit(_owner(nodes[i]), amount);
            seats[i] = amount | (seats[i] << 96) | (((verdicts >> (4 * i)) & 15) << 144);
        }
    }

    /// @dev Cannot overflow: fee < 2^96, at most 15 seats.
    function _split(Tally memory y, uint256 fee, uint256 bit, uint256 r)
        private
        pure
        returns (uint256 amount)
    {
        unchecked {
            if (y.paid & bit != 0) {
                amount = y.fault ? fee / 10 : Reputation.payment(fee, r);
                if (y.fault) y.refunded += fee - amount;
                else y.protocolFee += fee - amount;
            } else if (y.opened & bit != 0) {
                y.protocolFee += fee; // forfeited: lying never turns into a refund
            } else {
                y.refunded += fee;
            }
        }
    }

    function _verdict(uint256 policy, Tally memory y, uint256 bit) private pure returns (uint256) {
        if (y.committed & bit == 0) return Verdict.NONE;
        if (y.opened & bit == 0) return Verdict.SILENT;
        if (y.paid & bit == 0) return policy < TOLERANCE && y.paid != 0 ? Verdict.LOST : Verdict.FORFEITED;
        if (y.fault) return Verdict.FAULT;
        return policy == 0 ? Verdict.UNCHECKED : Verdict.PAID;
    }

    function _close(Lane storage lane, uint32 nonce, uint256 protocolFee) private {
        State memory s = lane.state;
        unchecked {
            s.accrued += uint96(protocolFee);
        }
        (s.closed, s.revealed, s.released) = (nonce, 0, 0);
        lane.state = s;
    }

    // --- lanes and signatures ---------------------------------------------------------------------------------

    function _openLane(Task calldata t, Seat[] calldata committee)
        private
        view
        returns (bytes32 id, Lane storage lane)
    {
        id = taskIdOf(t);
        lane = _lanes[t.client][t.lane];
        if (!_matches(lane.key, TaskHash.committee(id, committee)) || lane.state.closed + 1 != t.nonce) {
            revert NotOpen();
        }
    }

    function _pendingLane(Task calldata t) private view returns (bytes32 id, Lane storage lane) {
        if (msg.sender != t.client) revert Forbidden(msg.sender);
        id = taskIdOf(t);
        lane = _lanes[t.client][t.lane];
        if (!_matches(lane.key, TaskHash.pending(id)) || lane.state.closed + 1 != t.nonce) revert NotOpen();
    }

    function _key(bytes32 hash, uint32 nonce) private pure returns (uint256) {
        return (uint256(hash) & KEY_MASK) | uint8(nonce);
    }

    function _matches(uint256 key, bytes32 hash) private pure returns (bool) {
        return (key ^ uint256(hash)) & KEY_MASK == 0;
    }

    function _windowStart(Lane storage lane, Task calldata t) private view returns (uint256) {
        return t.commitDeadline - uint24(lane.key >> 8);
    }

    function _committed(Lane storage lane, uint32 nonce) private view returns (uint256) {
        uint256 acc = lane.acc;
        return uint32(acc >> 16) == nonce ? uint16(acc) : 0;
    }

    /// @dev The masks of the task with this nonce: 31 bits of it are 2^31 tasks in one lane.
    function _approvals(Lane storage lane, uint32 nonce) private view returns (uint256) {
        uint256 word = lane.approvals;
        return word >> 225 == nonce & (type(uint32).max >> 1) ? word & (type(uint256).max >> 31) : 0;
    }

    function _maskOf(uint256 stored, uint256 seat) private pure returns (uint256) {
        return (stored >> (15 * seat)) & (type(uint16).max >> 1);
    }

    function _checkAccept(bytes32 id, uint256 seat, uint256 info, Accept calldata a) private view {
        if (block.timestamp > a.validUntil) revert AcceptExpired(a.validUntil);
        _check(TaskHash.accept(id, seat, _attempt(info), a.node, a.validUntil), a.r, a.vs, info, seat);
    }

    function _checkResult(bytes32 id, uint256 seat, uint256 info, Result calldata x) private view {
        bytes32 hash = TaskHash.result(id, seat, _attempt(info), x.outputDigest, x.evidenceDigest);
        _check(hash, x.r, x.vs, info, seat);
    }

    function _checkApproval(bytes32 id, uint256 acc, Seat[] calldata committee, Approval calldata a)
        private
        view
    {
        if (a.seat >= committee.length) revert BadSeat(a.seat);
        _check(TaskHash.approval(id, a.seat, acc, a.mask), a.r, a.vs, committee[a.seat].info, a.seat);
    }

    /// @dev The seat's key signed `structHash`. An operator is never zero, so a failed recovery never equals it.
    function _check(bytes32 structHash, bytes32 r, bytes32 vs, uint256 info, uint256 seat) private view {
        (address signer,,) = ECDSA.tryRecover(_hashTypedDataV4(structHash), r, vs);
        if (signer == address(0) || signer != _operator(info)) revert BadSignature(seat);
    }

    // --- words ------------------------------------------------------------------------------------------------

    function _escrowed(Task calldata t) private pure returns (uint256) {
        return uint256(t.fee) * t.seats + t.tip;
    }

    function _leaseFrom(Task calldata t) private view returns (uint256 end) {
        end = block.timestamp + t.lease;
        if (end > t.commitDeadline) revert TooLate(t.commitDeadline);
    }

    function _chain(uint256 acc) private pure returns (uint256) {
        return (acc >> 48) << 48;
    }

    function _info(address operator, uint256 leaseEnd, uint256 attempt) private pure returns (uint256) {
        return uint160(operator) | (leaseEnd << 160) | (attempt << 200);
    }

    function _operator(uint256 info) private pure returns (address) {
        return address(uint160(info));
    }

    function _leaseEnd(uint256 info) private pure returns (uint256) {
        return uint40(info >> 160);
    }

    function _attempt(uint256 info) private pure returns (uint256) {
        return uint8(info >> 200);
    }

    function _owner(bytes32 node) private pure returns (address) {
        return address(uint160(uint256(node) >> 96));
    }
}
