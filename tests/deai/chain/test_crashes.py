"""A sender that is killed at every named point carries each intent out exactly once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio

from deai import actions as act
from deai.chain.sei.ledger import open_sei_ledger
from deai.chain.sei.sender import CRASH_POINTS
from deai.codec import encode_json
from deai.errors import ConfigError
from deai.ids import AccountId
from deai.money import UNIT, Amount
from deai.network import ChainEntry
from deai.signing import LocalSigner
from tests.deai.chain.chains import SETTINGS, ChainProcess, chain_process
from tests.deai.chain.crashing_sender import INTENTS
from tests.deai.chain.proxy import forgetting, open_proxy

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]

ALL = (1 << INTENTS) - 1


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    """Of their own: on the conformance suite's, its twin would miss these payments."""
    directory = tmp_path_factory.mktemp("crashes")
    with chain_process("embedded", directory, accounts=100) as found:
        yield found


async def run(
    entry: ChainEntry, outbox: Path, secret: bytes, receiver: AccountId, point: str, visit: int
) -> int:
    """Run the sender in a process of its own; its status."""
    command = [
        sys.executable, "-m", "tests.deai.chain.crashing_sender", encode_json(entry).decode(),
        str(outbox), secret.hex(), receiver, point, str(visit),
    ]  # fmt: skip
    done = await trio.run_process(
        command, check=False, capture_stdout=True, stderr=subprocess.STDOUT
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stdout.decode()[-3000:]
    return done.returncode


async def settled(chain: ChainProcess, account: AccountId) -> tuple[int, int]:
    """Tokens of an account, when nothing is in flight any more, and transactions it sent."""
    async with open_sei_ledger(chain.entry) as reader:
        count = await reader.endpoints.call("eth_getTransactionCount", account, "latest")
        return (await reader.balances(account)).tokens, int(count, 16)


async def payer(chain: ChainProcess) -> bytes:
    secret = chain.secret()
    signer = LocalSigner(secret)
    async with open_sei_ledger(chain.entry, chain.holder, settings=SETTINGS) as bank:
        to = act.TransferTokens(signer.account, Amount(UNIT))
        await bank.submit(to, key=f"fund {signer.account}")
    return secret


@pytest.mark.parametrize("visit", [2])
@pytest.mark.parametrize("point", [p for p in CRASH_POINTS if p not in ("raised", "renewed")])
async def test_each_payment_arrives_once_although_the_sender_was_killed(
    chain: ChainProcess, tmp_path: Path, point: str, visit: int
) -> None:
    secret = await payer(chain)
    to, outbox = chain.signer().account, tmp_path / "outbox.sqlite"
    assert await run(chain.entry, outbox, secret, to, point, visit) == -signal.SIGKILL
    assert await run(chain.entry, outbox, secret, to, "-", 0) == 0
    assert (await settled(chain, to))[0] == ALL
    sent = (await settled(chain, LocalSigner(secret).account))[1]
    assert sent == INTENTS, "no transaction beyond one for each intent"
    assert await run(chain.entry, outbox, secret, to, "-", 0) == 0
    assert (await settled(chain, to))[0] == ALL


async def test_a_kill_while_a_fee_is_raised_repeats_nothing(
    chain: ChainProcess, tmp_path: Path
) -> None:
    secret = await payer(chain)
    to, outbox = chain.signer().account, tmp_path / "outbox.sqlite"
    async with open_proxy(chain.rpc_url) as proxy:
        entry = msgspec.structs.replace(chain.entry, rpc_urls=(proxy.url,))
        proxy.fault = forgetting(10_000)  # nothing is ever mined, so the fee is raised
        assert await run(entry, outbox, secret, to, "raised", 2) == -signal.SIGKILL
        assert (await settled(chain, to))[0] == 0
    assert await run(chain.entry, outbox, secret, to, "-", 0) == 0
    assert (await settled(chain, to))[0] == ALL
    assert (await settled(chain, LocalSigner(secret).account))[1] == INTENTS


async def test_a_kill_after_a_nonce_was_given_up_repeats_nothing(
    chain: ChainProcess, tmp_path: Path
) -> None:
    secret = await payer(chain)
    signer = LocalSigner(secret)
    to, outbox = chain.signer().account, tmp_path / "outbox.sqlite"
    async with open_proxy(chain.rpc_url) as proxy:
        entry = msgspec.structs.replace(chain.entry, rpc_urls=(proxy.url,))
        proxy.fault = forgetting(10_000)
        assert await run(entry, outbox, secret, to, "broadcast", 1) == -signal.SIGKILL
    # A second copy of the key spends the nonce of the payment whose bytes were lost.
    async with open_sei_ledger(chain.entry, signer, settings=SETTINGS) as second:
        action = act.TransferTokens(chain.holder.account, Amount(5))
        await second.submit(action, key="somebody else")
    assert await run(chain.entry, outbox, secret, to, "renewed", 1) == -signal.SIGKILL
    assert await run(chain.entry, outbox, secret, to, "-", 0) == 0
    assert (await settled(chain, to))[0] == ALL
    assert (await settled(chain, signer.account))[1] == INTENTS + 1


async def test_one_outbox_serves_one_process_and_one_identity(
    chain: ChainProcess, tmp_path: Path
) -> None:
    outbox = tmp_path / "outbox.sqlite"
    first, second = chain.signer(), chain.signer()

    async def opened(by: LocalSigner) -> None:
        async with open_sei_ledger(chain.entry, by, outbox):
            pass

    async with open_sei_ledger(chain.entry, first, outbox):
        with pytest.raises(ConfigError, match="in use by another process"):
            await opened(first)
    with pytest.raises(ConfigError, match="belongs to"):
        await opened(second)
    await opened(first)


async def test_a_restart_returns_the_transaction_of_an_earlier_life(
    chain: ChainProcess, tmp_path: Path
) -> None:
    signer, outbox = chain.holder, tmp_path / "outbox.sqlite"
    to = chain.signer().account
    action = act.TransferTokens(to, Amount(9))
    async with open_sei_ledger(chain.entry, signer, outbox, settings=SETTINGS) as ledger:
        first = await ledger.submit(action, key="once")
    async with open_sei_ledger(chain.entry, signer, outbox, settings=SETTINGS) as ledger:
        assert await ledger.submit(action, key="once") == first
    assert (await settled(chain, to))[0] == 9
