"""`deai task submit` over the lane, and the receipts of its tasks: one task, one voucher."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from deai.cli import task_diary
from deai.cli.base import Settings
from deai.errors import DeaiError, UsageError

if TYPE_CHECKING:
    from deai.client import Client, TaskOutcome, TaskRequest
    from deai.client.lane.lane import Lane, LaneResult

POLICY: Final = "none/1"
_ONLY_ESCROW: Final = ("detach", "idempotency_key", "deadline")


def is_meant(settings: Settings, request: TaskRequest, options: dict[str, Any]) -> bool:
    """Whether a task goes over the lane: asked for, or nothing speaks against it.

    Without `--lane` it does where this home has a session key, no verification is asked for, and
    the input is small. Raises `UsageError` for what the lane cannot do.
    """
    asked = options["lane"]
    against = _against(request, options)
    if asked == "channel":
        if against:
            raise UsageError(
                f"--lane channel: {against}", hint="leave it away, or take --lane escrow"
            )
        return True
    folder = settings.home / "keys" / "channels"
    return not asked and not against and folder.is_dir() and any(folder.glob("*.json"))


def _against(request: TaskRequest, options: dict[str, Any]) -> str:
    from deai.client.adapters import load_catalogue
    from deai.lane.receipts import MAX_TASK_BYTES

    if request.policy not in ("", POLICY):
        return f"its tasks are not verified, so --policy is {POLICY}"
    if request.seats > 1:
        return "one node computes a task"
    if len(request.data) > MAX_TASK_BYTES:
        return f"an input has at most {MAX_TASK_BYTES} bytes"
    if POLICY not in load_catalogue().info(request.workload).policies:
        return f"{request.workload} is not computed without verification"
    for name in _ONLY_ESCROW:
        if options[name]:
            return f"--{name.replace('_', '-')} is of the escrow"
    return "a tip is of the escrow" if request.tip else ""


async def plan(client: Client, request: TaskRequest, *, must: bool) -> dict[str, Any] | None:
    """What a task would cost over the lane; None where it would go another way."""
    from deai.cli import lane_plan
    from deai.client.lane.planning import plan_lane

    found = await plan_lane(
        client.tools, request.workload, params=request.params, max_fee=request.max_fee,
        nodes=request.nodes,
    )  # fmt: skip
    if found.problem is not None and not must:
        return None
    return lane_plan.document(found, request.workload, [request.data], done=0)


async def submit(
    settings: Settings, client: Client, request: TaskRequest, *, must: bool
) -> TaskOutcome | None:
    """Compute one task; None where no channel can be used (unless the lane was asked for).

    Raises as `Client.lane` and `Lane.call`.
    """
    began = time.monotonic()
    lane = client.lane(
        request.workload, params=request.params, max_fee=request.max_fee, nodes=request.nodes
    )
    try:
        opened = await lane.__aenter__()
    except DeaiError:
        if must:
            raise
        return None  # nothing was asked of anybody: the escrow can do it
    matched = time.monotonic()
    try:
        found = await opened.result(request.data)
        return await _outcome(settings, client, opened, found, began, matched)
    finally:
        await lane.__aexit__(*sys.exc_info())


async def _outcome(
    settings: Settings, client: Client, lane: Lane, found: LaneResult, began: float, matched: float
) -> TaskOutcome:
    from deai.client.documents import rfc3339, seconds_to_ms
    from deai.client.handle import TaskOutcome
    from deai.files import replace_file
    from deai.ids import hexed, owner_of
    from deai.lane.proof import sha256
    from deai.receipts import write_receipt

    computed = time.monotonic()
    receipt = await lane.receipt(found)
    paid = time.monotonic()
    terms = found.terms
    name = f"lane-{terms.channel[2:18]}-{terms.epoch}-{found.index}"
    output = client.tools.results / name
    proof = client.tools.receipts / f"{name}.json"

    def save() -> None:
        output.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(output, found.output, flush=False)
        if receipt is not None:
            proof.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(proof, write_receipt(receipt))

    await client.tools.offload(save)
    now, digest, fee = rfc3339(int(time.time())), hexed(sha256(found.output)), str(found.fee)
    document = {
        "task_id": name,
        "workload": terms.workload,
        "chain": settings.chain,
        "lane": "channel",
        "policy": POLICY,
        "state": "completed",
        "detail": "delivered, and paid by voucher" if receipt else "delivered; no receipt came",
        "attempts": [
            {
                "attempt": 0,
                "seat": 0,
                "node_id": found.node,
                "provider": owner_of(found.node),
                "fee": fee,
                "state": "paid",
                "output_digest": digest,
                "reason": "",
                "started_at": now,
                "ended_at": now,
            }
        ],
        "result": {
            "digest": digest,
            "bytes": len(found.output),
            "path": str(output),
            "agreed": 1,
            "seats": 1,
        },
        "escrowed": fee,
        "held": "0",
        "paid": fee,
        "refunded": "0",
        "protocol_fee": "0",
        "payments": [{"provider": owner_of(found.node), "amount": fee}],
        "transactions": [],
        "receipt": str(proof) if receipt is not None else "",
        "timings": {
            "match_ms": seconds_to_ms(began, matched),
            "assign_ms": 0,
            "input_ms": 0,
            "execute_ms": seconds_to_ms(matched, computed),
            "settle_ms": seconds_to_ms(computed, paid),
            "total_ms": seconds_to_ms(began, time.monotonic()),
        },
    }
    await client.tools.offload(partial(task_diary.keep, settings, name, time.time(), document))
    return TaskOutcome(document, found.output)


def verified(data: bytes, given: bytes | None, output: bytes | None) -> dict[str, Any]:
    """The document of `verify-receipt` for a receipt of the lane; raises `MalformedMessage`."""
    from deai.lane.proof import read_lane_receipt, verify_lane_receipt

    receipt = read_lane_receipt(data)
    report = verify_lane_receipt(receipt, given, output)
    terms = receipt.terms
    return {
        "ok": report.ok,
        "task_id": f"lane-{terms.channel[2:18]}-{terms.epoch}-{receipt.index}",
        "result": receipt.output_digest,
        "checks": [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in report.checks],
        "transactions": [],
        "note": "That the channel was open, and that this operator may sign for the node, is for "
        "the chain to say; everything else was checked here.",
    }
