"""Real workloads in locked workers: one template, several clients, every answer right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from deai.codec import encode_value
from deai.errors import NodeFault, WorkloadFault
from deai.ports import Computation, Executor, Workbench
from deai.tasks import FaultCode, Policy
from tests.workloads.test_inputs import PORTFOLIO
from workloads.embedding import OUTPUT_NAME
from workloads.manifests.known import digest_of
from workloads.pool import PoolConfig, open_workbench, open_worker_pool
from workloads.tensors import encode_matrix, matrix_values

pytestmark = pytest.mark.slow


def make_computation(bench: Workbench, workload: str, data: bytes, **given: Any) -> Computation:
    parameters = bench.catalogue.parameters(workload, given)
    return Computation(
        workload=workload, version=1, model="", parameters=parameters, input=data, seed=bytes(32)
    )


async def run(executor: Executor, computation: Computation) -> bytes:
    return (await executor.run(computation, on_progress=lambda fraction: None, timeout=120)).data


async def test_a_pool_serves_real_work_and_tells_good_tasks_from_bad(models: Path) -> None:
    async with open_workbench(models) as bench, bench.executor("alice") as executor:
        # What the worker says of bad input is what a client finds before it pays.
        bad = [
            ("embedding", b"", FaultCode.MALFORMED_INPUT),
            ("embedding", b"\xff", FaultCode.MALFORMED_INPUT),
            ("embedding", b"x\n" * 10_001, FaultCode.TOO_MANY_ITEMS),
            ("embedding", b"x" * 2_000_000, FaultCode.ITEM_TOO_LARGE),
            ("portfolio-risk", b'{"assets": NaN}', FaultCode.NOT_FINITE),
            ("matmul-proof", b"x", FaultCode.MALFORMED_INPUT),
        ]
        for workload, data, code in bad:
            with pytest.raises(WorkloadFault) as caught:
                await run(executor, make_computation(bench, workload, data))
            assert caught.value.fault == code
        wrong = make_computation(bench, "embedding", b"x")
        for parameters in (b"\xff", encode_value([]), encode_value({"model": 1})):
            changed = Computation(**{**_fields(wrong), "parameters": parameters})
            with pytest.raises(WorkloadFault) as caught:
                await run(executor, changed)
            assert caught.value.fault == FaultCode.INVALID_PARAMETERS
        other = Computation(**{**_fields(wrong), "model": digest_of(b"other")})
        with pytest.raises(WorkloadFault):
            await run(executor, other)
        absent = make_computation(bench, "embedding", b"x", model=digest_of(b"absent"))
        with pytest.raises(NodeFault) as missing:
            await run(executor, absent)
        assert missing.value.reason_code == "model_missing"

        # What is not paid for is parsed and not computed, however large it is.
        large = make_computation(bench, "embedding", (b"word " * 150 + b"\n") * 2000)
        units = bench.catalogue.check("embedding", large.parameters, large.input).units
        assert (len(large.input) > 1 << 20, units) == (True, 6000)
        for short in (0, units - 1):
            with pytest.raises(NodeFault) as unpaid:
                await run(executor, Computation(**{**_fields(large), "max_units": short}))
            assert unpaid.value.reason_code == "underpaid"

        # Good work, by the same worker.
        vectors = await run(executor, make_computation(bench, "embedding", b"one\ntwo\none\n"))
        rows = matrix_values(vectors, OUTPUT_NAME)
        assert rows.shape == (3, 384)
        assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(3), abs=1e-6)
        risk = make_computation(bench, "portfolio-risk", json.dumps(PORTFOLIO).encode(), paths=1000)
        paid = bench.catalogue.check("portfolio-risk", risk.parameters, risk.input).units
        first = await run(executor, Computation(**{**_fields(risk), "max_units": paid}))
        assert set(json.loads(first)["var"]) == {"0.95", "0.99"}
        proof = make_computation(bench, "matmul-proof", b"", size=64)
        output = await executor.run(proof, on_progress=lambda fraction: None, timeout=240)
        assert output.measurements["operations_per_second"] > 0
        assert bench.stats()["workers_started"] == 2

        # Outputs of strangers are compared in the worker.
        near = encode_matrix(OUTPUT_NAME, rows + np.float32(1e-7))
        far = encode_matrix(OUTPUT_NAME, rows + np.float32(1e-3))
        # A task may name its model in the parameters alone.
        agree = await executor.compare(wrong, Policy.TOL32, [vectors, near, far, b"junk"])
        assert agree[0] == [True, True, False, False]
        assert agree[3] == [False] * 4
        for unsound in ({"model": "nobody's"}, {"parameters": b"\xc1"}):
            computation = Computation(**{**_fields(wrong), **unsound})
            with pytest.raises(NodeFault, match="not compared"):
                await executor.compare(computation, Policy.TOL32, [vectors, near])


def _fields(computation: Computation) -> dict[str, Any]:
    return {name: getattr(computation, name) for name in computation.__struct_fields__}


async def test_memory_beyond_the_quota_is_this_nodes_fault(models: Path) -> None:
    # torch itself is refused the memory, above the 3 GiB that its libraries map.
    config = PoolConfig(models=models, memory_bytes=192 << 20, workloads=("matmul-proof",))
    async with open_worker_pool(config) as pool, pool.executor("alice") as executor:
        with pytest.raises(NodeFault) as caught:
            await run(executor, make_computation(pool, "matmul-proof", b"", size=8192, rounds=1))
        # Refused to torch, or noticed from outside: whichever comes first.
        assert caught.value.reason_code in ("memory", "memory_limit")
        assert await run(executor, make_computation(pool, "matmul-proof", b"", size=64, rounds=1))


async def test_two_clients_compute_at_once_with_two_workers(models: Path) -> None:
    config = PoolConfig(models=models, workers=2, workloads=("matmul-proof",))
    answers: dict[str, bytes] = {}
    async with open_worker_pool(config) as pool:
        met = trio.Event()

        async def use(client: str) -> None:
            async with pool.executor(client) as executor:
                if pool.stats()["busy"] == 2:
                    met.set()
                await met.wait()
                answers[client] = await run(
                    executor, make_computation(pool, "matmul-proof", b"", size=64)
                )

        with trio.fail_after(200):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, "alice")
                nursery.start_soon(use, "bob")
        assert answers["alice"] == answers["bob"]
        assert len(pool.stats()["worker_pids"]) == 2


async def test_judging_waits_for_no_computation(models: Path) -> None:
    config = PoolConfig(models=models, workers=1, workloads=("matmul-proof",))
    async with open_worker_pool(config) as pool, pool.executor("alice") as computing:
        computation = make_computation(pool, "matmul-proof", b"", size=64)
        computed = await run(computing, computation)
        with trio.fail_after(200):
            async with pool.executor("bob", urgent=True) as judging:
                assert await run(judging, computation) == computed
        assert await run(computing, computation) == computed
