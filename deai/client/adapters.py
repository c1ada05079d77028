"""The libraries that the client reaches through ports, found by entry point (`deai.adapters`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, cast

from deai.client.rewards import Accounting
from deai.errors import NotSetUp
from deai.net import Net, PeerAddress
from deai.ports import Catalogue, Workbench

GROUP: Final = "deai.adapters"
EXTRAS: Final = {
    "net": "client",
    "mdns": "client",
    "catalogue": "client",
    "workbench": "node",
    "rules": "client",
}


def open_net(
    identity: Path, *, listen: Sequence[str] = (), announce: Sequence[str] = ()
) -> AbstractAsyncContextManager[Net]:
    """A net with the identity in a key file; without `listen` it only dials.

    Raises `NotSetUp`.
    """
    opened = load("net")(identity, listen=listen, announce=announce)
    return cast("AbstractAsyncContextManager[Net]", opened)


def open_mdns(
    network: str,
) -> AbstractAsyncContextManager[Callable[[], Sequence[PeerAddress]]]:
    """Who announces itself on the local network, as heard so far; raise `NotSetUp`."""
    opened = load("mdns")(network)
    return cast("AbstractAsyncContextManager[Callable[[], Sequence[PeerAddress]]]", opened)


def open_workbench(
    models: Path, workloads: tuple[str, ...] = ()
) -> AbstractAsyncContextManager[Workbench]:
    """A locked worker of one's own; raise `NotSetUp`."""
    opened = load("workbench")(models, workloads=workloads)
    return cast("AbstractAsyncContextManager[Workbench]", opened)


def load_catalogue() -> Catalogue:
    """Every workload installed here, without torch; raise `NotSetUp`."""
    return cast("Catalogue", load("catalogue")())


def load_rewards() -> Accounting:
    """How rewards are computed from a chain's events; raise `NotSetUp`."""
    return cast("Accounting", load("rules"))


def load(name: str) -> Any:  # noqa: ANN401 - whatever the entry names
    """What an adapter's entry point names; raise `NotSetUp` naming the missing extra."""
    for entry in entry_points(group=GROUP, name=name):
        try:
            return entry.load()
        except ModuleNotFoundError as error:
            raise NotSetUp(
                f"this needs the package {error.name}",
                hint=f"install it: pip install 'deai[{EXTRAS[name]}]'",
            ) from error
    raise NotSetUp(f"no adapter `{name}` is installed", hint=f"pip install 'deai[{EXTRAS[name]}]'")
