"""The pages: complete without script, sound as documents, and true to the API."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from coordinator.api.app import Web
from coordinator.figures import gather
from coordinator.metrics import Metrics
from coordinator.pages import render
from coordinator.store.reader import Reader
from coordinator.store.store import Store
from coordinator.task_document import task_document
from deai.ids import NEAR, SEI
from tests.coordinator.support import Running, running
from tests.coordinator.world import Chain

pytestmark = pytest.mark.network

VOID = {"meta", "link", "input", "br", "rect", "line", "circle", "path"}


class Outline(HTMLParser):
    """What accessibility and structure depend on; raises for what is not well nested."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self.labelled: set[str] = set()
        self.inputs: list[str] = []
        self.references: list[str] = []
        self.lang = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.inline += [f"{tag} {name}" for name in given if name == "style" or name[:2] == "on"]
        if tag == "html":
            self.lang = given.get("lang") or ""
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "a":
            self.links.append(given.get("href") or "")
        if tag == "label":
            self.labelled.add(given.get("for") or "")
        if tag == "input":
            self.inputs.append(given.get("id") or "")
        if tag == "script" and not given.get("src"):
            self.inline.append("script")
        if "aria-labelledby" in given:
            self.references += (given["aria-labelledby"] or "").split()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Running]:
    chain = Chain(8)
    chain.run(500)
    chain.pool(chain.nodes[1])
    async with running(tmp_path, chain) as started:
        await started.settle()
        yield started


async def pages_of(coordinator: Running) -> dict[str, str]:
    """Every kind of page, and one task in every state that there is."""
    paths = ["/", "/nodes", "/tasks", "/tasks?state=failed", "/tasks/0x" + "0" * 64, "/find?q=x"]
    paths += [f"/nodes/{node}" for node in coordinator.chain.nodes[:2]]
    tasks = (await coordinator.get("/api/v1/tasks", limit=500))["items"]
    paths += [f"/tasks/{one['task_id']}" for one in {t["state"]: t for t in tasks}.values()]
    paths += [f"/tasks/{max(tasks, key=lambda task: task['attempts'])['task_id']}"]
    found = {}
    for path in paths:
        answer = await coordinator.http.get(path)
        assert answer.status_code == (404 if path.endswith(("0" * 64, "q=x")) else 200), path
        found[path] = answer.text
    return found


async def test_every_page_is_a_sound_document(coordinator: Running) -> None:
    for path, text in (await pages_of(coordinator)).items():
        outline = Outline()
        outline.feed(text)
        assert outline.open == [], path
        assert outline.lang == "en"
        assert len(outline.ids) == len(set(outline.ids)), path
        assert outline.headings[0] == 1
        assert outline.headings.count(1) == 1
        steps = zip(outline.headings, outline.headings[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps), path
        assert set(outline.inputs) <= outline.labelled
        assert set(outline.references) <= set(outline.ids), path
        assert outline.inline == [], "the policy forbids inline script and style"
        assert "None" not in re.sub(r"<[^>]*>", "", text).replace("None in the last hour", "")


BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
WRONG = (
    ("GET", "/nothing", 404, "Not found"),
    ("GET", "/nodes/me", 400, "Bad node id"),
    ("GET", "/tasks/0x12", 400, "Bad task id"),
    ("GET", "/tasks?state=lost", 400, "Bad state"),
    ("GET", "/nodes?cursor=x", 400, "Bad cursor"),
    ("GET", "/nodes/", 404, "Not found"),
    ("GET", "/<b>x", 404, "Not found"),
    ("POST", "/nodes", 405, "Method not allowed"),
)


async def test_a_browser_gets_a_page_with_ways_back_where_there_is_none(
    coordinator: Running,
) -> None:
    for method, path, status, title in WRONG:
        answer = await coordinator.http.request(method, path, headers=BROWSER)
        assert (answer.status_code, answer.headers["vary"]) == (status, "accept"), path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        outline = Outline()
        outline.feed(answer.text)
        assert (outline.open, outline.inline) == ([], [])
        assert {"/", "/nodes", "/tasks"} <= set(outline.links)
        assert f"<h1>{title}</h1>" in answer.text
        assert "<b>x" not in answer.text
    missing = await coordinator.http.get("/nothing", headers=BROWSER)
    assert "There is nothing at /nothing" in missing.text


async def test_programs_and_the_api_get_problem_documents(coordinator: Running) -> None:
    for path, headers in (
        ("/nothing", {}),
        ("/nothing", {"accept": "application/json"}),
        ("/nodes/me", {"accept": "*/*"}),
        ("/api/v1/nothing", BROWSER),
        ("/api/v1/nodes/me/status", BROWSER),
        ("/api/v1/nodes?limit=0", BROWSER),
        ("/static/nothing.js", BROWSER),
    ):
        answer = await coordinator.http.get(path, headers=headers)
        assert answer.headers["content-type"] == "application/problem+json", path
        assert answer.json()["status"] == answer.status_code >= 400


def test_a_page_says_so_while_there_is_nothing_to_show(tmp_path: Path) -> None:
    web = Web(Reader(Store(tmp_path / "x.db").path), Metrics(), lambda: 0.0)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(web.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/", headers=BROWSER)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "<h1>Unavailable</h1>" in answer.text


async def test_every_link_leads_somewhere(coordinator: Running) -> None:
    links = set()
    for text in (await pages_of(coordinator)).values():
        outline = Outline()
        outline.feed(text)
        links |= {link for link in outline.links if not link.startswith("#")}
    kinds = {re.sub("0x[0-9a-f]{20,}", "ID", link): link for link in links}
    for link in kinds.values():
        assert (await coordinator.http.get(link)).status_code == 200, link


async def test_a_task_shows_its_money_and_every_transaction(coordinator: Running) -> None:
    task = coordinator.chain.ended[-1].task_id
    document = await coordinator.get(f"/api/v1/tasks/{task}")
    text = (await coordinator.http.get(f"/tasks/{task}")).text
    assert "Adds up" in text
    for transaction in document["transactions"]:
        assert transaction["hash"] in text
    for amount in ("escrowed", "paid", "refunded", "protocol_fee"):
        assert f'value="{document[amount]}"' in text


async def test_the_sums_on_a_page_add_up_as_they_are_read(
    coordinator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a fee has more decimals than a screen usually shows."""

    def finer(*parts: Any) -> Any:
        document = task_document(*parts)
        if document is None or int(document["paid"]) == 0:
            return document
        paid, fee = int(document["paid"]) - 7, int(document["protocol_fee"]) + 7
        return document | {"paid": str(paid), "protocol_fee": str(fee)}

    monkeypatch.setattr("coordinator.api.pages.task_document", finer)
    finest = 0
    for page in ("/", *(f"/tasks/{one.task_id}" for one in coordinator.chain.ended[:20])):
        text = (await coordinator.http.get(page)).text
        money = text[text.index('<table id="money">') :].split("</table>")[0]
        if page == "/":
            locked = text[text.index('<table id="channels">') :].split("</table>")[0]
            sums = re.findall(r"([0-9.,]+)</data>", locked)
            parts = [Decimal(one.replace(",", "")) for one in sums]
            assert sum(parts[:3]) == parts[3] > 0
        told = re.findall(r"([0-9.,]+)</data>", money)
        read = [Decimal(amount.replace(",", "")) for amount in told]
        assert len(read) == 5
        assert sum(read[:4]) == read[4], page
        finest = max(finest, *(len(amount.partition(".")[2]) for amount in told))
    assert finest == 18


async def test_a_node_s_page_shows_its_channels_and_what_they_hold(coordinator: Running) -> None:
    made = coordinator.chain.channels[0]
    node = made.channel.node
    text = (await coordinator.http.get(f"/nodes/{node}")).text
    table = text[text.index('<table class="cards" id="channels">') :].split("</table>")[0]
    listed = (await coordinator.get("/api/v1/channels", node=node))["items"]
    assert made.id in {one["channel_id"] for one in listed}
    for one in listed:
        assert f'title="{one["channel_id"]}"' in table
        row = table[table.index(one["channel_id"]) :].split("</tr>")[0]
        told = re.findall(r'<data value="([0-9]+)"', row)
        assert told == [one[name] for name in ("deposit", "claimed", "refunded", "remaining")]
    sums = (await coordinator.get(f"/api/v1/nodes/{node}/status"))["channels"]
    assert f'<data value="{sums["held"]}"' in text


async def test_a_node_s_page_shows_what_whoever_might_lend_it_stake_asks(
    coordinator: Running,
) -> None:
    node = coordinator.chain.nodes[1]
    pool = (await coordinator.get(f"/api/v1/nodes/{node}/status"))["pool"]
    text = (await coordinator.http.get(f"/nodes/{node}")).text
    shown = text[text.index('<dl class="defs" id="pool">') :].split("</dl>")[0]
    assert pool["manager"] in shown
    assert "10.00 % of income" in shown
    assert "5.00 % from" in shown
    told = re.findall(r'<data value="([0-9]+)"', shown)
    names = ("delegated", "room", "own", "worth_of_1000_shares", "leaving", "income")
    assert told == [pool[name] for name in names]
    other = (await coordinator.http.get(f"/nodes/{coordinator.chain.nodes[0]}")).text
    assert 'id="pool"' not in other


async def test_finding_leads_to_task_node_account_and_transaction(coordinator: Running) -> None:
    task = (await coordinator.get("/api/v1/tasks"))["items"][0]
    document = await coordinator.get(f"/api/v1/tasks/{task['task_id']}")
    node = coordinator.chain.nodes[0]
    for text, target in (
        (task["task_id"], f"/tasks/{task['task_id']}"),
        (node, f"/nodes/{node}"),
        (document["transactions"][0]["hash"], f"/tasks/{task['task_id']}"),
        (f" {task['client']} ", f"/tasks?client={task['client']}"),
    ):
        answer = await coordinator.http.get("/find", params={"q": text})
        assert (answer.status_code, answer.headers["location"]) == (303, target)


async def test_what_a_stranger_types_is_escaped(coordinator: Running) -> None:
    answer = await coordinator.http.get("/find", params={"q": "<script>alert(1)</script>"})
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_colours_of_text_are_readable_on_both_grounds() -> None:
    style = (render.STATIC / "style.css").read_text()
    tokens = dict(re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}, #[0-9a-f]{6})\)", style))
    for theme in (0, 1):
        colours = {name: pair.split(", ")[theme] for name, pair in tokens.items()}
        for ground in ("paper", "raised"):
            for name in ("ink", "ink-2", "ink-3", "link"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground, theme)
            for name in ("ok", "wait", "warn", "bad", "edge", "series"):
                assert contrast(colours[name], colours[ground]) >= 3, (name, ground, theme)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_what_travels_to_a_visitor_is_small() -> None:
    assert sum(path.stat().st_size for path in render.STATIC.iterdir()) < 40_000


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
async def test_a_browser_finds_no_error_on_any_page(coordinator: Running) -> None:
    for path in list(await pages_of(coordinator))[:9]:
        done = await trio.run_process(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
             "--enable-logging=stderr", "--virtual-time-budget=5000", coordinator.url + path],
            capture_stdout=True, capture_stderr=True,
        )  # fmt: skip
        assert b"</html>" in done.stdout
        errors = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
        assert errors == [] or path.endswith("0" * 64) or "q=x" in path, (path, errors)


def test_the_offers_of_a_network_are_read_once_for_all_pages_of_a_second(tmp_path: Path) -> None:
    store = Store(tmp_path / "c.db")
    store.attach(SEI, "chain")
    store.apply_batch(SEI, Chain(1).batch(), 0.0)
    reader = Reader(store.path)
    figures = gather(reader, 0.0)
    assert figures.nodes_stats() is figures.nodes_stats()
    assert figures.nodes_stats(SEI) is figures.nodes_stats(SEI)
    assert figures.nodes_stats()["total"] == figures.nodes_stats(SEI)["total"] == 5
    assert figures.nodes_stats(NEAR)["total"] == 0
    reader.close()
    store.close()
