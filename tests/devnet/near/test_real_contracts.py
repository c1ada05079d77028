"""The token that ships: its promises and callbacks, in order and in every other order."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from devnet.near.chain import Options
from devnet.near.rules import NEAR, TGAS
from tests.devnet.near.tools import ALICE, BOB, HELLO, ROOT, Result, World, a_world, call, deploy

ARTIFACTS = Path(__file__).parents[3] / "deai/chain/artifacts/near"
SUPPLY = 10**27


def send(world: World, signer: str, method: str, arguments: Any, deposit: int = 1) -> Result:
    made = call(method, arguments, gas=100 * TGAS, deposit=deposit)
    return world.send(signer, ROOT, made)


def balances(world: World) -> list[int]:
    return [
        int(world.view("ft_balance_of", {"account_id": name}, ROOT)) for name in (ALICE, BOB, HELLO)
    ]


@pytest.mark.parametrize("shuffle", [None, 1, 2, 3])
def test_a_transfer_whose_receiver_fails_comes_back(tmp_path: Path, shuffle: int | None) -> None:
    code = (ARTIFACTS / "token.wasm").read_bytes()
    sums = (ARTIFACTS / "SHA256SUMS").read_text()
    assert f"{hashlib.sha256(code).hexdigest()}  token.wasm" in sums
    with a_world(tmp_path, Options(shuffle=shuffle)) as world:
        begin = call("new", {"holder": ALICE, "supply": str(SUPPLY)}, gas=30 * TGAS)
        assert world.send(ROOT, ROOT, deploy(code), begin).value is None
        for name in (BOB, HELLO):
            paid = world.balance(ALICE)
            kept = send(world, ALICE, "storage_deposit", {"account_id": name}, NEAR).value
            assert 0 < int(kept["total"]) < NEAR // 100
            assert paid - world.balance(ALICE) < NEAR // 50  # the rest came back
        assert send(world, ALICE, "ft_transfer", {"receiver_id": BOB, "amount": "7"}).value is None
        assert balances(world) == [SUPPLY - 7, 7, 0]
        # Neither an account without a contract nor one without the method can keep the money.
        for name in (BOB, HELLO):
            moved = {"receiver_id": name, "amount": "5", "msg": ""}
            done = send(world, ALICE, "ft_transfer_call", moved)
            assert done.value == "0"
            assert any("Failure" in one["outcome"]["status"] for one in done.outcomes.values())
            assert balances(world) == [SUPPLY - 7, 7, 0]
        too_much = {"receiver_id": BOB, "amount": str(SUPPLY)}
        assert "enough balance" in send(world, ALICE, "ft_transfer", too_much).failure
        assert "1 yoctoNEAR" in send(world, ALICE, "ft_transfer", too_much, 0).failure
        assert balances(world) == [SUPPLY - 7, 7, 0]
