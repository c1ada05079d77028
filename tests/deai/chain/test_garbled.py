"""An endpoint of Sei whose answers make no sense ends nothing, and pays nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio

from deai.chain.sei.ledger import open_sei_ledger
from deai.errors import LedgerUnreachable
from deai.ids import node_id
from tests.deai.chain.chains import ChainProcess, chain_process
from tests.deai.chain.garbled import ask_everything, follow_for, garbling
from tests.deai.chain.proxy import open_proxy
from tests.deai.chain.test_faults import IMPATIENT, funded, pay, through, tokens

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    with chain_process("embedded", tmp_path_factory.mktemp("garbled"), accounts=20) as found:
        yield found


@pytest.mark.parametrize("seed", range(2))
async def test_an_answer_that_makes_no_sense_is_no_answer(chain: ChainProcess, seed: int) -> None:
    signer, to = await funded(chain), chain.signer().account
    async with (
        open_proxy(chain.rpc_url) as proxy,
        open_sei_ledger(through(chain, proxy), signer, settings=IMPATIENT, timeout=2) as ledger,
    ):
        proxy.tamper = garbling(seed, 0.4)
        for _ in range(6):
            await ask_everything(ledger, to, node_id(to, 0))
            with suppress(LedgerUnreachable), trio.move_on_after(1):
                await pay(ledger, to, 7, "once")
        await follow_for(ledger, 2)
        proxy.tamper = lambda _, result: result
        with trio.fail_after(60):
            await pay(ledger, to, 7, "once")
    assert await tokens(chain, to) == 7
