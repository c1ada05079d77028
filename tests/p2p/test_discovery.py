from __future__ import annotations

from hypothesis import given, strategies as st

from deai.ids import PeerId
from deai.net import PeerAddress
from p2p.discovery import MAX_ADDRESSES, PeerBook, PeerRecord

A, B, C, D = (PeerId(letter * 40) for letter in "ABCD")


def hint(peer: PeerId, *addresses: str, until: float = 100.0, sequence: int = 0) -> PeerRecord:
    return PeerRecord(PeerAddress(peer, addresses), until, sequence)


def test_hints_about_one_peer_are_merged_newest_first() -> None:
    book = PeerBook()
    assert book.add(hint(A, "one", "two"), 0)
    assert book.add(hint(A, "three", "one", until=200), 0)
    assert book.find(A, 0) == hint(A, "three", "one", "two", until=200)
    assert not book.add(hint(A, "three", "one", "two", until=50), 0)


def test_the_newest_signed_record_wins_whatever_its_order_of_arrival() -> None:
    book = PeerBook()
    assert book.add(hint(A, "hint"), 0)
    assert book.add(hint(A, "new", sequence=7), 0)
    assert not book.add(hint(A, "old", sequence=6), 0)
    assert not book.add(hint(A, "hint"), 0)
    assert not book.add(hint(A, "same sequence", sequence=7), 0)
    assert book.find(A, 0) == hint(A, "new", sequence=7)


def test_records_expire() -> None:
    book = PeerBook()
    assert not book.add(hint(A, "late", until=5), 5)
    book.add(hint(A, "one", until=10, sequence=3), 0)
    assert book.records(9) == [hint(A, "one", until=10, sequence=3)]
    assert book.find(A, 10) is None
    assert book.records(10) == []
    assert book.add(hint(A, "two", until=30, sequence=2), 10)


def test_a_full_book_drops_hints_before_signed_records() -> None:
    book = PeerBook(max_peers=2)
    book.add(hint(A, "a", until=50, sequence=1), 0)
    book.add(hint(B, "b", until=90), 0)
    assert book.add(hint(C, "c", until=60, sequence=1), 0)
    assert {record.address.peer_id for record in book.records(0)} == {A, C}
    assert not book.add(hint(D, "d", until=99), 0)
    assert book.add(hint(D, "d", until=99, sequence=1), 0)
    assert {record.address.peer_id for record in book.records(0)} == {C, D}


def test_we_are_not_a_peer_of_ours() -> None:
    assert not PeerBook(own=A).add(hint(A, "a"), 0)


records = st.builds(
    lambda peer, addresses, until, sequence: hint(
        PeerId(f"peer{peer}"), *addresses, until=until, sequence=sequence
    ),
    st.integers(0, 30),
    st.lists(st.sampled_from([f"address{number}" for number in range(40)]), max_size=16),
    st.floats(0, 100),
    st.integers(0, 5),
)


@given(st.lists(st.tuples(records, st.floats(0, 2)), max_size=80))
def test_the_book_is_bounded_and_never_goes_back(
    steps: list[tuple[PeerRecord, float]],
) -> None:
    book, now = PeerBook(max_peers=8), 0.0
    for record, pause in steps:
        now += pause
        before = {known.address.peer_id: known for known in book.records(now)}
        book.add(record, now)
        after = {known.address.peer_id: known for known in book.records(now)}
        assert len(after) <= 8
        assert all(len(known.address.addresses) <= MAX_ADDRESSES for known in after.values())
        for peer, known in after.items():
            assert peer not in before or known.sequence >= before[peer].sequence
