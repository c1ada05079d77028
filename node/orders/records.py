"""One order at this node: what the book keeps of it, and what can happen to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from deai.errors import IllegalTransition
from deai.ids import PeerId
from deai.order_messages import OrderKey
from deai.orders import Order, Settlement
from deai.tasks import MAX_SEATS, Digest, SeatIndex, Seconds, Signature, TaskSpec


class OrderState(StrEnum):
    """Where an order is; the words stand in documents."""

    TAKEN = "taken"  # promised: its input, a worker or the result is waited for
    SIGNED = "signed"  # our signature may be with the client, the others' are not here
    SECURED = "secured"  # a quorum of signatures is on our disk: anybody may settle it, and we can
    PAID = "paid"  # settled, and our seat was paid
    LEFT_OUT = "left_out"  # settled by signatures without ours
    OUTRUN = "outrun"  # its nonce was settled for another order: the client signed two
    LOST = "lost"  # it expired, and the quorum was never shown to us
    UNPAID = "unpaid"  # it expired, and the chain did not settle it
    DROPPED = "dropped"  # nothing was signed, and nothing is owed

    @property
    def is_over(self) -> bool:
        """Whether nothing more can happen to it."""
        return self not in TRANSITIONS


class OrderEvent(StrEnum):
    """What can happen to an order here."""

    RESULT = "result"  # computed and signed
    QUORUM = "quorum"  # enough signatures over our digest are known and kept
    PAYMENT = "payment"  # the chain settled it, and paid our seat
    OMISSION = "omission"  # the chain settled it without our signature
    OTHER_ORDER = "other_order"  # the chain settled another order with this nonce
    EXPIRY = "expiry"  # the chain's clock passed its last second
    FAILURE = "failure"  # abandoned, or not computable


_E, _S = OrderEvent, OrderState
_SETTLED: Final = {
    _E.PAYMENT: _S.PAID, _E.OMISSION: _S.LEFT_OUT, _E.OTHER_ORDER: _S.OUTRUN,
}  # fmt: skip
TRANSITIONS: Final[Mapping[OrderState, Mapping[OrderEvent, OrderState]]] = {
    _S.TAKEN: {
        _E.RESULT: _S.SIGNED,
        _E.PAYMENT: _S.PAID,  # signed by a life whose book was lost
        _E.OMISSION: _S.LEFT_OUT,
        _E.OTHER_ORDER: _S.DROPPED,
        _E.EXPIRY: _S.DROPPED,
        _E.FAILURE: _S.DROPPED,
    },
    _S.SIGNED: {_E.QUORUM: _S.SECURED, _E.EXPIRY: _S.LOST, **_SETTLED},
    _S.SECURED: {_E.QUORUM: _S.SECURED, _E.EXPIRY: _S.UNPAID, **_SETTLED},
}
_IN_VAIN: Final = frozenset({_S.LOST, _S.LEFT_OUT, _S.OUTRUN})
OVERDRAWN: Final = "Insufficient"
"""The contract's word for a client that signed more than it had set aside."""
_OURS: Final = frozenset({"", "TooLate"})
"""How an order ends unsettled that the chain never refused, or for our being late."""


def advance(state: OrderState, event: OrderEvent) -> OrderState:
    """Return the state that follows; raise `IllegalTransition` if there is none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"an order that is {state} cannot take {event}") from None


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the book keeps it. Times are chain seconds."""

    id: OrderKey
    order: Order
    signature: Signature
    spec: TaskSpec
    seat: SeatIndex
    peer: str
    """Who placed it first."""
    taken_at: Seconds
    state: OrderState = OrderState.TAKEN
    digest: Digest | None = None
    """Of our output, once it is signed; never another one."""
    results: Annotated[tuple[Signature | None, ...], msgspec.Meta(max_length=MAX_SEATS)] = ()
    """Signatures over `digest` by seat, ours among them."""
    secured_at: Seconds = 0
    batch: int = 0
    """The transaction that it was, or is being, shown in; 0 for none under way."""
    ended_at: Seconds = 0
    payment: str = "0"
    """Base units that the chain paid our seat."""
    reason: str = ""

    @property
    def client_peer(self) -> PeerId:
        """Who placed it first."""
        return PeerId(self.peer)

    @property
    def signed(self) -> int:
        """How many seats' signatures are here."""
        return sum(one is not None for one in self.results)

    @property
    def rank(self) -> int:
        """How many seats before ours signed: they settle a little earlier."""
        return sum(one is not None for one in self.results[: self.seat])

    @property
    def is_at_risk(self) -> bool:
        """Whether we work, or worked, and cannot settle it by ourselves yet."""
        return self.state in (OrderState.TAKEN, OrderState.SIGNED) and self.order.quorum > 1

    @property
    def was_in_vain(self) -> bool:
        """Whether we worked for nothing, and the client answers for it.

        Who sits beside us, who was shown what, and how much it signed, was its choice: keys that
        were rotated away since are of seats that it chose. Not what we settled too late.
        """
        if self.state is OrderState.UNPAID:
            return self.reason not in _OURS
        return self.state in _IN_VAIN

    def settlement(self) -> Settlement:
        """What the chain is shown; only once it is signed."""
        assert self.digest is not None
        return Settlement(self.order, self.signature, self.digest, self.results)

    def blob(self, kind: str) -> str:
        """The name of its input or output among the blobs."""
        return f"order-{self.id[2:]}-{kind}"


def with_result(held: Held, digest: bytes, signature: bytes) -> Held:
    """Ours is signed; of one seat that is the quorum."""
    results = tuple(
        signature if seat == held.seat else None for seat in range(len(held.order.nodes))
    )
    state = advance(held.state, OrderEvent.RESULT)
    return msgspec.structs.replace(held, state=state, digest=digest, results=results)


def with_results(held: Held, more: Mapping[int, bytes], now: int) -> Held:
    """Signatures of other seats that were checked; secured where they reach the quorum."""
    results = tuple(
        known if known is not None else more.get(seat) for seat, known in enumerate(held.results)
    )
    held = msgspec.structs.replace(held, results=results)
    if held.signed < held.order.quorum:
        return held
    state = advance(held.state, OrderEvent.QUORUM)
    return msgspec.structs.replace(held, state=state, secured_at=held.secured_at or now)


def ended(
    held: Held, event: OrderEvent, now: int, *, payment: int = 0, reason: str = ""
) -> Held:  # fmt: skip
    """It is over."""
    return msgspec.structs.replace(
        held, state=advance(held.state, event), ended_at=now, payment=str(payment), batch=0,
        reason=reason[:512],
    )  # fmt: skip
