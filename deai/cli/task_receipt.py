"""`deai task verify-receipt`: what a receipt says, checked without a chain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deai.cli import task_input, task_lane, task_order, task_output
from deai.cli.base import ExitWith, Settings, emit

if TYPE_CHECKING:
    from deai.receipts import Check


@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path),
    help="Compare this output with it: as it came (HOME/results), not converted.",
)  # fmt: skip
@click.option("--input", "source", metavar="FILE|-", help="The input too (of lane and order).")
def verify(settings: Settings, file: Path, output: Path | None, source: str | None) -> None:
    r"""Check a receipt offline: ids, digests, signatures, sums. Exit 1 if anything is wrong.

    \b
    Example:
      deai task verify-receipt ~/.deai/receipts/0xf13c….json
    """
    from deai.cli import render_task
    from deai.errors import MalformedMessage, UsageError
    from deai.receipts import MAX_RECEIPT_BYTES, lane_of, read_receipt, verify_receipt

    content = _bytes(file, MAX_RECEIPT_BYTES)
    data = task_input.read_input(str(output)) if output is not None else None
    try:
        check = {"channel": task_lane, "order": task_order}.get(lane_of(content))
        if check is not None:
            given = task_input.read_input(source) if source is not None else None
            document = check.verified(content, given, data)
            emit(settings, document, lambda console: render_task.receipt(console, document))
            if not document["ok"]:
                raise ExitWith(1)
            return
        receipt = read_receipt(content)
    except MalformedMessage as error:
        raise MalformedMessage(f"{file} is no receipt: {error}", hint=error.hint) from error
    if source is not None:
        raise UsageError("--input is compared with receipts of the lane and of orders alone")
    report = verify_receipt(receipt, data)
    document = {
        "ok": report.ok,
        "task_id": receipt.task_id,
        "result": receipt.result or None,
        "checks": [
            {"name": one.name, "ok": one.ok, "detail": one.detail + _converted(one, output)}
            for one in report.checks
        ],
        "transactions": [one.hash for one in receipt.transactions],
        "note": "That the transactions are on the chain is for the chain to say; "
        "everything else was checked here.",
    }
    emit(settings, document, lambda console: render_task.receipt(console, document))
    if not report.ok:
        raise ExitWith(1)


def _converted(check: Check, output: Path | None) -> str:
    """Why the file that `submit --output` wrote may be another one than the output."""
    if check.name != "output" or check.ok or output is None:
        return ""
    if output.suffix not in task_output.CONVERTED:
        return ""
    return f"; `--output` converts to {output.suffix}, the output as it came is in HOME/results"


def _bytes(file: Path, limit: int) -> bytes:
    from deai.errors import UsageError

    try:
        with file.open("rb") as opened:
            return opened.read(limit + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {str(file)!r}: {error.strerror}", code="unreadable_input"
        ) from error
