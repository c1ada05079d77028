"""Reading a coordinator: statistics for people, signed offers for the matching.

Nothing a coordinator says is trusted with money: offers are checked against the registry.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from deai.binding import parse_draft
from deai.client.directory import MAX_NODES, Bound, Hint
from deai.codec import check_json_depth
from deai.errors import CoordinatorUnreachable, Declined, MalformedMessage
from deai.ids import any_node, parse_operator, parse_peer
from deai.net import PeerAddress
from deai.offers import MAX_OFFER_BYTES, Signed
from deai.urls import parse_url

if TYPE_CHECKING:
    import httpx

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
TIMEOUT: Final = 5.0
PAGE: Final = 500
MAX_DIGITS: Final = 30
"""Of a sum in base units."""


class Coordinator:
    """One coordinator's HTTP interface; `urls` are tried in order until one answers.

    Raises `UsageError` for a URL that is no web address.
    """

    def __init__(self, urls: Sequence[str], *, timeout: float = TIMEOUT) -> None:
        self._urls = tuple(parse_url(url).rstrip("/") for url in urls if url)
        self._timeout = timeout

    async def get(self, path: str, **query: str | int) -> Any:  # noqa: ANN401 - JSON
        """The JSON at `/api/v1` + path.

        Raises `CoordinatorUnreachable` when none answers, `Declined` with the coordinator's own
        words when it refuses.
        """
        import httpx

        if not self._urls:
            raise CoordinatorUnreachable(
                "no coordinator is configured", hint="name one with --coordinator URL"
            )
        problems = []
        async with httpx.AsyncClient(timeout=self._timeout, follow_redirects=False) as client:
            for url in self._urls:
                try:
                    with trio.fail_after(2 * self._timeout):
                        return await _read(client, f"{url}/api/v1{path}", query)
                except (
                    trio.TooSlowError, httpx.HTTPError, httpx.InvalidURL, OSError,
                    CoordinatorUnreachable, MalformedMessage,
                ) as error:  # fmt: skip
                    problems.append(f"{url}: {str(error) or type(error).__name__}")
        raise CoordinatorUnreachable(
            "no coordinator answered: " + "; ".join(problems),
            hint="start it, or name another one with --coordinator URL; tasks work without one",
        )

    async def pages(self, path: str, limit: int, **query: str | int) -> list[Any]:
        """Items of a list over its pages, at most `limit`."""
        items: list[Any] = []
        cursor = ""
        while len(items) < limit:
            more = {"cursor": cursor} if cursor else {}
            page = await self.get(path, limit=min(PAGE, limit - len(items)), **more, **query)
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise MalformedMessage(f"the coordinator's {path} is no list")
            items += page["items"]
            cursor = str(page.get("next_cursor") or "")
            if not cursor or not page["items"]:
                break
        return items[:limit]


async def _read(client: httpx.AsyncClient, url: str, query: Mapping[str, str | int]) -> Any:  # noqa: ANN401
    async with client.stream("GET", url, params=dict(query)) as response:
        body = bytearray()
        async for part in response.aiter_bytes():
            # Read to the end either way: a stream of httpx that is left half way leaks.
            if len(body) <= MAX_BODY_BYTES:
                body += part
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"{url}: more than {MAX_BODY_BYTES} bytes")
    try:
        text = body.decode()
        check_json_depth(text)
        document = json.loads(text)
    except (ValueError, MalformedMessage) as error:
        raise CoordinatorUnreachable(f"{url} does not answer as a coordinator") from error
    if response.status_code >= 500:
        raise CoordinatorUnreachable(f"{url}: status {response.status_code}")
    if response.status_code >= 400:
        known = document if isinstance(document, dict) else {}
        detail = known.get("detail") or known.get("title") or f"status {response.status_code}"
        code = "not_found" if response.status_code == 404 else "refused_by_coordinator"
        raise Declined(str(detail)[:500], code=code)
    return document


class CoordinatorNodes:
    """A source of nodes: the offers that a coordinator heard."""

    def __init__(self, coordinator: Coordinator, chain: str = "") -> None:
        """`chain`: only its nodes; empty for those of every chain."""
        self.name = "coordinator"
        self._coordinator = coordinator
        self._query = {"chain": chain} if chain else {}

    async def hints(self) -> Sequence[Hint]:
        """Nodes with an offer; entries that cannot be read are passed over."""
        items = await self._coordinator.pages("/nodes", MAX_NODES, **self._query)
        found = (hint_of(item) for item in items)
        return tuple(hint for hint in found if hint is not None)


def hint_of(item: object) -> Hint | None:
    """One entry of a coordinator's list of nodes; None if it cannot be used."""
    if not isinstance(item, dict):
        return None
    try:
        peer = PeerAddress(
            parse_peer(str(item["peer_id"])),
            tuple(str(a) for a in item.get("addresses") or ())[:16],
        )
        node = any_node(str(item["node_id"]))
        signed = signed_of(item.get("offer"))
        slashed = _sum(item.get("slashed", "0"))
    except (KeyError, TypeError, MalformedMessage):
        return None
    return Hint(peer, node, signed, bound_of(item.get("bound")), slashed > 0)


def bound_of(raw: object) -> Bound | None:
    """A twin as a coordinator tells it; None if it cannot be read. Signatures are not checked."""
    if not isinstance(raw, dict):
        return None
    try:
        slashed = _sum(raw.get("slashed"))
        body = parse_draft(json.dumps(raw.get("binding")).encode())
    except MalformedMessage:
        return None
    return Bound(body.signed, slashed) if body.signed is not None else None


def _sum(raw: object) -> int:
    """A sum in base units, as text; raise `MalformedMessage`."""
    text = str(raw)
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
        raise MalformedMessage("not a sum in base units")
    return int(text)


def signed_of(raw: object) -> Signed | None:
    """A signed offer as a coordinator passes it on: base64 body and signature."""
    if not isinstance(raw, dict):
        return None
    try:
        body = base64.b64decode(str(raw["body"]), validate=True)
        signature = base64.b64decode(str(raw["signature"]), validate=True)
        operator = parse_operator(str(raw["operator"]))
    except (KeyError, binascii.Error, MalformedMessage):
        return None
    if len(body) > MAX_OFFER_BYTES or len(signature) != 64:
        return None
    return Signed(body, operator, signature)
