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
from typing import Any, Final

import msgspec
import trio

from deai.actions import Action, ChannelAction, FinishClose, intent_key
from deai.chain.background import Background
from deai.chain.channel_pages import Opening, check_limit, first_openings, page_of, read_ranges
from deai.chain.follower import Follower
from deai.chain.ledger import (
    CHANNELS_CONTRACT,
    MAX_CHANNEL_PAGE,
    Balances,
    ChainInfo,
    ChannelMark,
    ChannelPage,
    Cursor,
    EventBatch,
    Head,
    LaneRecord,
    NodeRecord,
    Parameters,
    Transaction,
)
from deai.chain.near.calls import (
    PURSE_SHARE,
    encode_action,
    own_account,
    storage,
    token_storage,
)
from deai.chain.near.channel_calls import paid_channels, pay_due
from deai.chain.near.channel_rules import Rehearsal, id_of, ids_in, named_alike, read_record
from deai.chain.near.history import MOST_BLOCKS, History
from deai.chain.near.keys import NearKey
from deai.chain.near.logs import Decoder, account, number, operator, standing
from deai.chain.near.queries import (
    AccessKey,
    access_key,
    free_money,
    read_access_key,
    read_view,
    view,
    view_account,
)
from deai.chain.near.rpc import open_pool
from deai.chain.near.sender import Sender, SenderSettings, no_crash, open_sender
from deai.chain.near.steps import YOCTO, Call, DeleteKey, NearCall, Needs, Send
from deai.chain.pool import Pool, Request, sensible
from deai.chain.refusals import no_rewards, refusal
from deai.channels import Channel, ChannelRecord
from deai.claims import RewardsRecord
from deai.errors import ConfigError, LedgerRejected, LedgerUnreachable, MalformedMessage
from deai.events import LedgerRecord
from deai.ids import NEAR, AccountId, ChannelId, NodeId, TaskId, parse_digest
from deai.money import Amount
from deai.network import ChainEntry

TIMEOUT_S: Final = 15.0
"""Above the 10 s after which an endpoint itself gives up waiting."""
READ_TRIES: Final = 3
READ_PAUSE_S: Final = 0.1
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
    def pool(self) -> Pool:
        """The endpoints and what is known of their health."""
        return self._pool

    async def parameters(self) -> Parameters:
        if self._parameters is None:
            asked: list[tuple[AccountId, str, Mapping[str, object]]] = [
                (self._compute, "parameters", {})
            ]
            if self._has_channels:
                asked.append((self._info.channels.contract, "parameters", {}))
            self._parameters = _checked(_parameters, await self._view(*asked))
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
        (found,) = await self._read(view_account(account))
        tokens, vault = await self._view(
            (self._token, "ft_balance_of", {"account_id": account}),
            (self._compute, "get_account", {"account_id": account}),
        )
        gas = _checked(free_money, found)
        free = 0 if vault is None else _checked(_sum, vault.get("balance"))
        return Balances(gas if gas is not None else 0, _checked(_sum, tokens), free)

    async def node(self, node: NodeId) -> NodeRecord | None:
        (found,) = await self._view((self._compute, "get_node", {"node": node}))
        return None if found is None else _checked(_node, found)

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        (found,) = await self._read(access_key(account, key))
        held: AccessKey = _checked(read_access_key, found)
        return held.nonce is not None and held.contract is None

    async def lane(self, client: AccountId, lane: int) -> LaneRecord:
        (found,) = await self._view((self._compute, "get_lane", {"client": client, "lane": lane}))
        record: LaneRecord = _checked(_lane, found)
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
        raise no_rewards()

    async def rewards_paid(self, account: AccountId) -> Amount:
        raise no_rewards()

    async def simulate(self, action: Action) -> int:
        sender, call = self._as_sender(), await self._encode(action)
        key = await sender.check(call)
        if key.contract is None:
            await self._check_funds(call)
        if isinstance(action, ChannelAction):
            await self._rehearse(action, call)
        return call.gas

    async def submit(self, action: Action, *, key: str = "") -> Transaction:
        """Carry an action out; what a channel pays and the token refuses is sent once more."""
        sender, name = self._as_sender(), key or intent_key(action)
        call = await self._encode(action)
        try:
            if not await sender.is_known(name):
                call = await self._prepare(sender, await self._or_due(action, call), name)
            done = await sender.send(call, kind=type(action).__name__, key=name)
            await self._send_dues(sender, paid_channels(action), name, call.by)
        except LedgerRejected as error:
            if isinstance(action, ChannelAction):
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

    async def _prepare(self, sender: Sender, call: NearCall, name: str) -> NearCall:
        """Supply what a call needs to find; gives it back with what goes into the same one."""
        needs, by = call.needs, self._own()
        if needs.replaced:
            (found,) = await self._read(access_key(by.account, needs.replaced))
            if _checked(read_access_key, found).nonce is not None:
                call = msgspec.structs.replace(call, steps=(DeleteKey(needs.replaced), *call.steps))
        if openings := [token_storage(one) for one in await self._unknown(needs.receivers)]:
            if call.to == self._token:
                call = msgspec.structs.replace(call, steps=(*openings, *call.steps))
            for at in range(0, len(openings), _OPENINGS) if call.to != self._token else ():
                first = NearCall(self._token, tuple(openings[at : at + _OPENINGS]), by=call.by)
                await sender.send(first, kind="OpenAccount", key=f"{name}/token{at or ''}")
        if needs.purse is not None:
            await self._fill(sender, *needs.purse, name)
        if needs.lane is not None:
            return await self._pay_for_lane(sender, call, needs.lane, name)
        await self._pay_storage(sender, needs, name)
        return call

    async def _pay_storage(self, sender: Sender, needs: Needs, name: str) -> None:
        """Put down what the sender's records will cost in the contract that keeps them."""
        by, contract, record = self._own().account, self._compute, "node" if needs.node else ""
        if needs.opens is not None:
            contract, record = self._info.channels.contract, "channel"
            id_ = id_of(Channel(by, *needs.opens), self._info.channels)
            if (await self.channel(id_)).epoch:
                return  # opened before, and paid for
        elif not needs.at_vault:
            return
        if lacking := await self._lacking_storage(contract, by, record):
            paying = NearCall(contract, (storage(lacking),))
            key = f"{name}/vault" if contract == self._compute else f"{name}/storage"
            await sender.send(paying, kind="PayStorage", key=key)

    async def _fill(self, sender: Sender, purse: AccountId, wanted: int, name: str) -> None:
        (found,) = await self._read(view_account(purse))
        lacking = wanted - (_checked(free_money, found) or 0)
        if lacking > 0:
            sending = NearCall(purse, (Send(lacking),))
            await sender.send(sending, kind="SendGas", key=f"{name}/purse")

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
                call = await self._prepare(sender, call, key)
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

    async def _records(self, channels: Sequence[ChannelId]) -> list[ChannelRecord]:
        contract = self._info.channels.contract
        if not channels:
            return []
        (found,) = await self._view((contract, "get_channels", {"channel_ids": list(channels)}))
        return _checked(lambda told: _records(told, channels), found)  # type: ignore[no-any-return]

    async def _pay_for_lane(self, sender: Sender, call: NearCall, lane: int, name: str) -> NearCall:
        """Attach what a new lane costs, exactly: sending more back would take another block."""
        by = self._own().account
        found, held, cost = await self._view(
            (self._compute, "get_lane", {"client": by, "lane": lane}),
            (self._compute, "storage_balance_of", {"account_id": by}),
            (self._compute, "storage_cost", {"account_id": by}),
        )
        try:
            needed = int(cost["lane"]) if not found["nonce"] else 0
            if held is None:
                opening = NearCall(self._compute, (storage(int(cost["account"])),))
                await sender.send(opening, kind="PayStorage", key=f"{name}/vault")
                free = 0
            else:
                free = int(held["available"])
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerUnreachable(f"the contract's prices make no sense: {error!r}") from error
        deposit = max(YOCTO, needed - free)
        steps = [
            msgspec.structs.replace(one, deposit=deposit) if isinstance(one, Call) else one
            for one in call.steps
        ]
        return msgspec.structs.replace(call, steps=tuple(steps))

    async def _unknown(self, accounts: Sequence[AccountId]) -> list[AccountId]:
        """Those that the token does not know."""
        asked = [(self._token, "storage_balance_of", {"account_id": one}) for one in accounts]
        found = await self._view(*asked) if asked else []
        return [one for one, held in zip(accounts, found, strict=True) if held is None]

    async def _lacking_storage(self, contract: AccountId, account: AccountId, record: str) -> int:
        """YoctoNEAR that an account has to put down for itself and one record more, if any."""
        asked = {"account_id": account}
        held, cost = await self._view(
            (contract, "storage_balance_of", asked), (contract, "storage_cost", asked)
        )
        try:
            needed = int(cost[record]) if record else 0
            if held is None:
                return int(cost["account"]) + needed
            return max(0, needed - int(held["available"]))
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerUnreachable(f"the contract's prices make no sense: {error!r}") from error

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
        found, *purse = await self._read(access_key(self._keys_of, public_key), *own)
        allowance: int = _checked(read_access_key, found).allowance or 0
        held = [PURSE_SHARE * (_checked(free_money, one) or 0) for one in purse]
        return min(allowance, *held) if held else allowance

    @property
    def _has_channels(self) -> bool:
        return CHANNELS_CONTRACT in self._info.contracts

    def _own(self) -> NearKey:
        if self._key is None:
            raise refusal("Forbidden", {"caller": None})
        return self._key

    def _as_sender(self) -> Sender:
        if self._sender is None:
            raise refusal("Forbidden", {"caller": None})
        return self._sender

    async def _view(self, *asked: tuple[AccountId, str, Mapping[str, object]]) -> list[Any]:
        requests = [view(contract, method, **given) for contract, method, given in asked]
        return [_checked(read_view, answer) for answer in await self._read(*requests)]

    async def _read(self, *requests: Request) -> list[Any]:
        """Answers, asked for again while the endpoint is between two blocks."""
        for left in reversed(range(READ_TRIES)):
            answers = await self._pool.batch(requests)
            names = {getattr(one, "name", "") for one in answers}
            if not left or not names & _PASSING:
                break
            await trio.sleep(READ_PAUSE_S)
        return answers


_OPENINGS: Final = 20
"""Accounts that one transaction opens at the token: gas for more would be too much."""
_PASSING: Final = frozenset({"UNKNOWN_BLOCK", "GARBAGE_COLLECTED_BLOCK"})
"""What an endpoint may say of the newest block while the next one comes."""


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
            for name in (*CONTRACTS, CHANNELS_CONTRACT)
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


def _checked(read: Callable[[Any], Any], answer: object) -> Any:  # noqa: ANN401
    with sensible():
        try:
            return read(answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedMessage(repr(error)) from error


def _sum(text: object) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 40:
        raise MalformedMessage(f"not a sum: {str(text)[:40]!r}")
    return int(text)


def _records(told: Any, asked: Sequence[ChannelId]) -> list[ChannelRecord]:  # noqa: ANN401
    if [one["channel_id"] for one in told] != list(asked):
        raise ValueError("other channels than those that were asked for")
    return [read_record(one) for one in told]


def _parameters(answers: Any) -> Parameters:  # noqa: ANN401 - JSON
    found, *channels = answers
    return Parameters(
        min_stake=Amount(_sum(found["min_stake"])),
        min_fee=Amount(_sum(found["min_fee"])),
        min_lease=number(found["min_lease"]),
        min_window=number(found["min_window"]),
        epoch_seconds=number(found["epoch_seconds"]),
        unbonding_seconds=number(found["unbonding_seconds"]),
        weight_fee=Amount(_sum(found["weight_fee"])),
        bounty=Amount(_sum(found["bounty"])),
        treasury=account(found["treasury"]),
        max_span=number(found["max_span"]),
        close_period=number(channels[0]["close_period"]) if channels else 0,
    )


def _node(found: Any) -> NodeRecord:  # noqa: ANN401 - JSON
    return NodeRecord(
        node=NodeId(found["node"]),
        operator=operator(found["operator"]),
        standing=standing(found["standing"]),
        stake=_sum(found["bonded"]),
        unbonding=_sum(found["unbonding"]),
        unbond_at=number(found["unbond_at"]),
        reputation=number(found["reputation"]),
        checked_tasks=number(found["checked_tasks"]),
        last_epoch=number(found["epoch"]),
    )


def _lane(found: Any) -> LaneRecord:  # noqa: ANN401 - JSON
    committed = number(found["committed"])
    return LaneRecord(
        nonce=number(found["nonce"]),
        closed=number(found["closed"]),
        committed=committed,
        revealed=number(found["revealed"]),
        released=number(found["released"]) & ~committed,
        # Before the first commit the word still holds that of an earlier task.
        acc=int.from_bytes(parse_digest(found["acc"]), "big") if committed else 0,
        accrued=_sum(found["accrued"]),
    )
