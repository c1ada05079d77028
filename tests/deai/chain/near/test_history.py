"""Which events a chain of blocks, chunks and transactions tells, in which order, and when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("py_near", reason="py-near is not installed")

from deai.chain.ledger import Cursor
from deai.chain.near.history import REACH, History
from deai.chain.near.logs import Decoder
from deai.chain.near.rpc import RpcError
from deai.chain.pool import EndpointFailed, Pool, Request
from deai.errors import LedgerUnreachable
from deai.events import LedgerRecord, NodeBeat
from tests.deai.chain.near.samples import COMPUTE, CONTRACTS


@dataclass
class Receipt:
    """One that ran at `height`, on our contract unless `executor` says otherwise."""

    id: str
    height: int
    epochs: tuple[int, ...] = ()
    """Of the beats that it logs."""
    executor: str = COMPUTE
    failed: bool = False
    listed: bool = True
    predecessor: str = "someone.near"


@dataclass
class Sent:
    """A transaction. `told`: whether endpoints list its receipts already."""

    hash: str
    height: int
    receipts: list[Receipt]
    signer: str = "alice.near"
    receiver: str = COMPUTE
    told: bool = True
    done: bool = True


@dataclass
class ScriptedChain:
    """An endpoint of a chain that is what its lists say."""

    number: int = 1
    heights: list[int] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    branch: str = ""
    asked: list[str] = field(default_factory=list)

    def name(self, height: int) -> str:
        return f"block{self.branch}-{height}"

    async def batch(self, requests: Sequence[Request]) -> list[Any]:
        return [self.answer(*request) for request in requests]

    def answer(self, method: str, given: dict[str, Any]) -> Any:
        self.asked.append(method)
        if method == "block":
            wanted = given.get("block_id", self.heights[-1])
            if isinstance(wanted, str):  # a hash
                wanted = int(wanted.rpartition("-")[2]) if wanted else -1
            return self.block(wanted)
        if method == "chunk":
            return self.chunk(int(given["chunk_id"].rpartition("-")[2]))
        found = next(one for one in self.sent if one.hash == given["tx_hash"])
        assert given["sender_account_id"] == found.signer
        return self.status(found)

    def block(self, height: int) -> Any:
        if height not in self.heights:
            return RpcError("UNKNOWN_BLOCK", {}, height)
        earlier = [one for one in self.heights if one < height]
        header = {
            "height": height,
            "hash": self.name(height),
            "prev_hash": self.name(earlier[-1]) if earlier else "",
            "timestamp": height * 10**9,
        }
        old = {"chunk_hash": "chunk-1", "height_included": height - 1}
        new = {"chunk_hash": f"chunk-{height}", "height_included": height}
        return {"header": header, "chunks": [old, new]}

    def chunk(self, height: int) -> Any:
        receipts = [
            (receipt, one) for one in self.sent for receipt in one.receipts
            if receipt.height == height and receipt.listed
        ]  # fmt: skip
        return {
            "header": {"chunk_hash": f"chunk-{height}"},
            "transactions": [
                {"hash": one.hash, "signer_id": one.signer, "receiver_id": one.receiver}
                for one in self.sent
                if one.height == height
            ],
            "receipts": [
                {
                    "receipt_id": receipt.id,
                    "predecessor_id": receipt.predecessor,
                    "receiver_id": receipt.executor,
                    "receipt": {"Action": {"signer_id": one.signer}},
                }
                for receipt, one in receipts
            ],
        }

    def status(self, one: Sent) -> Any:
        if not one.told:
            return {"final_execution_status": "INCLUDED"}
        outcomes = [
            {
                "id": receipt.id,
                "block_hash": self.name(receipt.height),
                "outcome": {
                    "executor_id": receipt.executor,
                    "logs": [line(epoch) for epoch in receipt.epochs],
                    "status": {"Failure": {}} if receipt.failed else {"SuccessValue": ""},
                },
            }
            for receipt in one.receipts
            if receipt.height <= self.heights[-1]
        ]
        status = "FINAL" if one.done else "INCLUDED_FINAL"
        return {"final_execution_status": status, "receipts_outcome": outcomes}

    async def send(self, raw: bytes) -> Any:
        raise EndpointFailed(f"{len(raw)} bytes: a chain that is written down takes nothing")

    async def tip(self) -> tuple[int, str]:
        return self.heights[-1], self.name(self.heights[-1])

    async def hashes(self, numbers: Sequence[int]) -> list[str | None]:
        return [self.name(one) if one in self.heights else None for one in numbers]


def line(epoch: int) -> str:
    data = {"node": "bob.near#0", "epoch": epoch}
    body = {"standard": "deai", "version": "1.0.0", "event": "heartbeat", "data": data}
    return f"EVENT_JSON:{json.dumps(body)}"


def beats(records: Sequence[LedgerRecord]) -> list[tuple[int, int]]:
    """Block and epoch of each beat."""
    found = []
    for record in records:
        assert isinstance(record.event, NodeBeat)
        found.append((record.position.block, record.event.epoch))
    return found


def opened(*sent: Sent, until: int = 20) -> tuple[History, ScriptedChain]:
    chain = ScriptedChain(heights=list(range(1, until + 1)), sent=list(sent))
    return History(Pool([chain]), Decoder(CONTRACTS)), chain


async def told(history: History, low: int, high: int) -> list[tuple[int, int]]:
    found = await history.read(low, high)
    assert found is not None
    assert found[0] == Cursor(high, f"block-{high}")
    positions = [record.position for record in found[1]]
    assert positions == sorted(set(positions))
    return beats(found[1])


async def test_events_stand_at_the_block_in_which_their_receipt_ran() -> None:
    history, _ = opened(Sent("t", 5, [Receipt("r1", 6, (1, 2)), Receipt("r2", 8, (3,))]))
    assert await told(history, 1, 20) == [(6, 1), (6, 2), (8, 3)]
    assert await told(history, 7, 20) == [(8, 3)], "what was sent before a range reaches into it"
    assert await told(opened(*history_of_one())[0], 6, 9) == [(6, 1)]


def history_of_one() -> list[Sent]:
    return [Sent("t", 5, [Receipt("r", 6, (1,))])]


async def test_within_a_block_the_order_is_that_of_its_chunks() -> None:
    late = Sent("late", 5, [Receipt("x", 9, (1,))])
    early = Sent("early", 8, [Receipt("y", 9, (2,))])
    history, chain = opened(early, late)
    assert await told(history, 1, 20) == [(9, 2), (9, 1)]
    chain.sent.reverse()
    assert await told(opened(late, early)[0], 1, 20) == [(9, 1), (9, 2)]


async def test_a_receipt_that_no_chunk_lists_comes_behind_those_that_are() -> None:
    callback = Sent("a", 3, [Receipt("r1", 9, (1,), listed=False)])
    direct = Sent("b", 8, [Receipt("r2", 9, (2,))])
    assert await told(opened(callback, direct)[0], 1, 20) == [(9, 2), (9, 1)]


async def test_what_a_failed_receipt_logged_did_not_happen() -> None:
    sent = Sent("t", 5, [Receipt("r1", 6, (1,), failed=True), Receipt("r2", 7, (2,))])
    assert await told(opened(sent)[0], 1, 20) == [(7, 2)]


async def test_other_contracts_lines_are_not_ours() -> None:
    sent = Sent("t", 5, [Receipt("r1", 6, (1,), executor="eve.near"), Receipt("r2", 7, (2,))])
    assert await told(opened(sent)[0], 1, 20) == [(7, 2)]


async def test_a_call_by_somebody_elses_contract_is_found_by_its_signer() -> None:
    """A multisig or DAO: the transaction goes to it, and only a receipt comes to us."""
    through = Sent(
        "dao", 5, [Receipt("r1", 6, executor="dao.near"), Receipt("r2", 7, (1,))],
        receiver="dao.near",
    )  # fmt: skip
    unrelated = Sent("other", 5, [Receipt("r3", 6, executor="x.near")], "bob.near", "x.near")
    history, chain = opened(through, unrelated)
    assert await told(history, 1, 20) == [(7, 1)]
    assert chain.asked.count("tx") == 1, "nobody asks about other people's transactions"


async def test_a_refund_does_not_make_its_signer_a_caller() -> None:
    refund = Receipt("r", 7, executor=COMPUTE, predecessor="system")
    sent = Sent("t", 5, [refund], receiver="x.near")
    history, chain = opened(sent)
    assert await told(history, 1, 20) == []
    assert "tx" not in chain.asked


async def test_heights_without_a_block_are_passed_over() -> None:
    history, chain = opened(Sent("t", 5, [Receipt("r", 9, (1,))]))
    chain.heights = [1, 5, 9, 19, 20]
    assert await told(history, 1, 20) == [(9, 1)]
    found = await history.read(10, 18)
    assert found is not None
    assert found[0].number >= 19, "the next block that there is"


async def test_a_long_gap_is_crossed_without_asking_for_every_height_in_it() -> None:
    far = 100_000
    sent = [
        Sent("t", 4, [Receipt("r", far, (1,))]),
        Sent("u", far + 2, [Receipt("q", far + 3, (2,))]),
    ]
    chain = ScriptedChain(heights=[1, 2, 3, 4, far, *range(far + 2, far + 200)], sent=sent)
    history = History(Pool([chain]), Decoder(CONTRACTS))
    first = await history.read(1, 80)
    assert first is not None
    assert first[0].number == 4
    found = await history.read(5, 84)
    assert found is not None
    # The transaction before the gap is further back than its reach.
    assert (found[0].number, beats(found[1])) == (far, [])
    assert beats(await history.known(1, far + 199)) == [(far + 3, 2)]
    assert len(chain.asked) < 3_000


async def test_a_transaction_that_is_not_told_yet_holds_up_the_blocks_from_its_own_on() -> None:
    open_ = Sent("t", 10, [Receipt("r", 12, (1,))], told=False, done=False)
    history, _ = opened(Sent("s", 5, [Receipt("q", 6, (0,))]), open_)
    found = await history.read(1, 20)
    assert found is not None
    assert (found[0].number, beats(found[1])) == (9, [(6, 0)])
    assert await history.read(10, 20) is None
    open_.told = open_.done = True
    assert await told(history, 10, 20) == [(12, 1)]


async def test_one_that_never_ends_holds_up_no_more_than_its_reach() -> None:
    stuck = Sent("t", 10, [Receipt("r", 12, (1,))], told=False, done=False)
    history, chain = opened(stuck, until=9 + REACH)
    found = await history.read(1, 9 + REACH)
    assert found is not None
    assert found[0].number == 9
    assert await history.read(10, 9 + REACH) is None
    chain.heights = list(range(1, 200))
    found = await history.read(10, 9 + history.most_blocks)
    assert found is not None
    assert found[0].number == 9 + history.most_blocks


async def test_a_transaction_that_goes_on_is_asked_about_again() -> None:
    sent = Sent("t", 5, [Receipt("r1", 6, (1,)), Receipt("r2", 11, (2,))], done=False)
    history, chain = opened(sent, until=8)
    assert await told(history, 1, 8) == [(6, 1)]
    chain.heights, sent.done = list(range(1, 13)), True
    assert await told(history, 9, 12) == [(11, 2)]
    asked = chain.asked.count("tx")
    assert await told(history, 9, 12) == [(11, 2)]
    assert chain.asked.count("tx") == asked, "what is done is not asked for again"


async def test_blocks_are_read_once() -> None:
    history, chain = opened(*history_of_one())
    await told(history, 1, 20)
    before = len(chain.asked)
    await told(history, 3, 19)
    assert len(chain.asked) == before


async def test_a_chunk_that_fails_leaves_nothing_half_read() -> None:
    history, chain = opened(*history_of_one())
    whole = chain.chunk

    def sometimes(height: int) -> Any:
        chain.chunk = whole  # type: ignore[method-assign]
        return RpcError("UNKNOWN_CHUNK", {}, height)

    chain.chunk = sometimes  # type: ignore[method-assign]
    with pytest.raises(LedgerUnreachable, match="chunk"):
        await history.read(1, 20)
    assert await told(history, 1, 20) == [(6, 1)]


async def test_other_peoples_transactions_are_forgotten_after_their_reach() -> None:
    others = [
        Sent(f"o{height}", height, [], f"u{height}.near", "x.near") for height in range(2, 300, 2)
    ]
    history, _ = opened(*others, until=300)
    await history.known(1, 300)
    kept = [block.height for block in history._blocks.values() if block.sent]
    assert kept == list(range(300 - REACH, 300, 2))


async def test_more_blocks_than_are_kept_are_all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deai.chain.near.history.KEPT_BLOCKS", 150)
    sent = [Sent(f"t{at}", at, [Receipt(f"r{at}", at + 2, (at,))]) for at in range(2, 900, 39)]
    history, _ = opened(*sent, until=900)
    found = await history.known(1, 900)
    assert beats(found) == [(one.height + 2, one.height) for one in sent if one.height + 2 <= 900]


async def test_another_history_is_noticed_and_read_anew() -> None:
    history, chain = opened(*history_of_one())
    assert beats(await history.known(1, 20)) == [(6, 1)]
    chain.branch, chain.sent = "b", [Sent("u", 7, [Receipt("q", 9, (4,))])]
    assert await history.standing([Cursor(20, "block-20")]) == [False]
    found = await history.read(1, 20)
    assert found is not None
    assert beats(found[1]) == [(9, 4)]
    chain.branch, chain.sent = "c", []
    assert await history.known(1, 20) == ()


async def test_a_hole_in_the_blocks_is_no_silence() -> None:
    history, chain = opened(until=20)
    broken = chain.block

    def without_link(height: int) -> Any:
        found = broken(height)
        if height == 12 and isinstance(found, dict):
            found["header"]["prev_hash"] = "something that was thrown away"
        return found

    chain.block = without_link  # type: ignore[method-assign]
    with pytest.raises(LedgerUnreachable, match="cannot be read"):
        await history.read(1, 20)
