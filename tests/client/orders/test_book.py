"""What the client has signed away: nonces, keys, and money that is spoken for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from deai.client.orders.book import OrderBook, OrderEntry, Placed
from deai.client.orders.money import Purse
from deai.errors import ConfigError, LimitExceeded, UsageError
from deai.ids import SEI, AccountId, NodeId
from deai.money import Amount
from deai.orders import Order, OrderBalance, order_id
from deai.signing import Domain
from deai.tasks import Policy, TaskSpec
from tests.client.support.world import inline

ACCOUNT = AccountId("0x" + "11" * 20)
NODE = NodeId("0x" + "22" * 20 + "00" * 12)
DOMAIN = Domain("deai orders", 1, AccountId("0x" + "99" * 20))
SPEC = TaskSpec(
    domain="1:0x", workload="shout", workload_version=1, model="", input_digest=bytes(32),
    input_bytes=5, parameters=b"", salt=bytes(32),
)  # fmt: skip
OPEN = {0: 1}


def placed(nonce: int, until: int) -> Placed:
    order = Order(ACCOUNT, Amount(7), Policy.NONE, until, nonce, bytes(32), (NODE,))
    return Placed(
        order_id=order_id(order, DOMAIN), order=order, signature=bytes(64), spec=SPEC, seats=(),
        since=1,
    )  # fmt: skip


async def reserve(
    book: OrderBook, *, now: int = 100, until: int = 200, pages: dict[int, int] = OPEN,
    key: str = "", digest: bytes = b"digest", start: int = 0,
) -> OrderEntry:  # fmt: skip
    return await book.reserve(
        chain=SEI, account=ACCOUNT, digest=digest, key=key, created=0.0, pages=pages, now=now,
        start=start, build=lambda nonce: placed(nonce, until),
    )  # fmt: skip


def nonce(entry: OrderEntry) -> int:
    return entry.placed.order.nonce


async def test_no_nonce_is_signed_twice_while_an_order_with_it_may_be_settled(
    tmp_path: Path,
) -> None:
    first, second = (OrderBook(tmp_path / "orders.db", inline) for _ in range(2))
    taken = {nonce(await reserve(one)) for one in (first, second) * 127}
    assert len(taken) == 254
    last = await reserve(first)
    assert {*taken, nonce(last)} == set(range(1, 256))
    with pytest.raises(LimitExceeded) as caught:
        await reserve(second)
    assert caught.value.reason_code == "page_full"
    # Given up before any input was sent: somebody may still hold the signed order.
    await first.step(last, "dropped", last.placed)
    with pytest.raises(LimitExceeded):
        await reserve(second)
    # Once they have ended the chain says which were settled.
    page = {0: 1 | sum(1 << bit for bit in range(1, 255))}
    assert nonce(await reserve(second, now=201, until=300, pages=page)) == 255
    assert nonce(await reserve(second, pages={0: 1, 3: 1}, now=50)) >> 8 == 3
    first.close()
    second.close()


async def test_homes_that_share_an_account_begin_at_different_places(tmp_path: Path) -> None:
    book = OrderBook(tmp_path / "orders.db", inline)
    assert [nonce(await reserve(book, start=start)) for start in (200, 200, 254, 0)] == [
        201, 202, 255, 1,
    ]  # fmt: skip
    book.close()


async def test_what_is_signed_is_spoken_for_until_it_is_settled_ends_or_was_dropped(
    tmp_path: Path,
) -> None:
    book = OrderBook(tmp_path / "orders.db", inline)
    first, second = await reserve(book), await reserve(book)
    assert await book.promised(SEI, ACCOUNT, OPEN, 100) == 14
    assert await book.promised(SEI, ACCOUNT, {0: 1 | 1 << nonce(first)}, 100) == 7
    assert await book.promised(SEI, ACCOUNT, OPEN, 201) == 0
    await book.step(second, "dropped", second.placed)
    assert await book.promised(SEI, ACCOUNT, OPEN, 100) == 7
    book.close()


async def test_a_key_names_one_order_for_good_and_a_request_without_one_an_open_order(
    tmp_path: Path,
) -> None:
    book = OrderBook(tmp_path / "orders.db", inline)
    entry = await reserve(book, key="k")
    assert await book.find(SEI, ACCOUNT, b"digest", "k") == entry
    with pytest.raises(UsageError):
        await book.find(SEI, ACCOUNT, b"other", "k")
    open_ = await reserve(book, digest=b"open")
    assert await book.find(SEI, ACCOUNT, b"open", "") == open_
    await book.end(open_, {"state": "completed"}, "")
    assert await book.find(SEI, ACCOUNT, b"open", "") is None
    await book.end(entry, {"state": "completed"}, "")
    found = await book.find(SEI, ACCOUNT, b"digest", "k")
    assert found is not None
    assert found.document == {"state": "completed"}
    assert [one.id for one in await book.recent(5)] == [open_.id, entry.id]
    book.close()


async def test_an_order_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    book = OrderBook(tmp_path / "orders.db", inline)
    entry = await reserve(book)
    name = entry.placed.order_id
    assert await book.by_id(name[:12]) == await book.by_id(name) == entry
    assert await book.by_id("0xzz") is None
    for _ in range(40):
        await reserve(book)
    with pytest.raises(ConfigError, match="several"):
        await book.by_id(_shared(await book.recent(50)))
    book.close()


def _shared(entries: tuple[OrderEntry, ...]) -> str:
    """The beginning that two of them share."""
    seen: set[str] = set()
    for one in entries:
        start = one.placed.order_id[:3]
        if start in seen:
            return start
        seen.add(start)
    raise AssertionError("no two begin alike")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "orders.db").write_bytes(b"not a database, but longer than a header" * 10)
    with pytest.raises(ConfigError, match=r"orders\.db") as caught:
        OrderBook(tmp_path / "orders.db", inline)
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def purse(**fields: object) -> Purse:
    balance = OrderBalance(balance=Amount(100), thawing=Amount(30), thaws_at=5, is_open=True)
    made = {"balance": balance, "pages": {0: 1}, "promised": 0, "now": 0, "block": 0, **fields}
    return Purse(**made)  # type: ignore[arg-type]


def test_what_is_free_is_neither_thawing_nor_spoken_for() -> None:
    assert purse().free == 70
    assert purse(promised=50).free == 20
    assert purse(promised=90).free == 0


def test_the_next_page_is_bought_when_few_nonces_are_left() -> None:
    full = (1 << 256) - 1
    assert purse(pages={}).next_page == 0
    assert (purse().nonces, purse().next_page) == (255, 0)
    assert purse(pages={0: full}).next_page == 1
    assert purse(pages={0: full, 1: 1}).next_page == 1
    assert purse(pages={0: full, 1: full >> 60}).next_page == 2
