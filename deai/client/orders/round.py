"""One order at its seats, as the client sees it: who took it, who signed what, who agrees. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from deai.errors import BadSignature
from deai.ids import AccountId, NodeId, OrderId
from deai.order_messages import SignedResult, Turned
from deai.orders import Order, result_digest
from deai.signing import Domain, verify

AFTER_SIGNING: Final = frozenset({"chain", "disk_full", "no_quorum", "bad_signature"})
"""Refusals that say nothing about the seat's own result."""
AWAY: Final = frozenset({"unreachable", "slow"})
"""Not the seat's word: it was not heard."""


class SeatPhase(StrEnum):
    """Where one seat is."""

    ASKED = "asked"
    TAKEN = "taken"
    SIGNED = "signed"
    TURNED = "turned"  # it does not take the order, or does not go on with it


@dataclass(slots=True)
class SeatView:
    """One seat."""

    index: int
    node: NodeId
    operator: AccountId
    phase: SeatPhase = SeatPhase.ASKED
    code: str = ""
    reason: str = ""
    done: float = 0.0
    digest: bytes | None = None
    signature: bytes | None = None
    secured: int = 0
    """How many signatures it says that it keeps."""
    was_useless: bool = False
    """It was asked for the output, and did not give it."""


class Round:
    """The seats of one order. Every signature in it is its seat's own."""

    def __init__(
        self, id_: OrderId, order: Order, domain: Domain, operators: Sequence[AccountId]
    ) -> None:
        self.id = id_
        self.order = order
        self._domain = domain
        self.seats = [
            SeatView(seat, node, operator)
            for seat, (node, operator) in enumerate(zip(order.nodes, operators, strict=True))
        ]

    def recall(self, digest: bytes, results: Sequence[bytes | None]) -> None:
        """What an earlier life had collected."""
        for seat, signature in zip(self.seats, results, strict=True):
            if signature is not None:
                seat.phase, seat.digest, seat.signature = SeatPhase.SIGNED, digest, signature

    def taken(self, seat: SeatView) -> None:
        """It has a slot for the order."""
        if seat.phase in (SeatPhase.ASKED, SeatPhase.TURNED):
            seat.phase, seat.code, seat.reason = SeatPhase.TAKEN, "", ""

    def turned(self, seat: SeatView, message: Turned) -> None:
        """It said no; a signature that it gave stays one."""
        if seat.phase is SeatPhase.SIGNED:
            if message.code not in AFTER_SIGNING:
                seat.was_useless = True
            return
        seat.phase, seat.code, seat.reason = SeatPhase.TURNED, message.code, message.reason

    def signed(self, seat: SeatView, message: SignedResult) -> bool:
        """It signed an output; False, and the seat is out, for another key's signature.

        The first digest counts: what a seat says later is not its word any more.
        """
        if seat.signature is not None:
            return seat.digest == message.output_digest
        named = result_digest(self._domain, self.id, seat.node, message.output_digest)
        try:
            verify(named, message.signature, seat.operator)
        except BadSignature as error:
            seat.phase, seat.code, seat.reason = SeatPhase.TURNED, "bad_signature", str(error)
            return False
        seat.phase, seat.digest = SeatPhase.SIGNED, message.output_digest
        seat.signature = message.signature
        return True

    @property
    def is_taken(self) -> bool:
        """Whether every seat took it."""
        return all(one.phase in (SeatPhase.TAKEN, SeatPhase.SIGNED) for one in self.seats)

    @property
    def is_answered(self) -> bool:
        """Whether every seat took it or said no."""
        return all(one.phase is not SeatPhase.ASKED for one in self.seats)

    @property
    def is_complete(self) -> bool:
        """Whether nothing more can come."""
        over = (SeatPhase.SIGNED, SeatPhase.TURNED)
        return all(one.phase in over for one in self.seats)

    @property
    def groups(self) -> Mapping[bytes, tuple[SeatView, ...]]:
        """Seats by the digest that they signed."""
        found: dict[bytes, tuple[SeatView, ...]] = {}
        for one in self.seats:
            if one.digest is not None:
                found[one.digest] = (*found.get(one.digest, ()), one)
        return found

    @property
    def winner(self) -> bytes | None:
        """The digest that a quorum signed; there is at most one, of more than half the seats."""
        for digest, seats in self.groups.items():
            if len(seats) >= self.order.quorum:
                return digest
        return None

    @property
    def is_hopeless(self) -> bool:
        """Whether no digest can reach the quorum any more; who is away may come back."""
        waiting = (SeatPhase.ASKED, SeatPhase.TAKEN)
        open_ = sum(one.phase in waiting or one.code in AWAY for one in self.seats)
        best = max((len(seats) for seats in self.groups.values()), default=0)
        return best + open_ < self.order.quorum

    def results(self, digest: bytes) -> tuple[bytes | None, ...]:
        """Signatures over a digest, by seat."""
        return tuple(one.signature if one.digest == digest else None for one in self.seats)

    def source(self, digest: bytes) -> SeatView | None:
        """Whom to ask for the output next: a seat that may hand it over and has not failed to."""
        for one in self.seats:
            if one.digest == digest and one.secured and not one.was_useless:
                return one
        return None
