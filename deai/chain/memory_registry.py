"""Stake, standing, keys and reputation of nodes, as the registry contract decides them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from deai.actions import (
    AddStake,
    Announce,
    Heartbeat,
    RegisterNode,
    RequestUnstake,
    RotateOperator,
    Unjail,
    WithdrawStake,
)
from deai.chain.memory_state import WEEK_SECONDS, ZERO_ACCOUNT, Call, NodeState, refuse, signer_of
from deai.chain.tasks_view import Verdict
from deai.events import (
    NodeAnnounced,
    NodeBeat,
    NodeRegistered,
    NodeSlashed,
    OperatorRotated,
    StakeAdded,
    StakeWithdrawn,
    StandingChanged,
    UnbondingStarted,
)
from deai.ids import AccountId, NodeId, node_id, owner_of
from deai.money import Amount
from deai.signing import SIGNATURE_BYTES
from deai.standing import PROBATION_TASKS, Standing, StandingEvent, advance_standing
from deai.tasks import operate_digest

MAX_PEER_ID_BYTES: Final = 64
MAX_ADDRESSES_BYTES: Final = 1024
_STAKING: Final = (Standing.PROBATION, Standing.ACTIVE, Standing.JAILED)


def register(call: Call, action: RegisterNode) -> None:
    """Stake and register a node of the sender."""
    call.move_tokens(call.sender, call.info.contracts["NodeRegistry"], action.stake)
    if call.paused:
        refuse("EnforcedPause")
    least = call.parameters.min_stake
    if action.stake < least:
        refuse("StakeTooLow", stake=int(action.stake), minimum=int(least))
    node = node_id(call.sender, action.index)
    standing = call.node(node).standing
    if standing is not Standing.NONE:
        refuse("BadStanding", node=node, standing=int(standing))
    _check_operator(call, node, action.operator, action.valid_until, action.operator_signature)
    _check_contact(action.peer_id, action.addresses)
    call.nodes[node] = NodeState(
        operator=action.operator,
        standing=advance_standing(standing, StandingEvent.REGISTERED),
        reputation=call.rules.start,
        epoch=epoch_of(call),
        week=call.now // WEEK_SECONDS,
        bonded=int(action.stake),
    )
    call.emit(NodeRegistered(node, action.operator, action.stake, action.peer_id, action.addresses))


def add_stake(call: Call, action: AddStake) -> None:
    """Add tokens of the sender to a node's stake."""
    call.move_tokens(call.sender, call.info.contracts["NodeRegistry"], action.amount)
    now = call.node(action.node)
    if now.standing not in _STAKING:
        refuse("BadStanding", node=action.node, standing=int(now.standing))
    bonded = now.bonded + action.amount
    call.change_node(action.node, bonded=bonded)
    call.emit(StakeAdded(action.node, action.amount, Amount(bonded)))


def request_unstake(call: Call, action: RequestUnstake) -> None:
    """Start unbonding part of the stake, or all of it."""
    _only_owner(call, action.node)
    now = call.node(action.node)
    if now.standing not in _STAKING:
        refuse("BadStanding", node=action.node, standing=int(now.standing))
    if not 0 < action.amount <= now.bonded:
        refuse("BadData")
    bonded = now.bonded - action.amount
    if bonded and bonded < call.parameters.min_stake:
        refuse("StakeTooLow", stake=bonded, minimum=int(call.parameters.min_stake))
    unbonding = now.unbonding + action.amount
    unbond_at = call.now + call.parameters.unbonding_seconds
    call.change_node(action.node, bonded=bonded, unbonding=unbonding, unbond_at=unbond_at)
    call.emit(UnbondingStarted(action.node, Amount(unbonding), unbond_at))
    if not bonded:
        _move(call, action.node, StandingEvent.UNSTAKED)


def withdraw_stake(call: Call, action: WithdrawStake) -> None:
    """Take what has finished unbonding."""
    _only_owner(call, action.node)
    now = call.node(action.node)
    if call.now <= now.unbond_at:
        refuse("TooEarly", time=now.unbond_at)
    if not now.unbonding:
        refuse("BadData")
    call.change_node(action.node, unbonding=0)
    call.emit(StakeWithdrawn(action.node, action.to, Amount(now.unbonding)))
    if now.standing is Standing.UNBONDING:
        _move(call, action.node, StandingEvent.WITHDRAWN)
    call.move_tokens(call.info.contracts["NodeRegistry"], action.to, now.unbonding)


def unjail(call: Call, action: Unjail) -> None:
    """Release a jailed node into probation."""
    _only_owner(call, action.node)
    now = call.node(action.node)
    if now.standing is not Standing.JAILED:
        refuse("BadStanding", node=action.node, standing=int(now.standing))
    if now.bonded < call.parameters.min_stake:
        refuse("StakeTooLow", stake=now.bonded, minimum=int(call.parameters.min_stake))
    call.change_node(action.node, checked_tasks=0)
    _move(call, action.node, StandingEvent.RELEASED)


def rotate_operator(call: Call, action: RotateOperator) -> None:
    """Give a node a new hot key."""
    _only_owner(call, action.node)
    standing = call.node(action.node).standing
    if standing in (Standing.NONE, Standing.EXITED):
        refuse("BadStanding", node=action.node, standing=int(standing))
    _check_operator(
        call, action.node, action.operator, action.valid_until, action.operator_signature
    )
    call.change_node(action.node, operator=action.operator)
    call.emit(OperatorRotated(action.node, action.operator))


def announce(call: Call, action: Announce) -> None:
    """Publish where a node listens."""
    _only_operator(call, action.node)
    _check_contact(action.peer_id, action.addresses)
    call.emit(NodeAnnounced(action.node, action.peer_id, action.addresses))


def heartbeat(call: Call, action: Heartbeat) -> None:
    """The beat of this epoch."""
    _only_operator(call, action.node)
    epoch = epoch_of(call)
    if call.node(action.node).epoch == epoch:
        refuse("AlreadyBeaten", node=action.node, epoch=epoch)
    call.change_node(action.node, epoch=epoch)
    call.emit(NodeBeat(action.node, epoch))


def assignable(call: Call, nodes: Sequence[NodeId]) -> list[AccountId]:
    """The operator keys of nodes that may take a seat now; refuses if one may not."""
    epoch = epoch_of(call)
    operators = []
    for node in nodes:
        now = call.node(node)
        if not now.standing.is_assignable:
            refuse("BadStanding", node=node, standing=int(now.standing))
        if now.epoch + 1 < epoch:
            refuse("NoHeartbeat", node=node, last=now.epoch)
        operators.append(now.operator)
    return operators


def settle(call: Call, node: NodeId, verdict: Verdict, fee: int) -> tuple[int, int]:
    """Move a node's reputation at the end of a task; `(before, after)`, zeros where not read."""
    if not Verdict.UNCHECKED <= verdict <= Verdict.SILENT:
        return 0, 0
    now = call.node(node)
    before = reputation_now(call, now)
    if verdict is Verdict.UNCHECKED:
        return before, before
    w0 = int(call.parameters.weight_fee)
    checked = now.checked_tasks
    if verdict is Verdict.SILENT:
        after = call.rules.silent(before)
    elif verdict is Verdict.LOST:
        after = call.rules.lost_vote(before, fee, w0)
    else:
        after = call.rules.success(before, fee, w0)
        checked = min(checked + 1, PROBATION_TASKS)
    call.change_node(node, reputation=after, week=call.now // WEEK_SECONDS, checked_tasks=checked)
    if now.checked_tasks < checked == PROBATION_TASKS and now.standing is Standing.PROBATION:
        _move(call, node, StandingEvent.PROVEN)
    return before, after


def equivocated(call: Call, node: NodeId) -> None:
    """Slash and jail a node; the sender gets the bounty."""
    now = call.node(node)
    if now.standing in (Standing.JAILED, Standing.EXITED):
        refuse("BadStanding", node=node, standing=int(now.standing))
    bonded, unbonding, bounty, burned = call.rules.slash(
        now.bonded, now.unbonding, int(call.parameters.bounty)
    )
    call.change_node(
        node,
        bonded=now.bonded - bonded,
        unbonding=now.unbonding - unbonding,
        standing=advance_standing(now.standing, StandingEvent.SLASHED),
        reputation=0,
    )
    registry = call.info.contracts["NodeRegistry"]
    call.emit(
        NodeSlashed(node, call.sender, Amount(bonded + unbonding), Amount(bounty), Amount(burned))
    )
    call.move_tokens(registry, call.sender, bounty)
    call.burn(registry, burned)


def reputation_now(call: Call, node: NodeState) -> int:
    """Thousandths of a point, the idle weeks until now included."""
    weeks = max(0, call.now // WEEK_SECONDS - node.week - 1)
    return call.rules.idle(node.reputation, weeks)


def epoch_of(call: Call) -> int:
    """The number of the epoch in which the transaction happens."""
    return call.now // call.parameters.epoch_seconds


def _move(call: Call, node: NodeId, event: StandingEvent) -> None:
    standing = advance_standing(call.node(node).standing, event)
    call.change_node(node, standing=standing)
    call.emit(StandingChanged(node, standing))


def _only_owner(call: Call, node: NodeId) -> None:
    if call.sender != owner_of(node):
        refuse("Forbidden", caller=call.sender)


def _only_operator(call: Call, node: NodeId) -> None:
    if call.sender != call.node(node).operator:
        refuse("Forbidden", caller=call.sender)


def _check_operator(
    call: Call, node: NodeId, operator: AccountId, valid_until: int, signature: bytes
) -> None:
    if call.now > valid_until:
        refuse("SignatureExpired", validUntil=valid_until)
    if len(signature) != SIGNATURE_BYTES:
        refuse("BadData")
    signer = signer_of(operate_digest(call.info.registry, node, operator, valid_until), signature)
    if signer == ZERO_ACCOUNT or signer != operator:
        refuse("BadOperator", recovered=signer)


def _check_contact(peer_id: str, addresses: Sequence[str]) -> None:
    if not 0 < len(peer_id.encode()) <= MAX_PEER_ID_BYTES:
        refuse("BadData")
    if len("\n".join(addresses).encode()) > MAX_ADDRESSES_BYTES:
        refuse("BadData")
