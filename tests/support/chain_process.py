"""A chain in a process of its own, and plain JSON-RPC to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.polling import wait


class ChainProcess:
    """`python -m MODULE` on a directory, ready to answer; `with` ends it."""

    def __init__(self, module: str, directory: Path, genesis: dict[str, Any], *flags: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        accounts = directory / "genesis.json"
        accounts.write_text(json.dumps(genesis))
        command = [sys.executable, "-m", module, "--dir", str(directory)]
        self.process = subprocess.Popen(
            [*command, "--genesis", str(accounts), *flags], stderr=subprocess.PIPE, text=True
        )
        self.ready: dict[str, Any] = wait(self._is_ready)
        self.url = str(self.ready["rpc_url"])
        self.client = httpx.Client(timeout=60, headers={"content-type": "application/json"})

    def _is_ready(self) -> dict[str, Any]:
        if self.process.poll() is not None:
            _, complaint = self.process.communicate()
            raise AssertionError(f"the chain ended: {complaint}")
        try:
            document: dict[str, Any] = json.loads((self.directory / "ready.json").read_text())
        except FileNotFoundError:
            return {}
        return document if document["pid"] == self.process.pid else {}

    def post(self, body: bytes | str) -> httpx.Response:
        """Whatever the process says to these bytes."""
        return self.client.post(self.url, content=body)

    def call(self, method: str, params: Any) -> dict[str, Any]:
        """The whole answer to a request, error or result."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer: dict[str, Any] = self.post(json.dumps(request)).json()
        return answer

    def result(self, method: str, params: Any) -> Any:
        """The result of a request that must succeed."""
        answer = self.call(method, params)
        assert "error" not in answer, answer
        return answer["result"]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()
        self.client.close()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        self.process.communicate(timeout=120)
        self.client.close()
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # does nothing to one that has ended
        if self.process.stderr and not self.process.stderr.closed:
            self.process.communicate()
        self.client.close()
