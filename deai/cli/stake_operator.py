"""The operator of a node, as its owner cares for it: its key, its money for gas, its release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deai.cli.base import Settings
from deai.cli.pool_look import look
from deai.cli.sending import lacking, named, send
from deai.cli.stake_common import CONSENT_LIFE, Staked, open_staked, operator_key, step
from deai.money import format_exactly, typed_amount

if TYPE_CHECKING:
    from deai.chain.ledger import Ledger
    from deai.ids import AccountId


async def give_gas(
    settings: Settings,
    options: dict[str, Any],
    ledger: Ledger,
    document: dict[str, Any],
    payer: AccountId,
) -> None:
    """The step that lets an operator send when it has little for gas; may set `needs`."""
    from deai.actions import TransferGas
    from deai.chain.gas import GAS
    from deai.errors import InsufficientFunds
    from deai.ids import NEAR
    from deai.money import Amount

    operator, gas = document["operator"], GAS[settings.chain]
    has = (await ledger.balances(operator)).gas
    if has >= gas.little:
        document["steps"].append(step(gas.step, "done_before"))
        return
    # Until it has arrived the balance stays as it is, and so does the intent.
    key = f"gas:{operator}:{has}"
    needs = {"address": payer, "gas": str(gas.operator), "tokens": "0"}
    if settings.chain == NEAR:
        # An allowance is no money: what is burnt comes from the owner's account.
        document["needs"] = await lacking(ledger, payer, 0, gas.operator)
    if document["needs"] is None:
        try:
            action = TransferGas(operator, Amount(gas.operator))
            done = await send(settings, ledger, action, key, 0, yes=options["yes"])
        except InsufficientFunds:
            document["needs"] = needs
    waits = document["needs"] is not None
    document["steps"].append(
        step(gas.step, "waiting" if waits else "done", None if waits else done)
    )


async def release_node(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """Let a jailed node out. Raises `Declined` where it is not jailed or has too little stake."""
    from deai.actions import PoolUnjail, Unjail
    from deai.errors import Declined
    from deai.pools import PoolState
    from deai.standing import Standing

    async with open_staked(settings, options) as found:
        record, document = found.record, found.document()
        if record.standing is not Standing.JAILED:
            raise Declined(
                f"{found.node} is {record.standing.label}, not jailed",
                hint="nothing to release: deai stake status",
                code="not_jailed",
            )
        least = int((await found.ledger.parameters()).min_stake)
        whose, has = "the stake", record.stake
        if found.pool is not None:
            lent = await look(settings, found.ledger, found.node, found.signer)
            if lent.pool.state is not PoolState.OPEN:
                raise Declined(
                    f"the pool of {found.node} is {lent.pool.state.label}: its node stays out",
                    hint="deai stake withdraw, once everything has unbonded",
                    code="pool_closed",
                )
            whose, has = "the manager's own part", int(lent.pool.own)
        if has < least:
            raise Declined(
                f"{whose} is {format_exactly(has)}, below the minimum of {format_exactly(least)}",
                hint="add what lacks, then release it: deai stake add " + typed_amount(least - has),
                code="stake_too_low",
            )
        action = Unjail(found.node) if found.pool is None else PoolUnjail(found.node)
        document["needs"] = await _gas_lacking(found)
        if document["needs"] is not None:
            document["steps"] = [step("release", "waiting")]
            return document
        # It may be jailed again one day: an intent is of its block.
        key = await named(found.ledger, "release", found.node, "")
        done = await send(settings, found.ledger, action, key, 0, yes=options["yes"])
        document["steps"] = [step("release", "done", done)]
        return document


async def rotate_operator(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """Give a node the hot key of a file; that key then gets what lets it send."""
    from deai.actions import PoolRotateOperator, RotateOperator
    from deai.keys import load_signer
    from deai.tasks import operate_digest

    operator = load_signer(operator_key(settings, options), chain=settings.chain)
    async with open_staked(settings, options) as found:
        ledger, node, document = found.ledger, found.node, found.document()
        document["operator"] = operator.account
        if found.record.operator == operator.account:
            document["steps"] = [step("rotate", "done_before")]
            await give_gas(settings, options, ledger, document, found.signer)
            return document
        document["needs"] = await _gas_lacking(found)
        if document["needs"] is not None:
            document["steps"] = [step("rotate", "waiting")]
            return document
        until = (await ledger.head()).time + CONSENT_LIFE
        consent = operator.sign(operate_digest(ledger.info.registry, node, operator.account, until))
        kind = RotateOperator if found.pool is None else PoolRotateOperator
        action = kind(node, operator.account, until, consent)
        key = await named(ledger, "rotate", node, "")
        done = await send(settings, ledger, action, key, 0, yes=options["yes"])
        document["steps"] = [step("rotate", "done", done)]
        await give_gas(settings, options, ledger, document, found.signer)
        return document


async def _gas_lacking(found: Staked) -> dict[str, str] | None:
    from deai.chain.gas import GAS

    return await lacking(found.ledger, found.signer, 0, GAS[found.settings.chain].owner)
