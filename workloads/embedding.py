"""Sentence embeddings: parameters, input and cost; the torch code is in `workloads.runners`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deai.ports import Estimate
from deai.tasks import FaultCode, Policy
from workloads import tensors
from workloads.faults import fault, invalid, malformed
from workloads.manifests import known
from workloads.spec import Determinism, WorkloadSpec
from workloads.text import decode_text, encodable, parse_json, require_object, split_lines

MAX_TEXTS: Final = 10_000
MAX_TEXT_BYTES: Final = 64 * 1024
MAX_LINE: Final = 8 * MAX_TEXT_BYTES
"""Characters of a JSON line, which may write each byte of a text as six and pad with spaces. A
longer one is not parsed: its values could take more memory than a worker has."""
DEFAULT_MODEL: Final = "all-minilm-l6-v2"
BYTES_PER_UNIT: Final = 256
"""About 64 tokens of English; longer texts cost more until the model's maximum cuts them."""
MAX_COMPUTED_UNITS: Final = 4
BYTES_READ_PER_UNIT: Final = 16 * 1024
"""Reading what is then cut off takes time too: measured, about as long as a unit."""
OUTPUT_NAME: Final = "embeddings"


def check_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """`model` (name or digest), `normalize`, `format`; the model becomes its digest."""
    for key in given:
        if key not in ("model", "normalize", "format"):
            invalid(f"embedding has no parameter {key[:40]!r}")
    model = given.get("model", DEFAULT_MODEL)
    normalize = given.get("normalize", True)
    form = given.get("format", "text")
    if not isinstance(model, str):
        invalid("model must be a manifest's name or digest")
    if not isinstance(normalize, bool):
        invalid("normalize must be true or false")
    if form not in ("text", "jsonl"):
        invalid("format must be text or jsonl")
    return {"format": form, "model": known.resolve(model), "normalize": normalize}


def parse_texts(data: bytes, form: str) -> list[str]:
    """The texts of an input in order; a fault for a bad one."""
    lines = split_lines(decode_text(data), MAX_TEXTS)
    return [_text(line, number, form) for number, line in enumerate(lines, 1)]


def _text(line: str, number: int, form: str) -> str:
    if not line.strip():
        malformed(f"line {number} is blank")
    text = line
    if form == "jsonl":
        if len(line) > MAX_LINE:
            fault(FaultCode.ITEM_TOO_LARGE, f"line {number} exceeds {MAX_LINE} characters")
        row = require_object(parse_json(line, f"line {number}"), f"line {number}", {"text": True})
        text = row["text"]
        if not isinstance(text, str) or not text.strip() or not encodable(text):
            malformed(f"line {number}: text is not text, or blank")
    if len(text.encode()) > MAX_TEXT_BYTES:
        fault(FaultCode.ITEM_TOO_LARGE, f"line {number} exceeds {MAX_TEXT_BYTES} bytes")
    return text


def check_input(parameters: Mapping[str, Any], data: bytes) -> Estimate:
    """Count texts and cost units."""
    texts = parse_texts(data, parameters["format"])
    return Estimate(items=len(texts), units=sum(_units(len(text.encode())) for text in texts))


def _units(size: int) -> int:
    return min(MAX_COMPUTED_UNITS, -(-size // BYTES_PER_UNIT)) + size // BYTES_READ_PER_UNIT


def check_output(data: bytes, estimate: Estimate) -> None:
    """Raise `ValueError` unless it is a finite [n, d] in canonical safetensors."""
    tensor = tensors.decode_matrix(data, OUTPUT_NAME)
    if tensor.rows != estimate.items:
        raise ValueError(f"{tensor.rows} rows for {estimate.items} texts")


SPEC: Final = WorkloadSpec(
    id="embedding",
    version=1,
    title="Sentence embeddings",
    description="One vector per text: mean pooling over a BERT encoder, in fp32.",
    policies=(Policy.TOL32, Policy.NONE),
    default_policy=Policy.TOL32,
    determinism=Determinism.TOLERANCE,
    unit="text of up to 256 bytes (about 64 tokens)",
    output_type="safetensors",
    input_form="UTF-8 texts, one a line; with format=jsonl an object with a text a line",
    parameters_schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string", "default": DEFAULT_MODEL},
            "normalize": {"type": "boolean", "default": True},
            "format": {"enum": ["text", "jsonl"], "default": "text"},
        },
    },
    check_parameters=check_parameters,
    check_input=check_input,
    check_output=check_output,
    runner="workloads.runners.embedding:run",
    run_many="workloads.runners.embedding:run_many",
    warm_up="workloads.runners.embedding:warm_up",
    compare="workloads.verification.compare:matrices_agree",
    convert=lambda data, suffix: tensors.convert(data, OUTPUT_NAME, suffix),
    models=(DEFAULT_MODEL,),
    memory_bytes=1 << 30,
    examples=(
        ({}, b"The cat sits outside\nA man is playing guitar\n"),
        ({"normalize": False, "format": "jsonl"}, '{"text": "Größe"}\n{"text": "数"}'.encode()),
    ),
)
