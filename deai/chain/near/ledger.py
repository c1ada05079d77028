"""The `Ledger` port on NEAR: reading, sending and following one deployment.

Two things the port says are less here, because the chain does not do them. `simulate` cannot run a
call: it checks what can be read (the key's rights, money for gas, tokens, the vault account, and
all that the rules of channels ask) and returns the gas that will be attached; the other rules are
judged when the call is sent. And what a
transaction does spreads over several blocks: `Transaction.block` is that of its first receipt, in
which our own contract's part happens unless tokens are carried along.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from deai.actions import (
    Action,
    ChannelAction,
    ClaimRewards,
    FinishClose,
    RewardAction,
    intent_key,
)
from deai.chain.background import Background
from deai.chain.channel_pages import Opening, check_limit, first_openings, page_of, read_ranges
from deai.chain.follower import Follower
from deai.chain.ledger import (
    CHANNELS_CONTRACT,
    MAX_CHANNEL_PAGE,
    REWARDS_CONTRACT,
    Balances,
    ChainInfo,
    ChannelMark,
    ChannelPage,
    Cursor,
    EventBatch,
    Head,
    LaneRecord,
    NodeRecord,
    OrderEarnings,
    Parameters,
    Transaction,
)
from deai.chain.near.calls import (
    PURSE_SHARE,
    encode_action,
    own_account,
)
from deai.chain.near.channel_calls import paid_channels, pay_due
from deai.chain.near.channel_rules import Rehearsal, id_of, ids_in, named_alike
from deai.chain.near.history import MOST_BLOCKS, History
from deai.chain.near.keys import NearKey
from deai.chain.near.logs import Decoder
from deai.chain.near.preparing import Preparation
from deai.chain.near.queries import (
    AccessKey,
    access_key,
    free_money,
    read_access_key,
    view_account,
)
from deai.chain.near.records import (
    read_lane,
    read_node,
    read_parameters,
    read_records,
    read_sum,
)
from deai.chain.near.reward_rules import judge, read_rewards, read_roles
from deai.chain.near.rpc import open_pool
from deai.chain.near.sender import Sender, SenderSettings, no_crash, open_sender
from deai.chain.near.steps import NearCall
from deai.chain.near.views import Views, checked
from deai.chain.pool import Pool, sensible
from deai.chain.refusals import no_orders, no_pools, refusal
from deai.channels import Channel, ChannelRecord
from deai.claims import RewardsRecord
from deai.errors import ConfigError, LedgerRejected
from deai.events import LedgerRecord
from deai.ids import NEAR, AccountId, ChannelId, NodeId, TaskId
from deai.money import Amount
from deai.network import ChainEntry
from deai.orders import OrderBalance
from deai.pools import DelegationRecord, PoolRecord

TIMEOUT_S: Final = 15.0
"""Above the 10 s after which an endpoint itself gives up waiting."""
CONTRACTS: Final = ("ComputeToken", "NodeRegistry", "TaskEscrow")
"""Token, and twice the account that holds nodes, vault and tasks."""


class NearLedger:
    """A `Ledger` over NEAR's JSON-RPC; made by `open_near_ledger`."""

    def __init__(
        self,
        pool: Pool,
        info: ChainInfo,
        sender: Sender | None,
        by: NearKey | None,
        keys_of: AccountId | None = None,
    ) -> None:
        self._keys_of = by.account if by is not None else keys_of
        self._pool = pool
        self._views = Views(pool)
        self._info = info
        self._sender = sender
        self._key = by
        self._token = info.contracts["ComputeToken"]
        self._compute = info.contracts["NodeRegistry"]
        self._decoder = Decoder(info.contracts)
        self._history = History(pool, self._decoder)
        self._parameters: Parameters | None = None

    @property
    def info(self) -> ChainInfo:
        return self._info

    @property
    def account(self) -> AccountId | None:
        return self._key.account if self._key is not None else None

    @property
    def endpoints(self) -> Pool:
        """The endpoints and what is known of their health."""
        return self._pool

    async def parameters(self) -> Parameters:
        if self._parameters is None:
            asked: list[tuple[AccountId, str, Mapping[str, object]]] = [
                (self._compute, "parameters", {})
            ]
            if self._has_channels:
                asked.append((self._info.channels.contract, "parameters", {}))
            if self._has_rewards:
                asked.append((self._info.rewards.contract, "delay", {}))
            found, *others = await self._views.view(*asked)
            channels = others.pop(0) if self._has_channels else None
            delay = others.pop(0) if self._has_rewards else None
            self._parameters = checked(read_parameters, (found, channels, delay))
        return self._parameters

    async def head(self) -> Head:
        with sensible():
            return await self._history.head()

    async def balances(self, account: AccountId) -> Balances:
        """What an account has; of a key (`ed25519:…`) of the own account: its allowance.

        A key that is none of that account's has nothing. Where there are channels, a key whose
        own account ran out of what it redeems with has as little as that.
        """
        if account.startswith("ed25519:"):
            return Balances(await self._gas_of_key(account), 0, 0)
        (found,) = await self._views.read(view_account(account))
        tokens, vault = await self._views.view(
            (self._token, "ft_balance_of", {"account_id": account}),
            (self._compute, "get_account", {"account_id": account}),
        )
        gas = checked(free_money, found)
        free = 0 if vault is None else checked(read_sum, vault.get("balance"))
        return Balances(gas if gas is not None else 0, checked(read_sum, tokens), free)

    async def node(self, node: NodeId) -> NodeRecord | None:
        (found,) = await self._views.view((self._compute, "get_node", {"node": node}))
        return None if found is None else checked(read_node, found)

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        (found,) = await self._views.read(access_key(account, key))
        held: AccessKey = checked(read_access_key, found)
        return held.nonce is not None and held.contract is None

    async def lane(self, client: AccountId, lane: int) -> LaneRecord:
        (found,) = await self._views.view(
            (self._compute, "get_lane", {"client": client, "lane": lane})
        )
        record: LaneRecord = checked(read_lane, found)
        return record

    async def task_events(self, task: TaskId, *, since: int) -> tuple[LedgerRecord, ...]:
        head = await self.head()
        with sensible():
            low = max(since, self._info.deployed_at)
            records = await self._history.known(low, head.number)
        return tuple(one for one in records if getattr(one.event, "task_id", None) == task)

    async def channel(self, channel: ChannelId) -> ChannelRecord:
        (record,) = await self._records([channel])
        return record

    async def channels(
        self,
        *,
        client: AccountId | None = None,
        node: NodeId | None = None,
        after: ChannelMark | None = None,
        limit: int = MAX_CHANNEL_PAGE,
    ) -> ChannelPage:
        check_limit(limit)
        _ = self._info.channels  # raises where there are none
        head = await self.head()

        async def read(low: int, high: int) -> list[Opening]:
            with sensible():
                records = await self._history.known(low, high)
            return first_openings(records, client, node, after)

        low = self._info.deployed_at if after is None else after.block
        found, next_ = await read_ranges(read, low, head.number, most=MOST_BLOCKS, limit=limit)
        records = await self._records([event.channel_id for _, event in found])
        return page_of(found, records, next_)

    async def rewards(self) -> RewardsRecord:
        (found,) = await self._views.view((self._info.rewards.contract, "roots", {}))
        record: RewardsRecord = checked(read_rewards, found)
        return record

    async def rewards_paid(self, account: AccountId) -> Amount:
        asked = (self._info.rewards.contract, "claimed_by", {"account": account})
        (found,) = await self._views.view(asked)
        return Amount(checked(read_sum, found))

    async def order_balance(self, client: AccountId) -> OrderBalance:
        raise no_orders()

    async def order_page(self, client: AccountId, page: int) -> int:
        raise no_orders()

    async def order_earnings(self, owner: AccountId) -> OrderEarnings:
        raise no_orders()

    async def pool(self, node: NodeId) -> PoolRecord | None:
        raise no_pools()

    async def delegation(self, node: NodeId, account: AccountId) -> DelegationRecord:
        raise no_pools()

    async def simulate(self, action: Action) -> int:
        sender, call = self._as_sender(), await self._encode(action)
        key = await sender.check(call)
        if key.contract is None:
            await self._check_funds(call)
        if isinstance(action, ChannelAction):
            await self._rehearse(action, call)
        elif isinstance(action, RewardAction):
            await self._rehearse_rewards(action)
        return call.gas

    async def submit(self, action: Action, *, key: str = "") -> Transaction:
        """Carry an action out; what a channel pays and the token refuses is sent once more."""
        sender, name = self._as_sender(), key or intent_key(action)
        call = await self._encode(action)
        try:
            if not await sender.is_known(name):
                call = await self._prepared(await self._or_due(action, call), name)
            done = await sender.send(call, kind=type(action).__name__, key=name)
            await self._send_dues(sender, paid_channels(action), name, call.by)
        except LedgerRejected as error:
            if isinstance(action, ChannelAction | RewardAction):
                raise named_alike(error) from error
            raise
        return done

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[EventBatch]]:
        history = History(self._pool, self._decoder)
        batches = Follower(history, self._info.deployed_at).batches(cursor)
        try:
            yield batches
        finally:
            await batches.aclose()

    async def _prepared(self, call: NearCall, name: str) -> NearCall:
        by = self._own().account
        return await Preparation(self._views, self._info, self._as_sender(), by).prepare(call, name)

    async def _encode(self, action: Action) -> NearCall:
        """The call for an action, as the account that may make it with the key that there is.

        An operator's key speaks for its owner to one contract only. What anybody may ask of the
        channels it does as its own account.
        """
        call, by = encode_action(action, self._info.contracts), self._own()
        if self._has_channels and call.is_for_key(self._info.channels.contract, ()):
            own = own_account(by.public_key)
            if own != by.account and not await self.speaks_for(by.account, by.public_key):
                return msgspec.structs.replace(call, by=own)
        return call

    async def _or_due(self, action: Action, call: NearCall) -> NearCall:
        """Of a closed channel: what is due, if anything is."""
        if isinstance(action, FinishClose):
            record = await self.channel(id_of(action.channel, self._info.channels))
            if record.due and not record.deposit:
                due = pay_due(action.channel, self._info.channels.contract)
                return msgspec.structs.replace(due, by=call.by)
        return call

    async def _send_dues(
        self, sender: Sender, paid: Sequence[Channel], name: str, by: AccountId | None
    ) -> None:
        """Send once more what the token has just refused, now that it knows the receivers."""
        if not paid:
            return
        domain = self._info.channels
        records = await self._records([id_of(channel, domain) for channel in paid])
        for number_, (channel, record) in enumerate(zip(paid, records, strict=True)):
            if not record.due:
                continue
            call = msgspec.structs.replace(pay_due(channel, domain.contract), by=by)
            key = f"{name}/due{number_}"
            try:
                call = await self._prepared(call, key)
                await sender.send(call, kind="PayDue", key=key)
            except LedgerRejected as error:
                if error.name != "NothingDue":  # somebody else was faster
                    raise

    async def _rehearse(self, action: ChannelAction, call: NearCall) -> None:
        domain = self._info.channels
        by = call.by if call.by is not None else self._own().account
        ids = ids_in(action, by, domain)
        records = dict(zip(ids, await self._records(ids), strict=True))
        period = (await self.parameters()).close_period
        Rehearsal(domain, records, by, (await self.head()).time, period).judge(action)

    async def _rehearse_rewards(self, action: RewardAction) -> None:
        contract, by = self._info.rewards.contract, self._own().account
        roots, roles = await self._views.view((contract, "roots", {}), (contract, "info", {}))
        before = 0
        if isinstance(action, ClaimRewards):
            before = int(await self.rewards_paid(action.claim.account))
        parameters = await self.parameters()
        judge(
            action, checked(read_rewards, roots), checked(read_roles, roles), before,
            self._info.rewards, by=by, now=(await self.head()).time,
            delay=parameters.reward_delay, seconds=parameters.epoch_seconds,
        )  # fmt: skip

    async def _records(self, channels: Sequence[ChannelId]) -> list[ChannelRecord]:
        contract = self._info.channels.contract
        if not channels:
            return []
        (found,) = await self._views.view(
            (contract, "get_channels", {"channel_ids": list(channels)})
        )
        return checked(lambda told: read_records(told, channels), found)  # type: ignore[no-any-return]

    async def _check_funds(self, call: NearCall) -> None:
        needs, by = call.needs, self._own().account
        if not needs.tokens and not needs.free:
            return
        held = await self.balances(by)
        if held.tokens < needs.tokens:
            raise refusal(
                "ERC20InsufficientBalance",
                {"sender": by, "balance": held.tokens, "needed": needs.tokens},
            )
        if held.vault < needs.free:
            raise refusal(
                "Insufficient", {"account": by, "available": held.vault, "needed": needs.free}
            )

    async def _gas_of_key(self, public_key: str) -> int:
        if self._keys_of is None:
            return 0
        own = [view_account(own_account(public_key))] if self._has_channels else []
        found, *purse = await self._views.read(access_key(self._keys_of, public_key), *own)
        allowance: int = checked(read_access_key, found).allowance or 0
        held = [PURSE_SHARE * (checked(free_money, one) or 0) for one in purse]
        return min(allowance, *held) if held else allowance

    @property
    def _has_channels(self) -> bool:
        return CHANNELS_CONTRACT in self._info.contracts

    @property
    def _has_rewards(self) -> bool:
        return REWARDS_CONTRACT in self._info.contracts

    def _own(self) -> NearKey:
        if self._key is None:
            raise refusal("Forbidden", {"caller": None})
        return self._key

    def _as_sender(self) -> Sender:
        if self._sender is None:
            raise refusal("Forbidden", {"caller": None})
        return self._sender


@asynccontextmanager
async def open_near_ledger(
    entry: ChainEntry,
    key: NearKey | None = None,
    outbox_path: Path | None = None,
    *,
    account: AccountId | None = None,
    crash: Callable[[str], None] = no_crash,
    settings: SenderSettings | None = None,
    timeout: float = TIMEOUT_S,
) -> AsyncIterator[NearLedger]:
    """Open a deployment, as `key` or as a reader.

    `account` is the one whose keys a reader tells about; `key` has its own. `outbox_path` keeps
    what was sent over restarts; one outbox belongs to one access key. Entering
    raises `LedgerUnreachable` when no endpoint answers and `ConfigError` for another chain than
    the entry's, or an outbox that is in use.
    """
    info = chain_info(entry)
    async with open_pool(entry.rpc_urls, timeout=timeout) as pool, Background() as nursery:
        await _check_chain(pool, info)
        nursery.start_soon(pool.watch)
        if key is None:
            yield NearLedger(pool, info, None, None, account)
            return
        identity = f"{info.chain_id}:{info.contracts['TaskEscrow']}:{key.account}:{key.public_key}"
        async with open_sender(
            pool, key, outbox_path, identity, crash=crash, settings=settings
        ) as sender:
            yield NearLedger(pool, info, sender, key)


def chain_info(entry: ChainEntry) -> ChainInfo:
    """What is known of a deployment before its chain answers; raise `ConfigError`."""
    missing = [name for name in CONTRACTS if name not in entry.contracts]
    if missing:
        raise ConfigError(f"the network file lacks the contracts {', '.join(missing)}")
    if entry.contracts["NodeRegistry"] != entry.contracts["TaskEscrow"]:
        raise ConfigError("on NEAR nodes and tasks are in one contract")
    return ChainInfo(
        name=NEAR,
        kind=entry.kind,
        chain_id=entry.chain_id,
        contracts={
            name: entry.contracts[name]
            for name in (*CONTRACTS, CHANNELS_CONTRACT, REWARDS_CONTRACT)
            if name in entry.contracts
        },
        registry=entry.registry,
        escrow=entry.escrow,
        deployed_at=entry.deployed_at,
    )


async def _check_chain(pool: Pool, info: ChainInfo) -> None:
    status = await pool.call("status")
    found = f"near:{status.get('chain_id')}" if isinstance(status, dict) else "?"
    if found != info.chain_id:
        raise ConfigError(
            f"the endpoint serves chain {found}, not {info.chain_id}",
            hint="the network file and its endpoints do not belong together",
        )
