"""`deai rewards propose --follow` and `verify --follow`: until Ctrl-C, or a wrong root."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from deai.cli.base import ExitWith, Settings, emit, run_trio, until_told
from deai.cli.sending import NEEDS_FUNDS, lacking, show_needs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import Console

    from deai.chain.ledger import Ledger
    from deai.client.rewards_following import Notice
    from deai.ids import AccountId


def follow_proposing(settings: Settings) -> None:
    """Propose each epoch's root with this home's key until told to stop."""
    from deai.cli.rewards import open_own

    async def body(outcome: dict[str, Any]) -> None:
        from deai.client.rewards_following import Proposer, follow_book

        async with open_own(settings) as (ledger, own):
            if await _lacks(settings, ledger, own, outcome):
                return
            proposer = Proposer(ledger, tell)
            try:
                await follow_book(ledger, _accounting(), tell, proposer.visit)
            finally:
                outcome["proposed"] = proposer.proposed

    tell = partial(_tell, settings)
    _run(settings, body, {"event": "stopped", "proposed": 0, "needs": None})


def follow_checking(settings: Settings, *, cancels: bool) -> None:
    """Check each proposed root until told to stop; with `cancels`, by the guardian's key."""
    from deai.cli.rewards import open_own

    async def body(outcome: dict[str, Any]) -> None:
        from deai.client import access

        if not cancels:
            async with access.open_reader(settings.network, settings.chain) as reader:
                await check(reader, outcome)
            return
        async with open_own(settings) as (ledger, own):
            if not await _lacks(settings, ledger, own, outcome):
                await check(ledger, outcome)

    async def check(ledger: Ledger, outcome: dict[str, Any]) -> None:
        from deai.client.rewards_following import Checker, follow_book

        checker = Checker(ledger, _accounting(), tell, cancels=cancels)
        try:
            await follow_book(ledger, _accounting(), tell, checker.visit)
        finally:
            outcome |= {
                "checked": checker.checked,
                "cancelled": checker.cancelled,
                "standing": checker.standing,
            }

    tell = partial(_tell, settings)
    none = {"checked": 0, "cancelled": 0, "standing": 0}
    _run(settings, body, {"event": "stopped", **none, "needs": None})


def _run(
    settings: Settings, body: Callable[[dict[str, Any]], Awaitable[None]], outcome: dict[str, Any]
) -> None:
    async def until() -> None:
        import trio

        async with trio.open_nursery() as nursery:
            await nursery.start(until_told, nursery.cancel_scope)
            await body(outcome)
            nursery.cancel_scope.cancel()

    run_trio(until)
    emit(settings, outcome, partial(_last, settings, outcome))
    if outcome["needs"] is not None:
        raise ExitWith(NEEDS_FUNDS)
    if outcome.get("standing"):
        raise ExitWith(1)


async def _lacks(
    settings: Settings, ledger: Ledger, own: AccountId, outcome: dict[str, Any]
) -> bool:
    from deai.chain.gas import GAS

    _ = ledger.info.rewards  # raises where there are none
    outcome["needs"] = await lacking(ledger, own, 0, GAS[settings.chain].owner)
    return outcome["needs"] is not None


def _accounting() -> Any:  # noqa: ANN401 - a port; see `deai.client.rewards`
    from deai.client.adapters import load_rewards

    return load_rewards()


def _tell(settings: Settings, notice: Notice) -> None:
    from deai.cli.render_rewards import notice_document, show_notice

    document = notice_document(settings.chain, notice)
    # On a screen the reading of an old chain is progress; a program hears of it, too.
    emit(settings, document, partial(show_notice, document))


def _last(settings: Settings, outcome: dict[str, Any], console: Console) -> None:
    from deai.cli.render import say

    done = [
        f"{outcome[name]} {word}"
        for name, word in (
            ("proposed", "proposed"), ("checked", "checked"), ("cancelled", "taken back"),
            ("standing", "wrong and standing"),
        )
        if name in outcome
    ]  # fmt: skip
    say(console, f"○ stopped   {', '.join(done)}")
    show_needs(settings, console, outcome["needs"])
