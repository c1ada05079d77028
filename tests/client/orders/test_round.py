"""The seats of one order as its client sees them, whatever they say in whichever order."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, strategies as st

from deai.client.orders.round import Round, SeatPhase
from deai.hashing import keccak
from deai.ids import AccountId, NodeId
from deai.money import Amount
from deai.order_messages import SignedResult, Turned
from deai.orders import Order, order_id, sign_result
from deai.signing import Domain, LocalSigner
from deai.tasks import Policy

DOMAIN = Domain("deai orders", 1, AccountId("0x" + "99" * 20))
KEYS = [LocalSigner(keccak(f"operator {i}".encode())) for i in range(15)]
NODES = [NodeId("0x" + f"{i + 1:02x}" * 20 + "00" * 12) for i in range(15)]
DIGESTS = [keccak(name) for name in (b"a", b"b", b"c")]


def begin(seats: int) -> Round:
    order = Order(
        AccountId("0x" + "11" * 20), Amount(100), Policy.NONE if seats == 1 else Policy.EXACT,
        10**9, 1, bytes(32), tuple(NODES[:seats]),
    )  # fmt: skip
    operators = [one.account for one in KEYS[:seats]]
    return Round(order_id(order, DOMAIN), order, DOMAIN, operators)


def word(made: Round, seat: int, digest: bytes, key: int | None = None) -> SignedResult:
    signer = KEYS[seat if key is None else key]
    return SignedResult(
        made.id, digest, sign_result(DOMAIN, signer, made.id, NODES[seat], digest)
    )  # fmt: skip


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["taken", "turned", "signed", "forged"]),
        st.integers(0, 14),
        st.sampled_from(DIGESTS),
    ),
    max_size=40,
)


@given(st.sampled_from([1, 3, 5, 15]), STEPS)
def test_the_winner_is_what_a_quorum_of_seats_signed_first(
    seats: int, steps: list[tuple[str, int, bytes]]
) -> None:
    made = begin(seats)
    first: dict[int, bytes] = {}
    for what, which, digest in steps:
        seat = made.seats[which % seats]
        if what == "taken":
            made.taken(seat)
        elif what == "turned":
            made.turned(seat, Turned(made.id, "capacity", ""))
        elif what == "signed":
            made.signed(seat, word(made, seat.index, digest))
            first.setdefault(seat.index, digest)
        else:
            assert not made.signed(seat, word(made, seat.index, digest, (seat.index + 1) % 15)) or (
                first.get(seat.index) == digest
            )
    votes = Counter(first.values())
    best, count = votes.most_common(1)[0] if votes else (None, 0)
    assert made.winner == (best if count >= made.order.quorum else None)
    if made.winner is not None:
        assert not made.is_hopeless
        results = made.results(made.winner)
        signed = {seat for seat, one in enumerate(results) if one is not None}
        assert signed == {seat for seat, digest in first.items() if digest == made.winner}


def test_a_seat_whose_output_did_not_come_is_not_asked_again() -> None:
    made = begin(3)
    for seat in made.seats:
        made.signed(seat, word(made, seat.index, DIGESTS[0]))
    assert made.source(DIGESTS[0]) is None  # nobody holds the signatures yet
    made.seats[1].secured = made.seats[2].secured = 3
    assert made.source(DIGESTS[0]) is made.seats[1]
    made.turned(made.seats[1], Turned(made.id, "output_gone", ""))
    assert made.source(DIGESTS[0]) is made.seats[2]
    assert made.seats[1].phase is SeatPhase.SIGNED  # and is paid for what it signed
