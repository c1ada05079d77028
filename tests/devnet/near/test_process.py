"""The process: its files, its lock, its end, and what a ``kill -9`` may not take away."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from deai.errors import ConfigError
from devnet.near.chain import Options, open_chain
from devnet.near.genesis import read_genesis
from devnet.near.keys import base58
from devnet.near.rules import NEAR
from tests.devnet.evm.tools import eventually
from tests.devnet.near.process import Running
from tests.devnet.near.tools import ALICE, BOB, HELLO, SUPPLY, call, keys, transfer

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
            capture_output=True, text=True, timeout=60, check=False,
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
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert other.returncode == ConfigError.exit_status
    assert "chain_id localnet, not other" in other.stderr


@pytest.mark.chain
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("pace", ["0.03", "0"])
def test_a_kill_never_takes_back_what_was_acknowledged(tmp_path: Path, pace: str) -> None:
    chance = random.Random(11)
    known: dict[str, Any] = {}
    height = stakes = 0

    def check(chain: Running) -> None:
        assert chain.head()["height"] >= height
        for sent, outcome in known.items():
            found = chain.rpc("tx", {"tx_hash": sent, "sender_account_id": ALICE})
            assert found["transaction_outcome"] == outcome["transaction_outcome"]
            assert found["status"] == outcome["status"]
        if stakes:
            assert int(chain.view("stake_of", {"account_id": ALICE})) >= stakes

    for kill in range(KILLS):
        with Running(tmp_path, "--block-time", pace) as chain:
            if not kill:
                chain.install()
            check(chain)
            for _ in range(chance.randrange(2, 5)):
                nonce = chain.nonce(ALICE)
                waiting = [
                    chain.sign(
                        ALICE, HELLO, call("stake", deposit=NEAR // 1_000), nonce=nonce + more
                    )
                    for more in range(1, 11)
                ]
                for raw in waiting[:-1]:
                    chain.rpc("broadcast_tx_async", [raw])
                done = chain.rpc("broadcast_tx_commit", [waiting[-1]])
                known[done["transaction"]["hash"]] = done
                stakes = int(chain.view("stake_of", {"account_id": ALICE}))
                height = chain.head()["height"]
            # It goes in the middle of its work: some calls have just been sent.
            for more in range(11, 16):
                raw = chain.sign(ALICE, HELLO, call("ask", {"contract": HELLO}), nonce=nonce + more)
                chain.rpc("broadcast_tx_async", [raw])
            chain.kill()
    assert len(known) >= 2 * KILLS
    with Running(tmp_path, "--block-time", "0") as chain:
        check(chain)
        # What had begun before a kill ends after it.
        chain.send(BOB, BOB, transfer(1))
        assert chain.stop() == 0
    reopened = open_chain(tmp_path / "chain.sqlite", Options(), {})
    try:
        reopened.settle()
        assert not reopened.pending.postponed
        assert not reopened.books.open
        assert reopened.supply() + reopened.books.burnt == SUPPLY
        blocks = [reopened.store.block(number) for number in range(reopened.head.height + 1)]
        for block, previous in pairwise(reversed([one for one in blocks if one])):
            assert block.previous_hash == previous.hash
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
        subprocess.run(command, check=True, timeout=10)
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
        assert eventually(chain.process.poll) != 0
    with Running(tmp_path, "--block-time", "0") as chain:
        assert chain.nonce(ALICE) < nonce + 10
        chain.send(ALICE, HELLO, call("set_greeting", {"text": "again"}, deposit=NEAR))
        assert chain.view("get_greeting") == "again"
        assert chain.stop() == 0


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
