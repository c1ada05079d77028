"""What the screens of `deai network` show of a coordinator's documents, read strictly.

A coordinator may say more than that, and whatever answers at its URL may say anything.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

Units: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,40}\Z")]
"""A sum in base units."""


class ChainLag(msgspec.Struct, frozen=True):
    """How far a chain is followed; None before the first block."""

    head: int | None
    lag_s: float | None


class ChannelSums(msgspec.Struct, frozen=True, kw_only=True):
    """What payment channels hold and have paid."""

    open: int
    closing: int
    redeemed: Units
    held: Units


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """`/network/stats`; a coordinator of an earlier version knows no channels."""

    active_nodes: int
    nodes_by_state: dict[str, int]
    pending_tasks: int
    tasks_by_state: dict[str, int]
    throughput: float
    total_staked: Units
    total_rewards_distributed: Units
    slashed: Units
    min_stake: Units
    chains: dict[str, ChainLag]
    as_of: str
    channels: ChannelSums | None = None


class Check(msgspec.Struct, frozen=True):
    """One thing that must be well."""

    name: str
    ok: bool
    detail: str


class Health(msgspec.Struct, frozen=True):
    """`/network/health`."""

    status: str
    checks: tuple[Check, ...]
    as_of: str


class Offered(msgspec.Struct, frozen=True):
    """One workload that a node runs."""

    workload: str


class Twin(msgspec.Struct, frozen=True):
    """The same node on the other chain."""

    node_id: str
    chain: str
    standing: str


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a list."""

    node_id: str
    state: str
    status: str
    stake: Units
    reputation: float
    completed: int
    workloads: tuple[Offered, ...]


class LentStake(msgspec.Struct, frozen=True, kw_only=True):
    """The pool of a node that takes delegations."""

    manager: str
    state: str
    commission_bps: int
    own: Units
    delegated: Units
    room: Units


class NodeStatus(Node, frozen=True, kw_only=True):
    """One node by itself."""

    owner: str
    peer_id: str | None
    failed: int
    earned: Units
    slashed: Units
    last_heartbeat: str | None
    bound: Twin | None = None
    channels: ChannelSums | None = None
    pool: LentStake | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a list."""

    task_id: str
    state: str
    policy: str
    escrowed: Units
    paid: Units


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One payment channel of a list."""

    channel_id: str
    node_id: str
    client: str
    state: str
    deposit: Units
    claimed: Units
    remaining: Units
