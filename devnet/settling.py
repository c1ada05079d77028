"""The demo's last scene: every account of a chain, before and after, and every task's money."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from deai.chain.ledger import Ledger
from deai.errors import NodeFault
from deai.ids import AccountId
from deai.money import decimals_of, format_exactly, format_tokens
from devnet.accounts import (
    Books,
    accrued_fees,
    channels_difference,
    escrow_difference,
    read_books,
)
from devnet.stage import Stage

LANES: Final = 8
"""Lanes of the client that the books look into; it uses the first free one."""
_PARTS: Final = ("held", "paid", "refunded", "protocol_fee")


async def books_of(ledger: Ledger, stage: Stage) -> Books:
    """The books, with the names of the accounts that this devnet knows."""
    books = await read_books(ledger)
    devnet, contracts = stage.devnet, ledger.info.contracts
    names = {devnet.account(name, stage.chain): name for name in ("client", "faucet", "treasury")}
    names |= {AccountId(node["owner"]): node["name"] for node in stage.nodes}
    names |= {address: name for name, address in contracts.items()}
    return replace(books, names=names)


async def settle(stage: Stage, ledger: Ledger) -> tuple[Books, list[str]]:
    """Close a chain's books: sums over every account, over escrow and channels, over every task.

    Raises `NodeFault` when a coin is missing or there is one too many.
    """
    after = await books_of(ledger, stage)
    client = stage.devnet.account("client", stage.chain)
    lanes = [(client, lane) for lane in range(LANES)]
    leaked = await escrow_difference(ledger, after, lanes)
    leaked_channels = await channels_difference(ledger, after)
    wrong = [
        task["task_id"]
        for task in stage.tasks()
        if int(task["escrowed"]) != sum(int(task[part]) for part in _PARTS)
    ]
    if after.difference or leaked or leaked_channels or wrong:
        raise NodeFault(
            f"coins are missing: {after.difference}, escrow {leaked}, channels {leaked_channels}, "
            f"tasks {wrong}"
        )
    vaults, fees = sum(after.vault.values()), await accrued_fees(ledger, lanes)
    decimals = decimals_of(vaults, fees)
    lines = [
        f"{len(after.balances)} accounts hold {format_exactly(sum(after.balances.values()))} = "
        f"minted {format_exactly(after.minted)} - burned {format_exactly(after.burned)}",
        f"of tasks the escrow owes exactly what it holds: {format_tokens(vaults, decimals)} in "
        f"vaults, {format_tokens(fees, decimals)} of protocol fees nobody collected yet",
    ]
    if after.bounties:
        lines.append(
            f"of what was slashed, {format_exactly(after.bounties)} went to who showed the proof"
        )
    return after, [*lines, f"difference {after.difference}"]
