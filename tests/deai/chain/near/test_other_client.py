"""Balances as another client reads them: py-near's own account, and nothing of ours between."""

from __future__ import annotations

import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai import actions as act
from deai.chain.near.ledger import open_near_ledger
from deai.ids import AccountId
from deai.money import UNIT, Amount
from tests.deai.chain.near.faulty import funded, key_of, pay
from tests.deai.chain.near.harness import NearChain, settings
from tests.devnet.near.process import login, run

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


async def test_another_client_reads_the_same_balances(chain: NearChain) -> None:
    owner, friend = await funded(chain), chain.signer().account
    async with open_near_ledger(chain.entry, key_of(owner), settings=settings()) as ledger:
        await ledger.submit(act.Deposit(Amount(7 * UNIT)))
        await pay(ledger, friend, 5, "a present")
        ours = await ledger.balances(owner.account)
        given = (await ledger.balances(friend)).tokens
    token, compute = (chain.entry.contracts[name] for name in ("ComputeToken", "TaskEscrow"))

    async def read(contract: AccountId, method: str, account: AccountId) -> object:
        async with login(chain.rpc_url, "nobody.near") as client:
            return (await client.view_function(contract, method, {"account_id": account})).result

    def theirs(contract: AccountId, method: str, account: AccountId) -> object:
        return run(read(contract, method, account))

    held = await trio.to_thread.run_sync(theirs, token, "ft_balance_of", owner.account)
    vault = await trio.to_thread.run_sync(theirs, compute, "get_account", owner.account)
    present = await trio.to_thread.run_sync(theirs, token, "ft_balance_of", friend)
    assert isinstance(vault, dict)
    assert (held, vault["balance"], present) == (str(ours.tokens), str(ours.vault), str(given))
    assert (ours.tokens, ours.vault, given) == (993 * UNIT - 5, 7 * UNIT, 5)
