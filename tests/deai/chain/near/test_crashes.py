"""A sender that is killed at every named point carries each intent out exactly once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

pytest.importorskip("py_near", reason="py-near is not installed")

from deai import actions as act
from deai.chain.near.keys import NearKey
from deai.chain.near.ledger import open_near_ledger
from deai.chain.near.queries import access_key
from deai.chain.near.sender import CRASH_POINTS
from deai.codec import encode_json
from deai.errors import ConfigError
from deai.ids import AccountId
from deai.money import UNIT, Amount
from deai.network import ChainEntry
from deai.signing import Ed25519Signer
from tests.deai.chain.crashing_sender import INTENTS
from tests.deai.chain.near.harness import Actor, NearChain, secret_of, settings
from tests.deai.chain.proxy import PASS, open_proxy

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow]

ALL = (1 << INTENTS) - 1


async def run(
    entry: ChainEntry, outbox: Path, by: Actor, receiver: AccountId, point: str, visit: int
) -> int:
    """Run the sender in a process of its own; its status."""
    command = [
        sys.executable, "-m", "tests.deai.chain.near.crashing_sender",
        encode_json(entry).decode(), str(outbox), by.account, secret_of(by).hex(), receiver, point,
        str(visit),
    ]  # fmt: skip
    done = await trio.run_process(
        command, check=False, capture_stdout=True, stderr=subprocess.STDOUT
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stdout.decode()[-3000:]
    return done.returncode


async def tokens(chain: NearChain, account: AccountId) -> int:
    async with open_near_ledger(chain.entry) as reader:
        return (await reader.balances(account)).tokens


async def spent(chain: NearChain, by: Actor) -> int:
    """The nonce of an account's key."""
    async with open_near_ledger(chain.entry) as reader:
        found: Any = await reader.endpoints.batch([access_key(by.account, by.key.account)])
        return int(found[0]["nonce"])


def written(outbox: Path) -> tuple[int, int]:
    """How many intents there are, and the highest nonce under which one stands.

    One nonce each, unless two arrived in the wrong order: then the earlier took another.
    """
    with closing(sqlite3.connect(outbox)) as db:
        row: tuple[int, int] = db.execute("select count(*), max(nonce) from intents").fetchone()
    return row


async def payer(chain: NearChain) -> Actor:
    signer = chain.signer()
    bank = NearKey(chain.holder.account, chain.holder.key)
    async with open_near_ledger(chain.entry, bank, settings=settings()) as ledger:
        to = act.TransferTokens(signer.account, Amount(UNIT))
        await ledger.submit(to, key=f"fund {signer.account}")
    return signer


@pytest.mark.parametrize("point", [p for p in CRASH_POINTS if p != "renewed"])
async def test_each_payment_arrives_once_although_the_sender_was_killed(
    chain: NearChain, tmp_path: Path, point: str
) -> None:
    by = await payer(chain)
    to, outbox = chain.signer().account, tmp_path / "outbox.sqlite"
    assert await run(chain.entry, outbox, by, to, point, 2) == -signal.SIGKILL
    assert await run(chain.entry, outbox, by, to, "-", 0) == 0
    assert await tokens(chain, to) == ALL
    nothing_else = (INTENTS, await spent(chain, by))
    assert written(outbox) == nothing_else, "no transaction beyond those of the intents"
    assert await run(chain.entry, outbox, by, to, "-", 0) == 0
    assert await tokens(chain, to) == ALL


async def test_a_kill_after_a_nonce_was_given_up_repeats_nothing(
    chain: NearChain, tmp_path: Path
) -> None:
    by = await payer(chain)
    to, outbox = chain.signer().account, tmp_path / "outbox.sqlite"

    async def forget(request: dict[str, Any]) -> object:
        if request["method"] == "send_tx":
            return {"result": {"final_execution_status": "NONE"}}
        return PASS

    async with open_proxy(chain.rpc_url) as proxy:
        entry = msgspec.structs.replace(chain.entry, rpc_urls=(proxy.url,))
        proxy.fault = forget
        assert await run(entry, outbox, by, to, "broadcast", INTENTS) == -signal.SIGKILL
    # A second copy of the key spends the nonces of the payments whose bytes were lost.
    key = NearKey(by.account, by.key)
    async with open_near_ledger(chain.entry, key, settings=settings()) as second:
        for number in range(INTENTS):
            action = act.TransferTokens(chain.holder.account, Amount(5))
            await second.submit(action, key=f"somebody else {number}")
    assert await run(chain.entry, outbox, by, to, "renewed", 1) == -signal.SIGKILL
    assert await run(chain.entry, outbox, by, to, "-", 0) == 0
    assert await tokens(chain, to) == ALL


async def test_one_outbox_serves_one_process_and_one_access_key(
    chain: NearChain, tmp_path: Path
) -> None:
    outbox, actor = tmp_path / "outbox.sqlite", chain.signer()
    first = NearKey(actor.account, actor.key)
    second = NearKey(actor.account, Ed25519Signer(bytes(31) + b"\1"))

    async def opened(by: NearKey) -> None:
        async with open_near_ledger(chain.entry, by, outbox):
            pass

    async with open_near_ledger(chain.entry, first, outbox):
        with pytest.raises(ConfigError, match="in use by another process"):
            await opened(first)
    with pytest.raises(ConfigError, match="belongs to"):
        await opened(second)
    await opened(first)


async def test_a_restart_returns_the_transaction_of_an_earlier_life(
    chain: NearChain, tmp_path: Path
) -> None:
    key, outbox = NearKey(chain.holder.account, chain.holder.key), tmp_path / "outbox.sqlite"
    to = chain.signer().account
    action = act.TransferTokens(to, Amount(9))
    async with open_near_ledger(chain.entry, key, outbox, settings=settings()) as ledger:
        first = await ledger.submit(action, key="once")
    async with open_near_ledger(chain.entry, key, outbox, settings=settings()) as ledger:
        assert await ledger.submit(action, key="once") == first
    assert await tokens(chain, to) == 9
