"""`[node]`: what an operator decides. Every setting has a default that works on a home machine."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

import msgspec

from deai.config import Config, section
from deai.errors import ConfigError, MalformedMessage
from deai.lane.tower import parse_tower
from deai.money import Amount, parse_amount

SANDBOX_LEVELS: Final = ("none", "partial", "full")

_LISTEN: Final = re.compile(r"/ip[46]/([0-9a-fA-F:.]+)/tcp/([0-9]{1,5})")

_units: Final = lru_cache(maxsize=64)(parse_amount)
"""For settings that are looked at once a channel and round."""

Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asked fee of a seat = `base_fee` + `unit_fee` × units; base units, or tokens as `0.1CT`."""

    base_fee: str = "0.01CT"
    """Of every task: its transactions and its place in the queue."""
    unit_fee: str = "0.0001CT"
    """Of the computing: a unit is some 10 ms of one core (`deai node bench` says how many a second
    this machine does), so that a second costs as much as a task does by itself."""

    @property
    def base(self) -> Amount:
        """Base units asked whatever the size of the input."""
        return parse_amount(self.base_fee)

    @property
    def unit(self) -> Amount:
        """Base units asked per cost unit of the workload."""
        return parse_amount(self.unit_fee)


class Patience(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Local seconds that the node waits for others before it acts itself."""

    relay: Positive = 2.0
    """For the client to carry our commitment to the chain, while it is connected."""
    relay_alone: Positive = 1.0
    """The same while no client is connected."""
    client: Positive = 2.0
    """For the client to pass on openings, outputs and approvals of the other members."""
    finalise: Positive = 3.0
    """For the client to settle once everything for it is here."""
    dial: Positive = 5.0
    """For a member or hub to be reached, over all its addresses."""
    drain: Positive = 120.0
    """For running tasks to finish after the first SIGTERM."""


class Lane(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fast lane: tasks that vouchers of payment channels pay."""

    enabled: bool = True
    """Whether it is offered, on chains that have channels."""
    clients: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256
    """Channels served at once."""
    min_deposit: str = "0.01CT"
    """Channels with less are not served: each costs a place in the books."""
    workers: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    """Locked workers for its clients, one each, taken in turns where they are fewer; 0: as many as
    memory allows, 4 to 64."""
    unpaid_windows: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """Windows of 64 tasks that a client may have unpaid, as far as its credit covers them; 0: 4,
    and up to 16 on a slow disk."""
    redeem_amount: str = "10CT"
    """Vouchers of a channel are redeemed once they are worth this much more than was claimed."""
    redeem_hours: Annotated[float, msgspec.Meta(gt=0, le=24 * 30)] = 24.0
    """And, whatever they are worth, once the oldest of them has waited so long."""
    redeem_least: str = "0.01CT"
    """But never for less than this, which the transaction might cost."""
    max_gas_price: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Do not redeem for the amount or the age while the chain's price is higher (where it does not
    tell: while that of our last transaction was), in its smallest unit; 0: at any price. A client
    that closes its channel is answered at once."""
    towers: Annotated[tuple[str, ...], msgspec.Meta(max_length=4)] = ()
    """Watchtowers that are handed every newest voucher: `/ip4/ADDRESS/tcp/PORT/p2p/PEER`."""
    keep_hours: Annotated[float, msgspec.Meta(gt=0, le=24 * 365)] = 168.0
    """How long the leaves of redeemed windows are kept."""

    @property
    def amount(self) -> Amount:
        """`redeem_amount` in base units."""
        return _units(self.redeem_amount)

    @property
    def least(self) -> Amount:
        """`redeem_least` in base units."""
        return _units(self.redeem_least)

    @property
    def least_deposit(self) -> Amount:
        """`min_deposit` in base units."""
        return _units(self.min_deposit)


class OrderTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signed orders: tasks that clients pay from a balance set aside for them."""

    enabled: bool = True
    """Whether they are taken, on chains that have the contract."""
    horizon_hours: Annotated[float, msgspec.Meta(gt=0, le=24 * 30)] = 24.0
    """How far ahead an order may end; never further than a thaw takes, whatever is written here."""
    exposure: str = "1CT"
    """Fees of work for one client, begun or within a day done, for which no quorum of signatures
    was shown. A dearer order of a committee is not taken at all."""
    settle_count: Annotated[int, msgspec.Meta(ge=1, le=50)] = 50
    """Orders are settled once so many wait,"""
    settle_amount: str = "10CT"
    """or once they are worth so much,"""
    settle_minutes: Annotated[float, msgspec.Meta(gt=0, le=60 * 24)] = 10.0
    """or once the oldest has waited so long (of the seats of an order, each a little later)."""
    settle_margin: Annotated[int, msgspec.Meta(ge=5, le=24 * 3600)] = 30
    """At the latest so many seconds before the first of them ends."""
    max_gas_price: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Do not settle for count, amount or age while the chain's last price was higher, in its
    smallest unit; 0: at any price."""
    collect_amount: str = "10CT"
    """What was earned is sent to the owner once it is so much."""

    @property
    def horizon(self) -> int:
        """`horizon_hours` in seconds."""
        return int(self.horizon_hours * 3600)

    @property
    def most_at_risk(self) -> Amount:
        """`exposure` in base units."""
        return parse_amount(self.exposure)

    @property
    def amount(self) -> Amount:
        """`settle_amount` in base units."""
        return parse_amount(self.settle_amount)

    @property
    def collected(self) -> Amount:
        """`collect_amount` in base units."""
        return parse_amount(self.collect_amount)


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a node looks after its own pool, if it takes delegations."""

    advance_hours: Annotated[float, msgspec.Meta(gt=0, le=24 * 30)] = 24.0
    """Income is shared out once in so long at most; who waits for money is paid when it is due."""
    advance_least: str = "0.1CT"
    """But not for less than this, which the transaction might cost."""
    max_gas_price: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Nor while the chain's price is higher, in its smallest unit; 0: at any price."""

    @property
    def least(self) -> Amount:
        """`advance_least` in base units."""
        return parse_amount(self.advance_least)


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole section. Times are seconds, sizes MiB."""

    listen: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ("/ip4/0.0.0.0/tcp/4001",)
    """Multiaddrs to listen on; port 0 takes a free one."""
    announce: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ()
    """Multiaddrs that others shall be told instead."""
    workloads: tuple[str, ...] = ()
    """Which of the installed workloads are offered; empty: all."""
    prices: dict[str, Price] = msgspec.field(default_factory=dict)
    """By workload; `default` is asked for every other."""
    capacity: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Tasks computed at once."""
    queue: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 2
    """Tasks accepted beyond those."""
    min_lease: Whole = 10
    """Shortest lease accepted."""
    accept_seconds: Annotated[int, msgspec.Meta(ge=2, le=600)] = 30
    """How long an accept waits to be assigned on chain."""
    max_input_mib: Annotated[int, msgspec.Meta(ge=1, le=64)] = 64
    max_memory_mib: Annotated[int, msgspec.Meta(ge=64)] = 2048
    """Memory of one worker beyond what torch itself maps."""
    max_store_mib: Annotated[int, msgspec.Meta(ge=64)] = 4096
    """Inputs and outputs kept on disk, all tasks together."""
    retention_hours: Annotated[float, msgspec.Meta(gt=0, le=24 * 365)] = 24.0
    """How long an ended task's output stays available to its client."""
    min_sandbox: Annotated[str, msgspec.Meta(pattern="^(none|partial|full)$")] = "partial"
    """Least isolation of the workers with which strangers' tasks are accepted."""
    beat_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=300)] = 5.0
    offer_seconds: Annotated[int, msgspec.Meta(ge=10, le=3600)] = 600
    """Life of a signed offer; renewed at half of it."""
    mdns: bool = False
    """Announce this node on the local network by multicast DNS."""
    hubs: Annotated[int, msgspec.Meta(ge=0, le=3)] = 3
    """How many hubs of the network file are sent heartbeats."""
    listen_for_twin: Annotated[float, msgspec.Meta(ge=0, le=600)] = 12.0
    """How long to listen at start for another instance of this node: two beats and a little."""
    admin: str = "127.0.0.1:0"
    """Loopback address of the local HTTP interface; port 0 takes a free one."""
    log_level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = "info"
    behaviour: str = ""
    """`module:callable` that wraps the node's ports: for experiments and attack tests only."""
    patience: Patience = msgspec.field(default_factory=Patience)
    lane: Lane = msgspec.field(default_factory=Lane)
    pool: Pool = msgspec.field(default_factory=Pool)
    orders: OrderTerms = msgspec.field(default_factory=OrderTerms)

    def price(self, workload: str) -> Price:
        """What is asked for a workload."""
        return self.prices.get(workload) or self.prices.get("default") or Price()


def parse_listen(address: str) -> tuple[str, int]:
    """IP address and port of a multiaddr to listen on; raise `ConfigError` for any other."""
    found = _LISTEN.fullmatch(address)
    if found is None or int(found[2]) > 65535:
        raise ConfigError(
            f"{address[:80]!r} is no TCP multiaddr",
            hint="write /ip4/ADDRESS/tcp/PORT, for example /ip4/0.0.0.0/tcp/4001",
        )
    return found[1], int(found[2])


def node_config(config: Config) -> NodeConfig:
    """The checked section of a loaded configuration; raise `ConfigError` naming the setting."""
    own = section(config, "node", NodeConfig)
    for workload, price in own.prices.items():
        for name in ("base_fee", "unit_fee"):
            try:
                parse_amount(getattr(price, name))
            except ConfigError as error:
                raise ConfigError(
                    f"{config.path or 'config'}: setting node.prices.{workload}.{name}: {error}",
                    hint=error.hint,
                ) from error
    for name in ("redeem_amount", "redeem_least", "min_deposit"):
        try:
            parse_amount(getattr(own.lane, name))
        except ConfigError as error:
            raise ConfigError(
                f"{config.path or 'config'}: setting node.lane.{name}: {error}", hint=error.hint
            ) from error
    for name in ("exposure", "settle_amount", "collect_amount"):
        try:
            parse_amount(getattr(own.orders, name))
        except ConfigError as error:
            raise ConfigError(
                f"{config.path or 'config'}: setting node.orders.{name}: {error}", hint=error.hint
            ) from error
    try:
        parse_amount(own.pool.advance_least)
    except ConfigError as error:
        raise ConfigError(
            f"{config.path or 'config'}: setting node.pool.advance_least: {error}", hint=error.hint
        ) from error
    for tower in own.lane.towers:
        try:
            parse_tower(tower)
        except MalformedMessage as error:
            raise ConfigError(
                f"{config.path or 'config'}: setting node.lane.towers: {error}",
                hint="`deai channel watch` prints it when it starts: …/tcp/PORT/p2p/PEER",
            ) from error
    for address in own.listen:
        try:
            parse_listen(address)
        except ConfigError as error:
            raise ConfigError(
                f"{config.path or 'config'}: setting node.listen: {error}", hint=error.hint
            ) from error
    host, _, port = own.admin.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdigit() or int(port) > 65535:
        raise ConfigError(
            f"{config.path or 'config'}: setting node.admin: {own.admin!r} is no loopback address",
            hint="the admin interface listens on this machine only, for example 127.0.0.1:9610",
        )
    return own
