"""How screens look: marks with words, cut ids, tokens, tables. No colour is needed to read them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from deai.money import format_tokens

if TYPE_CHECKING:
    from rich.console import Console

MARKS: Final = {
    "pending": "○", "planned": "○", "waiting": "○", "dry_run": "○",
    "assigned": "◐", "committed": "◐", "sent": "◐", "probation": "◐", "joining": "◐",
    "released": "◐", "revealed": "◐", "unbonding": "◐",
    "in_progress": "◉", "computing": "◉", "running": "◉", "held": "◉",
    "completed": "●", "agreed": "●", "final": "●", "ok": "●", "done": "●", "active": "●",
    "paid": "●", "online": "●", "done_before": "●",
    "failed": "✕", "caught": "✕", "jailed": "✕", "forfeited": "✕", "silent": "✕",
    "lapsed": "✕", "fail": "✕",
    "warning": "▲", "replaced": "▲", "degraded": "▲", "offline": "▲", "maintenance": "▲",
    "cancelled": "–", "skipped": "–", "not_needed": "–", "exited": "–",
}  # fmt: skip
_ASCII: Final = {
    "○": "o", "◐": "c", "◉": "@", "●": "*", "✕": "x", "▲": "!", "–": "-", "█": "#", "░": ".",
    "─": "-", "…": "..", "→": "->", "≤": "<=", "≥": ">=", "±": "+-", "×": "x", "−": "-",
    "\ufffd": "?",
}  # fmt: skip
_COMMANDS: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys and does not show; peers and coordinators write texts, too."""


def is_plain() -> bool:
    """Whether only ASCII may be printed."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return encoding != "utf8" or os.environ.get("DEAI_ASCII") == "1"


def harmless(text: str) -> str:
    """The text without anything that moves, colours or hides other text."""
    return _COMMANDS.sub("\ufffd", text)


def one_line(text: str) -> str:
    """A text of somebody else, harmless and in one line."""
    return harmless(" ".join(text.splitlines()))


def plain(text: str) -> str:
    """The text, harmless, with its signs replaced where the terminal has none."""
    text = harmless(text)
    return "".join(_ASCII.get(letter, letter) for letter in text) if is_plain() else text


def marked(word: str) -> str:
    """A word with its mark: `● completed`."""
    return f"{MARKS.get(word, '○')} {word.replace('_', ' ')}"


def short(text: str | None) -> str:
    """An id cut to six and four characters."""
    if not text:
        return "none"
    return f"{text[:6]}…{text[-4:]}" if len(text) > 14 else text


def tokens(amount: str | int | None) -> str:
    """Base units as tokens; `unknown` for nothing."""
    return "unknown" if amount is None else format_tokens(int(amount))


def bare(amount: str | int) -> str:
    """Tokens without the symbol, for columns that name it in their heading."""
    return format_tokens(int(amount)).removesuffix(" CT")


def bar(fraction: float, width: int) -> str:
    """A bar that tells done from to-do by shape, not by colour."""
    full = round(max(0.0, min(1.0, fraction)) * width)
    return "█" * full + "░" * (width - full)


def say(console: Console, text: str = "") -> None:
    """One line or several, cut at nothing."""
    console.print(plain(text), soft_wrap=True)


def pairs(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """`label  value` lines."""
    listed = [(label, value) for label, value in rows if value]
    width = max((len(label) for label, _ in listed), default=0)
    for label, value in listed:
        say(console, f"  {label:<{width}}  {one_line(value)}")


def table(
    console: Console,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[int] = (),
    footer: Sequence[str] = (),
    wrap: Iterable[int] = (),
) -> None:
    """Words left, numbers (`right`) right, a footer where columns add up; only `wrap` may break."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.ASCII if is_plain() else box.SIMPLE,
        show_edge=False,
        pad_edge=False,
        header_style="",
        footer_style="",
        show_footer=bool(footer),
    )
    numbers, broken = set(right), set(wrap)
    for index, heading in enumerate(headings):
        made.add_column(
            plain(heading),
            footer=plain(footer[index]) if footer else "",
            justify="right" if index in numbers else "left",
            overflow="fold" if index in broken else "ellipsis",
            no_wrap=index not in broken,
        )
    for row in rows:
        made.add_row(*(plain(one_line(cell)) for cell in row))
    console.print(made)
