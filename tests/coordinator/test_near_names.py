"""Nodes and accounts of NEAR on pages, in requests and in sums."""

from __future__ import annotations

import pytest

from coordinator.api.params import one_node, some_nodes
from coordinator.api.problems import Problem
from coordinator.indexer.reducer import apply
from coordinator.pages import render
from deai.client.coordinator import signed_of
from deai.events import LedgerRecord, Position, TokensMoved
from deai.ids import AccountId
from deai.money import Amount
from deai.signing import Ed25519Signer
from tests.coordinator.index import Index

LONG = "1c" * 32 + "#12"


@pytest.mark.parametrize(
    ("node", "end"),
    [("alice.near#0", "near"), (LONG, "1c1c/12"), ("0x" + "ab" * 20 + "0" * 24, "abab")],
)
def test_a_node_is_linked_by_its_quoted_id_and_told_by_its_owners_end(node: str, end: str) -> None:
    macros = render.environment().get_template("macros.html").module
    text = str(macros.node(node))  # type: ignore[attr-defined]
    assert f'href="/nodes/{node.replace("#", "%23")}"' in text
    assert f'title="{node}"' in text
    assert f"{end}</span>" in text


def test_requests_name_nodes_of_either_chain() -> None:
    sei = "0x" + "ab" * 32
    assert some_nodes(f"alice.near#0,{sei.upper().replace('X', 'x')}") == ["alice.near#0", sei]
    for text in ("alice.near", "alice.near#01", "alice.near#", "#0", "0xab#0#1", "<b>#0"):
        with pytest.raises(Problem):
            one_node(text)


@pytest.mark.parametrize("nobody", ["0x" + "0" * 40, "system"])
def test_mints_and_burns_of_either_chain_are_summed(nobody: str) -> None:
    index, holder = Index(), AccountId("alice.near")
    for number, (sender, receiver, amount) in enumerate(
        [(AccountId(nobody), holder, 100), (holder, AccountId(nobody), 30)]
    ):
        event = TokensMoved(sender, receiver, Amount(amount))
        position = Position(block=1, index=number, block_hash="h", time=1, transaction="t")
        index.put(apply(index, LedgerRecord(position, event)))
    assert (index.sums.minted, index.sums.burned) == (100, 30)


def test_an_offer_that_a_near_key_signed_is_passed_on() -> None:
    operator = Ed25519Signer(bytes(range(32))).account
    found = signed_of({"body": "AA==", "signature": "A" * 86 + "==", "operator": operator})
    assert found is not None
    assert found.operator == operator
    assert signed_of({"body": "AA==", "signature": "A" * 86 + "==", "operator": "alice"}) is None
