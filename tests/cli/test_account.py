"""`deai account`: money to the vault and back, every unit told."""

from __future__ import annotations

import pytest
import trio

from deai.money import UNIT
from tests.cli.conftest import Shell
from tests.cli.network import Neighbourhood
from tests.client.support.world import signer

PAYER = signer("payer").account


def sums(document: dict[str, str]) -> tuple[int, int]:
    return int(document["tokens"]), int(document["vault"])


def test_money_goes_to_the_vault_and_back(shell: Shell, rich: Neighbourhood) -> None:
    assert sums(shell.json("account", "show").document) == (100 * UNIT, 0)

    put = shell.json("account", "deposit", "10CT")
    assert put.status == 0
    assert sums(put.document) == (90 * UNIT, 10 * UNIT)
    assert put.document["transaction"]
    assert (put.document["account"], put.document["chain"]) == (PAYER, "sei")

    some = shell.json("account", "withdraw", "2.5CT").document
    assert sums(some) == (92 * UNIT + UNIT // 2, 7 * UNIT + UNIT // 2)
    rest = shell.json("account", "withdraw", "--all").document
    assert sums(rest) == (100 * UNIT, 0)
    nothing = shell.json("account", "withdraw", "--all")
    assert (nothing.status, nothing.document["transaction"]) == (0, None)


def test_a_named_move_is_made_once(shell: Shell, rich: Neighbourhood) -> None:
    for _ in range(2):
        done = shell.json("account", "deposit", "10CT", "--key", "november")
        assert sums(done.document) == (90 * UNIT, 10 * UNIT)

    again = shell.json("account", "deposit", "10CT", "--key", "december")
    assert sums(again.document) == (80 * UNIT, 20 * UNIT)


def test_a_withdrawal_may_go_to_somebody_else(shell: Shell, rich: Neighbourhood) -> None:
    shell.json("account", "deposit", "10CT")
    friend = signer("friend").account

    left = shell.json("account", "withdraw", "4CT", "--to", friend)

    assert sums(left.document) == (90 * UNIT, 6 * UNIT)

    async def held() -> int:
        return (await rich.chain.ledger().balances(friend)).tokens

    assert trio.run(held) == 4 * UNIT


def test_what_is_missing_is_told_with_the_account(shell: Shell, rich: Neighbourhood) -> None:
    asked = shell.json("account", "deposit", "101CT")

    assert asked.status == 5
    assert asked.document["needs"] == {"address": PAYER, "gas": "0", "tokens": str(UNIT)}
    assert asked.document["transaction"] is None
    assert "Send to" in shell("account", "deposit", "101CT").out


def test_more_than_the_vault_holds_is_refused(shell: Shell, rich: Neighbourhood) -> None:
    shell.json("account", "deposit", "1CT")

    refused = shell.json("account", "withdraw", "2CT")

    assert refused.status == 5
    assert refused.error["code"] == "insufficient_funds"
    assert "vault" in refused.error["hint"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("deposit", "ten"),
        ("deposit", "-1"),
        ("deposit", ""),
        ("withdraw",),
        ("withdraw", "1CT", "--all"),
        ("withdraw", "1CT", "--to", "0x12"),
    ],
)
def test_wrong_words_are_a_usage_error(
    shell: Shell, rich: Neighbourhood, arguments: tuple[str, ...]
) -> None:
    refused = shell.json("account", *arguments)

    assert refused.status == 2
    assert set(refused.error) == {"code", "message", "hint"}


def test_a_page_for_people(shell: Shell, rich: Neighbourhood) -> None:
    shell("account", "deposit", "10CT", "--yes")
    shown = shell("account", "show").out
    assert "Vault" in shown
    assert "10.000000 CT" in shown
