"""Where a task's output goes: checked before anything is paid for, written in one step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deai.errors import ConfigError, UsageError, WorkloadFault
from deai.files import replace_file

if TYPE_CHECKING:
    from deai.ports import Catalogue

CONVERTED: Final = (".npy", ".jsonl", ".json")


def check_output_path(path: Path | None) -> None:
    """Refuse a place that cannot be written before anything is paid for."""
    if path is None:
        return
    folder = path.absolute().parent
    problem = ""
    if path.is_dir():
        problem = "it is a folder"
    elif not folder.is_dir():
        problem = f"there is no folder {folder}"
    elif not os.access(path if _is_device(path) else folder, os.W_OK):
        problem = "no permission"
    if problem:
        raise UsageError(
            f"cannot write {str(path)!r}: {problem}",
            hint="name a file in a folder that exists",
            code="unwritable_output",
        )


def check_output_form(catalogue: Catalogue, workload: str, output: Path | None) -> None:
    """Refuse a form of output that the workload does not have; raise `UsageError`."""
    if output is None or output.suffix not in CONVERTED:
        return
    from deai.tasks import FaultCode

    # No bytes are no output: where the form is known, that is what is found wrong.
    try:
        catalogue.convert(workload, b"", output.suffix)
    except WorkloadFault as error:
        if error.fault == FaultCode.INVALID_PARAMETERS:
            raise UsageError(
                f"--output: {error}", hint="name it otherwise to get it as it is", code="bad_output"
            ) from error


def converted(workload: str, data: bytes, output: Path) -> bytes:
    """An output in the format that the file's name asks for; raise `WorkloadFault`."""
    if output.suffix not in CONVERTED:
        return data
    from deai.client.adapters import load_catalogue

    return load_catalogue().convert(workload, data, output.suffix)


def write_output(path: Path, data: bytes) -> None:
    """Write a file in one step, or straight into what is no file (`/dev/stdout`, a pipe)."""
    try:
        if _is_device(path):
            path.write_bytes(data)
        else:
            replace_file(path.resolve(), data, flush=False)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}",
            hint="nothing is lost: `deai task result ID --output FILE` writes it again",
            code="unwritable_output",
        ) from error


def _is_device(path: Path) -> bool:
    """Something that is written into and must never be replaced by a file."""
    return path.exists() and not path.is_file()
