"""`deai node doctor`: looks at everything a node needs, by trying it; each check alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import trio

from deai.chain.gas import GAS
from deai.chain.ledger import Ledger, NodeRecord
from deai.errors import ConfigError, DeaiError, NotSetUp
from deai.ids import AccountId
from deai.keys import account_of, load_signer
from deai.money import format_tokens
from deai.network import load_network
from deai.pools import PoolRecord, PoolState
from node.admin import client as daemon
from node.config import SANDBOX_LEVELS, NodeConfig, parse_listen
from node.gpu import gpus_here
from node.home import Home, Registration
from node.opening import models_here, open_ledger, open_workbench
from node.services.watch import LOW_DISK, SKEW

CHECK_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Check:
    """One result; `fix` is what to do when it is not ok."""

    name: str
    ok: bool
    detail: str
    """Amounts in base units, for programs."""
    fix: str = ""
    on_screen: str = ""
    """The detail for people, where it differs: amounts in tokens."""

    def document(self) -> dict[str, Any]:
        """As printed."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "fix": self.fix}


class Doctor:
    """The checks of one home, those of a chain for each chain it is set up on."""

    def __init__(self, home: Home, config: NodeConfig, *, system: Path = Path("/")) -> None:
        """Before anything is set up, the chain meant is that of `home`."""
        self._home = home
        self._config = config
        self._system = system

    async def examine(self) -> list[Check]:
        """Every check, in the order in which things are set up."""
        try:
            chains = [one.chain for one in self._home.registrations()]
        except ConfigError:
            chains = [self._home.chain]
        checks: list[tuple[str, Callable[[], Awaitable[Check]]]] = []
        for chain in chains:
            of = _OnChain(self._home.on(chain))
            checks += [
                (f"{name}_{chain}" if len(chains) > 1 else name, check) for name, check in of.checks
            ]
        checks += [
            ("port", self._port),
            ("hubs", self._hubs),
            ("disk", self._disk),
            ("gpu", self._gpu),
            ("models", self._models),
            ("worker", self._worker),
        ]
        # The network file stands behind the first chain's keys, as in the set-up.
        checks.insert(2, ("network", self._network))
        return [await _one(name, check) for name, check in checks]

    async def _network(self) -> Check:
        network = load_network(self._home.network)
        return Check("network", ok=True, detail=f"{network.name}: {', '.join(network.chains)}")

    def _running(self) -> dict[str, Any] | None:
        try:
            return daemon.call(self._home, "GET", "/status")
        except DeaiError:
            return None

    async def _port(self) -> Check:
        running = self._running()
        if running is not None:
            return Check(
                "port", ok=True, detail="in use by the node: " + ", ".join(running["addresses"])
            )
        for address in self._config.listen:
            await self._bindable(*parse_listen(address))
        return Check("port", ok=True, detail="free: " + ", ".join(self._config.listen))

    async def _bindable(self, host: str, port: int) -> None:
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise NotSetUp(
                f"cannot listen on {host}:{port}: {error}",
                hint="stop what uses the port, or change node.listen",
            ) from error
        for listener in listeners:
            await listener.aclose()

    async def _hubs(self) -> Check:
        hubs = load_network(self._home.network).hubs
        if not hubs:
            return Check("hubs", ok=True, detail="the network names none")
        reached = 0
        for hub in hubs:
            for address in hub.addresses:
                parts = address.split("/")
                try:
                    with trio.fail_after(3):
                        stream = await trio.open_tcp_stream(parts[2], int(parts[4]))
                    await stream.aclose()
                except (OSError, trio.TooSlowError, IndexError, ValueError):
                    continue
                reached += 1
                break
        return Check(
            "hubs",
            ok=reached > 0,
            detail=f"{reached} of {len(hubs)} reached",
            fix="" if reached else "is the coordinator of this network up?",
        )

    async def _disk(self) -> Check:
        # Before the set-up the home is not there yet: what counts is the disk it will be on.
        there = next(path for path in (self._home.path, *self._home.path.absolute().parents)
                     if path.exists())  # fmt: skip
        free = shutil.disk_usage(there).free
        wanted = LOW_DISK + (self._config.max_store_mib << 20)
        return Check(
            "disk",
            ok=free >= LOW_DISK,
            detail=f"{free >> 20} MiB free, the node may use {wanted >> 20}",
            fix="" if free >= LOW_DISK else "free some space",
        )

    async def _gpu(self) -> Check:
        found = ", ".join(gpus_here(self._system))
        detail = f"{found}: not used yet, workers compute on the CPU" if found else "none found"
        return Check("gpu", ok=True, detail=detail)

    async def _models(self) -> Check:
        def read_all() -> list[str]:
            from workloads.models import verify_model

            found = models_here(self._home)
            for digest in found.values():
                verify_model(self._home.models, digest)
            return list(found)

        # Damaged weights compute wrong results, of which nothing else tells the operator.
        found = await trio.to_thread.run_sync(read_all, abandon_on_cancel=True)
        return Check("models", ok=True, detail=", ".join(found) or "none")

    async def _worker(self) -> Check:
        running = self._running()
        if running is not None:
            level = str(running["sandbox"])
        else:
            async with open_workbench(self._home, self._config) as bench:
                level = bench.sandbox.level
        least = self._config.min_sandbox
        ok = SANDBOX_LEVELS.index(level) >= SANDBOX_LEVELS.index(least)
        fix = "" if ok else "a newer kernel (Landlock, seccomp), or lower node.min_sandbox"
        return Check("worker", ok=ok, detail=f"isolation {level}, needed {least}", fix=fix)


class _OnChain:
    """What a node needs on one chain."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._chain = home.chain

    @property
    def checks(self) -> tuple[tuple[str, Callable[[], Awaitable[Check]]], ...]:
        """By name, in the order in which things are set up."""
        return (
            ("keys", self._keys),
            ("owner_key", self._owner_key),
            ("chain", self._rpc),
            ("clock", self._clock),
            ("stake", self._stake),
            ("operator_gas", self._gas),
        )

    async def _keys(self) -> Check:
        signer = load_signer(self._home.operator_key, self._home.passphrase, chain=self._chain)
        if signer.account != self._home.load_registration().operator:
            raise NotSetUp("the operator key is not the registered one", hint="deai node init")
        return Check("keys", ok=True, detail=f"operator {signer.account}, files private")

    async def _owner_key(self) -> Check:
        path = self._home.owner_key
        if not path.exists():
            return Check("owner_key", ok=True, detail="not on this machine")
        known = self._known()
        lends = known is not None and known.pool is not None
        risk = "take the manager's part, or close the pool" if lends else "take the stake"
        return Check(
            "owner_key",
            ok=True,
            detail=f"{account_of(path)} is on this machine; a thief here could {risk}",
        )

    def _known(self) -> Registration | None:
        try:
            return self._home.registration()
        except ConfigError:
            return None

    def _owner(self) -> AccountId | None:
        known = self._known()
        return known.owner if known is not None else None

    async def _with_ledger(self, work: Callable[[Ledger], Awaitable[Check]]) -> Check:
        owner = self._owner()
        network = load_network(self._home.network)
        async with open_ledger(network, self._chain, None, None, owner) as ledger:
            return await work(ledger)

    async def _rpc(self) -> Check:
        async def work(ledger: Ledger) -> Check:
            began = time.monotonic()
            head = await ledger.head()
            spent = (time.monotonic() - began) * 1000
            return Check("chain", ok=True, detail=f"block {head.number}, {spent:.0f} ms")

        return await self._with_ledger(work)

    async def _clock(self) -> Check:
        async def work(ledger: Ledger) -> Check:
            off = time.time() - (await ledger.head()).time
            return Check(
                "clock",
                ok=abs(off) <= SKEW,
                detail=f"{off:+.0f} s from the newest block",
                fix="" if abs(off) <= SKEW else "turn on time synchronisation",
            )

        return await self._with_ledger(work)

    async def _stake(self) -> Check:
        async def work(ledger: Ledger) -> Check:
            known = self._home.load_registration()
            record = await ledger.node(known.node_id)
            least = (await ledger.parameters()).min_stake
            if record is None:
                return Check("stake", ok=False, detail="not registered", fix="deai node init")
            pool = None if known.pool is None else await ledger.pool(known.node_id)
            if pool is not None:
                return _of_pool(record, pool, int(least))
            ok = record.standing.is_assignable and record.stake >= least
            label = record.standing.label
            return Check(
                "stake",
                ok=ok,
                detail=f"{record.stake} of at least {least}, {label}",
                fix="" if ok else "deai stake status",
                on_screen=f"{format_tokens(record.stake)} of at least {format_tokens(least)}, "
                + label,
            )

        return await self._with_ledger(work)

    async def _gas(self) -> Check:
        async def work(ledger: Ledger) -> Check:
            account, money = self._home.load_registration().operator, GAS[self._chain]
            gas = (await ledger.balances(account)).gas
            ok = gas >= money.low
            return Check(
                "operator_gas",
                ok=ok,
                detail=f"{gas} {money.unit}",
                fix="" if ok else f"{account} has little: {money.refill}",
                on_screen=money.coins(gas),
            )

        return await self._with_ledger(work)


def _of_pool(record: NodeRecord, pool: PoolRecord, least: int) -> Check:
    """The stake of a node that takes delegations, which lives as long as the manager's part."""
    ok = record.standing.is_assignable and pool.state is PoolState.OPEN and pool.own >= least
    rest = f"{record.standing.label}, pool {pool.state.label}"
    return Check(
        "stake",
        ok=ok,
        detail=f"{record.stake}, of it {pool.own} the manager's of at least {least}, {rest}",
        fix="" if ok else "deai stake status",
        on_screen=f"{format_tokens(record.stake)}, of it {format_tokens(pool.own)} the manager's "
        f"of at least {format_tokens(least)}, {rest}",
    )


async def _one(name: str, check: Callable[[], Awaitable[Check]]) -> Check:
    try:
        with trio.fail_after(CHECK_TIMEOUT):
            return replace(await check(), name=name)
    except trio.TooSlowError:
        return Check(
            name,
            ok=False,
            detail=f"no answer within {CHECK_TIMEOUT:.0f} s",
            fix="try again; if it stays so, something here or at the other end is overloaded",
        )
    except DeaiError as error:
        return Check(name, ok=False, detail=str(error), fix=error.hint or error.advice)
