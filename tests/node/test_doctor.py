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
from node.gpu import gpus_here
from node.home import Home
from tests.node.test_setup import Setting
from tests.workloads.test_models import small_model
from workloads.models import import_model


@pytest.mark.slow
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


@pytest.mark.slow
async def test_before_the_set_up_every_check_answers_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    home = Home(tmp_path / "not" / "there")
    examiner = Doctor(home, NodeConfig(listen=()), system=tmp_path)
    found = {check.name: check for check in await examiner.examine()}
    assert {"keys", "network", "stake", "disk", "models", "worker"} <= set(found)
    assert found["disk"].detail.endswith(f"may use {512 + 4096}")
    assert all(check.fix for check in found.values() if not check.ok)
    assert found["gpu"].ok
    assert found["gpu"].detail == "NVIDIA GPU: not used yet, workers compute on the CPU"
    assert not home.path.exists()


@pytest.mark.parametrize(
    ("files", "models"),
    [
        ({"dev/null": ""}, ()),
        ({"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidiactl": ""}, ("NVIDIA GPU",) * 2),
        (
            {
                "dev/nvidia0": "",
                "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA X\nIRQ: 7\n",
            },
            ("NVIDIA X",),
        ),
        ({"proc/driver/nvidia/gpus/0000:01:00.0/information": "IRQ: 7\n"}, ("NVIDIA GPU",)),
    ],
)
def test_gpus_are_counted_and_named(
    tmp_path: Path, files: dict[str, str], models: tuple[str, ...]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert gpus_here(tmp_path) == models


async def test_damaged_weights_are_found_and_what_to_do_is_said(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    folder, manifest = small_model(tmp_path)
    digest = import_model("x", home.models, directory=folder, manifest=manifest)
    examiner = Doctor(home, NodeConfig(listen=()))
    assert (await doctor._one("models", examiner._models)).detail == "small"
    weights = home.models / digest / "model.safetensors"
    weights.write_bytes(b"\x99" + weights.read_bytes()[1:])
    check = await doctor._one("models", examiner._models)
    assert not check.ok
    assert "chunk 0 is damaged" in check.detail
    assert f"delete {home.models / digest}" in check.fix
