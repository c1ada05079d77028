"""NEAR's names, keys and signatures: one text form each, and nothing of Sei verifies there."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from deai import tasks
from deai.errors import BadSignature, MalformedMessage
from deai.ids import (
    AccountId,
    base58,
    near_node_id,
    node_id,
    owner_of,
    parse_base58,
    parse_near_account,
    parse_near_node,
    raw,
)
from deai.money import Amount
from deai.signing import Domain, Ed25519Signer, LocalSigner, public_key, verify

VECTORS = json.loads(
    (Path(__file__).parents[2] / "contracts" / "spec" / "vectors" / "near.json").read_text()
)
ESCROW = Domain(tasks.ESCROW_NAME, "near:testnet", AccountId("compute.deai.testnet"))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["node"])
def test_every_signature_of_the_vectors_is_by_its_key(case: dict[str, object]) -> None:
    digests, signatures = case["digests"], case["signatures"]
    assert isinstance(digests, dict)
    assert isinstance(signatures, dict)
    for name, digest in digests.items():
        verify(raw(digest), base64.b64decode(signatures[name]), AccountId(str(case["operator"])))


@pytest.mark.parametrize("text", VECTORS["badNodes"])
def test_a_text_that_is_no_node_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parse_near_node(text)


@pytest.mark.parametrize("text", VECTORS["badKeys"], ids=lambda text: text[:20])
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        public_key(text)


@pytest.mark.parametrize(
    "text", ["a", "A.near", "a..b", ".a", "a.", "a-.b", "é.near", "a" * 65, ""]
)
def test_a_text_that_is_no_account_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parse_near_account(text)


def test_a_node_names_its_owner_on_both_chains() -> None:
    near, sei = AccountId("alice.near"), AccountId("0x" + "ab" * 20)
    assert owner_of(near_node_id(near, 3)) == near
    assert parse_near_node("alice.near#3") == near_node_id(near, 3)
    assert owner_of(node_id(sei, 3)) == sei


@given(st.binary(min_size=1, max_size=40))
def test_base58_gives_back_the_same_bytes(data: bytes) -> None:
    assert parse_base58(base58(data), len(data)) == data


@given(st.text(max_size=60))
def test_any_other_text_is_no_key(text: str) -> None:
    try:
        data = parse_base58(text, 32)
    except MalformedMessage:
        return
    assert base58(data) == text


def test_a_signature_for_one_chain_is_none_on_the_other() -> None:
    secret = b"\x01" * 32
    near, sei = Ed25519Signer(secret), LocalSigner(secret)
    digest = b"\x02" * 32
    with pytest.raises(BadSignature):
        verify(digest, sei.sign(digest), near.account)
    with pytest.raises(BadSignature):
        verify(digest, near.sign(digest), sei.account)


def test_the_same_words_have_other_digests_on_the_other_chain_and_in_another_contract() -> None:
    task = tasks.task_id(
        tasks.Task(
            AccountId("a.near"), 0, 1, Amount(1), Amount(0), 3, tasks.Policy.EXACT,
            10, 100, 10, bytes(32),
        ),
        ESCROW,
    )  # fmt: skip
    domains = [
        ESCROW,
        Domain(tasks.ESCROW_NAME, "near:mainnet", ESCROW.contract),
        Domain(tasks.ESCROW_NAME, "near:testnet", AccountId("other.testnet")),
        Domain(tasks.REGISTRY_NAME, "near:testnet", ESCROW.contract),
        Domain(tasks.ESCROW_NAME, 1329, AccountId("0x" + "11" * 20)),
    ]
    digests = {tasks.commit_digest(domain, task, 0, 0, bytes(32)) for domain in domains}
    assert len(digests) == len(domains)


def test_a_name_of_the_other_chain_is_refused_not_hashed() -> None:
    sei = Domain(tasks.ESCROW_NAME, 1329, AccountId("0x" + "11" * 20))
    with pytest.raises(MalformedMessage):
        tasks.operate_digest(sei, near_node_id(AccountId("a.near"), 0), AccountId("0x00"), 0)


def test_a_key_never_shows_its_secret() -> None:
    secret = b"\x05" * 32
    assert repr(Ed25519Signer(secret)).startswith("Ed25519Signer(ed25519:")
    assert secret.hex() not in repr(Ed25519Signer(secret))
