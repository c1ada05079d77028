"""`deai channel watch` as a process, over a real chain and real peers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from deai.chain.ledger import Ledger
from deai.chain.sei.ledger import open_sei_ledger
from deai.ids import SEI
from deai.keys import create_key
from deai.lane.tower import encode_vouchers, parse_tower
from deai.network import Network, save_network
from deai.signing import Signer
from node.lane.towers import Towers
from p2p.identity import Identity
from p2p.net import open_net
from tests.deai.chain.chains import SETTINGS, ChainProcess, chain_process
from tests.support.channel_conformance import paying
from tests.support.ledger_conformance import World, provider

pytestmark = [pytest.mark.chain, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300)]
PATIENCE = 120.0


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    with chain_process("embedded", tmp_path_factory.mktemp("embedded")) as chain:
        yield chain


@pytest.fixture
def home(tmp_path: Path, embedded: ChainProcess) -> Path:
    save_network(Network(name="test", chains={SEI: embedded.entry}), tmp_path / "network.json")
    return tmp_path


@asynccontextmanager
async def world_beside_others(chain: ChainProcess) -> AsyncIterator[World]:
    """A world over a chain on which another process sends, too: nothing replays it."""

    async def hold(by: Signer, task_status: trio.TaskStatus[Ledger]) -> None:
        async with open_sei_ledger(chain.entry, by, settings=SETTINGS) as ledger:
            task_status.started(ledger)
            await trio.sleep_forever()

    async def advance(seconds: int) -> None:
        await trio.to_thread.run_sync(chain.advance, seconds)

    async with open_sei_ledger(chain.entry) as reader, trio.open_nursery() as nursery:
        open_ = partial(nursery.start, hold)
        yield World(chain.kind, reader, chain.holder, open_, advance, chain.signer, chain.operator)
        nursery.cancel_scope.cancel()


@contextmanager
def watching(home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, killed at the end if it still runs."""
    program = [sys.executable, "-c", "from deai.cli.main import main; main()"]
    command = [*program, "channel", "watch", "--json", "--home", str(home), *arguments]
    with (home / "log").open("ab") as log:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.communicate()


async def told(child: subprocess.Popen[bytes], event: str) -> dict[str, Any]:
    """The next document about an event."""
    assert child.stdout is not None
    with trio.fail_after(PATIENCE):
        while True:
            read = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
            line: bytes = await read(child.stdout.readline)
            assert line, "the command ended"
            document: dict[str, Any] = json.loads(line)
            if document["event"] == event:
                return document


async def test_a_stale_close_is_answered_from_a_file_and_then_from_what_a_node_hands_over(
    home: Path, embedded: ChainProcess
) -> None:
    create_key(home / "keys" / "tower.json", home / "keys" / "passphrase", secret=embedded.secret())
    async with world_beside_others(embedded) as world:
        worker = await provider(world)
        paid = await paying(world, owner=worker.owner, deposit=1000)
        domain = world.reader.info.channels
        file = home / "vouchers.json"
        file.write_bytes(encode_vouchers(SEI, domain, [(paid.channel, paid.voucher(300))]))
        options = ("--vouchers", str(file), "--listen", "/ip4/127.0.0.1/tcp/0", "--patience", "1s",
                   "--least", "0.000000000000000001CT")  # fmt: skip
        with watching(home, *options) as child:
            ready = await told(child, "ready")
            assert (ready["held"], ready["refused"]) == (1, [])
            await paid.request_close()
            answered = await told(child, "answered")
            assert (answered["channel_id"], answered["amount"]) == (paid.id, "300")
            assert answered["transaction"].startswith("0x")
            assert (await paid.record()).claimed == 300
            await world.advance(245)  # of 300: in the last minute no voucher waits
            async with open_net(Identity.generate()) as net, trio.open_nursery() as nursery:
                node = Towers(
                    chain=SEI, domain=domain, node=worker.node, operator=worker.operator, net=net,
                    towers=[parse_tower(ready["addresses"][0])], entropy=os.urandom,
                )  # fmt: skip
                nursery.start_soon(node.run)
                node.offer(paid.channel, paid.voucher(450))
                answered = await told(child, "answered")
                nursery.cancel_scope.cancel()
            assert answered["amount"] == "150"
            assert (await paid.record()).claimed == 450
            child.send_signal(signal.SIGINT)
            stopped = await told(child, "stopped")
            assert await trio.to_thread.run_sync(partial(child.wait, 60)) == 0
        assert (stopped["answered"], stopped["missed"], stopped["held"]) == (2, 0, 1)
        assert (stopped["problems"], stopped["needs"]) == ({}, None)


async def test_an_account_without_gas_is_told_what_it_needs(home: Path) -> None:
    with watching(home, "--offline") as child:
        stopped = await told(child, "stopped")
        assert await trio.to_thread.run_sync(partial(child.wait, 60)) == 5
    assert stopped["needs"]["address"] == stopped["account"]
    assert int(stopped["needs"]["gas"]) > 0
    assert (home / "keys" / "tower.json").exists()


async def test_a_file_that_was_changed_is_refused(home: Path) -> None:
    (home / "vouchers.json").write_text('{"format": "deai vouchers/1"}')
    with watching(home, "--offline", "--vouchers", str(home / "vouchers.json")) as child:
        assert child.stdout is not None
        said = await trio.to_thread.run_sync(child.stdout.read)
        assert await trio.to_thread.run_sync(partial(child.wait, 60)) == 2
    assert json.loads(said)["error"]["code"] == "bad_vouchers"
