"""`deai network` asks for what was meant: all chains, or the one that the command names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.conftest import Shell

pytestmark = pytest.mark.network


class Scribe(BaseHTTPRequestHandler):
    """A coordinator without nodes that notes what it was asked."""

    asked: list[tuple[str, dict[str, list[str]]]]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.asked.append((url.path, parse_qs(url.query)))
        body = json.dumps({"items": [], "next_cursor": None}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def coordinator() -> Iterator[str]:
    Scribe.asked = []
    with HTTPServer(("127.0.0.1", 0), Scribe) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("what", ["nodes", "tasks"])
def test_a_list_is_of_all_chains_unless_one_is_named(
    shell: Shell, coordinator: str, what: str
) -> None:
    for chosen in ([], ["--chain", "near"], ["--chain", "sei"]):
        done = shell.json("network", what, "--coordinator", coordinator, *chosen)
        assert done.document == {"items": [], "next_cursor": None}

    (first, near, sei) = Scribe.asked
    assert first[0].endswith(f"/{what}")
    assert "chain" not in first[1]
    assert (near[1]["chain"], sei[1]["chain"]) == (["near"], ["sei"])
