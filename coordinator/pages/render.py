"""Turning documents into HTML: one environment, and the few filters that templates use.

Everything is escaped; templates hold no arithmetic on money, which is summed in base units.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from deai import __version__
from deai.money import DECIMALS, SYMBOL, UNIT, decimals_of

FOLDER: Final = Path(__file__).parent
STATIC: Final = FOLDER / "static"


def environment() -> Environment:
    """The templates' environment."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        tokens=tokens, decimals=decimals, short=short, word=word, clock=clock, moment=moment,
        ago=ago, count=count,
    )  # fmt: skip
    made.globals.update(version=__version__, symbol=SYMBOL)
    return made


def tokens(units: str | int, decimals: int = 6) -> Markup:
    """An amount: tokens as text, base units as the element's value; rounded towards zero."""
    whole, rest = divmod(abs(int(units)), UNIT)
    sign = "−" if int(units) < 0 else ""
    digits = f".{rest:0{DECIMALS}d}"[: decimals + 1] if decimals else ""
    return Markup('<data value="{}">{}{:,}{}</data>').format(str(units), sign, whole, digits)


def decimals(amounts: Iterable[str | int]) -> int:
    """How many decimals show all amounts of a sum exactly, so that it adds up as it is read."""
    return decimals_of(*(int(units) for units in amounts))


def short(text: str, head: int = 6, tail: int = 4) -> Markup:
    """A long id by its ends; the whole of it is copied and read out by `title`."""
    if len(text) <= head + tail + 1:
        return escape(text)
    return Markup('{}<i aria-hidden="true">{}</i>{}').format(
        text[:head], text[head:-tail], text[-tail:]
    )


def word(state: str) -> str:
    """A state as people read it."""
    return state.replace("_", " ").capitalize()


def clock(text: str | None) -> Markup:
    """The time of day of an RFC 3339 moment."""
    if text is None:
        return Markup('<span class="dim">not yet</span>')
    at = dt.datetime.fromisoformat(text)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        text, at.strftime("%Y-%m-%d %H:%M:%S"), at.strftime("%H:%M:%S")
    )


def moment(text: str | None) -> Markup:
    """Day and time of an RFC 3339 moment."""
    if text is None:
        return Markup('<span class="dim">not yet</span>')
    at = dt.datetime.fromisoformat(text)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        text, at.strftime("%Y-%m-%d %H:%M:%S")
    )


def ago(seconds: float | None) -> str:
    """A duration in its one fitting unit."""
    if seconds is None:
        return "never"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if unit == "s" and value < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def count(number: int | None) -> str:
    """A whole number with separators."""
    return "none" if number is None else f"{number:,}"


def bars(values: Sequence[tuple[str, int]], height: int) -> list[dict[str, Any]]:
    """A bar chart's rectangles: x and width in per cent, y and height in pixels."""
    top = max((value for _, value in values), default=0) or 1
    step = 100 / max(1, len(values))
    return [
        {
            "label": label,
            "value": value,
            "x": f"{at * step + step * 0.15:.3f}%",
            "width": f"{step * 0.7:.3f}%",
            "height": round(value / top * height, 1),
            "y": round(height - value / top * height, 1),
        }
        for at, (label, value) in enumerate(values)
    ]


def lanes(task: dict[str, Any]) -> dict[str, Any]:
    """Seats on a time axis: positions in per cent from posted to ended (or the newest event)."""
    times = [_seconds(one["at"]) for one in task["timeline"]]
    start, end = times[0], max(times)
    ends = [_seconds(one["ended_at"]) for one in task["attempts"] if one["ended_at"]]
    span = max(1.0, max([end, *ends]) - start)

    def place(text: str) -> float:
        return 3 + (_seconds(text) - start) / span * 92

    rows = []
    for attempt in sorted(task["attempts"], key=lambda one: (one["seat"], one["attempt"])):
        begin = place(attempt["started_at"])
        stop = place(attempt["committed_at"] or attempt["ended_at"] or task["timeline"][-1]["at"])
        rows.append(
            attempt
            | {
                "x": f"{begin:.2f}%",
                "width": f"{max(0.6, stop - begin):.2f}%",
                "commit": f"{place(attempt['committed_at']):.2f}%"
                if attempt["committed_at"]
                else None,
                "end": f"{place(attempt['ended_at']):.2f}%" if attempt["ended_at"] else None,
            }
        )
    ticks = [
        {"x": f"{3 + part / 4 * 92:.2f}%", "text": f"{span * part / 4:.0f} s"}
        for part in range(5)
        if part in (0, 4) or span >= 4
    ]
    return {"rows": rows, "ticks": ticks, "span": span}


def path_of(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The public states that a task went through, with when and why; what is left is `todo`."""
    first: dict[str, dict[str, Any]] = {}
    for event in task["timeline"]:
        state = {
            "post": "pending",
            "assign": "assigned",
            "commit": "in_progress",
            "deliver": "in_progress",
        }.get(event["what"])
        if event["what"] in ("finalise", "expire", "cancel", "object"):
            state = task["state"]
        if state is not None and state not in first:
            first[state] = {"state": state, "at": event["at"], "note": event["note"]}
    steps = list(first.values())
    for step, follows in pairwise(steps):
        step["lasted"] = _seconds(follows["at"]) - _seconds(step["at"])
    order = ("pending", "assigned", "in_progress", "completed")
    if task["state"] in order:
        steps += [
            {"state": state, "at": None, "note": ""}
            for state in order[order.index(task["state"]) + 1 :]
        ]
    return steps


def total(amounts: Iterable[str | None]) -> str:
    """A sum of amounts."""
    return str(sum(int(amount) for amount in amounts if amount))


def _seconds(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
