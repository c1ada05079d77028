"""Which registrations are one node: takes what both owners signed, and nothing that one did not.

A node has one twin for ever. A later statement about the same pair replaces an earlier one; one
that names another twin is refused, so that nobody leaves a slash behind by binding anew. What a
stranger can make grow is bounded: one entry a registered node, and questions to the chain only
for well-signed statements about registered nodes, one at a time and so many a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import trio

from coordinator.operators import Operators, Refusal
from coordinator.store.rows import Row
from deai.binding import Binding, Draft, SignedBinding, check, encode_draft
from deai.errors import DeaiError
from deai.ids import NEAR, SEI, AccountId, ChainName, NodeId
from deai.signing import Domain

QUESTIONS_PER_SECOND: Final = 5.0
QUESTION_BURST: Final = 50.0
MAX_WAITING: Final = 32
"""Statements that wait for an answer of the chain at once."""
CHAIN_TIMEOUT: Final = 5.0
"""Seconds from the turn being asked for to the answer of the chain."""

SpeaksFor = Callable[[ChainName, AccountId, AccountId], Awaitable[bool]]
"""`Ledger.speaks_for` of the named chain."""


class Bindings:
    """The pairs that are known, and those that are new since they were last fetched."""

    def __init__(
        self,
        domains: Mapping[ChainName, Domain],
        operators: Operators,
        speaks_for: SpeaksFor,
        clock: Callable[[], float],
    ) -> None:
        """`clock` is Unix seconds; `domains` are the registries of the chains that count."""
        self._domains = domains
        self._operators = operators
        self._speaks_for = speaks_for
        self._clock = clock
        self._twins: dict[NodeId, tuple[NodeId, int]] = {}
        self._fresh: dict[NodeId, list[Row]] = {}
        self._asking = trio.Lock()
        self._allowance, self._allowed_at = QUESTION_BURST, trio.current_time()

    def restore(self, pairs: Iterable[tuple[NodeId, NodeId, int]]) -> None:
        """Remember pairs from before a restart: node, its twin, the nonce."""
        for node, twin, nonce in pairs:
            self._twins[node] = (twin, nonce)

    def take(self) -> list[Row]:
        """Rows that are new since the last call, two for each binding."""
        fresh, self._fresh = self._fresh, {}
        return [row for rows in fresh.values() for row in rows]

    def give_back(self, rows: Iterable[Row]) -> None:
        """Rows that could not be stored are new again, unless newer ones are."""
        fresh = {row["node_id"]: row for rows in self._fresh.values() for row in rows}
        for row in rows:
            if row["node_id"] not in fresh:
                self._fresh.setdefault(row["node_id"], []).append(row)

    async def take_in(self, signed: SignedBinding) -> int:
        """Judge a statement; the nonce that counts for the pair now.

        Raises `Refusal`, or `BadSignature` and `MalformedMessage` for what no honest peer sends.
        """
        body = signed.binding
        for chain in (SEI, NEAR):
            self._check_place(body, chain)
        if (known := self._known(body)) is not None:
            return known
        check(signed)
        for chain in (SEI, NEAR):
            side = body.side(chain)
            await self._operators.check(chain, side.node, side.operator)
        if self._asking.statistics().tasks_waiting >= MAX_WAITING:
            raise Refusal("busy", "too many bindings wait for the chain; say it again later")
        try:
            # Waiting for one's turn included: heartbeats of the same link wait behind this.
            with trio.fail_after(CHAIN_TIMEOUT):
                return await self._in_turn(signed)
        except (trio.TooSlowError, DeaiError) as error:
            raise Refusal(
                "chain_unreachable", f"{NEAR} does not tell whose key it is: {str(error)[:200]}"
            ) from error

    async def _in_turn(self, signed: SignedBinding) -> int:
        body = signed.binding
        async with self._asking:
            # Somebody else's statement may have been taken meanwhile.
            if (known := self._known(body)) is not None:
                return known
            await self._ask(body, signed.near.signer)
            self._keep(signed)
        return body.nonce

    def _check_place(self, body: Binding, chain: ChainName) -> None:
        domain, side = self._domains.get(chain), body.side(chain)
        if domain is None or (side.chain, side.chain_id, side.registry) != (
            chain, domain.chain_id, domain.contract,
        ):  # fmt: skip
            raise Refusal("other_network", f"this hub does not follow that {chain} registry")

    def _known(self, body: Binding) -> int | None:
        """The nonce of this pair if it is no older; None if the statement is news."""
        pair = (body.sei.node, body.near.node)
        for node, twin in (pair, pair[::-1]):
            bound, _ = self._twins.get(node, (twin, -1))
            if bound != twin:
                raise Refusal("bound_elsewhere", f"{node} is bound to another node for good")
        _, nonce = self._twins.get(pair[0], (pair[1], -1))
        return nonce if nonce >= body.nonce else None

    async def _ask(self, body: Binding, key: AccountId) -> None:
        now = trio.current_time()
        grown = (now - self._allowed_at) * QUESTIONS_PER_SECOND
        self._allowance, self._allowed_at = min(QUESTION_BURST, self._allowance + grown), now
        if self._allowance < 1:
            raise Refusal("busy", "too many bindings at once; say it again later")
        self._allowance -= 1
        owner = body.near.owner
        if not await self._speaks_for(NEAR, owner, key):
            raise Refusal("not_the_owner", f"{key} is no full-access key of {owner}")

    def _keep(self, signed: SignedBinding) -> None:
        body = signed.binding
        document = encode_draft(Draft(binding=body, sei=signed.sei, near=signed.near)).decode()
        rows = []
        for side, twin in ((body.sei, body.near), (body.near, body.sei)):
            self._twins[side.node] = (twin.node, body.nonce)
            rows.append(
                {
                    "node_id": side.node,
                    "chain": side.chain,
                    "twin_id": twin.node,
                    "twin_chain": twin.chain,
                    "nonce": body.nonce,
                    "received_at": self._clock(),
                    "document": document,
                }
            )
        self._fresh[body.sei.node] = rows
