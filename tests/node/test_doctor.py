"""What the doctor says of money: base units for programs, tokens for people."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from deai.money import UNIT
from node import doctor, screens
from node.config import NodeConfig
from node.doctor import Doctor
from tests.node.test_setup import Setting


async def test_the_stake_is_shown_in_tokens_and_documented_in_base_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(tmp_path)
    first = await setting.init()
    assert first.registration is not None
    await setting.fund(first.registration.owner, 1_250 * UNIT)
    await setting.init(stake=1_250 * UNIT)
    monkeypatch.setattr(doctor, "open_ledger", setting.open_ledger)
    found = {check.name: check for check in await Doctor(setting.home, NodeConfig()).examine()}
    checks = [found["stake"], found["operator_gas"]]

    least = int((await setting.chain.ledger(None).parameters()).min_stake)
    stake, gas = (check.document() for check in checks)
    assert stake["detail"].startswith(f"{1_250 * UNIT} of at least {least}, ")
    assert gas["detail"].endswith(" wei")
    assert set(stake) == {"name", "ok", "detail", "fix"}
    out = io.StringIO()
    screens.doctor(Console(file=out, width=120), checks)
    assert "1,250.000000 CT of at least " in out.getvalue()
    assert str(UNIT)[1:] not in out.getvalue(), "no base units on a screen"
    assert "of the chain's coin" in out.getvalue()
