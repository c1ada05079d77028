"""`deai stake` on a node that takes delegations: the manager's part of its pool.

What the commands do for the owner of an ordinary node they do here through the pool's own verbs,
and what would end the pool they leave to the command that says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deai.cli import pool_steps
from deai.cli.pool_look import Lent, look
from deai.cli.stake_common import Staked, step
from deai.errors import UsageError

if TYPE_CHECKING:
    from deai.ids import AccountId


async def add(found: Staked, units: int, intent: str, *, yes: bool) -> dict[str, Any]:
    """Delegate to the own pool, which also lets others lend more."""
    lent = await _lent(found)
    return _told(found, "add", await pool_steps.delegate(lent, units, intent, yes=yes))


async def unbond(found: Staked, units: int | None, intent: str, *, yes: bool) -> dict[str, Any]:
    """Ask for some of the own part back; raise `UsageError` for all of it."""
    if units is None:
        raise UsageError(
            "the manager's own part leaves with everybody's, when the pool ends",
            hint=f"deai pool close {found.node}",
            code="takes_delegations",
        )
    lent = await _lent(found)
    return _told(found, "unbond", await pool_steps.undelegate(lent, units, intent, yes=yes))


async def withdraw(found: Staked, to: AccountId | None, *, yes: bool) -> dict[str, Any]:
    """Let the manager be paid what is free; raise `UsageError` for another account."""
    if to not in (None, found.signer):
        raise UsageError(
            "a pool pays each account itself", hint="leave --to away", code="takes_delegations"
        )
    return _told(found, "withdraw", await pool_steps.claim(await _lent(found), yes=yes))


async def _lent(found: Staked) -> Lent:
    return await look(found.settings, found.ledger, found.node, found.signer)


def _told(found: Staked, name: str, pool: dict[str, Any]) -> dict[str, Any]:
    """The result of a stake command, with what the pool is then."""
    state = "waiting" if pool["needs"] else "done" if pool["transaction"] else "not_needed"
    return {
        **found.document(),
        "needs": pool["needs"],
        "steps": [step(name, state, pool["transaction"])],
        "pool": {**pool, "needs": None, "transaction": None},
    }
