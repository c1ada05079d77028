"""An endpoint of NEAR whose answers make no sense ends nothing, and pays nothing twice."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai.chain.near.ledger import open_near_ledger
from deai.chain.near.queries import read_view
from deai.errors import LedgerRejected, LedgerUnreachable, MalformedMessage
from deai.ids import near_node_id
from tests.deai.chain.garbled import ask_everything, follow_for, garbling
from tests.deai.chain.near.faulty import IMPATIENT, funded, key_of, pay, through, tokens
from tests.deai.chain.near.harness import NearChain
from tests.deai.chain.proxy import open_proxy


def test_a_number_is_no_answer_of_a_contract_however_large() -> None:
    with pytest.raises(MalformedMessage):
        read_view({"result": 1 << 40})


@pytest.mark.chain
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_an_answer_that_makes_no_sense_is_no_answer(chain: NearChain, seed: int) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with (
        open_proxy(chain.rpc_url) as proxy,
        open_near_ledger(
            through(chain, proxy), key_of(signer), settings=IMPATIENT, timeout=2
        ) as ledger,
    ):
        proxy.tamper = garbling(seed, 0.4)
        for _ in range(6):
            await ask_everything(ledger, to, near_node_id(to, 0))
            with suppress(LedgerUnreachable, LedgerRejected), trio.move_on_after(1):
                await pay(ledger, to, 7, "once")
        await follow_for(ledger, 2)
        proxy.tamper = lambda _, result: result
        with trio.fail_after(60):
            await pay(ledger, to, 7, "once")
    assert await tokens(chain, to) == 7
