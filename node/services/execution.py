"""Computes and judges in the locked worker, then signs; the journal hears of it before anybody."""

from __future__ import annotations

import msgspec
import trio

from deai.errors import LimitExceeded, NodeFault, WorkloadFault
from deai.hashing import ZERO, blob_digest, keccak
from deai.ids import raw
from deai.messages import ApprovedOutputs
from deai.ports import Computation, Output
from deai.signing import word
from deai.tasks import (
    FaultCode,
    Policy,
    approval_digest,
    commit_digest,
    commitment_value,
    fault_digest,
    result_digest,
)
from node.engagement import Engagement
from node.state import Node
from node.store.errors import StoreFull
from node.store.records import SMALL_BYTES, OwnResult


class Execution:
    """Carries out `Execute` and `Judge`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def execute(self, engagement: Engagement) -> None:
        """Compute, sign, journal. A failure of this node makes it give the seat up."""
        node, key = self._node, engagement.key
        try:
            data = await self._input(engagement)
            output, fault = await self._run(engagement, data)
            node.ports.crash("result.computed")
            if output is not None and len(output.data) > SMALL_BYTES:
                await node.ports.blobs.write(key.blob("output"), output.data)
                node.ports.crash("result.written")
            await self._sign(engagement, output, fault)
        except StoreFull as error:
            node.daemon.disk_failed(error)
            engagement.gave_up = ("disk_full", str(error))
        except (NodeFault, LimitExceeded) as error:
            if error.reason_code == "underpaid":
                node.reason("price", str(error), f"node.prices.{engagement.spec.workload}.unit_fee")
                engagement.gave_up = ("price", str(error))
                return
            node.reason("node_fault", str(error), error.hint or "deai node doctor")
            engagement.gave_up = ("node_fault", str(error))
        finally:
            engagement.started_at = None

    def _customer(self, engagement: Engagement) -> str:
        """Whose worker: accounts of two chains may have one name and be two people's."""
        return f"{self._node.info.name}:{engagement.task.client}"

    async def _input(self, engagement: Engagement) -> bytes:
        data = await self._read_input(engagement)
        if blob_digest(data) != engagement.spec.input_digest:
            raise NodeFault("the input on disk is damaged")
        return data

    async def _read_input(self, engagement: Engagement) -> bytes:
        if engagement.small_input is not None:
            return engagement.small_input
        return await self._node.ports.blobs.read(engagement.key.blob("input"))

    async def _read_output(self, engagement: Engagement) -> bytes:
        if engagement.small_output is not None:
            return engagement.small_output
        return await self._node.ports.blobs.read(engagement.key.blob("output"))

    async def _run(
        self, engagement: Engagement, data: bytes
    ) -> tuple[Output | None, FaultCode | None]:
        node, spec, task = self._node, engagement.spec, engagement.task
        computation = msgspec.structs.replace(
            _computation(engagement, data), max_units=self._paid_units(engagement)
        )

        def report(done: float) -> None:
            engagement.done = done

        async with node.ports.workbench.executor(self._customer(engagement)) as executor:
            engagement.started_at = trio.current_time()
            timeout = max(1.0, float(task.commit_deadline - node.chain_time))
            try:
                output = await executor.run(computation, on_progress=report, timeout=timeout)
            except WorkloadFault as error:
                node.reason("workload_fault", f"{spec.workload}: {error}", "the task was bad")
                return None, _closed(error)
        node.counters[f"units.{spec.workload}"] += output.units
        return output, None

    def _paid_units(self, engagement: Engagement) -> int | None:
        """How many cost units the fee covers at our price; None where units cost nothing.

        Only the worker counts them: the daemon parses nobody's input.
        """
        price = self._node.config.price(engagement.spec.workload)
        if not price.unit:
            return None
        return max(0, int(engagement.task.fee) - price.base) // price.unit

    async def _sign(
        self, engagement: Engagement, output: Output | None, fault: FaultCode | None
    ) -> None:
        node, key = self._node, engagement.key
        if output is not None:
            digest = blob_digest(output.data)
            evidence = keccak(output.evidence) if output.evidence else ZERO
        else:
            assert fault is not None
            digest, evidence = fault_digest(key.task_id, fault), ZERO
        salt = node.ports.entropy(32)
        where = (key.task_id, key.seat, key.attempt)
        sign, domain = node.ports.signer.sign, node.info.escrow
        value, commitment = ZERO, b""
        if engagement.task.policy is not Policy.NONE:  # which takes the result at once
            value = commitment_value(*where, node.ports.node, digest, salt)
            commitment = sign(commit_digest(domain, *where, value))
        own = OwnResult(
            digest=digest,
            evidence=evidence,
            salt=salt,
            value=value,
            commit_signature=commitment,
            result_signature=sign(result_digest(domain, *where, digest, evidence)),
            fault=int(fault or 0),
        )
        small = output.data if output is not None and len(output.data) <= SMALL_BYTES else None
        kept = await node.ports.journal.result(key, own, small)
        engagement.small_output, engagement.result = small, kept
        engagement.committed_at = trio.current_time()
        engagement.done = 1.0
        node.counters["computed"] += 1
        node.ports.crash("result.journalled")

    async def judge(self, engagement: Engagement) -> None:
        """Compare the outputs that are here with ours and sign whom we approve."""
        node, key, own, chain = self._node, engagement.key, engagement.result, engagement.chain
        if own is None or chain is None:
            return
        digests = engagement.digests()
        mask = 1 << key.seat
        mask |= sum(1 << seat for seat, digest in digests.items() if digest == own.digest)
        if not own.fault:
            others = [
                seat
                for seat in sorted(engagement.outputs)
                if seat in digests and not mask >> seat & 1
            ]
            mask |= await self._compare(engagement, others)
        commitments = word(chain.acc)
        signed = approval_digest(node.info.escrow, key.task_id, key.seat, commitments, mask)
        message = ApprovedOutputs(
            key.task_id, key.seat, commitments, mask, node.ports.signer.sign(signed)
        )
        engagement.approvals[key.seat] = await node.ports.journal.approved(message)
        node.ports.crash("approval.journalled")

    async def _compare(self, engagement: Engagement, seats: list[int]) -> int:
        """The mask of those of `seats` whose output is within tolerance of ours."""
        if not seats:
            return 0
        node, key = self._node, engagement.key
        outputs = [
            await self._read_output(engagement),
            *[await node.ports.blobs.read(key.blob("output", seat)) for seat in seats],
        ]
        computation = _computation(engagement, await self._read_input(engagement))
        bench = node.ports.workbench
        async with bench.executor(self._customer(engagement), urgent=True) as executor:
            matrix = await executor.compare(computation, engagement.task.policy, outputs)
        return sum(1 << seat for column, seat in enumerate(seats, start=1) if matrix[0][column])


def _computation(engagement: Engagement, data: bytes) -> Computation:
    spec = engagement.spec
    return Computation(
        workload=spec.workload,
        version=spec.workload_version,
        model=spec.model,
        parameters=spec.parameters,
        input=data,
        seed=raw(engagement.task_id),
    )


def _closed(error: WorkloadFault) -> FaultCode:
    """The code, if it is of the closed list: no other node could agree on any other."""
    try:
        return FaultCode(error.fault)
    except ValueError:
        raise NodeFault(f"the workload reports the unknown fault {error.fault}") from error
