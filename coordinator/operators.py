"""Which key the chains name for which node: what every statement of a node is judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import trio

from deai.ids import AccountId, ChainName, NodeId
from deai.messages import Refused

INDEX_PATIENCE: Final = 5.0
"""A node that has just registered may be ahead of the index by this much."""


class Refusal(Exception):
    """The hub does not take a message; `message` tells its sender why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.message = Refused(None, code, reason)


class Operators:
    """Registered nodes of every chain that this coordinator follows, and their keys."""

    def __init__(self, chains: Iterable[ChainName]) -> None:
        self._known: dict[ChainName, dict[NodeId, AccountId]] = {chain: {} for chain in chains}
        self._learned = trio.Event()

    def learn(self, chain: ChainName, operators: Mapping[NodeId, AccountId]) -> None:
        """Take over which key the chain names for which node."""
        if operators:
            self._known[chain].update(operators)
            self._learned.set()
            self._learned = trio.Event()

    async def check(self, chain: ChainName, node: NodeId, operator: AccountId) -> None:
        """Raise `Refusal` unless the chain names this key for this node, now or in a moment."""
        known = self._known[chain]
        with trio.move_on_after(INDEX_PATIENCE):
            while known.get(node) != operator:
                await self._learned.wait()
        if node not in known:
            raise Refusal("unknown_node", f"{node} is not registered as far as this hub knows")
        if known[node] != operator:
            raise Refusal("wrong_operator", f"the chain names another operator for {node}")
