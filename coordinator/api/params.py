"""What requests may ask: opaque cursors, ids, limits; anything else is a typed problem."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from fastapi import Query

from coordinator.api.problems import Problem
from coordinator.store import schema
from coordinator.store.reader import Place
from coordinator.store.rows import Row
from deai.errors import MalformedMessage
from deai.ids import (
    NEAR,
    SEI,
    ChannelId,
    NodeId,
    TaskId,
    any_account,
    any_node,
    hexed,
    parse_digest,
    parse_task,
)

T = TypeVar("T")

MAX_LIMIT: Final = 500
MAX_IDS: Final = 50
_ORDERS: Final = {"tasks": schema.NEWEST, "channels": schema.CHANNELS_NEWEST}

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items per page.")]
CursorText = Annotated[
    str, Query(max_length=200, description="`next_cursor` of the page before; opaque.")
]
ChainText = Annotated[
    str, Query(max_length=16, description=f"Only of this chain: {SEI} or {NEAR}.")
]
Ids = Annotated[
    str, Query(max_length=4096, description=f"Only these, separated by commas; at most {MAX_IDS}.")
]


def encode_cursor(kind: str, *key: str | int) -> str:
    """An opaque place in a list."""
    return base64.urlsafe_b64encode(json.dumps([kind, *key]).encode()).decode().rstrip("=")


def decode_cursor(text: str, kind: str, *types: type) -> tuple[str | int, ...]:
    """The place that a cursor names; raise `Problem` for anything that this list did not give."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != 1 + len(types)
        or found[0] != kind
        or any(type(part) is not wanted for part, wanted in zip(found[1:], types, strict=True))
        or any(isinstance(part, int) and not 0 <= part < 1 << 63 for part in found[1:])
    ):
        raise Problem(400, "bad_cursor", "not a cursor of this list; start without one")
    return tuple(found[1:])


def place_in(kind: str, text: str) -> Place | None:
    """Where a page of tasks or channels begins; None for an empty cursor; raise `Problem`."""
    if not text:
        return None
    at, chain, block, index = decode_cursor(text, kind, int, str, int, int)
    return int(at), str(chain), int(block), int(index)


def cursor_of(kind: str, row: Row) -> str:
    """The cursor behind a row of `tasks` or `channels`."""
    return encode_cursor(kind, *(row[column.name] for column in _ORDERS[kind]))


def one_node(text: str) -> NodeId:
    """A node id from a path; raise `Problem`."""
    return _parse(text, any_node, "node")


def one_task(text: str) -> TaskId:
    """A task id from a path; raise `Problem`."""
    return _parse(text, parse_task, "task")


def one_account(text: str) -> str:
    """An account, empty for all of them; raise `Problem`."""
    return _parse(text, any_account, "account", "bad_account") if text else ""


def one_chain(text: str) -> str:
    """A chain's name, empty for all of them; raise `Problem`."""
    if text not in ("", SEI, NEAR):
        raise Problem(400, "bad_chain", f"a chain is one of {NEAR}, {SEI}")
    return text


def some_nodes(text: str) -> list[NodeId]:
    """Node ids from a list with commas; raise `Problem`."""
    return [one_node(part) for part in _split(text)]


def some_tasks(text: str) -> list[TaskId]:
    """Task ids from a list with commas; raise `Problem`."""
    return [one_task(part) for part in _split(text)]


def some_channels(text: str) -> list[ChannelId]:
    """Channel ids from a list with commas; raise `Problem`."""
    return [ChannelId(hexed(_parse(part, parse_digest, "channel"))) for part in _split(text)]


def _split(text: str) -> list[str]:
    parts = [part for part in text.split(",") if part]
    if len(parts) > MAX_IDS:
        raise Problem(400, "too_many_ids", f"at most {MAX_IDS} ids a request, not {len(parts)}")
    return parts


def _parse(text: str, parse: Callable[[str], T], what: str, code: str = "") -> T:
    try:
        return parse(text)
    except MalformedMessage as error:
        raise Problem(400, code or f"bad_{what}_id", str(error)) from error
