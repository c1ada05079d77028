"""Following a task on a screen: redrawn in place on a terminal, a line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from deai.cli.render import bar, one_line, plain, say, short, tokens
from deai.client.updates import Reader, TaskUpdate

if TYPE_CHECKING:
    from rich.console import Console

    from deai.cli.base import Settings

STEPS: Final = {
    "matched": ("●", "Matched"),
    "posted": ("●", "Posted"),
    "input": ("●", "Input"),
    "settled": ("●", "Settled"),
}
LINES: Final = {
    "committed": ("◐", "committed"),
    "silent": ("▲", "silent"),
    "released": ("▲", "released"),
    "replaced": ("▲", "replaced"),
    "output": ("●", "output here"),
    "caught": ("✕", "caught"),
    "note": ("▲", "note"),
}


class Screen:
    """What is known of the task's seats, drawn as text."""

    def __init__(self, width: int) -> None:
        self._width = min(width, 100)
        self._steps: list[str] = []
        self._seats: dict[tuple[int, int], tuple[str, float, str]] = {}
        self._notes: list[str] = []
        self._committed = 0

    def take(self, update: TaskUpdate) -> None:
        """Apply an update."""
        if update.kind in STEPS:
            mark, name = STEPS[update.kind]
            self._steps.append(self._line(f"{mark} {name:<10} {_text(update)}", update.at))
        if update.seat is None:
            if update.kind == "note":
                self._notes = [*self._notes[-3:], f"▲ {one_line(update.message)}"]
            return
        key = (update.seat, update.attempt)
        node, done, state = self._seats.get(key, (update.node or "", 0.0, "◉ computing"))
        match update.kind:
            case "progress":
                done = update.done
            case "committed":
                done, state = 1.0, f"◐ committed {update.at:.1f} s"
                self._committed += 1
            case "silent":
                state = f"▲ no sign of life since {update.at:.1f} s"
            case "released":
                state = "▲ gave its seat back"
            case "replaced":
                former = (update.seat, update.attempt - 1)
                if former in self._seats:
                    name, fraction, _ = self._seats[former]
                    self._seats[former] = (name, fraction, "▲ replaced")
            case "caught":
                state = "✕ caught"
            case _:
                pass
        self._seats[key] = (update.node or node, done, state)

    def text(self) -> str:
        """The whole block."""
        width = max(10, self._width - 62)
        rows = []
        for (seat, attempt), (node, done, state) in sorted(self._seats.items()):
            name = f"seat {seat}.{attempt}" if attempt else f"seat {seat}"
            percent = f"{done * 100:3.0f} %"
            rows.append(f"    {name:<9}{short(node):<13} {bar(done, width)} {percent}  {state}")
        return plain("\n".join([*self._steps, *rows, *self._notes]))

    def _line(self, text: str, at: float) -> str:
        moment = f"{at:.1f} s"
        return f"{text[: self._width - 12]:<{self._width - len(moment)}}{moment}"


async def follow(settings: Settings, updates: Reader) -> None:
    """Show updates on stderr until the task has ended."""
    console = settings.err
    if settings.json or not console.is_terminal:
        await _lines(console, updates)
    else:
        await _redraw(console, updates)


async def _redraw(console: Console, updates: Reader) -> None:
    from rich.live import Live
    from rich.text import Text

    screen = Screen(console.width)
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        async for update in updates:
            screen.take(update)
            live.update(Text(screen.text(), no_wrap=True, overflow="crop"))


async def _lines(console: Console, updates: Reader) -> None:
    shown: dict[int, int] = {}
    async for update in updates:
        if update.kind == "progress" and update.seat is not None:
            quarter = int(update.done * 4)
            if quarter <= shown.get(update.seat, 0):
                continue
            shown[update.seat] = quarter
        clock = time.strftime("%H:%M:%S", time.gmtime())
        say(console, f"{clock} {update.at:7.1f} s  {describe(update)}")


def describe(update: TaskUpdate) -> str:
    """An update in one line."""
    if update.kind in STEPS:
        mark, name = STEPS[update.kind]
        return f"{mark} {name.lower()}  {_text(update)}"
    seat = "" if update.seat is None else f"seat {update.seat} "
    node = f"{short(update.node)} " if update.node else ""
    if update.kind == "progress":
        return f"◉ {seat}{node}{update.done * 100:.0f} %"
    mark, name = LINES.get(update.kind, ("◉", update.kind))
    return f"{mark} {seat}{node}{name} {one_line(update.message)}".rstrip()


def _text(update: TaskUpdate) -> str:
    parts: Iterable[str] = (
        short(update.message) if update.kind == "posted" else update.message,
        f"{tokens(update.amount)} in escrow" if update.kind == "posted" else "",
        f"{tokens(update.amount)} paid" if update.kind == "settled" else "",
        f"tx {short(update.transaction)}" if update.transaction else "",
    )
    return "  ".join(part for part in parts if part)
