"""Proof of a device: seeded integer products that must be computed to be known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from deai.ports import Estimate
from deai.tasks import FaultCode, Policy
from workloads.faults import fault, integer, invalid
from workloads.spec import Determinism, WorkloadSpec
from workloads.tensors import convert_json

MAX_SIZE: Final = 8192
MAX_ROUNDS: Final = 1024
MAX_WORK: Final = 1 << 44
"""Multiplications of one task; about half an hour of one slow core."""
WORK_PER_UNIT: Final = 1 << 27
DEFAULTS: Final = {"rounds": 4, "seed": 0, "size": 512}


def check_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """`seed`, `size` (a multiple of 16) and `rounds`."""
    for key in given:
        if key not in DEFAULTS:
            invalid(f"matmul-proof has no parameter {key[:40]!r}")
    chosen = {**DEFAULTS, **given}
    seed = integer(chosen["seed"], "seed", 0, (1 << 63) - 1)
    size = integer(chosen["size"], "size", 16, MAX_SIZE)
    rounds = integer(chosen["rounds"], "rounds", 1, MAX_ROUNDS)
    if size % 16:
        invalid("size must be a multiple of 16")
    if size**3 * rounds > MAX_WORK:
        invalid(f"size³ × rounds must not exceed {MAX_WORK}")
    return {"rounds": rounds, "seed": seed, "size": size}


def check_input(parameters: Mapping[str, Any], data: bytes) -> Estimate:
    """There is none; the parameters give the cost."""
    if data:
        fault(FaultCode.MALFORMED_INPUT, "matmul-proof takes no input")
    work = parameters["size"] ** 3 * parameters["rounds"]
    return Estimate(items=parameters["rounds"], units=-(-work // WORK_PER_UNIT))


def encode_digest(digest: str) -> bytes:
    """The canonical output."""
    return json.dumps({"digest": digest}, separators=(",", ":")).encode()


def check_output(data: bytes, estimate: Estimate) -> None:
    """Raise `ValueError` unless it is one SHA-256 digest in canonical JSON."""
    document = json.loads(data)
    digest = document.get("digest") if isinstance(document, dict) else None
    if not isinstance(digest, str) or len(bytes.fromhex(digest)) != 32:
        raise ValueError("not a digest")
    if encode_digest(digest.lower()) != data:
        raise ValueError("not in canonical form")


SPEC: Final = WorkloadSpec(
    id="matmul-proof",
    version=1,
    title="Device proof",
    description="Chained products of seeded integer matrices; its time is the device's speed.",
    policies=(Policy.EXACT, Policy.NONE),
    default_policy=Policy.EXACT,
    determinism=Determinism.BITWISE,
    unit="134 million multiplications",
    output_type="digest",
    input_form="none",
    parameters_schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "seed": {"type": "integer", "minimum": 0, "default": 0},
            "size": {"type": "integer", "minimum": 16, "maximum": MAX_SIZE, "default": 512},
            "rounds": {"type": "integer", "minimum": 1, "maximum": MAX_ROUNDS, "default": 4},
        },
    },
    check_parameters=check_parameters,
    check_input=check_input,
    check_output=check_output,
    runner="workloads.runners.matmul:run",
    warm_up="workloads.runners.matmul:warm_up",
    convert=convert_json,
    memory_bytes=2 << 30,
    examples=(({"size": 64, "rounds": 2}, b""), ({"size": 16, "seed": 7, "rounds": 1}, b"")),
)
