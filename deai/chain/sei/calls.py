"""An action as the contract call that carries it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, assert_never

import msgspec

from deai import actions as act
from deai.chain.ledger import (
    CHANNELS_CONTRACT,
    ORDERS_CONTRACT,
    POOLS_CONTRACT,
    REWARDS_CONTRACT,
)
from deai.chain.refusals import no_channels, no_orders, no_pools, no_rewards
from deai.chain.sei.abi import call_data, values
from deai.channels import Channel, Voucher
from deai.claims import Reason
from deai.ids import AccountId, NodeId, raw
from deai.orders import Order, Settlement
from deai.signing import split
from deai.tasks import Accept, Approval, Commitment, Opening, Result, Seat, Task

_ADDRESSES_SEPARATOR: Final = "\n"
_PLAIN_TRANSFER: Final = 21_000
_OPEN_CHANNEL: Final = ("bytes32", "address")
_SHARES: Final = ("uint8", "uint256[]")
_NO_VOUCHER: Final = (0, bytes(32), bytes(32), bytes(32))
_REGISTER: Final = ("uint96", "address", "uint40", "bytes", "bytes", "string")
_OPEN_POOL: Final = (
    "uint8", "uint96", "uint16", "address", "uint40", "bytes", "bytes", "string",
)  # fmt: skip
_DELEGATE: Final = ("uint8", "bytes32")
_OPEN, _ADD = 1, 2
"""What tokens that arrive at the contract for pools are for."""
_DUE: Final = 120_000
"""What a verb of a pool needs besides when income, or the end of a batch, comes before it."""


class ContractCall(msgspec.Struct, frozen=True):
    """Where to send what. `least_gas` is what the verb needs when no slot is fresh."""

    to: AccountId | None
    data: bytes
    least_gas: int
    value: int = 0
    """Wei that go along."""


def encode_action(action: act.Action, contracts: Mapping[str, AccountId]) -> ContractCall:
    """The call for an action."""
    if isinstance(action, act.TransferGas):
        return ContractCall(action.to, b"", _PLAIN_TRANSFER, action.amount)
    name, data, gas = _encode(action, contracts)
    return ContractCall(contracts[name], data, gas)


def join_addresses(addresses: Sequence[str]) -> str:
    """The contract's one text for a node's addresses."""
    return _ADDRESSES_SEPARATOR.join(addresses)


def split_addresses(text: str) -> tuple[str, ...]:
    """The addresses behind that text."""
    return tuple(text.split(_ADDRESSES_SEPARATOR)) if text else ()


def _encode(  # one row per verb
    action: act.ContractAction, contracts: Mapping[str, AccountId]
) -> tuple[str, bytes, int]:
    def token(function: str, *arguments: object) -> tuple[str, bytes, int]:
        return "ComputeToken", call_data("ComputeToken", function, *arguments), 35_000

    def paid_to(contract: str, amount: int, data: bytes, gas: int) -> tuple[str, bytes, int]:
        transfer = token("transferAndCall", contracts[contract], amount, data)
        return transfer[0], transfer[1], gas

    def registry(function: str, gas: int, *arguments: object) -> tuple[str, bytes, int]:
        return "NodeRegistry", call_data("NodeRegistry", function, *arguments), gas

    def escrow(function: str, gas: int, *arguments: object) -> tuple[str, bytes, int]:
        return "TaskEscrow", call_data("TaskEscrow", function, *arguments), gas

    match action:
        case act.TransferTokens():
            return token("transfer", action.to, action.amount)
        case act.Deposit():
            return paid_to("TaskEscrow", action.amount, b"", 55_000)
        case act.WithdrawVault():
            return escrow("withdraw", 45_000, action.to, action.amount)
        case act.RegisterNode():
            data = values(
                _REGISTER, action.index, action.operator, action.valid_until,
                action.operator_signature, action.peer_id.encode(),
                join_addresses(action.addresses),
            )  # fmt: skip
            return paid_to("NodeRegistry", action.stake, data, 200_000)
        case act.AddStake():
            return paid_to("NodeRegistry", action.amount, raw(action.node), 60_000)
        case act.RequestUnstake():
            return registry("requestUnstake", 45_000, raw(action.node), action.amount)
        case act.WithdrawStake():
            return registry("withdrawStake", 60_000, raw(action.node), action.to)
        case act.RotateOperator():
            return registry(
                "rotateOperator", 45_000, raw(action.node), action.operator, action.valid_until,
                action.operator_signature,
            )  # fmt: skip
        case act.Unjail():
            return registry("unjail", 40_000, raw(action.node))
        case act.Announce():
            return registry(
                "announce", 40_000, raw(action.node), action.peer_id.encode(),
                join_addresses(action.addresses),
            )  # fmt: skip
        case act.Heartbeat():
            return registry("heartbeat", 32_000, raw(action.node))
        case act.PostTask():
            return escrow("post", 60_000, task_words(action.task))
        case act.AssignTask():
            accepts = [_accept(one) for one in action.accepts]
            return escrow(
                "assign", _each(50_000, 14_000, accepts), task_words(action.task), accepts
            )
        case act.PostAndAssign():
            accepts = [_accept(one) for one in action.accepts]
            gas = _each(65_000, 14_000, accepts)
            return escrow("postAndAssign", gas, task_words(action.task), accepts)
        case act.CancelTask():
            return escrow("cancel", 55_000, task_words(action.task))
        case act.CommitResults():
            gas = _each(45_000, 8_000, action.commitments)
            new = [_commitment(one) for one in action.commitments]
            return escrow("commit", gas, *_open(action), new)
        case act.DeliverResult():
            return escrow("deliver", 65_000, *_open(action), _result(action.result))
        case act.ObjectToResult():
            return escrow("object", 60_000, *_open(action))
        case act.ReleaseSeat():
            return escrow("release", 50_000, *_open(action), action.seat)
        case act.ReassignSeat():
            return escrow("reassign", 80_000, *_open(action), action.seat, _accept(action.accept))
        case act.RevealResults():
            gas = _each(50_000, 5_000, action.openings)
            return escrow("reveal", gas, *_open(action), _openings(action.openings))
        case act.ApproveOutputs():
            return escrow("approve", 60_000, *_open(action), _approval(action.approval))
        case act.FinaliseTask():
            approvals = [_approval(one) for one in action.approvals]
            gas = _each(_each(60_000, 20_000, action.committee), 8_000, approvals)
            return escrow("finalise", gas, *_open(action), _openings(action.openings), approvals)
        case act.ExpireTask():
            return escrow("expire", 80_000, *_open(action))
        case act.ProveEquivocation():
            return escrow(
                "proveEquivocation", 120_000, *_open(action), action.seat,
                _result(action.first), _result(action.second),
            )  # fmt: skip
        case act.SweepFees():
            gas = _each(50_000, 10_000, action.lanes)
            return escrow("sweep", gas, action.client, list(action.lanes))
        case act.FundRewards() | act.ProposeRewards() | act.CancelRewards() | act.ClaimRewards():
            return _encode_reward(action, contracts)
        case (
            act.FundOrders()
            | act.SettleOrders()
            | act.RequestThaw()
            | act.WithdrawThawed()
            | act.CollectEarnings()
            | act.SweepOrderFees()
        ):
            return _encode_order(action, contracts)
        case (
            act.OpenPool()
            | act.Delegate()
            | act.Undelegate()
            | act.AdvancePool()
            | act.ClaimDelegation()
            | act.AnnounceCommission()
            | act.ClosePool()
            | act.PoolRotateOperator()
            | act.PoolUnjail()
        ):
            return _encode_pool(action, contracts)
        case _:
            return _encode_channel(action, contracts)


def _encode_channel(
    action: act.ChannelAction, contracts: Mapping[str, AccountId]
) -> tuple[str, bytes, int]:
    if CHANNELS_CONTRACT not in contracts:
        raise no_channels()

    def paid(amount: int, data: bytes, gas: int) -> tuple[str, bytes, int]:
        to = contracts[CHANNELS_CONTRACT]
        return "ComputeToken", call_data("ComputeToken", "transferAndCall", to, amount, data), gas

    def channels(function: str, gas: int, *arguments: object) -> tuple[str, bytes, int]:
        return CHANNELS_CONTRACT, call_data(CHANNELS_CONTRACT, function, *arguments), gas

    match action:
        case act.OpenChannel():
            data = values(_OPEN_CHANNEL, raw(action.node), action.session_key)
            return paid(action.deposit, data, 55_000)
        case act.TopUpChannel():
            return paid(action.amount, raw(action.channel_id), 50_000)
        case act.RedeemVoucher():
            return channels("redeem", 50_000, *_redemption(action.channel, action.voucher))
        case act.RedeemMany():
            batch = [_redemption(*one) for one in action.redemptions]
            return channels("redeemMany", _each(35_000, 16_000, batch), batch)
        case act.CloseChannel():
            last = _NO_VOUCHER if action.voucher is None else _voucher(action.voucher)
            return channels("close", 45_000, _channel(action.channel), last)
        case act.RequestClose():
            return channels("requestClose", 30_000, _channel(action.channel))
        case act.FinishClose():
            return channels("finish", 40_000, _channel(action.channel))
        case _:
            assert_never(action)


def _encode_reward(
    action: act.RewardAction, contracts: Mapping[str, AccountId]
) -> tuple[str, bytes, int]:
    if REWARDS_CONTRACT not in contracts:
        raise no_rewards()

    def rewards(function: str, gas: int, *arguments: object) -> tuple[str, bytes, int]:
        return REWARDS_CONTRACT, call_data(REWARDS_CONTRACT, function, *arguments), gas

    match action:
        case act.FundRewards():
            data = b""
            if action.reason is not Reason.POT or action.shares:
                shares = [
                    int.from_bytes(raw(one.account), "big") << 96 | one.amount
                    for one in action.shares
                ]
                data = values(_SHARES, int(action.reason), shares)
            to = contracts[REWARDS_CONTRACT]
            sent = call_data("ComputeToken", "transferAndCall", to, action.amount, data)
            return "ComputeToken", sent, _each(40_000, 700, action.shares)
        case act.ProposeRewards():
            return rewards(
                "propose", 45_000, action.epoch, action.root, action.total, action.statement
            )
        case act.CancelRewards():
            return rewards("cancel", 30_000, action.epoch)
        case act.ClaimRewards():
            one = action.claim
            return rewards(
                "claim", _each(50_000, 1_000, one.path), one.account, one.cumulative_amount,
                one.sides, list(one.path),
            )  # fmt: skip
        case _:
            assert_never(action)


def _encode_order(
    action: act.OrderAction, contracts: Mapping[str, AccountId]
) -> tuple[str, bytes, int]:
    if ORDERS_CONTRACT not in contracts:
        raise no_orders()

    def orders(function: str, gas: int, *arguments: object) -> tuple[str, bytes, int]:
        return ORDERS_CONTRACT, call_data(ORDERS_CONTRACT, function, *arguments), gas

    match action:
        case act.FundOrders():
            to, page = contracts[ORDERS_CONTRACT], values(("uint256",), action.page)
            data = call_data("ComputeToken", "transferAndCall", to, action.amount, page)
            return "ComputeToken", data, 50_000
        case act.SettleOrders():
            gas = _each(50_000, 25_000, action.settlements)
            return orders("settle", gas, *settle_words(action.settlements))
        case act.RequestThaw():
            return orders("requestThaw", 28_000, action.amount)
        case act.WithdrawThawed():
            return orders("withdraw", 35_000, action.to)
        case act.CollectEarnings():
            return orders("collect", 40_000, action.owner)
        case act.SweepOrderFees():
            return orders("sweep", _each(35_000, 8_000, action.owners), list(action.owners))
        case _:
            assert_never(action)


def _encode_pool(
    action: act.PoolAction, contracts: Mapping[str, AccountId]
) -> tuple[str, bytes, int]:
    if POOLS_CONTRACT not in contracts:
        raise no_pools()

    def paid(amount: int, data: bytes, gas: int) -> tuple[str, bytes, int]:
        to = contracts[POOLS_CONTRACT]
        return "ComputeToken", call_data("ComputeToken", "transferAndCall", to, amount, data), gas

    def pools(function: str, gas: int, node: NodeId, *arguments: object) -> tuple[str, bytes, int]:
        return POOLS_CONTRACT, call_data(POOLS_CONTRACT, function, raw(node), *arguments), gas

    match action:
        case act.OpenPool():
            data = values(
                _OPEN_POOL, _OPEN, action.index, action.commission_bps, action.operator,
                action.valid_until, action.signature, action.peer_id.encode(),
                join_addresses(action.addresses),
            )  # fmt: skip
            return paid(action.stake, data, 400_000)
        case act.Delegate():
            return paid(action.amount, values(_DELEGATE, _ADD, raw(action.node)), 165_000 + _DUE)
        case act.Undelegate():
            return pools("undelegate", 110_000 + _DUE, action.node, action.shares)
        case act.AdvancePool():
            return pools("advance", 70_000 + _DUE, action.node)
        case act.ClaimDelegation():
            return pools("claim", 100_000 + _DUE, action.node, action.account)
        case act.AnnounceCommission():
            return pools("announceCommission", 75_000 + _DUE, action.node, action.bps)
        case act.ClosePool():
            return pools("close", 150_000 + _DUE, action.node)
        case act.PoolRotateOperator():
            return pools(
                "rotateOperator", 60_000, action.node, action.operator, action.valid_until,
                action.signature,
            )  # fmt: skip
        case act.PoolUnjail():
            return pools("unjail", 90_000 + _DUE, action.node)
        case _:
            assert_never(action)


class _OnCommittee(Protocol):
    """What every action on a running task names."""

    @property
    def task(self) -> Task: ...
    @property
    def committee(self) -> tuple[Seat, ...]: ...


def task_words(task: Task) -> tuple[object, ...]:
    """A task as the contract's tuple."""
    return (
        task.client, task.lane, task.nonce, int(task.fee), int(task.tip), task.seats,
        int(task.policy), task.lease, task.commit_deadline, task.window, task.spec_hash,
    )  # fmt: skip


def _channel(channel: Channel) -> tuple[object, ...]:
    return channel.client, raw(channel.node), channel.session_key


def _voucher(voucher: Voucher) -> tuple[object, ...]:
    return int(voucher.cumulative_amount), voucher.receipts_root, *split(voucher.signature)


def _redemption(channel: Channel, voucher: Voucher) -> tuple[object, object]:
    return _channel(channel), _voucher(voucher)


def order_words(order: Order) -> tuple[object, ...]:
    """An order's terms as the contract's tuple; its nodes travel beside it."""
    return (
        order.client, int(order.fee), int(order.policy), order.valid_until, order.nonce,
        order.spec_hash,
    )  # fmt: skip


def settle_words(batch: Sequence[Settlement]) -> tuple[list[bytes], list[object]]:
    """Settlements as the contract takes them: every node once, and indices into that table.

    One that names other results than seats is sent without seats, for which it is refused.
    """
    table: dict[str, int] = {}
    words: list[object] = []
    for one in batch:
        order = one.order
        seats = [
            (table.setdefault(node, len(table)), *split(result or bytes(64)))
            for node, result in zip(order.nodes, one.results, strict=False)
            if len(order.nodes) == len(one.results)
        ]
        words.append((order_words(order), *split(one.signature), one.output_digest, seats))
    return [raw(node) for node in table], words


def _open(action: _OnCommittee) -> tuple[object, object]:
    return task_words(action.task), [(raw(seat.node), seat.info) for seat in action.committee]


def _each(base: int, more: int, items: Sequence[object]) -> int:
    return base + more * len(items)


def _accept(accept: Accept) -> tuple[object, ...]:
    return (raw(accept.node), accept.valid_until, *split(accept.signature))


def _commitment(commitment: Commitment) -> tuple[object, ...]:
    return (commitment.seat, commitment.value, *split(commitment.signature))


def _openings(openings: Sequence[Opening]) -> list[tuple[object, ...]]:
    return [(one.seat, one.digest, one.salt) for one in openings]


def _result(result: Result) -> tuple[object, ...]:
    return (result.output_digest, result.evidence_digest, *split(result.signature))


def _approval(approval: Approval) -> tuple[object, ...]:
    return (approval.seat, approval.mask, *split(approval.signature))
