"""Signed orders as their contract settles them: the table of `deai.orders`, and the money.

Each verb asks what the contract asks, in its order. What a balance is afterwards, what settles and
what refuses it, `deai.orders` says; here that becomes the contract's own error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from deai import orders
from deai.actions import (
    CollectEarnings,
    FundOrders,
    RequestThaw,
    SettleOrders,
    SweepOrderFees,
    WithdrawThawed,
)
from deai.chain.ledger import OrderEarnings
from deai.chain.memory_registry import reputation_now
from deai.chain.memory_state import NO_EARNINGS, NO_ORDERS, Call, refuse
from deai.chain.refusals import refusal
from deai.errors import IllegalTransition, LedgerRejected
from deai.events import (
    EarningsCollected,
    OrderFeesSwept,
    OrderSettled,
    OrdersFunded,
    OrderSkipped,
    PageOpened,
    ThawRequested,
    ThawWithdrawn,
)
from deai.hashing import ZERO
from deai.ids import AccountId, NodeId, OrderId, hexed, owner_of
from deai.money import Amount
from deai.orders import Member, OrderBalance, Settlement

NO_ORDER: Final = OrderId(hexed(ZERO))


def balance_of(call: Call, client: AccountId) -> OrderBalance:
    """What a client set aside; raises `NotSetUp` where there is no contract."""
    _ = call.info.orders
    return call.order_balances.get(client, NO_ORDERS)


def earnings_of(call: Call, owner: AccountId) -> OrderEarnings:
    """What waits for an owner; raises `NotSetUp` where there is no contract."""
    _ = call.info.orders
    return call.order_earnings.get(owner, NO_EARNINGS)


def page_of(call: Call, client: AccountId, page: int) -> int:
    """A word of a client; raises `NotSetUp` where there is no contract."""
    _ = call.info.orders
    return call.order_pages.get((client, page), 0)


def fund(call: Call, action: FundOrders) -> None:
    """Set tokens of the sender aside."""
    call.move_tokens(call.sender, call.info.orders.contract, action.amount)
    if call.paused:
        refuse("IsPaused")
    with _as_contract(call, call.sender):
        record = orders.funded(balance_of(call, call.sender), action.amount)
    if not page_of(call, call.sender, action.page):
        call.order_pages[call.sender, action.page] = 1
        call.emit(PageOpened(call.sender, action.page))
    call.order_balances[call.sender] = record
    call.emit(OrdersFunded(call.sender, action.amount, record.balance))


def settle(call: Call, action: SettleOrders) -> None:
    """Settle what can be settled, and name what cannot."""
    _ = call.info.orders
    reasons = [_settle(call, one) for one in action.settlements]
    if all(reasons):
        refuse("NothingSettled", reason=reasons[0] if reasons else "")


def request_thaw(call: Call, action: RequestThaw) -> None:
    """The clock of the thaw starts, or the request is taken back."""
    before = balance_of(call, call.sender)
    with _as_contract(call, call.sender):
        record = orders.thaw_requested(
            before, action.amount, call.now, call.parameters.thaw_period
        )  # fmt: skip
    call.order_balances[call.sender] = record
    call.emit(ThawRequested(call.sender, record.thawing, record.thaws_at))


def withdraw(call: Call, action: WithdrawThawed) -> None:
    """What thawed leaves."""
    before = balance_of(call, call.sender)
    with _as_contract(call, call.sender):
        record, amount = orders.withdrawn(before, call.now)
    call.order_balances[call.sender] = record
    call.emit(ThawWithdrawn(call.sender, action.to, amount))
    if amount:
        call.move_tokens(call.info.orders.contract, action.to, amount)


def collect(call: Call, action: CollectEarnings) -> None:
    """An owner is sent what it earned."""
    due = earnings_of(call, action.owner)
    if not due.earned:
        refuse("NothingEarned", owner=action.owner)
    call.order_earnings[action.owner] = OrderEarnings(0, due.fees)
    call.emit(EarningsCollected(action.owner, Amount(due.earned)))
    call.move_tokens(call.info.orders.contract, action.owner, due.earned)


def sweep(call: Call, action: SweepOrderFees) -> None:
    """The treasury is sent the protocol's part."""
    total = 0
    for owner in action.owners:
        due = earnings_of(call, owner)
        if due.fees:
            call.order_earnings[owner] = OrderEarnings(due.earned, 0)
            call.emit(OrderFeesSwept(owner, Amount(due.fees)))
            total += due.fees
    if total:
        call.move_tokens(call.info.orders.contract, call.parameters.treasury, total)


def _settle(call: Call, one: Settlement) -> str:
    """Settle an order, or report what refuses it; returns that."""
    order, domain = one.order, call.info.orders
    members = [_member(call, node) for node in order.nodes]
    record, page = balance_of(call, order.client), page_of(call, order.client, order.page)
    try:
        mask = orders.judge(
            one, record=record, page=page, members=members, now=call.now,
            least_fee=call.parameters.min_fee, domain=domain,
        )  # fmt: skip
    except LedgerRejected as error:
        named = NO_ORDER if error.name == "BadOrder" else orders.order_id(order, domain)
        call.emit(OrderSkipped(named, error.name))
        return error.name
    call.order_balances[order.client] = orders.charged(record, order)
    call.order_pages[order.client, order.page] = page | order.bit
    share = orders.payout(order, mask, members, call.rules.paid_amount)
    fees = share.protocol_fee
    for node, paid in zip(order.nodes, share.payments, strict=True):
        if paid:
            due = earnings_of(call, owner_of(node))
            # What is not paid accrues beside the first seat that is.
            call.order_earnings[owner_of(node)] = OrderEarnings(due.earned + paid, due.fees + fees)
            fees = 0
    if fees:
        first = owner_of(order.nodes[0])
        due = earnings_of(call, first)
        call.order_earnings[first] = OrderEarnings(due.earned, due.fees + fees)
    paid_out = tuple(Amount(paid) for paid in share.payments)
    id_ = orders.order_id(order, domain)
    call.emit(OrderSettled(id_, order, one.output_digest, paid_out))
    return ""


def _member(call: Call, node: NodeId) -> Member:
    state = call.node(node)
    return Member(state.operator, state.standing, reputation_now(call, state))


@contextmanager
def _as_contract(call: Call, client: AccountId) -> Iterator[None]:
    """What the table refuses, under the contract's names."""
    try:
        yield
    except IllegalTransition:
        refuse("BadState", client=client, state=int(balance_of(call, client).state))
    except LedgerRejected as error:
        arguments = dict(error.arguments)
        if error.name == "Insufficient":
            arguments["account"] = client
        raise refusal(error.name, arguments) from error
