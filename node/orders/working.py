"""Takes the input of an order in, computes it in the locked worker, and signs the digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from deai.errors import LimitExceeded, MalformedMessage, NodeFault, WorkloadFault
from deai.hashing import blob_digest, digest_of_leaves
from deai.ids import TaskId, raw
from deai.messages import BlobChunk, BlobHeader, Progress
from deai.order_messages import SignedResult, Turned
from deai.orders import result_digest
from deai.ports import Computation, Output
from node.orders.live import Live
from node.orders.records import Held, OrderEvent, with_result, with_results
from node.store.blobs import SmallReceiver
from node.store.errors import StoreFull
from node.store.records import SMALL_BYTES

if TYPE_CHECKING:
    from node.orders.service import Orders

PROGRESS_EVERY: Final = 2.0
_COSTLY: Final = frozenset(
    {"underpaid", "timeout", "memory_limit", "worker_died", "worker_babbled"}
)
"""Faults that a task may be made for: nobody pays for the work until then."""


class Working:
    """The part of the service between the input and the signature."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._node = orders.node

    async def take_in(self, live: Live, message: BlobHeader | BlobChunk) -> bool:
        """A piece of the input; True once it is complete.

        Raises `MalformedMessage` for a piece that is not the order's, `StoreFull` or `NodeFault`.
        """
        if live.has_input:
            return False
        spec, blobs = live.held.spec, self._node.ports.blobs
        if isinstance(message, BlobHeader):
            digest = digest_of_leaves(message.length, message.leaves)
            if message.length != spec.input_bytes or digest != spec.input_digest:
                raise MalformedMessage("the input is not the one that the order names")
            if live.input is None:
                live.input = (
                    SmallReceiver(message.length, message.leaves)
                    if message.length <= SMALL_BYTES
                    else blobs.receive(live.held.blob("input"), message.length, message.leaves)
                )
            return False
        if live.input is None:
            raise MalformedMessage("a chunk came before its header")
        if isinstance(live.input, SmallReceiver):
            live.small_input = live.input.check(message.index, message.data)
        elif not await live.input.put(message.index, message.data):
            return False
        live.has_input, live.input = True, None
        return True

    async def work(self, live: Live) -> None:
        """Compute, sign, keep, tell. What fails is told, and the seat is free again."""
        orders, node = self._orders, self._node
        output: Output | None = None
        try:
            with live.computing:
                output = await self._run(live)
            if output is not None:  # else the order ended meanwhile
                orders.crash("order.computed")
                await self._sign(live, output)
        except WorkloadFault as error:
            orders.faulted(live.held.order.client)
            node.reason("workload_fault", f"{live.held.spec.workload}: {error}", "the task was bad")
            await self._fail(live, "workload_fault", str(error))
        except StoreFull as error:
            node.daemon.disk_failed(error)
            await self._fail(live, "disk_full", str(error))
        except (NodeFault, LimitExceeded) as error:
            is_price = error.reason_code == "underpaid"
            code = "price" if is_price else "node_fault"
            if error.reason_code in _COSTLY:
                orders.faulted(live.held.order.client)
            setting = f"node.prices.{live.held.spec.workload}.unit_fee"
            node.reason(code, str(error), setting if is_price else error.hint or "deai node doctor")
            await self._fail(live, code, str(error))
        finally:
            live.started_at, live.small_input = None, None
        await orders.discard(live.held.blob("input"))

    async def report(self, live: Live) -> None:
        """Say how far it is, until it is computed."""
        while live.needs_worker and not live.held.state.is_over:
            await trio.sleep(PROGRESS_EVERY)
            done = min(999, int(live.done * 1000))
            await self._orders.tell(live, Progress(TaskId(live.id), live.held.seat, 0, done))

    async def _run(self, live: Live) -> Output:
        node, held = self._node, live.held
        data = live.small_input
        if data is None:
            data = await node.ports.blobs.read(held.blob("input"))
        if blob_digest(data) != held.spec.input_digest:
            raise NodeFault("the input on disk is damaged")
        computation = Computation(
            workload=held.spec.workload,
            version=held.spec.workload_version,
            model=held.spec.model,
            parameters=held.spec.parameters,
            input=data,
            seed=raw(live.id),
            max_units=self._paid_units(live),
        )

        def report(done: float) -> None:
            live.done = done

        customer = f"{node.info.name}:{held.order.client}"
        async with node.ports.workbench.executor(customer) as executor:
            live.started_at = trio.current_time()
            left = held.order.valid_until - node.config.orders.settle_margin - node.chain_time
            timeout = max(1.0, float(left))
            output = await executor.run(computation, on_progress=report, timeout=timeout)
        node.counters[f"units.{held.spec.workload}"] += output.units
        return output

    def _paid_units(self, live: Live) -> int | None:
        """How many cost units the fee covers at our price; only the worker counts them."""
        price = self._node.config.price(live.held.spec.workload)
        if not price.unit:
            return None
        return max(0, int(live.held.order.fee) - price.base) // price.unit

    async def _sign(self, live: Live, output: Output) -> None:
        node, orders = self._node, self._orders
        digest = blob_digest(output.data)
        small = output.data if len(output.data) <= SMALL_BYTES else None
        if small is None:
            await node.ports.blobs.write(live.held.blob("output"), output.data)
        name = result_digest(orders.domain, live.id, node.ports.node, digest)
        signature = node.ports.signer.sign(name)

        def step(held: Held) -> Held:
            # Of one seat our own signature is the quorum: nobody has to show us anything.
            return with_results(with_result(held, digest, signature), {}, node.chain_time)

        is_kept = False
        try:
            is_kept = await orders.keep(live, step, output=small)
        finally:
            if not is_kept:  # the order ended meanwhile, or the disk is full
                await orders.discard(live.held.blob("output"))
        if not is_kept:
            return
        orders.crash("order.signed")
        node.counters["computed"] += 1
        await self.tell_result(live)

    async def tell_result(self, live: Live) -> None:
        """Say what we signed, always in the same bytes."""
        own = live.held.results[live.held.seat]
        assert own is not None
        assert live.held.digest is not None
        await self._orders.tell(live, SignedResult(live.id, live.held.digest, own))

    async def _fail(self, live: Live, code: str, reason: str) -> None:
        await self._orders.tell(live, Turned(live.id, code, reason[:512]))
        await self._orders.end(live, OrderEvent.FAILURE, reason=code)
