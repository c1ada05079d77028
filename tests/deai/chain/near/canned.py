"""An HTTP server that answers every request as it is told: what endpoints do at their worst."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], tuple[int, bytes]]
"""Status and body for a request."""


class Canned:
    """The server; `reply` may be changed between requests. `asked` are the requests so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[dict[str, Any]] = []
        self.hang = threading.Event()
        self.reply: Reply = lambda _: ok(None)


def ok(result: object) -> tuple[int, bytes]:
    return 200, json.dumps({"jsonrpc": "2.0", "id": "x", "result": result}).encode()


def error(name: str, status: int = 200, **more: object) -> tuple[int, bytes]:
    body = {"name": "HANDLER_ERROR", "cause": {"name": name, "info": {}}, **more}
    return status, json.dumps({"jsonrpc": "2.0", "id": "x", "error": body}).encode()


@contextmanager
def canned_server() -> Iterator[Canned]:
    """A server on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = json.loads(body)
            canned.asked.append(request)
            status, content = canned.reply(request)
            if status == 0:  # no answer at all
                canned.hang.wait(600)
                return
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    canned = Canned(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield canned
    finally:
        canned.hang.set()
        server.shutdown()
        server.server_close()
        thread.join()
