"""The ledger in memory beside a NEAR chain: the same actions, and the same must come of them.

Memory names nodes and reads signatures as Sei does; `near_in_memory` makes it do both as NEAR.

Three things are settled elsewhere on NEAR (contracts/near/README.md): a bounty goes to the vault
instead of to the account, swept fees too, and slashed tokens are burned when somebody sweeps them.
Sums that contain them are compared whole.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

import msgspec
import trio

from deai import actions as act
from deai.chain import memory_escrow, memory_registry, memory_state
from deai.chain.ledger import Ledger
from deai.chain.near.channel_calls import paid_channels
from deai.chain.near.channel_rules import ids_in
from deai.errors import BadSignature
from deai.events import LedgerEvent, LedgerRecord, TokensMoved
from deai.ids import AccountId, ChannelId, NodeId
from deai.signing import Signer, verify
from tests.deai.chain.chains import PARAMETERS
from tests.deai.chain.near.harness import NearChain
from tests.deai.chain.twin import RecordedLedger, Step, Twin
from tests.support.ledger_conformance import World, node_of


class NearTwin(Twin):
    """A `Twin` that knows what NEAR does otherwise."""

    def __init__(self, chain: NearChain, world: World) -> None:
        treasury = AccountId("treasury.near")
        constants = msgspec.structs.replace(PARAMETERS, treasury=treasury)
        super().__init__(world.reader.info, constants, chain.holder)
        self._process = chain
        self._world = world
        self.accounts = {treasury, chain.holder.account}
        self.nodes: set[NodeId] = set()
        self.lanes: set[tuple[AccountId, int]] = set()
        self.channels: set[ChannelId] = set()
        self.compared = 0
        self._keys: set[AccountId] = set()

    def world(self) -> World:
        """The same world, with everything written down that is sent in it."""
        inner = self._world

        async def open_(by: Signer) -> Ledger:
            ledger = await inner.ledger(by)
            # Memory knows an operator by its key, NEAR by the account whose key it is.
            recorded: Ledger = _Recorded(ledger, self, by.account)
            return recorded

        return World(
            inner.name, inner.reader, inner.holder, open_, inner.advance, inner.signer,
            inner.operator,
        )  # fmt: skip

    async def meet(self, records: list[LedgerRecord]) -> None:
        """Replay what was sent since the last time; everything known must be equal."""
        for step in self.steps:
            self._note(step)
        told = [record for record in records if not _is_of_tokens(record.event)]
        with near_in_memory(self._keys):
            await self.check(self._world.reader, told)

    def _note(self, step: Step) -> None:
        if step.sender.startswith("ed25519:"):
            self._keys.add(step.sender)
        else:
            self.accounts.add(step.sender)
        if isinstance(step.action, act.RegisterNode):
            self._keys.add(step.action.operator)
        if (node := getattr(step.action, "node", None)) is not None:
            self.nodes.add(node)
        if (task := getattr(step.action, "task", None)) is not None:
            self.lanes.add((task.client, task.lane))
        if isinstance(step.action, act.ChannelAction):
            domain = self._world.reader.info.channels
            self.channels |= set(ids_in(step.action, step.sender, domain))
        if isinstance(step.action, act.ClaimRewards):
            self.accounts.add(step.action.claim.account)
        for channel in paid_channels(step.action):
            self.accounts |= {channel.client, channel.owner}

    def _replay(self, step: Step, happened: dict[str, list[LedgerEvent]]) -> None:
        self._time = max(self._time, step.time)
        if step.done is None:
            assert self._is_refused_alike(step), step
            return
        if step.done.hash in self._told:
            return
        before = len(self.chain.records)
        self.chain.execute(step.sender, step.action, step.done.hash)
        self._told.add(step.done.hash)
        self.compared += 1
        mine = [record.event for record in self.chain.records[before:]]
        ours = [event for event in mine if not _is_of_tokens(event)]
        assert ours == happened.get(step.done.hash, []), step

    async def _compare_records(
        self, real: Ledger, steps: list[Step], records: list[LedgerRecord]
    ) -> None:
        mine = self.chain.ledger()
        for node in self.nodes:
            assert await real.node(node) == await mine.node(node)
        for client, lane in self.lanes:
            assert await real.lane(client, lane) == await mine.lane(client, lane)
        for one in self.channels:
            assert await real.channel(one) == await mine.channel(one)
        assert await real.rewards() == await mine.rewards()
        for account in self.accounts:
            assert await real.rewards_paid(account) == await mine.rewards_paid(account)
            theirs, ours = await real.balances(account), await mine.balances(account)
            assert theirs.vault + theirs.tokens == ours.vault + ours.tokens, account
            # Bounties and swept fees come to these two.
            if account not in (self._process.holder.account, self.chain.parameters.treasury):
                assert (theirs.vault, theirs.tokens) == (ours.vault, ours.tokens), account
        await self._compare_sums()

    async def _compare_sums(self) -> None:
        """To the base unit: what was burned, and what the contract owes and holds."""
        contracts = self.chain.info.contracts
        token, compute = contracts["ComputeToken"], contracts["NodeRegistry"]
        channels, rewards = contracts["PaymentChannels"], contracts["RewardDistributor"]
        for one in (channels, rewards):
            held = int(await self._view(token, "ft_balance_of", account_id=one))
            assert held == self.chain.holdings().get(one, 0)
        assert self.chain.in_channels() == self.chain.holdings().get(channels, 0)
        supply = int(await self._view(token, "ft_total_supply"))
        held = int(await self._view(token, "ft_balance_of", account_id=compute))
        due = int(await self._view(compute, "burn_due"))
        bounties = await self._moved_into_vaults()
        assert supply - due == self.chain.total_tokens()
        assert held - due - bounties == self.chain.holdings().get(compute, 0)
        escrow, registry = self.chain.owed()
        assert held == escrow + registry + due + bounties

    async def _moved_into_vaults(self) -> int:
        """Bounties and swept fees: in memory they have left the contract, here they have not."""
        mine = self.chain.ledger()
        moved = 0
        for account in (self._process.holder.account, self.chain.parameters.treasury):
            theirs = await self._world.reader.balances(account)
            moved += theirs.vault - (await mine.balances(account)).vault
        return moved

    async def _view(self, contract: AccountId, method: str, **arguments: object) -> Any:
        asked: Mapping[str, object] = {
            "request_type": "call_function", "finality": "final", "account_id": contract,
            "method_name": method,
            "args_base64": base64.b64encode(json.dumps(arguments).encode()).decode(),
        }  # fmt: skip
        found: Any = await trio.to_thread.run_sync(self._process.ask, "query", asked)
        return json.loads(bytes(found["result"]))


@contextmanager
def near_in_memory(keys: Collection[AccountId]) -> Iterator[None]:
    """Let memory's rules name nodes and check signatures of `keys` as NEAR's contract does."""

    def signer_of(digest: bytes, signature: bytes) -> AccountId:
        for key in keys:
            with suppress(BadSignature):
                verify(digest, signature, key)
                return key
        return memory_state.ZERO_ACCOUNT

    with (
        mock.patch.object(memory_escrow, "signer_of", signer_of),
        mock.patch.object(memory_registry, "signer_of", signer_of),
        mock.patch.object(memory_registry, "node_id", node_of),
    ):
        yield


class _Recorded(RecordedLedger):
    """Whose actions are another one's in memory: an operator's are its key's."""

    def __init__(self, ledger: Ledger, twin: Twin, sender: AccountId) -> None:
        super().__init__(ledger, twin)
        self._sender = sender

    @property
    def account(self) -> AccountId | None:
        return self._sender


def _is_of_tokens(event: LedgerEvent) -> bool:
    return isinstance(event, TokensMoved)
