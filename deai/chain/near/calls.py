"""An action as the NEAR transaction that carries it out: receiver, method calls, deposits, gas.

The methods and their forms are those of `contracts/near/README.md`. A transaction has one receiver;
what another contract must know first (a storage deposit) is a transaction of its own, sent before
it (`Needs`). Gas is what is attached: what is not burnt comes back.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, assert_never

import msgspec

from deai import actions as act
from deai.chain.ledger import CHANNELS_CONTRACT
from deai.chain.near.channel_calls import encode_channel
from deai.chain.near.reward_calls import encode_reward
from deai.chain.near.steps import YOCTO, AddKey, Call, NearCall, Needs, Send, call
from deai.chain.refusals import no_orders, no_pools
from deai.ids import AccountId, NodeId, hexed, implicit_account
from deai.signing import public_key
from deai.tasks import Accept, Approval, Commitment, Opening, Result, Seat, Task

TOKEN_STORAGE: Final = 125 * 10**19
"""yoctoNEAR that the token takes for an account (NEP-145; near-contract-standards)."""
UNSIGNED: Final = bytes(64)
"""A commitment's signature that says: the seat's key sends the transaction itself."""

OPERATOR_METHODS: Final = (
    "heartbeat", "announce", "release", "commit", "submit_result", "reveal", "approve", "finalise",
)  # fmt: skip
"""All that a node's key may call for its owner's account. Such a key has one receiver, so vouchers,
which are in another contract and anybody's to redeem, it redeems as the account of its own name."""
PURSE_SHARE: Final = 10
"""What an operator's key is allowed, divided by this, lies on the account of its own name."""


def token_storage(account: AccountId) -> Call:
    """Opens an account with the token; everything comes back if there is one."""
    return call(
        "storage_deposit", 10, TOKEN_STORAGE, account_id=account, registration_only=True
    )  # fmt: skip


def storage(deposit: int) -> Call:
    """Pays a contract for the sender's records there; opens its account."""
    return call("storage_deposit", 10, deposit)


def operator_key(key: str, contract: AccountId, allowance: int) -> AddKey:
    """The key of a node's daemon: it can move nothing of value."""
    return AddKey(key, contract, OPERATOR_METHODS, allowance)


def own_account(key: str) -> AccountId:
    """The account that an `ed25519:…` key has without anybody's doing; raise `MalformedMessage`."""
    return implicit_account(public_key(key))


def encode_action(action: act.Action, contracts: Mapping[str, AccountId]) -> NearCall:
    """The transaction for an action.

    Money for gas that goes to a key (an operator's) makes it a key of the sender's account with
    that allowance, in place of one that it has already; where there are channels, a tenth as much
    goes to the key's own account, which redeems vouchers. Raises `NotSetUp` for channels and
    rewards where there are none, for orders and for pools.
    """
    if isinstance(action, act.TransferGas):
        if action.to.startswith("ed25519:"):
            key = operator_key(action.to, contracts["NodeRegistry"], int(action.amount))
            purse = None
            if CHANNELS_CONTRACT in contracts:
                purse = own_account(action.to), int(action.amount) // PURSE_SHARE
            return NearCall(None, (key,), Needs(replaced=action.to, purse=purse))
        return NearCall(action.to, (Send(int(action.amount)),))
    if isinstance(action, act.ChannelAction):
        return encode_channel(action, contracts)
    if isinstance(action, act.RewardAction):
        return encode_reward(action, contracts)
    if isinstance(action, act.OrderAction):
        raise no_orders()
    if isinstance(action, act.PoolAction):
        raise no_pools()
    token, compute = contracts["ComputeToken"], contracts["NodeRegistry"]
    found = _of_tokens(action, token, compute)
    return found if found is not None else NearCall(compute, (_of_compute(action),), _needs(action))


def _of_tokens(action: act.CoreAction, token: AccountId, compute: AccountId) -> NearCall | None:
    def paid(amount: int, message: object, needs: Needs) -> NearCall:
        text = "" if message is None else msgspec.json.encode(message).decode()
        step = call(
            "ft_transfer_call", 80, YOCTO, receiver_id=compute, amount=str(int(amount)), msg=text
        )
        return NearCall(token, (step,), needs)

    match action:
        case act.TransferTokens():
            step = call(
                "ft_transfer", 10, YOCTO, receiver_id=action.to, amount=str(int(action.amount))
            )
            return NearCall(
                token, (step,), Needs(receivers=(action.to,), tokens=int(action.amount))
            )
        case act.Deposit():
            return paid(action.amount, None, Needs(at_vault=True, tokens=int(action.amount)))
        case act.RegisterNode():
            form = {
                "index": action.index,
                "operator": action.operator,
                "valid_until": action.valid_until,
                "signature": _signature(action.operator_signature),
                "peer_id": action.peer_id,
                "addresses": list(action.addresses),
            }
            needs = Needs(at_vault=True, node=True, tokens=int(action.stake))
            return paid(action.stake, {"register": form}, needs)
        case act.AddStake():
            message = {"add_stake": {"node": action.node}}
            return paid(action.amount, message, Needs(tokens=int(action.amount)))
        case _:
            return None


def _needs(action: act.CoreAction) -> Needs:
    match action:
        case act.WithdrawVault():
            return Needs(receivers=(action.to,), free=int(action.amount))
        case act.WithdrawStake():
            return Needs(receivers=(action.to,))
        case act.PostTask() | act.PostAndAssign():
            return Needs(at_vault=True, lane=action.task.lane, free=action.task.escrowed)
        case _:
            return Needs()


def _of_compute(action: act.CoreAction) -> Call:  # one row per verb
    match action:
        case act.WithdrawVault():
            return call("withdraw", 25, YOCTO, to=action.to, amount=str(int(action.amount)))
        case act.RequestUnstake():
            amount = str(int(action.amount))
            return call("request_unstake", 10, YOCTO, node=action.node, amount=amount)
        case act.WithdrawStake():
            return call("withdraw_stake", 25, YOCTO, node=action.node, to=action.to)
        case act.RotateOperator():
            return call(
                "rotate_operator", 10, YOCTO, node=action.node, operator=action.operator,
                valid_until=action.valid_until, signature=_signature(action.operator_signature),
            )  # fmt: skip
        case act.Unjail():
            return call("unjail", 10, YOCTO, node=action.node)
        case act.Announce():
            return call(
                "announce", 10, node=action.node, peer_id=action.peer_id,
                addresses=list(action.addresses),
            )  # fmt: skip
        case act.Heartbeat():
            return call("heartbeat", 10, node=action.node)
        case act.SweepFees():
            lanes = list(action.lanes)
            return call("sweep", 10 + len(lanes), client=action.client, lanes=lanes)
        case (
            act.TransferTokens() | act.Deposit() | act.RegisterNode() | act.AddStake()
        ):  # pragma: no cover - rows of `_of_tokens`
            raise AssertionError(action)
        case _:
            return _of_task(action)


_TaskAction: TypeAlias = (
    act.PostTask
    | act.AssignTask
    | act.PostAndAssign
    | act.CancelTask
    | act.CommitResults
    | act.DeliverResult
    | act.ObjectToResult
    | act.ReleaseSeat
    | act.ReassignSeat
    | act.RevealResults
    | act.ApproveOutputs
    | act.FinaliseTask
    | act.ExpireTask
    | act.ProveEquivocation
)


def _of_task(action: _TaskAction) -> Call:
    task = task_json(action.task)
    match action:
        case act.PostTask():
            return call("submit_task", 15, YOCTO, task=task, accepts=None)
        case act.PostAndAssign():
            accepts = [_accept(one) for one in action.accepts]
            gas = _each(15, 2, accepts)
            return call("submit_task", gas, YOCTO, task=task, accepts=accepts)
        case act.AssignTask():
            accepts = [_accept(one) for one in action.accepts]
            return call("assign", _each(10, 2, accepts), YOCTO, task=task, accepts=accepts)
        case act.CancelTask():
            return call("cancel", 10, YOCTO, task=task)
        case act.CommitResults():
            new = [_commitment(one) for one in action.commitments]
            return call("commit", _each(10, 2, new), **_open(action), commitments=new)
        case act.DeliverResult():
            return call("submit_result", 15, **_open(action), result=_result(action.result))
        case act.ObjectToResult():
            return call("object", 10, YOCTO, **_open(action))
        case act.ReleaseSeat():
            return call("release", 10, **_open(action), seat=action.seat)
        case act.ReassignSeat():
            accept = _accept(action.accept)
            return call("reassign", 15, YOCTO, **_open(action), seat=action.seat, accept=accept)
        case act.RevealResults():
            openings = [_opening(one) for one in action.openings]
            return call("reveal", _each(10, 1, openings), **_open(action), openings=openings)
        case act.ApproveOutputs():
            return call("approve", 15, **_open(action), approval=_approval(action.approval))
        case act.FinaliseTask():
            openings = [_opening(one) for one in action.openings]
            approvals = [_approval(one) for one in action.approvals]
            gas = _each(_each(15, 4, action.committee), 2, approvals)
            return call(
                "finalise", gas, **_open(action), openings=openings, approvals=approvals
            )  # fmt: skip
        case act.ExpireTask():
            return call("expire", 10, **_open(action))
        case act.ProveEquivocation():
            return call(
                "prove_equivocation", 20, **_open(action), seat=action.seat,
                first=_result(action.first), second=_result(action.second),
            )  # fmt: skip
        case _:
            assert_never(action)


class _OnCommittee(Protocol):
    """What every action on a running task names."""

    @property
    def task(self) -> Task: ...
    @property
    def committee(self) -> tuple[Seat, ...]: ...


def task_json(task: Task) -> dict[str, Any]:
    """A task in the contract's form."""
    return {
        "client": task.client,
        "lane": task.lane,
        "nonce": task.nonce,
        "fee": str(int(task.fee)),
        "tip": str(int(task.tip)),
        "seats": task.seats,
        "policy": int(task.policy),
        "lease": task.lease,
        "commit_deadline": task.commit_deadline,
        "window": task.window,
        "spec_hash": hexed(task.spec_hash),
    }


def seat_json(seat: Seat) -> dict[str, Any]:
    """A seat in the contract's form."""
    node: NodeId = seat.node
    return {
        "node": node,
        "operator": seat.operator,
        "lease_end": seat.lease_end,
        "attempt": seat.attempt,
    }


def _open(action: _OnCommittee) -> dict[str, Any]:
    return {
        "task": task_json(action.task),
        "committee": [seat_json(seat) for seat in action.committee],
    }


def _each(base: int, more: int, items: Sequence[object]) -> int:
    return base + more * len(items)


def _signature(signature: bytes) -> str:
    return b64encode(signature).decode()


def _accept(accept: Accept) -> dict[str, Any]:
    return {
        "node": accept.node,
        "valid_until": accept.valid_until,
        "signature": _signature(accept.signature),
    }


def _commitment(commitment: Commitment) -> dict[str, Any]:
    own = commitment.signature == UNSIGNED
    return {
        "seat": commitment.seat,
        "value": hexed(commitment.value),
        "signature": None if own else _signature(commitment.signature),
    }


def _opening(opening: Opening) -> dict[str, Any]:
    return {"seat": opening.seat, "digest": hexed(opening.digest), "salt": hexed(opening.salt)}


def _result(result: Result) -> dict[str, Any]:
    return {
        "output_digest": hexed(result.output_digest),
        "evidence_digest": hexed(result.evidence_digest),
        "signature": _signature(result.signature),
    }


def _approval(approval: Approval) -> dict[str, Any]:
    return {
        "seat": approval.seat,
        "mask": approval.mask,
        "signature": _signature(approval.signature),
    }
