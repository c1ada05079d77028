"""The `Ledger` port on Sei: reading, sending and following one deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from deai.actions import Action, intent_key
from deai.chain.background import Background
from deai.chain.channel_pages import Opening, check_limit, first_openings, page_of, read_ranges
from deai.chain.follower import Follower
from deai.chain.ledger import (
    CHANNELS_CONTRACT,
    MAX_CHANNEL_PAGE,
    OPTIONAL_CONTRACTS,
    ORDERS_CONTRACT,
    POOLS_CONTRACT,
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
from deai.chain.pool import Pool, Request, sensible
from deai.chain.refusals import no_channels, no_orders, no_pools, no_rewards, refusal
from deai.chain.sei.abi import CONTRACTS, call_data, read_answer
from deai.chain.sei.calls import encode_action
from deai.chain.sei.follower import MOST_BLOCKS, LogSource, read_head, read_records
from deai.chain.sei.logs import Decoder
from deai.chain.sei.pool import open_pool
from deai.chain.sei.quantities import quantity, wei
from deai.chain.sei.rpc import RpcError
from deai.chain.sei.sender import Sender, SenderSettings, no_crash, open_sender, refused
from deai.channels import ChannelRecord
from deai.claims import Proposed, RewardsRecord
from deai.errors import ConfigError, LedgerUnreachable, MalformedMessage
from deai.events import LedgerRecord
from deai.ids import SEI, AccountId, ChannelId, NodeId, TaskId, hexed, raw
from deai.money import Amount
from deai.network import ChainEntry
from deai.orders import OrderBalance
from deai.pools import DelegationRecord, PoolRecord, PoolState
from deai.signing import Signer
from deai.standing import Standing

TIMEOUT_S: Final = 10.0
READ_TRIES: Final = 3
READ_PAUSE_S: Final = 0.05


class SeiLedger:
    """A `Ledger` over JSON-RPC; made by `open_sei_ledger`."""

    def __init__(
        self, pool: Pool, info: ChainInfo, sender: Sender | None, by: Signer | None
    ) -> None:
        self._pool = pool
        self._info = info
        self._sender = sender
        self._account = by.account if by is not None else None
        self._decoder = Decoder(info.contracts)
        self._parameters: Parameters | None = None

    @property
    def info(self) -> ChainInfo:
        return self._info

    @property
    def account(self) -> AccountId | None:
        return self._account

    @property
    def endpoints(self) -> Pool:
        """The endpoints and what is known of their health."""
        return self._pool

    async def parameters(self) -> Parameters:
        if self._parameters is None:
            views = [
                self._view("NodeRegistry", "parameters"), self._view("TaskEscrow", "parameters"),
            ]  # fmt: skip
            if CHANNELS_CONTRACT in self._info.contracts:
                views.append(self._view(CHANNELS_CONTRACT, "closePeriod"))
            if REWARDS_CONTRACT in self._info.contracts:
                views.append(self._view(REWARDS_CONTRACT, "delay"))
            if ORDERS_CONTRACT in self._info.contracts:
                views.append(self._view(ORDERS_CONTRACT, "parameters"))
            if POOLS_CONTRACT in self._info.contracts:
                views.append(self._view(POOLS_CONTRACT, "minDelegation"))
            registry, escrow, *others = await self._read(*views)
            least_stake, w0, epoch, unbonding, bounty = self._value(
                "NodeRegistry", "parameters", registry
            )
            treasury, least_fee, least_lease, least_window, span = self._value(
                "TaskEscrow", "parameters", escrow
            )
            period = delay = thaw = least_lent = 0
            if CHANNELS_CONTRACT in self._info.contracts:
                period = self._value(CHANNELS_CONTRACT, "closePeriod", others.pop(0))
            if REWARDS_CONTRACT in self._info.contracts:
                delay = self._value(REWARDS_CONTRACT, "delay", others.pop(0))
            if ORDERS_CONTRACT in self._info.contracts:
                _, _, thaw = self._value(ORDERS_CONTRACT, "parameters", others.pop(0))
            if POOLS_CONTRACT in self._info.contracts:
                least_lent = self._value(POOLS_CONTRACT, "minDelegation", others.pop(0))
            self._parameters = Parameters(
                min_stake=Amount(least_stake),
                min_fee=Amount(least_fee),
                min_lease=least_lease,
                min_window=least_window,
                epoch_seconds=epoch,
                unbonding_seconds=unbonding,
                weight_fee=Amount(w0),
                bounty=Amount(bounty),
                treasury=AccountId(treasury.lower()),
                max_span=span,
                close_period=period,
                reward_delay=delay,
                thaw_period=thaw,
                min_delegation=Amount(least_lent),
            )
        return self._parameters

    async def head(self) -> Head:
        (block,) = await self._read(("eth_getBlockByNumber", ["latest", False]))
        head: Head = _checked(read_head, block)
        return head

    async def balances(self, account: AccountId) -> Balances:
        gas, tokens, vault = await self._read(
            ("eth_getBalance", [account, "latest"]),
            self._view("ComputeToken", "balanceOf", account),
            self._view("TaskEscrow", "accountOf", account),
        )
        return Balances(
            _checked(wei, gas),
            self._value("ComputeToken", "balanceOf", tokens),
            self._value("TaskEscrow", "accountOf", vault)[0],
        )

    async def node(self, node: NodeId) -> NodeRecord | None:
        (answer,) = await self._read(self._view("NodeRegistry", "nodeOf", raw(node)))
        (_, operator, standing, reputation, epoch, _, checked, bonded, unbonding, unbond_at) = (
            self._value("NodeRegistry", "nodeOf", answer)
        )
        if standing == Standing.NONE:
            return None
        return NodeRecord(
            node=node,
            operator=AccountId(operator.lower()),
            standing=_checked(_standing, standing),
            stake=bonded,
            unbonding=unbonding,
            unbond_at=unbond_at,
            reputation=reputation,
            checked_tasks=checked,
            last_epoch=epoch,
        )

    async def speaks_for(self, account: AccountId, key: AccountId) -> bool:
        return account == key

    async def lane(self, client: AccountId, lane: int) -> LaneRecord:
        (answer,) = await self._read(self._view("TaskEscrow", "laneOf", client, lane))
        (_, acc, _, nonce, closed, committed, revealed, released, _, _, accrued, _) = self._value(
            "TaskEscrow", "laneOf", answer
        )
        return LaneRecord(
            nonce=nonce,
            closed=closed,
            committed=committed,
            revealed=revealed,
            released=released & ~committed,
            # Before the first commit the word still holds that of an earlier task.
            acc=acc if committed else 0,
            accrued=accrued,
        )

    async def task_events(self, task: TaskId, *, since: int) -> tuple[LedgerRecord, ...]:
        head = await self.head()
        records: list[LedgerRecord] = []
        for low in range(since, head.number + 1, MOST_BLOCKS):
            high = min(head.number, low + MOST_BLOCKS - 1)
            query = {
                "address": self._decoder.escrow,
                "topics": [None, task],
                "fromBlock": hex(low),
                "toBlock": hex(high),
            }
            records += await self._logs(query, low, high)
        return tuple(records)

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
        contract, head = self._info.channels.contract, await self.head()
        topics = self._decoder.opening_topics(client, node)

        async def read(low: int, high: int) -> list[Opening]:
            query = {
                "address": contract,
                "topics": topics,
                "fromBlock": hex(low),
                "toBlock": hex(high),
            }
            return first_openings(await self._logs(query, low, high), client, node, after)

        low = self._info.deployed_at if after is None else after.block
        found, next_ = await read_ranges(read, low, head.number, most=MOST_BLOCKS, limit=limit)
        records = await self._records([event.channel_id for _, event in found])
        return page_of(found, records, next_)

    async def rewards(self) -> RewardsRecord:
        self._require_rewards()
        (answer,) = await self._read(self._view(REWARDS_CONTRACT, "roots"))
        epoch, root, total, paid = self._value(REWARDS_CONTRACT, "roots", answer)
        next_, next_root, next_total, active_at = self._value(REWARDS_CONTRACT, "roots", answer, 1)
        waiting = Proposed(next_, next_root, Amount(next_total), active_at) if active_at else None
        return RewardsRecord(
            epoch=epoch, root=root, total=Amount(total), paid=Amount(paid), waiting=waiting
        )

    async def rewards_paid(self, account: AccountId) -> Amount:
        self._require_rewards()
        (answer,) = await self._read(self._view(REWARDS_CONTRACT, "claimedBy", account))
        return Amount(self._value(REWARDS_CONTRACT, "claimedBy", answer))

    async def order_balance(self, client: AccountId) -> OrderBalance:
        balance, thawing, thaws_at, is_open = await self._order_view("balanceOf", client, at=1)
        return OrderBalance(
            balance=Amount(balance), thawing=Amount(thawing), thaws_at=thaws_at, is_open=is_open
        )

    async def order_page(self, client: AccountId, page: int) -> int:
        word: int = await self._order_view("pageOf", client, page)
        return word

    async def order_earnings(self, owner: AccountId) -> OrderEarnings:
        earned, fees, _ = await self._order_view("payeeOf", owner)
        return OrderEarnings(earned, fees)

    async def pool(self, node: NodeId) -> PoolRecord | None:
        (
            manager, now, following, epoch, state, batch, matures_at, assets, leaving, unbonding,
            shares, own, queued, leaving_shares,
        ) = await self._pools_view("poolOf", raw(node))  # fmt: skip
        if state == PoolState.NONE:
            return None
        return PoolRecord(
            manager=AccountId(manager.lower()),
            commission=now,
            next_commission=following,
            next_commission_epoch=epoch,
            state=_checked(_pool_state, state),
            batch=batch,
            matures_at=matures_at,
            assets=Amount(assets),
            leaving=Amount(leaving),
            unbonding=Amount(unbonding),
            shares=shares,
            manager_shares=own,
            queued=queued,
            leaving_shares=leaving_shares,
        )

    async def delegation(self, node: NodeId, account: AccountId) -> DelegationRecord:
        shares, queued, batch, claimable = await self._pools_view(
            "delegationOf", raw(node), account
        )
        return DelegationRecord(
            shares=shares, queued=queued, queued_batch=batch, claimable=Amount(claimable)
        )

    async def gas_price(self) -> int:
        with sensible():
            return wei(await self._pool.call("eth_gasPrice"))

    async def simulate(self, action: Action) -> int:
        return await self._as_sender().estimate(encode_action(action, self._info.contracts))

    async def submit(self, action: Action, *, key: str = "") -> Transaction:
        call = encode_action(action, self._info.contracts)
        return await self._as_sender().send(
            call, kind=type(action).__name__, key=key or intent_key(action)
        )

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[EventBatch]]:
        follower = Follower(LogSource(self._pool, self._decoder), self._info.deployed_at)
        batches = follower.batches(cursor)
        try:
            yield batches
        finally:
            await batches.aclose()

    def _require_rewards(self) -> None:
        if REWARDS_CONTRACT not in self._info.contracts:
            raise no_rewards()

    async def _order_view(self, function: str, *arguments: object, at: int = 0) -> Any:  # noqa: ANN401
        if ORDERS_CONTRACT not in self._info.contracts:
            raise no_orders()
        (answer,) = await self._read(self._view(ORDERS_CONTRACT, function, *arguments))
        return self._value(ORDERS_CONTRACT, function, answer, at)

    async def _pools_view(self, function: str, *arguments: object) -> Any:  # noqa: ANN401
        if POOLS_CONTRACT not in self._info.contracts:
            raise no_pools()
        (answer,) = await self._read(self._view(POOLS_CONTRACT, function, *arguments))
        return self._value(POOLS_CONTRACT, function, answer)

    def _as_sender(self) -> Sender:
        if self._sender is None:
            raise refusal("Forbidden", {"caller": None})
        return self._sender

    async def _logs(
        self, query: Mapping[str, object], low: int, high: int
    ) -> tuple[LedgerRecord, ...]:
        (logs,) = await self._read(("eth_getLogs", [query]))
        with sensible():
            return await read_records(self._pool, self._decoder, logs, low, high)

    async def _records(self, channels: Sequence[ChannelId]) -> list[ChannelRecord]:
        if CHANNELS_CONTRACT not in self._info.contracts:
            raise no_channels()
        if not channels:
            return []
        answers = await self._read(
            *(self._view(CHANNELS_CONTRACT, "channelOf", raw(one)) for one in channels)
        )
        found = []
        for answer in answers:
            deposit, claimed, closes_at, epoch = self._value(
                CHANNELS_CONTRACT, "channelOf", answer, 1
            )
            found.append(
                ChannelRecord(
                    deposit=Amount(deposit),
                    claimed=Amount(claimed),
                    closes_at=closes_at,
                    epoch=epoch,
                )
            )
        return found

    def _view(self, contract: str, function: str, *arguments: object) -> Request:
        message = {
            "to": self._info.contracts[contract],
            "data": hexed(call_data(contract, function, *arguments)),
        }
        return "eth_call", [message, "latest"]

    async def _read(self, *requests: Request) -> list[Any]:
        failed: RpcError | None = None
        for _ in range(READ_TRIES):
            answers = await self._pool.batch(requests)
            failed = next((one for one in answers if isinstance(one, RpcError)), None)
            if failed is None:
                return answers
            if failed.is_revert:
                raise refused(failed)
            # A node may lose the newest state to the next block while it answers.
            await trio.sleep(READ_PAUSE_S)
        raise LedgerUnreachable(f"the chain cannot be read: {failed}") from failed

    @staticmethod
    def _value(contract: str, function: str, answer: object, at: int = 0) -> Any:  # noqa: ANN401
        try:
            return read_answer(contract, function, bytes.fromhex(str(answer)[2:]), at)
        except (MalformedMessage, ValueError) as error:
            raise LedgerUnreachable(
                f"{contract}.{function} gave no answer: is the contract there?",
                hint="the network file may be of another chain, or of an earlier devnet",
            ) from error


@asynccontextmanager
async def open_sei_ledger(
    entry: ChainEntry,
    signer: Signer | None = None,
    outbox_path: Path | None = None,
    *,
    crash: Callable[[str], None] = no_crash,
    settings: SenderSettings | None = None,
    timeout: float = TIMEOUT_S,
) -> AsyncIterator[SeiLedger]:
    """Open a deployment, as `signer` or as a reader.

    `outbox_path` keeps what was sent over restarts; without it intents are forgotten with the
    process. Entering raises `LedgerUnreachable` when no endpoint answers and `ConfigError` for
    another chain than the entry's, or an outbox that is in use.
    """
    info = chain_info(entry)
    async with open_pool(entry.rpc_urls, timeout=timeout) as pool, Background() as nursery:
        await _check_chain(pool, entry)
        nursery.start_soon(pool.watch)
        if signer is None:
            yield SeiLedger(pool, info, None, None)
            return
        identity = f"{entry.chain_id}:{info.contracts['TaskEscrow']}:{signer.account}"
        async with open_sender(
            pool, signer, entry.evm_chain_id, outbox_path, identity, crash=crash, settings=settings
        ) as sender:
            yield SeiLedger(pool, info, sender, signer)


def chain_info(entry: ChainEntry) -> ChainInfo:
    """What is known of a deployment before its chain answers; raise `ConfigError`."""
    missing = [name for name in CONTRACTS if name not in entry.contracts]
    if missing:
        raise ConfigError(f"the network file lacks the contracts {', '.join(missing)}")
    return ChainInfo(
        name=SEI,
        kind=entry.kind,
        chain_id=entry.chain_id,
        contracts={
            name: AccountId(entry.contracts[name].lower())
            for name in (*CONTRACTS, *OPTIONAL_CONTRACTS)
            if name in entry.contracts
        },
        registry=entry.registry,
        escrow=entry.escrow,
        deployed_at=entry.deployed_at,
    )


async def _check_chain(pool: Pool, entry: ChainEntry) -> None:
    answer = await pool.call("eth_chainId")
    found = _checked(quantity, answer)
    if found != entry.chain_id:
        raise ConfigError(
            f"the endpoint serves chain {found}, not {entry.chain_id}",
            hint="the network file and its endpoints do not belong together",
        )


def _standing(number: Any) -> Standing:  # noqa: ANN401 - an ABI value
    try:
        return Standing(number)
    except ValueError as error:
        raise MalformedMessage(f"no standing has the number {number}") from error


def _pool_state(number: Any) -> PoolState:  # noqa: ANN401 - an ABI value
    try:
        return PoolState(number)
    except ValueError as error:
        raise MalformedMessage(f"no state of a pool has the number {number}") from error


def _checked(read: Callable[[object], Any], answer: object) -> Any:  # noqa: ANN401
    with sensible():
        return read(answer)
