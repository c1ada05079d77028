"""Each chain's adapter is found by its name, needs its own kind of key, and costs nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deai.chain.opening import open_ledger
from deai.errors import ConfigError, MalformedMessage
from deai.ids import (
    NEAR,
    SEI,
    account_on,
    any_account,
    any_node,
    index_of,
    key_on,
    node_of,
    node_on,
    parse_operator,
)
from deai.network import ChainEntry, load_network
from deai.signing import Ed25519Signer, LocalSigner, Signer

SECRET = bytes(range(32))
ADDRESS = "0x" + "ab" * 20
KEY = Ed25519Signer(SECRET).account
ON_SEI: dict[str, Any] = {
    "kind": "public", "chain_id": 1329, "rpc_urls": ["http://127.0.0.1:1"],
    "contracts": dict.fromkeys(("ComputeToken", "NodeRegistry", "TaskEscrow"), ADDRESS),
}  # fmt: skip
ON_NEAR: dict[str, Any] = {
    "kind": "public", "chain_id": "near:testnet", "rpc_urls": ["http://127.0.0.1:1"],
    "contracts": {
        "ComputeToken": "token.testnet",
        "NodeRegistry": "compute.testnet", "TaskEscrow": "compute.testnet",
    },
}  # fmt: skip


def entry(document: dict[str, Any]) -> ChainEntry:
    return ChainEntry(**{**document, "rpc_urls": tuple(document["rpc_urls"])})


@pytest.mark.parametrize(
    ("chain", "document", "signer"),
    [(SEI, ON_SEI, Ed25519Signer(SECRET)), (NEAR, ON_NEAR, LocalSigner(SECRET))],
)
async def test_a_key_of_the_other_chain_opens_nothing(
    chain: str, document: dict[str, Any], signer: Signer
) -> None:
    with pytest.raises(ConfigError, match=f"is not one for {chain}"):
        async with open_ledger(chain, entry(document), signer):
            pytest.fail("opened")


async def test_an_unknown_chain_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown chain: 'eth'"):
        async with open_ledger("eth", entry(ON_SEI)):
            pytest.fail("opened")


def test_nobody_on_sei_loads_what_near_needs() -> None:
    code = (
        "import sys, deai.client.access, deai.chain.opening, deai.chain.sei.ledger\n"
        "print([m for m in ('py_near', 'aiohttp', 'wasmtime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_network_may_name_both_chains(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps({"name": "n", "chains": {"sei": ON_SEI, "near": ON_NEAR}}))
    network = load_network(path)
    assert network.chains[NEAR].escrow.chain_id == "near:testnet"
    assert network.chains[SEI].evm_chain_id == 1329


@pytest.mark.parametrize(
    ("chain", "change", "problem"),
    [
        ("eth", {}, "chains.eth: no such chain"),
        ("sei", {"chain_id": "near:testnet"}, "chains.sei.chain_id: a number is expected"),
        ("near", {"chain_id": 1329}, "chains.near.chain_id: near: and a name is expected"),
        ("near", {"chain_id": "testnet"}, "chains.near.chain_id: near: and a name is expected"),
        ("sei", {"contracts": ON_NEAR["contracts"]}, "chains.sei.contracts.ComputeToken: not an"),
        (
            "near",
            {"contracts": ON_NEAR["contracts"] | {"TaskEscrow": "other.testnet"}},
            "NodeRegistry and TaskEscrow are one account on NEAR",
        ),
        ("near", {"contracts": {"ComputeToken": "token.testnet"}}, "lacks NodeRegistry, TaskEscr"),
    ],
)
def test_an_entry_that_cannot_be_of_its_chain_is_named(
    tmp_path: Path, chain: str, change: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "network.json"
    document = (ON_NEAR if chain == "near" else ON_SEI) | change
    path.write_text(json.dumps({"name": "n", "chains": {chain: document}}))
    with pytest.raises(ConfigError) as caught:
        load_network(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_names_are_read_in_their_chains_own_form() -> None:
    assert account_on(SEI, ADDRESS.upper().replace("X", "x")) == any_account(ADDRESS) == ADDRESS
    assert account_on(NEAR, "alice.near") == any_account("alice.near") == "alice.near"
    for chain, owner in ((SEI, ADDRESS), (NEAR, "alice.near")):
        node = node_of(chain, account_on(chain, owner), 7)
        assert node_on(chain, node) == any_node(node) == node
        assert index_of(node) == 7
    assert parse_operator(KEY) == KEY
    assert parse_operator(ADDRESS) == ADDRESS
    assert (key_on(SEI, ADDRESS.upper().replace("X", "x")), key_on(NEAR, KEY)) == (ADDRESS, KEY)
    for chain, other in ((SEI, KEY), (NEAR, ADDRESS), (NEAR, "alice.near"), (SEI, "0x12")):
        with pytest.raises(MalformedMessage):
            key_on(chain, other)


@pytest.mark.parametrize(
    ("chain", "text"), [(SEI, "alice.near"), (NEAR, "Alice.near"), (NEAR, "a" * 65), (SEI, "")]
)
def test_a_name_of_another_form_is_refused(chain: str, text: str) -> None:
    with pytest.raises(MalformedMessage):
        account_on(chain, text)
    with pytest.raises(MalformedMessage):
        node_on(chain, text)


@pytest.mark.parametrize(
    "text", ["ed25519:", "ed25519:" + "1" * 44, "rsa:abc", "alice.near", KEY + "0"]
)
def test_what_verifies_no_signature_is_no_operator(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parse_operator(text)
