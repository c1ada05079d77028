"""The process: its files, its lock, its end, and what a ``kill -9`` may not take away."""

import json
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from deai.errors import ConfigError
from devnet.evm.genesis import read_genesis
from devnet.serving import locked, publish_ready
from tests.devnet.evm.tools import KEYS, Running, sign

BATCH = 20
KILLS = 3


@pytest.mark.chain
@pytest.mark.network
def test_ready_says_where_it_serves_and_goes_away_at_the_end(tmp_path: Path) -> None:
    with Running(tmp_path) as chain:
        assert set(chain.ready) == {"pid", "rpc_url", "ws_url", "chain_id"}
        assert chain.ready["chain_id"] == 713_714
        second = subprocess.run(
            [sys.executable, "-m", "devnet.evm", "--dir", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert second.returncode == ConfigError.exit_status
        assert "in use by another chain process" in second.stderr
        assert "Traceback" not in second.stderr
        assert chain.rpc("eth_chainId") == hex(713_714)
        assert chain.stop() == 0
    assert not (tmp_path / "ready.json").exists()


@pytest.mark.chain
@pytest.mark.network
@pytest.mark.slow
def test_a_kill_never_takes_back_an_acknowledged_block(tmp_path: Path) -> None:
    chance = random.Random(7)
    known: dict[str, dict[str, Any]] = {}
    head = nonce = 0

    def check(chain: Running) -> None:
        assert int(chain.rpc("eth_blockNumber"), 16) >= head
        assert int(chain.rpc("eth_getTransactionCount", KEYS[0].address, "latest"), 16) >= nonce
        for sent, receipt in known.items():
            assert chain.rpc("eth_getTransactionReceipt", sent) == receipt

    for _ in range(KILLS):
        with Running(tmp_path, "--block-time", "0.05") as chain:
            check(chain)
            following = int(chain.rpc("eth_getTransactionCount", KEYS[0].address), 16)
            hashes: list[str] = []
            for _batch in range(chance.randrange(2, 5)):
                for _transaction in range(BATCH):
                    raw = sign(KEYS[0], following + len(hashes), KEYS[1].address, value=1)
                    hashes.append(chain.send(raw))
                chain.receipt(hashes[0])
            # It is in the middle of its blocks: note what it admits to, and kill it at once.
            for sent in hashes:
                receipt = chain.rpc("eth_getTransactionReceipt", sent)
                if receipt is not None:
                    known[sent] = receipt
            nonce = int(chain.rpc("eth_getTransactionCount", KEYS[0].address), 16)
            head = int(chain.rpc("eth_blockNumber"), 16)
            chain.kill()
    assert len(known) >= KILLS * BATCH
    with Running(tmp_path, "--block-time", "3600") as chain:
        check(chain)
        blocks = [
            chain.rpc("eth_getBlockByNumber", hex(number), False) for number in range(head + 1)
        ]
        assert all(block["parentHash"] == parent["hash"] for parent, block in pairwise(blocks))
        assert chain.stop() == 0


@pytest.mark.chain
@pytest.mark.network
def test_a_full_disk_ends_the_process_instead_of_answering_from_memory(tmp_path: Path) -> None:
    with Running(tmp_path, "--block-time", "3600") as chain:
        # A limit on the size of files is what a full disk is to a writer, without filling one.
        limit = max(entry.stat().st_size for entry in tmp_path.iterdir()) + 8_192
        command = ["prlimit", f"--pid={chain.process.pid}", f"--fsize={limit}"]
        subprocess.run(command, check=True, timeout=60)
        raws = [
            sign(KEYS[0], nonce, KEYS[1].address, data=os.urandom(4_000), gas=1_000_000)
            for nonce in range(10)
        ]
        sent = [chain.send(raw) for raw in raws]
        answer = chain.post('{"jsonrpc": "2.0", "id": 1, "method": "evm_mine"}')
        assert answer.status_code == 500
        assert chain.process.wait(240) != 0
    with Running(tmp_path, "--block-time", "3600") as chain:
        assert chain.rpc("eth_getTransactionReceipt", sent[0]) is None
        assert chain.rpc("eth_getTransactionCount", KEYS[0].address, "latest") == "0x0"
        assert chain.stop() == 0


def test_ready_is_complete_for_whoever_sees_it(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        publish_ready(tmp_path / "new", rpc_url="http://a", ws_url="ws://a", chain_id=5)
        document = json.loads((tmp_path / "new" / "ready.json").read_text())
        assert document == {
            "pid": os.getpid(),
            "rpc_url": "http://a",
            "ws_url": "ws://a",
            "chain_id": 5,
        }
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["lock"]


def test_a_stale_ready_file_is_removed_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "ready.json").write_text("{}")
    with locked(tmp_path):
        assert not (tmp_path / "ready.json").exists()


def test_genesis_amounts_are_numbers_or_text(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps({"0x" + "11" * 20: 10**22, "22" * 20: "5"}))
    assert read_genesis(path) == {b"\x11" * 20: 10**22, b"\x22" * 20: 5}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "an object"),
        ('{"0x12": 1}', "is not an address"),
        ('{"0xzz": 1}', "is not an address"),
        ('{"0x1111111111111111111111111111111111111111": -1}', "not a number of wei"),
        ('{"0x1111111111111111111111111111111111111111": 1.5}', "not a number of wei"),
        ('{"0x1111111111111111111111111111111111111111": true}', "not a number of wei"),
        ('{"0x1111111111111111111111111111111111111111": "1e3"}', "not a number of wei"),
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


def test_a_missing_genesis_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_genesis(tmp_path / "none.json")
