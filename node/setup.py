"""`deai node init`: keys, settings, models, stake and registration, each step done once.

Running it again looks at what is there (files, the chain) and goes on; every transaction is an
intent of the owner's outbox, so that an interrupted one is never sent twice.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from deai.actions import OpenPool, RegisterNode, TransferGas
from deai.chain.gas import GAS
from deai.chain.ledger import Ledger
from deai.chain.opening import info_of
from deai.client.access import entry_of
from deai.errors import ConfigError, InsufficientFunds, UsageError
from deai.files import replace_file
from deai.ids import NEAR, AccountId, ChainName, index_of, node_of
from deai.keys import account_of, create_key, create_peer_key, holder_of, load_signer
from deai.money import Amount
from deai.network import Network, load_network, save_network
from deai.pools import pool_owner
from deai.signing import Domain, Signer
from deai.tasks import operate_digest
from node.config import NodeConfig, Price
from node.home import Home, PoolOf, Registration

SIGNATURE_LIFE: Final = 3600
"""Seconds for which the operator's consent to be registered counts."""
COMMISSION: Final = 1_000
"""What a manager who says nothing keeps of income, in hundredths of a percent."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; `state` is `done`, `done_before`, `waiting` or `skipped`."""

    name: str
    state: str
    transaction: str | None = None

    def document(self) -> dict[str, Any]:
        """As printed."""
        return {"name": self.name, "state": self.state, "transaction": self.transaction}


@dataclass(frozen=True, slots=True)
class Needs:
    """What an account lacks, in base units; `gas` in the chain's own coin."""

    address: AccountId
    gas: int
    tokens: int

    def document(self) -> dict[str, str]:
        """As printed."""
        return {"address": self.address, "gas": str(self.gas), "tokens": str(self.tokens)}


@dataclass(slots=True)
class Plan:
    """What `init` has found and done so far."""

    home: Home
    chain: ChainName
    owner_key: Path
    owner_passphrase: Path | None
    owner_account: AccountId | None = None
    """The NEAR account of the owner, if it is not its key's own."""
    commission_bps: int | None = None
    """Of the pool that is opened, where it was said."""
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    needs: Needs | None = None
    registration: Registration | None = None


def prepare(
    home: Home,
    chain: ChainName,
    *,
    network_file: Path | None,
    owner_key: Path | None,
    owner_passphrase: Path | None,
    listen: tuple[str, ...],
    index: int,
    owner_account: AccountId | None = None,
    takes_delegations: bool = False,
    commission_bps: int | None = None,
) -> Plan:
    """The steps on this machine: network file, keys, settings. Raises `ConfigError`.

    With `takes_delegations` the owner key becomes the manager of its pool number `index`; a home
    that was begun so goes on so.
    """
    from p2p.identity import load_identity

    home = home.on(chain)
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    plan = Plan(
        home, chain, owner_key or home.owner_key, owner_passphrase, owner_account, commission_bps
    )
    _network(plan, network_file)
    known = home.registration()
    takes_delegations |= known is not None and known.pool is not None
    domain = _delegations(plan) if takes_delegations else None
    made = [
        _key(plan, home.operator_key),
        _owner(plan, given=owner_key is not None),
        not home.peer_key.exists(),
    ]
    create_peer_key(home.peer_key)
    plan.steps.append(Step("keys", "done" if any(made) else "done_before"))
    _config(plan, listen)
    owner, pool = _owner_account(plan), None
    if domain is not None:
        pool = PoolOf(owner, index)
        owner = pool_owner(domain, owner, index)
    registration = Registration(
        node_id=node_of(chain, owner, index if pool is None else 0),
        owner=owner,
        operator=account_of(home.operator_key, chain=chain),
        peer_id=load_identity(home.peer_key).peer_id,
        chain=chain,
        pool=pool,
    )
    if known is not None and known.node_id != registration.node_id:
        raise ConfigError(
            f"{home.path} already holds node {known.node_id} on {known.chain}",
            hint="give another node a --home of its own",
        )
    home.save_registration(registration)
    plan.registration = registration
    return plan


def _network(plan: Plan, file: Path | None) -> None:
    target = plan.home.network
    if file is None:
        if not target.exists():
            raise ConfigError(
                "which network?", hint="pass --network FILE, as a network publishes it"
            )
        state = "done_before"
    else:
        network = load_network(file)
        same = target.exists() and load_network(target) == network
        if not same:
            _keeps_chains(plan.home, network)
            save_network(network, target)
        state = "done_before" if same else "done"
    plan.steps.append(Step("network", state))


def _keeps_chains(home: Home, network: Network) -> None:
    """Raise `ConfigError` for a network file without a chain on which this home has a node."""
    for known in home.registrations() if home.has_registrations else ():
        if known.chain not in network.chains:
            raise ConfigError(
                f"the network file names no chain {known.chain}, where this home runs a node",
                hint="pass one that names both chains, or give the other node its own --home",
                code="chain_missing",
            )


def _key(plan: Plan, path: Path) -> bool:
    if path.exists():
        return False
    create_key(path, plan.home.passphrase, chain=plan.chain)
    return True


def _owner(plan: Plan, *, given: bool) -> bool:
    # Once the node has an owner, the key may have been moved off this machine.
    if given or plan.owner_key.exists() or plan.home.registration() is not None:
        return False
    create_key(plan.owner_key, plan.home.passphrase, chain=plan.chain)
    plan.warnings.append(
        f"the owner key was made here: {plan.owner_key}. It controls stake and earnings;"
        " move it off this machine once the node is registered"
    )
    return True


def _owner_account(plan: Plan) -> AccountId:
    """The owner's account; once registered, its key need not be here any more."""
    known = plan.home.registration()
    if not plan.owner_key.exists() and known is not None:
        return known.signer
    return holder_of(account_of(plan.owner_key, chain=plan.chain), plan.owner_account)


def _delegations(plan: Plan) -> Domain:
    """What names the owners of pools; raises `NotSetUp` where no node takes delegations."""
    entry = entry_of(load_network(plan.home.network), plan.chain)
    return info_of(plan.chain, entry).delegations


def _config(plan: Plan, listen: tuple[str, ...]) -> None:
    path = plan.home.config
    if path.exists():
        plan.steps.append(Step("config", "done_before"))
        if listen:
            plan.warnings.append(f"{path} was there: its `listen` stays, change it there")
        return
    addresses = ", ".join(f'"{one}"' for one in listen or NodeConfig().listen)
    price = Price()
    text = (
        f"# Settings of this node; `deai config show` lists all of them.\n"
        f'network = "network.json"\nchain = "{plan.chain}"\n\n'
        f"[node]\nlisten = [{addresses}]\ncapacity = 1\n\n"
        f'[node.prices.default]\nbase_fee = "{price.base_fee}"\nunit_fee = "{price.unit_fee}"\n'
    )
    replace_file(path, text.encode())
    plan.steps.append(Step("config", "done"))


def import_models(
    plan: Plan, workloads: tuple[str, ...], on_progress: Callable[[str, int, int], None]
) -> None:
    """Bring the models of the offered workloads into the home. Raises `ConfigError`."""
    from workloads.catalog import load
    from workloads.models import import_model, installed

    before = {manifest.name for manifest in installed(plan.home.models).values()}
    names = {
        name for spec in load() if not workloads or spec.id in workloads for name in spec.models
    }
    plan.home.models.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in sorted(names - before):
        import_model(name, plan.home.models, on_progress=partial(on_progress, name))
    plan.steps.append(Step("models", "done" if names - before else "done_before"))


OpenLedger: TypeAlias = Callable[
    [Network, ChainName, Signer | None, Path | None, AccountId | None],
    AbstractAsyncContextManager[Ledger],
]


async def register(
    plan: Plan, network: Network, stake: int | None, open_ledger: OpenLedger
) -> None:
    """The steps on chain: funds, stake and registration. Fills `needs` when something lacks."""
    registration = plan.registration
    assert registration is not None
    gas = GAS[plan.chain]
    async with open_ledger(network, plan.chain, None, None, registration.owner) as reader:
        record = await reader.node(registration.node_id)
        if record is not None and record.operator != registration.operator:
            raise ConfigError(
                f"node {registration.node_id} is registered with operator {record.operator}",
                hint="put its key back, or register this one: deai stake rotate",
            )
        parameters = await reader.parameters()
        least = int(parameters.min_stake)
        wanted = least if stake is None else stake
        if wanted < least:
            raise UsageError(
                f"a stake of {wanted} is below the minimum of {least}",
                hint=f"pass --stake {least} or more",
                code="stake_too_low",
            )
        if record is None:
            plan.needs = await _lack(reader, registration.signer, gas.owner + gas.operator, wanted)
        elif registration.pool is not None:
            await _compare(plan, reader)
    if record is not None:
        plan.steps.append(Step("register", "done_before"))
    elif plan.needs is not None:
        plan.steps.append(Step("register", "waiting"))
    else:
        async with _as_owner(plan, network, open_ledger) as ledger:
            await _register(plan, ledger, wanted)
    await _operator_gas(plan, network, open_ledger)


def _as_owner(
    plan: Plan, network: Network, open_ledger: OpenLedger
) -> AbstractAsyncContextManager[Ledger]:
    registration = plan.registration
    assert registration is not None
    signer = load_signer(plan.owner_key, plan.owner_passphrase, chain=plan.chain)
    outbox = plan.home.outbox(plan.chain, registration.signer)
    return open_ledger(network, plan.chain, signer, outbox, registration.signer)


async def _compare(plan: Plan, reader: Ledger) -> None:
    """Say where the pool has another commission than the one asked for now."""
    registration, wanted = plan.registration, plan.commission_bps
    assert registration is not None
    pool = await reader.pool(registration.node_id)
    if wanted is not None and pool is not None and wanted != pool.commission:
        plan.warnings.append(
            f"the pool was opened before: its commission stays {pool.commission / 100:g} %;"
            f" announce another with: deai pool commission {registration.node_id} PERCENT"
        )


async def _operator_gas(plan: Plan, network: Network, open_ledger: OpenLedger) -> None:
    """What lets the operator send comes from the owner, so that one account is funded.

    On Sei its first money for gas; on NEAR the key itself becomes one of the owner's account, for
    the operator's methods alone and with an allowance for gas.
    """
    registration = plan.registration
    assert registration is not None
    gas, operator, owner = GAS[plan.chain], registration.operator, registration.signer
    # On NEAR the allowance of a key is burnt from the owner's account, which has to hold it.
    pays = owner if plan.chain == NEAR else operator
    async with open_ledger(network, plan.chain, None, None, owner) as reader:
        has = (await reader.balances(operator)).gas
        lack = await _lack(reader, pays, gas.operator, 0)
    if has >= gas.little:
        plan.steps.append(Step(gas.step, "done_before"))
        return
    if plan.needs is None and plan.chain == NEAR:
        plan.needs = lack
    if plan.needs is not None:
        plan.steps.append(Step(gas.step, "waiting"))
        return
    async with _as_owner(plan, network, open_ledger) as ledger:
        try:
            sent = await ledger.submit(
                TransferGas(operator, Amount(gas.operator)),
                # What it has names the occasion: an operator that ran dry is filled again.
                key=f"gas:{operator}:{has}",
            )
        except InsufficientFunds:
            plan.needs = lack if lack is not None else Needs(pays, gas.owner, 0)
            plan.steps.append(Step(gas.step, "waiting"))
            return
    plan.steps.append(Step(gas.step, "done", sent.hash))


async def _lack(ledger: Ledger, account: AccountId, gas: int, tokens: int) -> Needs | None:
    has = await ledger.balances(account)
    missing = Needs(account, max(0, gas - has.gas), max(0, tokens - has.tokens))
    return missing if missing.gas or missing.tokens else None


async def _register(plan: Plan, ledger: Ledger, stake: int) -> None:
    registration = plan.registration
    assert registration is not None
    operator = load_signer(plan.home.operator_key, plan.home.passphrase, chain=plan.chain)
    valid_until = (await ledger.head()).time + SIGNATURE_LIFE
    consent = operator.sign(
        operate_digest(
            ledger.info.registry, registration.node_id, registration.operator, valid_until
        )
    )
    # The consent's time differs from run to run; the intent is the same.
    key = f"register:{registration.node_id}"
    if registration.pool is not None:
        bps = COMMISSION if plan.commission_bps is None else plan.commission_bps
        opening = OpenPool(
            registration.pool.index, bps, Amount(stake), registration.operator, valid_until,
            consent, registration.peer_id, (),
        )  # fmt: skip
        done = await ledger.submit(opening, key=key)
    else:
        action = RegisterNode(
            index=index_of(registration.node_id),
            operator=registration.operator,
            valid_until=valid_until,
            operator_signature=consent,
            stake=Amount(stake),
            peer_id=registration.peer_id,
            addresses=(),
        )
        done = await ledger.submit(action, key=key)
    plan.steps.append(Step("register", "done", done.hash))
