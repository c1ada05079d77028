"""The second implementation: same gas to the unit, same contract for whoever starts it."""

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deai.errors import NotSetUp
from devnet.evm.anvil import find_anvil
from devnet.evm.rules import ETHEREUM_SSTORE_SET_GAS
from tests.devnet.evm.tools import (
    DIVER,
    KEEPER,
    KEYS,
    READER,
    REFUSER,
    RICH,
    SPINNER,
    Running,
    sign,
    words,
)
from tests.support.polling import wait

SCENARIO: list[tuple[int | None, bytes, int]] = [
    # (contract by its position or None, data, value): deployments first
    (None, KEEPER, 0),
    (None, READER, 0),
    (None, REFUSER, 0),
    (None, DIVER, 0),
    (None, SPINNER, 0),
    (0, words(1, 5), 0),  # a fresh slot
    (0, words(1, 6), 0),  # changed
    (0, words(1, 6), 0),  # the same again
    (0, words(1, 0), 0),  # cleared, with a refund
    (0, words(1, 7), 0),  # fresh again
    (0, words(1), 0),  # short input
    (1, words(1), 0),  # a cold read
    (2, b"no", 0),  # reverts
    (2, b"", 3),  # reverts with money
    (3, b"", 0),  # as deep as the gas reaches
    (4, b"", 0),  # burns everything
    (3, b"\x01" * 3_000, 0),  # the floor price of data
]


@pytest.fixture(scope="module")
def binary() -> Path:
    try:
        return find_anvil()
    except NotSetUp as missing:
        pytest.skip(f"{missing}: {missing.hint}")


@pytest.fixture
def anvil(binary: Path, tmp_path: Path) -> Iterator[Running]:
    flags = ("--anvil", str(binary), "--block-time", "0.1")
    with Running(tmp_path / "anvil", *flags, module="devnet.evm.anvil") as running:
        yield running


def gas_of(chain: Running) -> list[tuple[str, int, int]]:
    """Run the scenario; returns status, gas and number of logs of every step."""
    contracts: list[str] = []
    hashes: list[str] = []
    for nonce, (target, data, value) in enumerate(SCENARIO):
        to = None if target is None else contracts[target]
        hashes.append(chain.send(sign(KEYS[0], nonce, to, data=data, value=value, gas=400_000)))
        if target is None:
            contracts.append(chain.receipt(hashes[-1])["contractAddress"])
    found: list[dict[str, Any]] = [chain.receipt(one) for one in hashes]
    return [(one["status"], int(one["gasUsed"], 16), len(one["logs"])) for one in found]


@pytest.mark.chain
@pytest.mark.network
def test_gas_is_the_same_to_the_unit_at_the_price_of_ethereum(
    anvil: Running, tmp_path: Path
) -> None:
    flags = ("--block-time", "0.1", "--sstore-gas", str(ETHEREUM_SSTORE_SET_GAS))
    with Running(tmp_path / "ours", *flags) as ours:
        assert gas_of(ours) == gas_of(anvil)
        assert anvil.stop() == 0
        assert ours.stop() == 0


@pytest.mark.chain
@pytest.mark.network
def test_anvil_funds_the_genesis_and_keeps_its_state_over_a_proper_end(
    binary: Path, tmp_path: Path
) -> None:
    flags = ("--anvil", str(binary), "--block-time", "0.1")
    with Running(tmp_path, *flags, module="devnet.evm.anvil") as first:
        assert set(first.ready) == {"pid", "rpc_url", "ws_url", "chain_id"}
        assert int(first.rpc("eth_getBalance", KEYS[3].address, "latest"), 16) == RICH
        first.receipt(first.send(sign(KEYS[0], 0, KEYS[1].address, value=5)))
        assert first.stop() == 0
    with Running(tmp_path, *flags, module="devnet.evm.anvil") as again:
        assert int(again.rpc("eth_getBalance", KEYS[1].address, "latest"), 16) == RICH + 5
        assert int(again.rpc("eth_getTransactionCount", KEYS[0].address, "latest"), 16) == 1
        assert again.stop() == 0


@pytest.mark.chain
@pytest.mark.network
def test_anvil_does_not_outlive_the_process_that_started_it(anvil: Running) -> None:
    url = anvil.ready["rpc_url"]
    anvil.process.kill()

    def refused() -> bool:
        try:
            httpx.post(url, json={})
        except httpx.ConnectError:
            return True
        except httpx.HTTPError:
            return False  # it is just ending
        return False

    assert wait(refused)


def test_a_missing_anvil_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NotSetUp, match="anvil is not installed") as caught:
        find_anvil(tmp_path)
    assert "npm install" in caught.value.hint


def test_the_binary_of_npm_is_preferred_to_the_search_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/anvil")
    assert find_anvil(tmp_path) == Path("/usr/bin/anvil")
    binary = tmp_path / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
    binary.parent.mkdir(parents=True)
    binary.touch()
    assert find_anvil(tmp_path) == binary
