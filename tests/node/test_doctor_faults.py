"""The doctor finds each thing that can be wrong, calls nothing else wrong, and says what to do."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pytest

from deai.actions import RequestUnstake
from deai.chain.gas import GAS
from deai.ids import SEI
from deai.keys import create_key, load_signer
from deai.money import UNIT, Amount
from deai.network import BootstrapPeer, save_network
from node import doctor
from node.config import NodeConfig
from node.doctor import Check, Doctor
from node.home import Home
from tests.node.support.bench import SmallBench
from tests.node.support.names import peer
from tests.node.test_setup import Setting

pytestmark = pytest.mark.world

STAKE = 1_000 * UNIT


class Disk(NamedTuple):
    """As `shutil.disk_usage` answers."""

    total: int
    used: int
    free: int


class Patient:
    """A node that is set up and lacks nothing, until something is done to it."""

    def __init__(self, setting: Setting, patch: pytest.MonkeyPatch, hub: socket.socket) -> None:
        self.setting, self.patch, self.hub = setting, patch, hub
        self.home: Home = setting.home
        self.config = NodeConfig(listen=("/ip4/127.0.0.1/tcp/0",))
        self.off = 0
        """Seconds by which this machine's clock is ahead of the chain's."""
        self.level = "full"
        patch.setattr(doctor, "open_ledger", setting.open_ledger)
        patch.setattr(doctor, "open_workbench", self._workbench)
        patch.setattr("node.doctor.time.time", lambda: setting.chain.now + self.off)

    @asynccontextmanager
    async def _workbench(self, *_: object) -> AsyncIterator[SmallBench]:
        patient = self

        class Bench(SmallBench):
            @property
            def sandbox(self) -> Any:
                return msgspec.structs.replace(super().sandbox, level=patient.level)

        yield Bench()

    async def examined(self) -> dict[str, Check]:
        checks = await Doctor(self.home, self.config).examine()
        return {check.name: check for check in checks}


@pytest.fixture
def hub() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
async def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: socket.socket) -> Patient:
    setting = Setting(tmp_path)
    address = f"/ip4/127.0.0.1/tcp/{hub.getsockname()[1]}"
    setting.network = msgspec.structs.replace(
        setting.network, bootstrap=(BootstrapPeer(peer_id=peer("hub"), addresses=(address,)),)
    )
    save_network(setting.network, setting.file)
    first = await setting.init()
    assert first.registration is not None
    await setting.fund(first.registration.owner, STAKE)
    assert (await setting.init(stake=STAKE)).needs is None
    return Patient(setting, monkeypatch, hub)


async def too_little_gas(patient: Patient) -> None:
    patient.patch.setattr(doctor, "GAS", {SEI: GAS[SEI]._replace(operator=10**30)})


async def unbonding(patient: Patient) -> None:
    known = patient.home.load_registration()
    owner = load_signer(patient.home.owner_key, patient.home.passphrase, chain=SEI)
    await patient.setting.chain.ledger(owner).submit(
        RequestUnstake(known.node_id, Amount(STAKE)), key="leave"
    )


async def another_key(patient: Patient) -> None:
    patient.home.operator_key.unlink()
    create_key(patient.home.operator_key, patient.home.passphrase)


async def readable_key(patient: Patient) -> None:
    patient.home.operator_key.chmod(0o644)


async def damaged_network(patient: Patient) -> None:
    patient.home.network.write_text("{")


async def silent_chain(patient: Patient) -> None:
    patient.setting.chain.set_reachable(False)


async def wrong_clock(patient: Patient) -> None:
    patient.off = 3600


async def full_disk(patient: Patient) -> None:
    patient.patch.setattr(
        "node.doctor.shutil.disk_usage", lambda _: Disk(1 << 40, 1 << 40, 1 << 20)
    )


async def open_sandbox(patient: Patient) -> None:
    patient.level = "none"


async def taken_port(patient: Patient) -> None:
    patient.config = NodeConfig(listen=(f"/ip4/127.0.0.1/tcp/{patient.hub.getsockname()[1]}",))


async def silent_hub(patient: Patient) -> None:
    patient.hub.close()


Fault: TypeAlias = Callable[[Patient], Awaitable[None]]

FAULTS: list[tuple[Fault, set[str]]] = [
    (another_key, {"keys"}),
    (readable_key, {"keys"}),
    (unbonding, {"stake"}),
    (too_little_gas, {"operator_gas"}),
    (silent_chain, {"chain", "clock", "stake", "operator_gas"}),
    (damaged_network, {"network", "chain", "clock", "stake", "operator_gas", "hubs"}),
    (wrong_clock, {"clock"}),
    (full_disk, {"disk"}),
    (open_sandbox, {"worker"}),
    (taken_port, {"port"}),
    (silent_hub, {"hubs"}),
]


async def test_a_node_that_lacks_nothing_passes_every_check(patient: Patient) -> None:
    found = await patient.examined()
    assert {name: check.detail for name, check in found.items() if not check.ok} == {}
    wanted = {
        "keys",
        "network",
        "chain",
        "clock",
        "stake",
        "operator_gas",
        "port",
        "disk",
        "worker",
    }
    assert wanted <= found.keys()


@pytest.mark.parametrize(("fault", "wrong"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
async def test_what_is_wrong_is_found_alone_and_answered_with_what_to_do(
    patient: Patient, fault: Fault, wrong: set[str]
) -> None:
    await fault(patient)
    found = await patient.examined()
    assert {name for name, check in found.items() if not check.ok} == wrong
    assert all(found[name].fix and found[name].detail for name in wrong)
