"""A standing that no table knows: of a later contract, or from an endpoint that makes things up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from eth_abi.abi import encode

from deai.chain.ledger import ChainInfo
from deai.chain.near.ledger import NearLedger
from deai.chain.pool import Pool, Request
from deai.chain.sei.ledger import SeiLedger
from deai.errors import LedgerUnreachable
from deai.ids import NEAR, SEI, AccountId, ChainName, NodeId, hexed, node_id
from deai.signing import Domain
from deai.standing import Standing

OPERATOR = AccountId("0x" + "0a" * 20)


class Answers:
    """An endpoint that has one answer."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    async def batch(self, requests: Sequence[Request]) -> list[object]:
        return [self._answer for _ in requests]


def info(chain: ChainName, account: str) -> ChainInfo:
    contracts = {
        name: AccountId(account) for name in ("ComputeToken", "NodeRegistry", "TaskEscrow")
    }
    domain = Domain("deai", 1, AccountId("0x" + "00" * 20))
    return ChainInfo(
        name=chain, kind="test", chain_id=1, contracts=contracts, registry=domain, escrow=domain,
        deployed_at=1,
    )  # fmt: skip


def on_sei(standing: int) -> tuple[SeiLedger, NodeId]:
    owner = "0x" + "0b" * 20
    kinds = ["address", "address", "uint8", "uint24", "uint40", "uint40", "uint16", "uint128",
             "uint128", "uint40"]  # fmt: skip
    values: list[Any] = [owner, OPERATOR, standing, 100_000, 7, 0, 3, 500, 0, 0]
    pool = cast("Pool", Answers(hexed(encode(kinds, values))))
    return SeiLedger(pool, info(SEI, owner), None, None), node_id(AccountId(owner), 0)


def on_near(standing: str) -> tuple[NearLedger, NodeId]:
    node = NodeId("alice.near#0")
    found = {
        "node": node, "operator": "ed25519:6E8sCci9badyRkXb3JoRpBj5p8C6Tw41ELDZoiihKEtp",
        "standing": standing, "bonded": "500", "unbonding": "0", "unbond_at": 0,
        "reputation": 100_000, "checked_tasks": 3, "epoch": 7,
    }  # fmt: skip
    answer = {"result": list(json.dumps(found).encode())}
    pool = cast("Pool", Answers(answer))
    return NearLedger(pool, info(NEAR, "deai.near"), None, None, None), node


async def test_a_known_standing_is_read() -> None:
    for ledger, node in (on_sei(4), on_near("jailed")):
        record = await ledger.node(node)
        assert record is not None
        assert (record.standing, record.stake) == (Standing.JAILED, 500)


@pytest.mark.parametrize("number", [6, 255])
async def test_an_unknown_number_is_an_answer_that_makes_no_sense(number: int) -> None:
    ledger, node = on_sei(number)
    with pytest.raises(LedgerUnreachable, match=f"makes no sense: no standing .* {number}"):
        await ledger.node(node)


@pytest.mark.parametrize("word", ["frozen", "", "probation "])
async def test_an_unknown_word_is_an_answer_that_makes_no_sense(word: str) -> None:
    ledger, node = on_near(word)
    with pytest.raises(LedgerUnreachable, match=r"makes no sense: .*not a standing"):
        await ledger.node(node)
