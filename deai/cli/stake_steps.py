"""What each stake command does on the chain: looks first, then does only what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deai.cli import stake_pool
from deai.cli.base import Settings
from deai.cli.bind import binding_of
from deai.cli.pool_look import document as document_of, look
from deai.cli.sending import lacking, named, send
from deai.cli.stake_common import (
    CONSENT_LIFE,
    holder,
    is_at_home,
    node_of_key,
    open_owner,
    open_staked,
    operator_key,
    owner_key,
    step,
)
from deai.cli.stake_operator import give_gas
from deai.money import format_exactly

if TYPE_CHECKING:
    from deai.chain.ledger import Ledger
    from deai.ids import AccountId, NodeId
    from deai.money import Amount


async def register_node(
    settings: Settings, options: dict[str, Any], amount: Amount | None
) -> dict[str, Any]:
    """Stake and register, then see that the operator can pay for its own transactions."""
    from deai.actions import RegisterNode
    from deai.chain.gas import GAS
    from deai.cli.keys import peer_id_of
    from deai.errors import ConfigError, UsageError
    from deai.ids import node_of
    from deai.keys import load_signer
    from deai.money import Amount
    from deai.tasks import operate_digest

    gas = GAS[settings.chain]
    operator = load_signer(operator_key(settings, options), chain=settings.chain)
    peer_id = peer_id_of(options["peer_key"] or settings.home / "keys" / "peer.key")
    async with open_owner(settings, options) as (ledger, owner):
        _refuse_pool(settings, ledger, owner, options["index"])
        node = node_of(settings.chain, owner, options["index"])
        parameters = await ledger.parameters()
        least = int(parameters.min_stake)
        amount = Amount(least) if amount is None else amount
        if amount < least:
            raise UsageError(
                f"a stake of {int(amount)} is below the minimum of {least}",
                hint=f"pass --stake {least} or more",
                code="stake_too_low",
            )
        document: dict[str, Any] = {
            "node_id": node, "owner": owner, "operator": operator.account,
            "peer_id": peer_id, "needs": None, "steps": [],
        }  # fmt: skip
        record = await ledger.node(node)
        if record is not None:
            if record.operator != operator.account:
                raise ConfigError(
                    f"{node} is registered with another operator: {record.operator}",
                    hint="pass --index for another node, or that operator's key",
                )
            document["steps"] = [step("register", "done_before")]
            await give_gas(settings, options, ledger, document, owner)
            return document
        has = (await ledger.balances(operator.account)).gas
        needed = gas.owner + (gas.operator if has < gas.little else 0)
        document["needs"] = await lacking(ledger, owner, int(amount), needed)
        if document["needs"] is not None:
            document["steps"] = [step("register", "waiting"), step(gas.step, "waiting")]
            return document
        until = (await ledger.head()).time + CONSENT_LIFE
        consent = operator.sign(operate_digest(ledger.info.registry, node, operator.account, until))
        action = RegisterNode(
            options["index"], operator.account, until, consent, amount, peer_id,
            tuple(options["addresses"]),
        )  # fmt: skip
        key = f"register:{node}"
        done = await send(settings, ledger, action, key, amount, yes=options["yes"])
        document["steps"] = [step("register", "done", done)]
        await give_gas(settings, options, ledger, document, owner)
        return document


def _refuse_pool(settings: Settings, ledger: Ledger, owner: AccountId, index: int) -> None:
    """Raise `UsageError` in a home whose node takes delegations: another account owns that."""
    from deai.chain.ledger import POOLS_CONTRACT
    from deai.errors import UsageError
    from deai.pools import pool_node

    if POOLS_CONTRACT not in ledger.info.contracts:
        return
    node = pool_node(ledger.info.delegations, owner, index)
    if is_at_home(settings.home, node):
        raise UsageError(
            f"the node of this home takes delegations: {node}",
            hint="deai node init --pool registers it, and goes on where it was interrupted",
            code="takes_delegations",
        )


async def add_stake(
    settings: Settings, options: dict[str, Any], amount: Amount, intent: str
) -> dict[str, Any]:
    """Add to the stake of the owner's node, the same intent once."""
    from deai.actions import AddStake
    from deai.chain.gas import GAS

    async with open_staked(settings, options) as found:
        if found.pool is not None:
            return await stake_pool.add(found, amount, intent, yes=options["yes"])
        document = found.document()
        gas = GAS[settings.chain].owner
        document["needs"] = await lacking(found.ledger, found.signer, int(amount), gas)
        if document["needs"] is not None:
            document["steps"] = [step("add", "waiting")]
            return document
        key = await named(found.ledger, "add", found.node, intent)
        action = AddStake(found.node, amount)
        done = await send(settings, found.ledger, action, key, amount, yes=options["yes"])
        document["steps"] = [step("add", "done", done)]
        return document


async def unbond_stake(
    settings: Settings, options: dict[str, Any], units: int | None, intent: str
) -> dict[str, Any]:
    """Start taking stake back; `units` None: all of it. Raises `UsageError`."""
    from deai.actions import RequestUnstake
    from deai.errors import UsageError
    from deai.money import Amount
    from deai.standing import Standing

    async with open_staked(settings, options) as found:
        if found.pool is not None:
            return await stake_pool.unbond(found, units, intent, yes=options["yes"])
        record, document = found.record, found.document()
        if record.standing in (Standing.UNBONDING, Standing.EXITED):
            document["steps"] = [step("unbond", "done_before")]
            return document
        amount = Amount(record.stake if units is None else units)
        least = int((await found.ledger.parameters()).min_stake)
        if amount != record.stake and record.stake - amount < least:
            raise UsageError(
                f"of a stake of {format_exactly(record.stake)}, "
                f"{format_exactly(max(0, record.stake - least))} can be unbonded"
                f" without falling below the minimum of {format_exactly(least)}",
                hint="unbond less, or leave with --all",
                code="stake_too_low",
            )
        key = await named(found.ledger, "unbond", found.node, intent)
        action = RequestUnstake(found.node, amount)
        done = await send(settings, found.ledger, action, key, amount, yes=options["yes"])
        document["steps"] = [step("unbond", "done", done)]
        return document


async def withdraw_stake(
    settings: Settings, options: dict[str, Any], to: AccountId | None
) -> dict[str, Any]:
    """Take out what is free; raise `Declined` while it is not."""
    from deai.actions import WithdrawStake
    from deai.errors import Declined

    async with open_staked(settings, options) as found:
        if found.pool is not None:
            return await stake_pool.withdraw(found, to, yes=options["yes"])
        record, document = found.record, found.document()
        if not record.unbonding:
            document["steps"] = [step("withdraw", "not_needed")]
            return document
        now = (await found.ledger.head()).time
        if now <= record.unbond_at:
            raise Declined(
                f"the stake is free in {record.unbond_at - now + 1} s",
                hint="run the same command then",
                code="still_unbonding",
            )
        action = WithdrawStake(found.node, to or found.signer)
        key = f"withdraw:{found.node}:{record.unbond_at}"
        moved, yes = record.unbonding, options["yes"]
        done = await send(settings, found.ledger, action, key, moved, yes=yes)
        document["steps"] = [step("withdraw", "done", done)]
        return document


async def stake_status(
    settings: Settings, node: NodeId | None, options: dict[str, Any]
) -> dict[str, Any]:
    """What the chain says of a node, and what a binding file here says of its twin."""
    from deai.chain.ledger import POOLS_CONTRACT
    from deai.client.access import open_reader
    from deai.client.documents import rfc3339
    from deai.ids import owner_of
    from deai.keys import account_of

    signer = None
    if node is None:
        key = account_of(owner_key(settings, options), chain=settings.chain)
        signer = holder(settings, options, key)
    async with open_reader(settings.network, settings.chain) as ledger:
        if node is None:
            assert signer is not None
            node, pool = await node_of_key(settings, ledger, signer, options["index"])
        else:
            lends = POOLS_CONTRACT in ledger.info.contracts
            pool = await ledger.pool(node) if lends else None
        record = await ledger.node(node)
        balances = await ledger.balances(owner_of(node))
        account = None if pool is None else pool.manager
        lent = None if pool is None else await look(settings, ledger, node, account)
    return {
        "node_id": node,
        "owner": owner_of(node),
        "chain": settings.chain,
        "registered": record is not None,
        "state": record.standing.label if record is not None else "none",
        "operator": record.operator if record is not None else None,
        "stake": str(record.stake) if record is not None else "0",
        "unbonding": str(record.unbonding) if record is not None else "0",
        "unbond_at": rfc3339(record.unbond_at) if record is not None and record.unbonding else None,
        "reputation": record.reputation / 1000 if record is not None else None,
        "checked_tasks": record.checked_tasks if record is not None else 0,
        "wallet": str(balances.tokens),
        "vault": str(balances.vault),
        "gas": str(balances.gas),
        "binding": binding_of(settings, node),
        "pool": None if lent is None else document_of(lent),
    }
