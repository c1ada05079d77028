"""From a request to a signed order, its output and its receipt.

What makes a killed client safe: an order is on disk before a node hears of it, and a committee's
signatures are before any of them is shown. The same request, before its end, goes on with the same
order: whatever happens to the client, one order is settled for it, or none.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from deai.chain.background import Background
from deai.client.committee import PASSING, summed
from deai.client.documents import seconds_to_ms
from deai.client.handle import TaskHandle, TaskOutcome
from deai.client.kept import read_outcome
from deai.client.matching import Ranked
from deai.client.offering import Plan, Scene, look_around, plan_for
from deai.client.orders import money
from deai.client.orders.book import OrderBook, OrderEntry, Placed, SeatRecord
from deai.client.orders.carrying import Carrying
from deai.client.orders.documents import order_document
from deai.client.orders.round import SeatPhase, SeatView
from deai.client.requests import Prepared
from deai.client.updates import Feed, Kind, TaskUpdate
from deai.errors import ConfigError, ExecutionFailed, TaskDeclined, UsageError
from deai.files import replace_file
from deai.hashing import keccak
from deai.ids import NodeId, TaskId
from deai.order_receipts import make_order_receipt
from deai.orders import Order, order_id, sign_order
from deai.receipts import write_receipt
from deai.tasks import Policy, TaskSpec, spec_hash

if TYPE_CHECKING:
    from deai.client.tools import Tools
    from deai.signing import Signer

ROUNDS: Final = 24
"""Committees that are tried before giving up."""
BUSY_PATIENCE: Final = 20.0
BUSY_PAUSE: Final = 1.0
VALID: Final = 3600
"""Seconds for which an order is signed, where the thaw and the deadline allow."""
SLACK: Final = 10
"""Seconds between a node's view of the chain's clock and ours."""
SETTLE: Final = 30
"""Seconds that nodes want to be left for settling, once the signatures are shown."""
KEPT: Final = 24 * 3600
"""Seconds after its end for which nodes keep the output of an order, at least."""
FETCHING: Final = 120.0
"""Seconds for one of the seats that signed the output to begin to hand it over."""
TAKEN_POLICIES: Final = frozenset({Policy.NONE, Policy.EXACT})
_TAG: Final = b"deai order request/1\x00"


def check_request(prepared: Prepared) -> None:
    """Raise `UsageError` for what cannot be paid by an order."""
    if prepared.policy not in TAKEN_POLICIES:
        raise UsageError(
            f"orders are settled for equal digests, and {prepared.policy.label} compares outputs",
            hint="--policy exact/1 or none/1 where the workload has it, else --lane escrow",
            code="unsupported_policy",
        )
    if prepared.request.tip:
        raise UsageError("a tip is of the escrow", hint="leave it away, or take --lane escrow")


class OrderSubmission:
    """One request; used once."""

    def __init__(
        self, tools: Tools, book: OrderBook, prepared: Prepared, handle: TaskHandle, feed: Feed
    ) -> None:
        self._tools = tools
        self._book = book
        self._prepared = prepared
        self._handle = handle
        self._feed = feed
        self._started = trio.current_time()
        self._marks: dict[str, float] = {}
        self._excluded: set[NodeId] = set()
        self._refused: dict[NodeId, SeatView] = {}
        self._digest = keccak(_TAG, prepared.digest)
        self._usual = math.inf
        """Seconds in which seats should have signed, where the request names no deadline."""

    async def run(self) -> TaskOutcome:
        """Carry the request through, or go on where an earlier life stood.

        Raises `UsageError`, `NotSetUp`, `TaskDeclined`, `InsufficientFunds`, `LimitExceeded`,
        `LedgerUnreachable`, or `ExecutionFailed` (`no_output`) after which the same request goes
        on where it was.
        """
        check_request(self._prepared)
        tools, request = self._tools, self._prepared.request
        _ = tools.ledger.info.orders  # raises where there are none
        if request.idempotency_key:  # raises where a task of the escrow has it
            await tools.journal.find(
                tools.ledger.info.name, tools.account, self._digest, request.idempotency_key
            )
        entry = await self._book.find(
            tools.ledger.info.name, tools.account, self._digest, request.idempotency_key
        )
        if entry is not None and not entry.is_open:
            assert entry.document is not None
            return await read_outcome(entry.document, entry.output, tools.offload)
        if entry is not None and await self._is_too_late(entry):
            if entry.phase == "placed":  # no input was sent: nothing can come of it
                await self._book.step(entry, "dropped", entry.placed)
            else:
                over = "the client was away until the order was over"
                failed = await self._fail(entry, None, over)
                if entry.key:
                    return failed
            entry = None
        if entry is not None:
            outcome = await self._carry(entry)
            if outcome is not None:
                return outcome
        return await self._anew()

    async def _is_too_late(self, entry: OrderEntry) -> bool:
        """Whether nothing can come of an order any more; what was agreed is kept for a while."""
        head = await self._tools.ledger.head()
        ends = entry.placed.order.valid_until
        return head.time > (ends + KEPT if entry.phase == "agreed" else ends - SETTLE // 2)

    async def _anew(self) -> TaskOutcome:
        """One committee after the other, each with an order of its own, until one takes it."""
        busy_until = trio.current_time() + BUSY_PATIENCE
        for number in range(ROUNDS):
            try:
                entry = await self._sign(fresh=number > 0)
            except TaskDeclined as error:
                passing = {n for n, one in self._refused.items() if one.code in PASSING}
                if passing and trio.current_time() < busy_until:
                    self._excluded -= passing
                    await trio.sleep(BUSY_PAUSE)
                    continue
                if self._refused:
                    raise self._declined() from error
                raise
            outcome = await self._carry(entry)
            if outcome is not None:
                return outcome
        raise self._declined()

    # --- signing ------------------------------------------------------------------------------

    async def _sign(self, *, fresh: bool) -> OrderEntry:
        """A committee, and an order for it, on disk."""
        tools, prepared = self._tools, self._prepared
        signer = tools.signer
        if signer is None:
            raise ConfigError("no key to sign orders with", code="no_key")
        scene = await look_around(tools, prepared, tools.random(32), fresh=fresh)
        plan = plan_for(prepared, scene, self._excluded)
        purse = await money.look(tools.ledger, self._book, tools.account)
        money.check(purse, plan.fee * prepared.seats, tools.account)
        self._marks["matched"] = trio.current_time()
        self._usual = float(plan.deadline)
        salt = tools.random(32)
        spec = msgspec.structs.replace(
            prepared.spec(tools.ledger.info, salt),
            domain=f"{tools.ledger.info.chain_id}:{tools.ledger.info.orders.contract}",
        )
        build = partial(self._build, signer, spec, plan, scene, purse.block)
        entry = await self._book.reserve(
            chain=tools.ledger.info.name,
            account=tools.account,
            digest=self._digest,
            key=prepared.request.idempotency_key,
            created=tools.wall_clock(),
            pages=purse.pages,
            now=scene.head.time,
            start=tools.random(1)[0],
            build=build,
        )
        tools.crash("order_signed")
        return entry

    def _build(
        self, signer: Signer, spec: TaskSpec, plan: Plan, scene: Scene, since: int, nonce: int
    ) -> Placed:
        tools = self._tools
        order = Order(
            client=tools.account,
            fee=plan.fee,
            policy=Policy(self._prepared.policy),
            valid_until=scene.head.time + self._validity(scene),
            nonce=nonce,
            spec_hash=spec_hash(spec),
            nodes=tuple(one.node for one in plan.chosen),
        )
        domain = tools.ledger.info.orders
        return Placed(
            order_id=order_id(order, domain),
            order=order,
            signature=sign_order(domain, signer, order),
            spec=spec,
            seats=tuple(_seat(one) for one in plan.chosen),
            since=since,
        )

    def _validity(self, scene: Scene) -> int:
        wanted = max(VALID, int(self._prepared.request.deadline) + 2 * SETTLE)
        return min(scene.parameters.thaw_period - SLACK, wanted)

    # --- carrying -----------------------------------------------------------------------------

    async def _carry(self, entry: OrderEntry) -> TaskOutcome | None:
        """Take an order from where it stands to its end; None if its seats did not all take it."""
        tools, placed = self._tools, entry.placed
        carrying = Carrying(tools, entry, self._prepared.data, self._feed, self._started)
        if placed.output_digest is not None:
            carrying.round.recall(placed.output_digest, placed.results)
        head = await tools.ledger.head()
        left = placed.order.valid_until - head.time
        async with Background() as nursery:
            nursery.start_soon(carrying.run)
            return await self._stages(entry, carrying, left)

    async def _stages(
        self, entry: OrderEntry, carrying: Carrying, left: int
    ) -> TaskOutcome | None:  # fmt: skip
        tools = self._tools
        if entry.phase == "placed":
            if not await carrying.until_taken():
                await carrying.abandon()
                self._learn(carrying)
                await self._book.step(entry, "dropped", entry.placed)
                return None
            entry = await self._book.step(entry, "taken", entry.placed)
            tools.crash("order_taken")
        self._marks["taken"] = trio.current_time()
        self._handle.is_posted(TaskId(entry.placed.order_id))
        seats = len(entry.placed.seats)
        took = "1 seat" if seats == 1 else f"{seats} seats"
        self._say("matched", f"{took} took order {entry.placed.order_id}")
        if entry.phase == "taken":
            patience = float(max(0, left - SETTLE))
            limit = min(patience, self._prepared.request.deadline or self._usual)
            digest = await carrying.until_agreed(trio.current_time() + limit)
            if digest is None:
                return await self._fail(entry, carrying, _why_not(carrying))
            agreed = msgspec.structs.replace(
                entry.placed, output_digest=digest, results=carrying.round.results(digest)
            )
            entry = await self._book.step(entry, "agreed", agreed)
            tools.crash("order_agreed")
        self._marks["agreed"] = trio.current_time()
        return await self._collect(entry, carrying)

    async def _collect(self, entry: OrderEntry, carrying: Carrying) -> TaskOutcome:
        """The signatures to the seats, the output here, and everything into files."""
        tools, digest = self._tools, entry.placed.output_digest
        assert digest is not None
        output = await carrying.until_output(digest, trio.current_time() + FETCHING)
        tools.crash("order_shown")
        if output is None:
            raise ExecutionFailed(
                f"{sum(one is not None for one in entry.placed.results)} seats signed the output "
                "and none of them hands it over",
                hint="the same command asks them again",
                code="no_output",
            )
        self._handle.has_output(output)
        tools.crash("order_output")
        await carrying.until_shown(digest)
        # Who signed late is shown, too, and stands in the receipt.
        placed = msgspec.structs.replace(entry.placed, results=carrying.round.results(digest))
        entry = await self._book.step(entry, "agreed", placed)
        self._marks["ended"] = trio.current_time()
        path = tools.results / placed.order_id
        target = tools.receipts / f"{placed.order_id}.json"
        receipt = make_order_receipt(
            placed.settlement, placed.spec, [one.operator for one in placed.seats],
            chain=str(entry.chain), domain=tools.ledger.info.orders,
        )  # fmt: skip
        agreed = sum(one is not None for one in placed.results)
        document = order_document(
            entry,
            state="completed",
            detail=f"{agreed} of {len(placed.results)} seats agreed; nodes settle it by "
            "themselves, many orders at once",
            seats=carrying.round.seats,
            path=str(path),
            size=len(output),
            receipt=str(target),
            timings=self._timings(),
        )

        def save() -> None:
            for file, data in ((path, output), (target, write_receipt(receipt))):
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                replace_file(file, data, flush=file is target)

        entry = await self._book.end(entry, document, str(path), save)
        tools.crash("order_kept")
        return TaskOutcome(document, output)

    async def _fail(
        self, entry: OrderEntry, carrying: Carrying | None, reason: str
    ) -> TaskOutcome:  # fmt: skip
        """No quorum: nobody can be paid, and the client pays nothing."""
        self._marks["ended"] = trio.current_time()
        seats = carrying.round.seats if carrying is not None else ()
        document = order_document(
            entry, state="failed", detail=reason, seats=seats, timings=self._timings()
        )
        await self._book.end(entry, document, "")
        self._say("note", reason)
        return TaskOutcome(document, None)

    def _learn(self, carrying: Carrying) -> None:
        for one in carrying.round.seats:
            if one.phase is SeatPhase.TURNED:
                self._refused[one.node] = one
                self._excluded.add(one.node)
                if one.code not in PASSING:
                    self._tools.directory.forget(one.node)

    def _declined(self) -> TaskDeclined:
        shown = summed((one.code, one.reason) for one in self._refused.values())
        return TaskDeclined(
            f"no committee of {self._prepared.seats} took the order: {shown}",
            hint="try again in a moment, raise --max-fee, or take --lane escrow",
            code="no_committee",
        )

    def _say(self, kind: Kind, message: str) -> None:
        at = trio.current_time() - self._started
        self._feed.publish(TaskUpdate(kind=kind, at=at, message=message))

    def _timings(self) -> dict[str, int]:
        marks, started = self._marks, self._started
        taken, agreed = marks.get("taken"), marks.get("agreed")
        return {
            "match_ms": seconds_to_ms(started, marks.get("matched")),
            "assign_ms": seconds_to_ms(marks.get("matched"), taken),
            "input_ms": 0,
            "execute_ms": seconds_to_ms(taken, agreed),
            "settle_ms": seconds_to_ms(agreed, marks.get("ended")),
            "total_ms": seconds_to_ms(started, marks.get("ended") or trio.current_time()),
        }


def _seat(one: Ranked) -> SeatRecord:
    candidate = one.candidate
    peer = candidate.peer
    return SeatRecord(one.node, candidate.record.operator, peer.peer_id, peer.addresses)


def _why_not(carrying: Carrying) -> str:
    seats = carrying.round.seats
    refused = [f"{one.code}: {one.reason}" for one in seats if one.phase is SeatPhase.TURNED]
    groups = len(carrying.round.groups)
    if groups > 1:
        refused.append(f"{groups} different outputs were signed")
    said = "; ".join(refused[:4]) or "too few seats signed in time"
    return f"no quorum of {carrying.round.order.quorum}: {said}"
