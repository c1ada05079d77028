"""The `Ledger` port on NEAR: reading, sending and following one deployment.

Two things the port says are less here, because the chain does not do them. `simulate` cannot run a
call: it checks what can be read (the key's rights, money for gas, tokens, the vault account) and
returns the gas that will be attached; rules are judged when the call is sent. And what a
transaction does spreads over several blocks: `Transaction.block` is that of its first receipt, in
which our own contract's part happens unless tokens are carried along.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from deai.actions import Action, intent_key
from deai.chain.background import Background
from deai.chain.follower import Follower
from deai.chain.ledger import (
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
    YOCTO,
    Call,
    DeleteKey,
    NearCall,
    encode_action,
    token_storage,
    vault_storage,
)
from deai.chain.near.history import History
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
from deai.chain.pool import Pool, Request, sensible
from deai.chain.refusals import no_channels, no_rewards, refusal
from deai.channels import ChannelRecord
from deai.claims import RewardsRecord
from deai.errors import ConfigError, LedgerUnreachable, MalformedMessage
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
            (found,) = await self._view((self._compute, "parameters", {}))
            self._parameters = _checked(_parameters, found)
        return self._parameters

    async def head(self) -> Head:
        with sensible():
            return await self._history.head()

    async def balances(self, account: AccountId) -> Balances:
        """What an account has; of a key (`ed25519:…`) of the own account: its allowance.

        A key that is none of that account's has nothing.
        """
        if account.startswith("ed25519:"):
            return Balances(await self._allowance(account), 0, 0)
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
        raise no_channels()

    async def channels(
        self,
        *,
        client: AccountId | None = None,
        node: NodeId | None = None,
        after: ChannelMark | None = None,
        limit: int = MAX_CHANNEL_PAGE,
    ) -> ChannelPage:
        raise no_channels()

    async def rewards(self) -> RewardsRecord:
        raise no_rewards()

    async def rewards_paid(self, account: AccountId) -> Amount:
        raise no_rewards()

    async def simulate(self, action: Action) -> int:
        sender, call = self._as_sender(), encode_action(action, self._info.contracts)
        key = await sender.check(call)
        if key.contract is None:
            await self._check_funds(call)
        return call.gas

    async def submit(self, action: Action, *, key: str = "") -> Transaction:
        sender, name = self._as_sender(), key or intent_key(action)
        call = encode_action(action, self._info.contracts)
        if not await sender.is_known(name):
            call = await self._prepare(sender, call, name)
        return await sender.send(call, kind=type(action).__name__, key=name)

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
        if needs.at_token is not None and not await self._is_at_token(needs.at_token):
            opening = token_storage(needs.at_token)
            if call.to == self._token:
                call = msgspec.structs.replace(call, steps=(opening, *call.steps))
            else:
                await sender.send(
                    NearCall(self._token, (opening,)), kind="OpenAccount", key=f"{name}/token"
                )
        if needs.lane is not None:
            return await self._pay_for_lane(sender, call, needs.lane, name)
        if needs.at_vault and (lacking := await self._lacking_storage(by.account, needs.node)):
            await sender.send(
                NearCall(self._compute, (vault_storage(lacking),)), kind="PayStorage",
                key=f"{name}/vault",
            )  # fmt: skip
        return call

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
                opening = NearCall(self._compute, (vault_storage(int(cost["account"])),))
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

    async def _is_at_token(self, account: AccountId) -> bool:
        asked = {"account_id": account}
        (found,) = await self._view((self._token, "storage_balance_of", asked))
        return found is not None

    async def _lacking_storage(self, account: AccountId, for_node: bool) -> int:
        """YoctoNEAR that an account has to put down for its record and a node."""
        asked = {"account_id": account}
        held, cost = await self._view(
            (self._compute, "storage_balance_of", asked), (self._compute, "storage_cost", asked)
        )
        try:
            needed = int(cost["node"]) if for_node else 0
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

    async def _allowance(self, public_key: str) -> int:
        if self._keys_of is None:
            return 0
        (found,) = await self._read(access_key(self._keys_of, public_key))
        return _checked(read_access_key, found).allowance or 0

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
        contracts={name: entry.contracts[name] for name in CONTRACTS},
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


def _parameters(found: Any) -> Parameters:  # noqa: ANN401 - JSON
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
