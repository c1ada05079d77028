"""Which GPUs this machine has. None is used yet: workers compute on the CPU."""

from __future__ import annotations

from pathlib import Path

_UNNAMED = "NVIDIA GPU"


def gpus_here(system: Path = Path("/")) -> tuple[str, ...]:
    """The models of the NVIDIA GPUs whose driver is loaded, one entry each.

    Read from what the kernel module shows; where only the devices are passed in, as into a
    container, they have no names. `system` is the root of the file system that is looked at.
    """
    shown = sorted((system / "proc/driver/nvidia/gpus").glob("*/information"))
    if shown:
        return tuple(_model(path) for path in shown)
    return tuple(_UNNAMED for _ in (system / "dev").glob("nvidia[0-9]*"))


def _model(information: Path) -> str:
    try:
        lines = information.read_text(errors="replace").splitlines()
    except OSError:
        return _UNNAMED
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("Model:"))
    return next(named, "")[:80] or _UNNAMED
