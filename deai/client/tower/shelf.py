"""The vouchers that a tower holds: one file for a chain, everything in memory as well.

A voucher is durable before it is acknowledged. Whatever else a tower needs to know it asks the
chain anew when it starts, so that no downtime is too long for it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from deai.chain.ledger import ChainInfo
from deai.channels import Channel, ChannelRecord, Voucher, payable
from deai.codec import Codec
from deai.errors import ConfigError, LimitExceeded, MalformedMessage
from deai.ids import ChannelId, NodeId
from deai.lane.writer import Writer, open_database
from deai.money import Amount

_SCHEMA: Final = """
create table if not exists meta(name text primary key, value text not null);
create table if not exists vouchers(channel_id text primary key, body blob not null);
"""


class _Body(msgspec.Struct, frozen=True, array_like=True):
    channel: Channel
    voucher: Voucher


_BODY: Final = Codec[_Body](_Body, 4096)


@dataclass(eq=False)
class Held:
    """One channel: its newest voucher, and what the chain last said about it."""

    channel: Channel
    voucher: Voucher
    record: ChannelRecord | None = None
    gone_at: float | None = None
    """When the chain was first seen to have closed it, by the local clock."""
    is_missed: bool = False
    """The challenge period passed before this voucher was shown."""
    not_before: float = float("-inf")
    """By the local clock: when the next answer may be tried."""
    refusals: int = 0
    """So often did the chain refuse this voucher: each try has an intent of its own."""
    taken_at: float = float("-inf")
    """By the local clock: when its node handed over a voucher last."""

    @property
    def id(self) -> ChannelId:
        return self.voucher.channel

    @property
    def is_gone(self) -> bool:
        """Whether this voucher can pay nothing any more: it was closed, perhaps opened again."""
        record = self.record
        return record is not None and (not record.deposit or record.epoch != self.voucher.epoch)

    @property
    def worth(self) -> Amount:
        """What redeeming would pay now, as far as the chain was read; 0 if nothing is known."""
        if self.record is None or self.is_gone:
            return Amount(0)
        return payable(self.record, int(self.voucher.cumulative_amount))

    def is_older_than(self, voucher: Voucher) -> bool:
        """Whether that one takes this one's place."""
        mine = (self.voucher.epoch, int(self.voucher.cumulative_amount))
        return mine < (voucher.epoch, int(voucher.cumulative_amount))


class Shelf:
    """Everything held; `run` keeps the disk's thread. One process at a time."""

    def __init__(self, path: Path, info: ChainInfo, *, most: int, per_node: int) -> None:
        """Open or create; to hold at most `most` channels, `per_node` of one node.

        Raises `ConfigError`: in use, damaged, or of another network.
        """
        self.path: Final = path
        self._most, self.per_node = most, per_node
        self._lock = _lock(path)
        try:
            self._db = open_database(path, _SCHEMA)
            self._check_identity(f"{info.chain_id}:{info.channels.contract}")
            self.held = self._read()
        except (sqlite3.Error, MalformedMessage) as error:
            os.close(self._lock)
            raise ConfigError(
                f"{path}: no usable file of a watchtower: {error}",
                hint="move it away; nodes hand their vouchers over again",
                code="bad_database",
            ) from error
        except ConfigError:
            os.close(self._lock)
            raise
        self.by_node = Counter(one.channel.node for one in self.held.values())
        self.writer = Writer(self._db)

    def _check_identity(self, identity: str) -> None:
        self._db.execute("insert or ignore into meta values ('identity', ?)", (identity,))
        (found,) = self._db.execute("select value from meta where name='identity'").fetchone()
        if found != identity:
            raise ConfigError(
                f"{self.path} holds vouchers of another network",
                hint="use another --home for this network",
                code="other_network",
            )

    def _read(self) -> dict[ChannelId, Held]:
        bodies = self._db.execute("select body from vouchers").fetchall()
        found = [_BODY.decode(body) for (body,) in bodies]
        return {one.voucher.channel: Held(one.channel, one.voucher) for one in found}

    def close(self) -> None:
        """Let the file go."""
        self._db.close()
        os.close(self._lock)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; raises `NodeFault` when the disk ends it."""
        await self.writer.run(task_status=task_status)

    def has_room(self, node: NodeId) -> None:
        """Raise `LimitExceeded` where one more channel of this node is one too many."""
        if len(self.held) >= self._most:
            raise LimitExceeded(f"this tower keeps {self._most} channels", code="full")
        if self.by_node[node] >= self.per_node:
            raise LimitExceeded(f"this tower keeps {self.per_node} channels of a node", code="full")

    def put(
        self, channel: Channel, voucher: Voucher, record: ChannelRecord, done: Callable[[], None]
    ) -> Held:
        """Hold a voucher that was checked, unless a better one is held; `done` once durable.

        Raises `LimitExceeded`.
        """
        held = self.held.get(voucher.channel)
        if held is None:
            self.has_room(channel.node)
            held = self.held[voucher.channel] = Held(channel, voucher)
            self.by_node[channel.node] += 1
        elif not held.is_older_than(voucher):
            held.record = record
            # It may be on its way to the disk still: what follows it there tells when it is.
            self.writer.put((), done)
            return held
        held.voucher, held.record, held.gone_at = voucher, record, None
        held.is_missed, held.refusals = False, 0
        body = _BODY.encode(_Body(channel, voucher))
        row = ("insert or replace into vouchers values (?, ?)", (voucher.channel, body))
        self.writer.put((row,), done)
        return held

    def forget(self, held: Held) -> None:
        """The channel is closed for good."""
        if self.held.pop(held.id, None) is not None:
            self.by_node[held.channel.node] -= 1
            row = ("delete from vouchers where channel_id=?", (held.id,))
            self.writer.put((row,), _ignore)


def _ignore() -> None:
    """Nobody waits for this row."""


def _lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = path.with_name(path.name + ".lock")
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"another watchtower uses {path}",
            hint="stop it first, or give this one a home of its own",
            code="tower_in_use",
        ) from error
    return handle
