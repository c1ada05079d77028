"""`deai workload`: what can be computed, and computing it here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from deai.cli import task_input, task_output
from deai.cli.base import Settings, emit, group, run_trio

if TYPE_CHECKING:
    from rich.console import Console

    from deai.ports import Output, WorkloadInfo

TIMEOUT = 24 * 3600.0


@group("workload")
def workload() -> None:
    r"""What can be computed; run it here.

    \b
    Examples:
      deai workload list
      deai workload run portfolio-risk --input book.json --output risk.json
    """


@workload.command("list")
def list_(settings: Settings) -> None:
    r"""List the workloads that are installed.

    \b
    Example:
      deai workload list
    """
    from deai.cli.render import table
    from deai.client.adapters import load_catalogue

    found = load_catalogue().list()
    items = [_document(info) for info in found]

    def render(console: Console) -> None:
        table(
            console,
            ("Workload", "Version", "Verified by", "Output", "What"),
            [
                (info.id, str(info.version), ", ".join(info.policies), info.output_type, info.title)
                for info in found
            ],
            right=(1,),
            wrap=(2, 4),
        )

    emit(settings, {"items": items, "next_cursor": None}, render)


@workload.command("show")
@click.argument("workload_id")
def show(settings: Settings, workload_id: str) -> None:
    r"""Show one workload: parameters, policies, models.

    \b
    Example:
      deai workload show embedding
    """
    from deai.cli.render import pairs, say
    from deai.client.adapters import load_catalogue

    document = _document(task_input.known_workload(load_catalogue(), workload_id))

    policies = f"{', '.join(document['policies'])}; {document['default_policy']} unless told"
    properties = document["parameters"].get("properties", {})

    def render(console: Console) -> None:
        say(console, f"{document['id']}, version {document['version']}: {document['title']}")
        say(console, document["description"])
        pairs(
            console,
            [
                ("Policies", policies),
                ("Agreement", document["determinism"]),
                ("Unit", document["unit"]),
                ("Models", ", ".join(document["models"]) or "none needed"),
                ("Input", document["input"]),
                ("Output", document["output_type"]),
            ],
        )
        say(console, "Parameters")
        pairs(
            console,
            [(name, msgspec.json.encode(about).decode()) for name, about in properties.items()],
        )
        if document["example"]:
            say(console, "An input, as it stands")
            say(console, "  " + document["example"].rstrip().replace("\n", "\n  "))

    emit(settings, document, render)


@workload.command("run")
@click.argument("workload_id")
@click.option("--input", "source", metavar="FILE|-", help="The input; - reads standard input.")
@click.option("--param", "params", multiple=True, metavar="K=V", help="A parameter; repeatable.")
@click.option("--params", "params_file", type=click.Path(path_type=Path), help="JSON file of them.")
@click.option("--output", type=click.Path(path_type=Path), help="FILE, or x.npy, x.jsonl: convert.")
def run(
    settings: Settings,
    workload_id: str,
    source: str | None,
    params: tuple[str, ...],
    params_file: Path | None,
    output: Path | None,
) -> None:
    r"""Compute here what a node would compute, in the same locked worker; no network, no money.

    \b
    Example:
      deai workload run embedding --input texts.txt --output vectors.npy
    """
    from deai.cli.render import pairs, say
    from deai.client.adapters import load_catalogue
    from deai.hashing import blob_digest
    from deai.ids import hexed

    task_output.check_output_path(output)
    data, values = task_input.read_task(
        load_catalogue(), workload_id, source, params_file, params, output
    )
    began = time.monotonic()
    done, sandbox = run_trio(_run, settings, workload_id, values, data)
    if output is not None:
        task_output.write_output(output, task_output.converted(workload_id, done.data, output))
    document: dict[str, Any] = {
        "workload": workload_id,
        "digest": hexed(blob_digest(done.data)),
        "bytes": len(done.data),
        "path": str(output) if output is not None else None,
        "units": done.units,
        "seconds": round(done.seconds, 6),
        "total_s": round(time.monotonic() - began, 6),
        "measurements": done.measurements,
        "sandbox": sandbox,
    }

    where = f"{document['path'] or 'not kept: give --output'}, {len(done.data):,} bytes"

    def render(console: Console) -> None:
        measured = ", ".join(f"{name} {value:.6g}" for name, value in done.measurements.items())
        pairs(
            console,
            [
                ("Digest", document["digest"]),
                ("Output", where),
                ("Computed", f"{done.units} units in {done.seconds:.3f} s"),
                ("Measured", measured),
                ("Worker", f"isolation {sandbox}"),
            ],
        )
        say(console, "● done")

    emit(settings, document, render)


async def _run(
    settings: Settings, workload_id: str, values: dict[str, Any], data: bytes
) -> tuple[Output, str]:
    from deai.client.adapters import load_catalogue, open_workbench
    from deai.codec import decode_value
    from deai.ports import Computation

    catalogue = load_catalogue()
    info = catalogue.info(workload_id)
    parameters = catalogue.parameters(workload_id, values)
    catalogue.check(workload_id, parameters, data)
    named = decode_value(parameters)
    model = named.get("model", "") if isinstance(named, dict) else ""
    computation = Computation(
        workload=workload_id,
        version=info.version,
        model=model,
        parameters=parameters,
        input=data,
        seed=bytes(32),
    )
    shown = [0]

    def progress(fraction: float) -> None:
        percent = int(fraction * 100)
        if settings.err.is_terminal and not settings.json and percent > shown[0]:
            shown[0] = percent
            settings.err.print(f"\r{percent:3d} %", end="")

    async with (
        open_workbench(settings.home / "models", (workload_id,)) as bench,
        bench.executor("local") as executor,
    ):
        done = await executor.run(computation, on_progress=progress, timeout=TIMEOUT)
        if shown[0]:
            settings.err.print("\r     \r", end="")
        return done, bench.sandbox.level


def _document(info: WorkloadInfo) -> dict[str, Any]:
    return dict(msgspec.to_builtins(info))
