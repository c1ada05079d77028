"""Starts one program of a devnet and waits until it says that it is ready."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from deai.errors import DeaiError, NodeFault
from devnet import processes
from devnet.layout import Layout

READY_POLL_S: Final = 0.2
START_S: Final = 180.0
"""How long one process may take until it says that it is ready."""

Tell = Callable[[str, str], None]
"""Called with the name of a step and what came of it."""


@dataclass(frozen=True)
class Starter:
    """What every step needs: where things stand, and how programs are started."""

    layout: Layout
    environment: dict[str, str]
    tied: bool
    """Whether the programs die with this process."""
    tell: Tell

    def marker(self, what: str) -> Path:
        """A file that says that something was done."""
        return self.layout.keys / what

    async def started(
        self,
        name: str,
        command: list[str],
        ready: Path,
        environment: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Start `command` unless it runs; wait for its ready file to name its own pid."""
        state = self.layout.load()
        known = state.process(name)
        if known is None or not processes.is_alive(known):
            ready.unlink(missing_ok=True)
            known = processes.start(
                name, command, log=self.layout.log(name), tied=self.tied,
                environment=environment or self.environment,
            )  # fmt: skip
            state = self.layout.load()
            others = tuple(record for record in state.processes if record.name != name)
            self.layout.save(msgspec.structs.replace(state, processes=(*others, known)))
        with trio.move_on_after(START_S):
            while processes.is_alive(known):
                if ready.exists():
                    document: dict[str, Any] = json.loads(ready.read_bytes())
                    if document.get("pid") == known.pid:
                        return document
                await trio.sleep(READY_POLL_S)
        raise not_up(name, self.layout.log(name))


def not_up(name: str, log: Path) -> DeaiError:
    """A program that did not come up, with the end of what it said."""
    tail = log.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()[-6:]
    return NodeFault(
        f"{name} did not come up: " + (" / ".join(tail) or "it said nothing"),
        hint=f"its log is {log}",
    )
