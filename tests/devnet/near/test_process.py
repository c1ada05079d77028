"""The process: its files, its lock, its end, and what a ``kill -9`` may not take away."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from deai.errors import ConfigError
from devnet.near.__main__ import serve
from devnet.near.chain import Chain, Options, open_chain
from devnet.near.genesis import read_genesis
from devnet.near.keys import base58, unbase58
from devnet.near.rules import NEAR
from devnet.near.store import Store
from devnet.near.views import Block
from tests.devnet.near.process import Running
from tests.devnet.near.tools import ALICE, BOB, HELLO, SUPPLY, call, keys, sign_raw
from tests.support.polling import wait

KILLS = 4
KEY = keys(ALICE)[1]


@pytest.mark.chain
@pytest.mark.network
def test_ready_says_where_it_serves_and_goes_away_at_the_end(tmp_path: Path) -> None:
    with Running(tmp_path) as chain:
        assert set(chain.ready) == {"pid", "rpc_url", "chain_id"}
        assert chain.ready["chain_id"] == "localnet"
        second = subprocess.run(
            [sys.executable, "-m", "devnet.near", "--dir", str(tmp_path)],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert second.returncode == ConfigError.exit_status
        assert "in use by another chain process" in second.stderr
        assert "Traceback" not in second.stderr
        assert chain.rpc("status")["chain_id"] == "localnet"
        assert chain.stop() == 0
    assert not (tmp_path / "ready.json").exists()


@pytest.mark.chain
@pytest.mark.network
def test_another_chain_id_does_not_open_the_same_directory(tmp_path: Path) -> None:
    with Running(tmp_path) as chain:
        assert chain.stop() == 0
    other = subprocess.run(
        [sys.executable, "-m", "devnet.near", "--dir", str(tmp_path), "--chain-id", "other"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert other.returncode == ConfigError.exit_status
    assert "chain_id localnet, not other" in other.stderr


@dataclass
class Sender:
    """Stakes without end, one call at a time, and remembers what the chain has admitted to."""

    url: str
    name: str
    nonce: int
    block_hash: bytes
    known: dict[str, dict[str, Any]]

    def run(self) -> None:
        with suppress(httpx.TransportError), httpx.Client(timeout=240) as client:
            while True:
                self.nonce += 1
                stake = call("stake", deposit=NEAR // 1_000)
                raw = sign_raw(
                    self.name, HELLO, [stake], nonce=self.nonce, block_hash=self.block_hash
                )
                request = {"id": 1, "method": "broadcast_tx_commit", "params": [raw]}
                done = client.post(self.url, json=request).json()["result"]
                assert "SuccessValue" in done["status"]
                self.known[done["transaction"]["hash"]] = done


@pytest.mark.chain
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("pace", ["0.02", "0"])
def test_a_kill_at_any_moment_takes_back_nothing_that_was_acknowledged(
    tmp_path: Path, pace: str
) -> None:
    chance = random.Random(11)
    known: dict[str, dict[str, dict[str, Any]]] = {ALICE: {}, BOB: {}}

    def acknowledged() -> int:
        return sum(len(done) for done in known.values())

    def reached(count: int) -> bool:
        return acknowledged() >= count

    def check(chain: Running) -> None:
        for name, all_done in known.items():
            for sent, done in all_done.items():
                found = chain.rpc("tx", {"tx_hash": sent, "sender_account_id": name})
                assert found["transaction_outcome"] == done["transaction_outcome"]
                assert found["status"] == done["status"]
            staked = int(chain.view("stake_of", {"account_id": name})) if all_done else 0
            assert staked >= len(all_done) * NEAR // 1_000

    for kill in range(KILLS):
        with Running(tmp_path, "--block-time", pace) as chain:
            if not kill:
                chain.install()
            check(chain)
            block_hash = unbase58(chain.head()["hash"], 32)
            senders = [
                Sender(chain.url, name, chain.nonce(name), block_hash, known[name])
                for name in known
            ]
            with ThreadPoolExecutor(len(senders)) as pool:
                running = [pool.submit(sender.run) for sender in senders]
                target = acknowledged() + chance.randrange(5, 30)
                wait(partial(reached, target))
                chain.kill()  # in the middle of whatever it is doing
                for sender in running:
                    sender.result(timeout=240)
    with Running(tmp_path, "--block-time", "0") as chain:
        check(chain)
        assert chain.stop() == 0
    reopened = open_chain(tmp_path / "chain.sqlite", Options(), {})
    try:
        reopened.settle()
        # What had begun before a kill ends after it, and every yocto is where it belongs.
        assert not reopened.pending.postponed
        assert not reopened.books.open
        assert reopened.supply() + reopened.books.burnt == SUPPLY
        stored = [reopened.store.block(height) for height in range(reopened.head.height + 1)]
        blocks = [block for block in stored if block is not None]
        assert all(block.previous_hash == before.hash for before, block in pairwise(blocks))
    finally:
        reopened.store.close()


@pytest.mark.chain
@pytest.mark.network
def test_a_full_disk_ends_the_process_instead_of_answering_from_memory(tmp_path: Path) -> None:
    with Running(tmp_path, "--block-time", "0") as chain:
        chain.install()
        nonce = chain.nonce(ALICE)
        # A limit on the size of files is what a full disk is to a writer, without filling one.
        limit = max(entry.stat().st_size for entry in tmp_path.iterdir()) + 8_192
        command = ["prlimit", f"--pid={chain.process.pid}", f"--fsize={limit}"]
        subprocess.run(command, check=True, timeout=60)
        raws = [
            chain.sign(
                ALICE, HELLO,
                call("set_greeting", {"text": os.urandom(2_000).hex()}, deposit=NEAR),
                nonce=nonce + 1 + more,
            )
            for more in range(10)
        ]  # fmt: skip
        for raw in raws:
            if chain.process.poll() is None:
                request = {"method": "broadcast_tx_async", "params": [raw], "id": 1}
                with suppress(httpx.TransportError):  # it may be gone between two of them
                    chain.post(json.dumps(request))
        assert chain.process.wait(240) != 0
    with Running(tmp_path, "--block-time", "0") as chain:
        assert chain.nonce(ALICE) < nonce + 10
        chain.send(ALICE, HELLO, call("set_greeting", {"text": "again"}, deposit=NEAR))
        assert chain.view("get_greeting") == "again"
        assert chain.stop() == 0


@pytest.mark.network
def test_a_chain_that_makes_no_blocks_any_more_does_not_go_on_serving(tmp_path: Path) -> None:
    class Broken(Chain):
        def produce(self, *, budget: float = float("inf")) -> Block:
            raise RuntimeError("a fault of ours")

    store = Store(tmp_path / "chain.sqlite")
    try:
        chain = Broken(store, Options(), {})
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = serve(chain, tmp_path, listener, 0.01)
            with pytest.raises(RuntimeError, match="a fault of ours"):
                asyncio.run(asyncio.wait_for(serving, 240))
    finally:
        store.close()


def test_genesis_amounts_are_numbers_or_text(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(
        json.dumps(
            {
                "a.near": {"amount": 10**24, "public_keys": [KEY]},
                "b.near": {"amount": "5", "public_keys": []},
            }
        )
    )
    assert read_genesis(path) == {"a.near": (10**24, (KEY,)), "b.near": (5, ())}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "an object"),
        ('{"A": {"amount": 1, "public_keys": []}}', "is not the name of an account"),
        ('{"a.near": 5}', "amount and public_keys expected"),
        ('{"a.near": {"amount": 1, "public_keys": [], "more": 1}}', "amount and public_keys"),
        ('{"a.near": {"amount": -1, "public_keys": []}}', "not a number of yoctoNEAR"),
        ('{"a.near": {"amount": true, "public_keys": []}}', "not a number of yoctoNEAR"),
        ('{"a.near": {"amount": "1e3", "public_keys": []}}', "not a number of yoctoNEAR"),
        ('{"a.near": {"amount": 1}}', "public_keys of a.near"),
        ('{"a.near": {"amount": 1, "public_keys": ["ed25519:0"]}}', "base58"),
    ],
)
def test_a_bad_genesis_names_its_file_and_its_fault(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_genesis(path)
    assert str(path) in str(caught.value)


def test_base58_is_the_one_of_bitcoin() -> None:
    assert base58(b"\0\0hello world") == "11StV1DL6CwTryKyV"
    assert base58(bytes(32)) == "1" * 32
