"""Asks the running daemon of a home over its local HTTP interface."""

from __future__ import annotations

from typing import Any

import httpx

from deai.errors import ConfigError, Unreachable
from node.admin.server import read_token
from node.home import Home

TIMEOUT = 10.0


class DaemonDown(Unreachable):
    """No daemon runs in this home, or it does not answer."""

    code = "node_not_running"


def call(home: Home, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request; raise `DaemonDown`, or `ConfigError` with the daemon's own refusal."""
    ready = home.load_ready()
    if ready is None:
        raise DaemonDown(f"no node runs in {home.path}", hint="start it: deai node run")
    token = read_token(home.admin_token)
    try:
        # No proxy of the environment may see the token.
        with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
            answer = client.request(
                method,
                f"{ready['admin_url']}{path}",
                headers={"authorization": f"Bearer {token}"},
                json=body,
            )
        document: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise DaemonDown(
            f"the node in {home.path} does not answer: {error}", hint="start it: deai node run"
        ) from error
    if answer.is_error:
        refused = document.get("error", {})
        raise ConfigError(
            str(refused.get("message", answer.status_code)),
            hint=str(refused.get("hint", "")),
            code=str(refused.get("code", "refused")),
        )
    return document
