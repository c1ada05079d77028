"""What every workload must keep to, ours and other people's: a conformance suite.

    from workloads.testing import check_conformance
    def test_my_workload_conforms(tmp_path): check_conformance("my_package:SPEC", models=tmp_path)

It runs the spec's own `examples` in locked workers, with one thread and with several, and raises
`AssertionError` with what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from deai.codec import decode_value, encode_value
from deai.errors import WorkloadFault
from deai.lane.receipts import MAX_TASK_BYTES
from deai.ports import Batch, Computation, Failure, Output
from deai.tasks import FaultCode, Policy
from workloads import catalog
from workloads.inputs import InstalledWorkloads
from workloads.pool import PoolConfig, open_worker_pool
from workloads.spec import Determinism, SandboxLevel, WorkloadSpec

THREADS: Final = (1, 2)
TIMEOUT: Final = 300.0
GARBAGE: Final = (b"", b"\x00", b"\xff" * 100, b"{", b"[" * 100_000, b'{"a":1,"a":2}', b"NaN")


def check_conformance(reference: str, *, models: Path) -> None:
    """Check the workload `module:attribute`; models it names must be in the store `models`."""
    spec: WorkloadSpec = catalog.load_name(reference)
    _check_contract(spec)
    _check_parameters(spec)
    _check_inputs(spec)
    trio.run(_check_runs, spec, reference, models)


def _check_contract(spec: WorkloadSpec) -> None:
    assert isinstance(spec, WorkloadSpec), "not a WorkloadSpec"
    assert spec.id, "no id"
    assert spec.id == spec.id.lower().strip(), "an id is lower case"
    assert len(spec.id) <= 64, "an id has at most 64 characters"
    assert 1 <= spec.version < 1 << 16, "version 1 to 65535"
    assert spec.default_policy in spec.policies, "the default policy is not among the policies"
    assert spec.examples, "no examples to run"
    exact = Policy.EXACT in spec.policies
    assert not exact or spec.determinism is Determinism.BITWISE, "exact/1 needs equal bytes"
    tolerant = any(policy.is_tolerance for policy in spec.policies)
    assert not tolerant or spec.compare, "a tolerance policy needs `compare`"
    assert not tolerant or spec.models, "thresholds live in a model's manifest: no models"
    assert spec.sandbox in SandboxLevel, "unknown sandbox level"


def _check_parameters(spec: WorkloadSpec) -> None:
    for given, _ in spec.examples:
        checked = spec.check_parameters(given)
        again = spec.check_parameters(decode_value(encode_value(checked)))
        assert encode_value(checked) == encode_value(again), "parameters are no fixed point"
    _must_fault(
        lambda: spec.check_parameters({"no such parameter": 1}),
        "an unknown parameter",
        FaultCode.INVALID_PARAMETERS,
    )


def _check_inputs(spec: WorkloadSpec) -> None:
    for given, data in spec.examples:
        parameters = spec.check_parameters(given)
        estimate = spec.check_input(parameters, data)
        assert estimate == spec.check_input(parameters, data), "two prices for one input"
        assert estimate.units > 0, "work without cost"
        for garbage in GARBAGE:
            try:
                spec.check_input(parameters, garbage)
            except WorkloadFault as error:
                FaultCode(error.fault)
            _must_not_pass(spec, garbage, estimate)


def _must_not_pass(spec: WorkloadSpec, garbage: bytes, estimate: Any) -> None:  # noqa: ANN401
    try:
        spec.check_output(garbage, estimate)
    except (ValueError, RecursionError):
        return
    raise AssertionError(f"check_output takes {garbage[:20]!r} for a result")


def _must_fault(step: Any, what: str, code: FaultCode) -> None:  # noqa: ANN401 - any callable
    found: int | None = None
    try:
        step()
    except WorkloadFault as error:
        found = error.fault
    assert found is not None, f"{what} is accepted"
    assert found == code, f"{what}: fault {found} instead of {int(code)}"


async def _check_runs(spec: WorkloadSpec, reference: str, models: Path) -> None:
    installed = {(other.id, other.version) for other in catalog.load()}
    extra = () if (spec.id, spec.version) in installed else (reference,)
    outputs: dict[int, list[Output]] = {}
    for threads in THREADS:
        config = PoolConfig(
            models=models,
            threads=threads,
            workloads=(spec.id,),
            extra=extra,
            memory_bytes=spec.memory_bytes,
        )
        async with open_worker_pool(config) as pool:
            outputs[threads] = [
                await _run(pool.catalogue, pool, spec, given, data) for given, data in spec.examples
            ]
            await _check_agreement(pool, spec, outputs)
            await _check_batches(pool, spec, [one.data for one in outputs[threads]])
    if spec.determinism is Determinism.BITWISE:
        first, second = ([output.data for output in outputs[n]] for n in THREADS)
        assert first == second, "the bytes depend on the number of threads"


async def _run(
    installed: InstalledWorkloads,
    pool: Any,  # noqa: ANN401 - a Workbench
    spec: WorkloadSpec,
    given: Mapping[str, Any],
    data: bytes,
) -> Output:
    fractions: list[float] = []
    computation = _computation(installed, spec, given, data)
    async with pool.executor("conformance") as executor:
        output: Output = await executor.run(
            computation, on_progress=fractions.append, timeout=TIMEOUT
        )
    assert fractions == sorted(fractions), "progress goes backwards"
    assert all(0 <= fraction <= 1 for fraction in fractions), "progress beyond 0 to 1"
    estimate = installed.check(spec.id, computation.parameters, data)
    assert output.units == estimate.units, "the worker found another price"
    return output


async def _check_agreement(
    pool: Any,  # noqa: ANN401 - a Workbench
    spec: WorkloadSpec,
    outputs: Mapping[int, list[Output]],
) -> None:
    for policy in spec.policies:
        if not policy.is_tolerance:
            continue
        for index, (given, data) in enumerate(spec.examples):
            honest = [found[index].data for found in outputs.values()]
            computation = _computation(pool.catalogue, spec, given, data)
            async with pool.executor("conformance") as executor:
                agree = await executor.compare(computation, policy, [*honest, b"garbage"])
            size = len(honest)
            assert all(all(row[:size]) for row in agree[:size]), "honest results disagree"
            assert not any(agree[size]), "garbage agrees with something"


async def _check_batches(
    pool: Any,  # noqa: ANN401 - a Workbench
    spec: WorkloadSpec,
    alone: Sequence[bytes],
) -> None:
    """The fast lane: several at once, one of them bad, give what each gives alone."""
    for (given, data), expected in zip(spec.examples, alone, strict=True):
        if max(len(data), len(expected)) > MAX_TASK_BYTES:
            continue
        computation = _computation(pool.catalogue, spec, given, data)
        units = spec.check_input(decode_value(computation.parameters), data).units
        async with pool.batches("conformance") as lane:
            batch = Batch(
                workload=spec.id,
                version=spec.version,
                model=computation.model,
                parameters=computation.parameters,
                seed=computation.seed,
                max_units=units,
                inputs=[data, b"[" * MAX_TASK_BYTES, data],
            )
            answers: list[bytes | Failure] = []
            lane.submit(batch, answers.extend, timeout=TIMEOUT)
        first, _, last = answers
        assert isinstance(first, bytes), f"not computed in a batch: {first}"
        assert isinstance(last, bytes), f"not computed in a batch: {last}"
        if spec.determinism is Determinism.BITWISE:
            assert first == last == expected, "a batch gives other bytes"
        for policy in (policy for policy in spec.policies if policy.is_tolerance):
            async with pool.executor("conformance") as executor:
                agree = await executor.compare(computation, policy, [expected, first, last])
            assert all(map(all, agree)), "a batch gives other results"


def _computation(
    installed: InstalledWorkloads, spec: WorkloadSpec, given: Mapping[str, Any], data: bytes
) -> Computation:
    parameters = installed.parameters(spec.id, given)
    return Computation(
        workload=spec.id,
        version=spec.version,
        model=installed.model(spec.id, parameters),
        parameters=parameters,
        input=data,
        seed=bytes(32),
    )
