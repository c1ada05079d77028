"""Every call that anybody may make, played on the embedded chain and measured there.

A row's `call` is the gas of the contract's own receipt, `whole` that of the whole transaction with
all that follows from it, `storage` the bytes that the contract's account grows by.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deai import tasks
from deai.money import UNIT
from deai.tasks import Policy
from devnet.near.keys import base58
from devnet.near.rules import NEAR
from tests.contracts_near.recorder import Record, Recorder
from tests.contracts_near.world import (
    ARTIFACTS,
    CLIENT,
    DEPOSIT,
    EPOCH,
    GUARDIAN,
    LEASE,
    OWNER,
    OWNERS,
    PARAMETERS,
    SEATS,
    STAKE,
    STRANGER,
    TOKEN,
    UNBONDING,
    WINDOW,
    Ground,
    Play,
    World,
    a_world,
    b64,
    refusal,
)
from tests.devnet.near.tools import Result

Row = dict[str, int]


@dataclass(frozen=True)
class Measured:
    """One row, the receipts it was taken from, and the contract calls within them."""

    row: Row
    receipt: str  # whose gas is `call`
    records: list[Record]


class Meter:
    """Rows by name; what is refused is no measurement."""

    def __init__(self, world: Ground) -> None:
        self.world = world
        self.recorder = Recorder(world.chain)
        self.rows: dict[str, Measured] = {}
        self._records: list[Record] = []
        self._usage = world.usage()

    def add(self, row: str, done: Result, account: str = "") -> Result:
        """Note a transaction that has just been made; `call` is of the world's contract."""
        failed = [
            one for one in done.outcomes.values() if "Failure" in one["outcome"]["status"]
        ]  # fmt: skip
        assert not failed, (row, refusal(done))
        assert row not in self.rows, row
        own = {
            name: one["outcome"]["gas_burnt"]
            for name, one in done.outcomes.items()
            if one["outcome"]["executor_id"] == (account or self.world.contract)
        }
        receipt = max(own, key=lambda name: own[name])
        usage = self.world.usage()
        measured = {"call": own[receipt], "whole": done.gas, "storage": usage - self._usage}
        self._records += self.recorder.take()
        records = [one for one in self._records if one["receipt"] in done.outcomes]
        self.rows[row] = Measured(measured, receipt, records)
        self._usage = usage
        return done

    def skip(self) -> None:
        """Forget what was stored by calls that are not measured."""
        self._usage = self.world.usage()


def play(directory: Path) -> Meter:
    """Gas and storage of every call on a chain of their own."""
    with a_world(directory) as world:
        meter = Meter(world)
        _nodes(world, meter)
        _tasks(world, meter)
        _exceptions(world, meter)
        _leaving(world, meter)
        _storage(world, meter)
        _governance(world, meter)
        return meter


def _nodes(world: World, meter: Meter) -> None:
    owner = OWNERS[0]
    sent: dict[str, Any] = {"receiver_id": owner, "amount": str(4 * STAKE)}
    paid = world.call(OWNER, "ft_transfer", sent, deposit=1, receiver=TOKEN)
    meter.add("ft_transfer", paid, TOKEN)
    message = {"register": world.registration(0, index=1)}
    done = world.pay_in(owner, STAKE, message)
    meter.add("register", done)
    meter.add("ft_transfer_call (register)", done, TOKEN)
    meter.add("add_stake", world.pay_in(owner, STAKE, {"add_stake": {"node": world.nodes[0]}}))
    world.advance(EPOCH)
    for i in range(SEATS + 1):
        done = world.operator_call(i, "heartbeat", node=world.nodes[i])
    meter.add("heartbeat", done)
    where = {"peer_id": "12D3KooW", "addresses": ["/ip4/203.0.113.7/udp/4001/quic-v1"]}
    meter.add("announce", world.operator_call(0, "announce", node=world.nodes[0], **where))
    until = world.now + 60
    key = world.signers[SEATS]
    node = world.nodes[SEATS]
    digest = tasks.operate_digest(world.registry, node, key.account, until)
    rotation = {"operator": key.account, "valid_until": until, "signature": b64(key.sign(digest))}
    done = world.owner_call(OWNERS[SEATS], "rotate_operator", node=node, **rotation)
    meter.add("rotate_operator", done)


def _tasks(world: World, meter: Meter) -> None:
    sent = {"receiver_id": CLIENT, "amount": str(UNIT)}
    world.call(OWNER, "ft_transfer", sent, deposit=1, receiver=TOKEN)
    meter.add("deposit", world.pay_in(CLIENT, UNIT))
    for label, deposit in (("new lane", DEPOSIT), ("reused lane", 1)):
        play = Play(world, world.task())
        done = play.post(assign=False, deposit=deposit)
        meter.add(f"submit_task ({label})", done)
        if label == "new lane":
            meter.add("cancel", world.owner_call(CLIENT, "cancel", task=play.document))
    done = world.owner_call(CLIENT, "assign", task=play.document, accepts=play.accepts())
    play.learn(meter.add("assign, 3 seats", done))
    meter.add("commit 1 of 3", play.commit(0))
    meter.add("commit 2 of 3 at once", play.commit(1, 2))
    meter.add("finalise, 3 seats", play.finalise(play.openings()))
    sweep = {"client": CLIENT, "lanes": [0]}
    meter.add("sweep, 1 lane", world.call(STRANGER, "sweep", sweep))
    play = Play(world, world.task())
    # A lane that is paid for needs no more than the yocto of a full-access key; more is sent back.
    meter.add("submit_task with 3 accepts", play.post(deposit=1))
    meter.add("commit 3 at once", play.commit(0, 1, 2))
    meter.add(
        "reveal 3", world.call(STRANGER, "reveal", {**play.both, "openings": play.openings()})
    )
    play.finalise(play.openings())
    play = Play(world, world.task(policy=Policy.TOL32))
    meter.add("submit_task with 3 accepts, deposit sent back", play.post())
    play.commit(0, 1, 2)
    approval = {**play.both, "approval": play.approval(0, 7)}
    meter.add("approve", world.call(STRANGER, "approve", approval))
    approvals = [play.approval(seat, 7) for seat in range(3)]
    meter.add("finalise, 3 seats, 3 approvals", play.finalise(play.openings(), approvals))
    play = Play(world, world.task(seats=1, policy=Policy.NONE))
    meter.add("submit_task with 1 accept", play.post())
    result = {**play.both, "result": play.result(0)}
    meter.add("submit_result", world.call(STRANGER, "submit_result", result))
    meter.add("object", world.owner_call(CLIENT, "object", **play.both))
    play = Play(world, world.task(seats=1, policy=Policy.NONE))
    play.post()
    world.call(STRANGER, "submit_result", {**play.both, "result": play.result(0)})
    world.advance(WINDOW + 1)
    delivered = [{"seat": 0, "digest": result["result"]["output_digest"], "salt": play.id}]
    meter.add("finalise, 1 seat, unchecked", play.finalise(delivered, by=STRANGER))
    play = Play(world, world.task(seats=SEATS, policy=Policy.TOL32))
    meter.add("submit_task with 15 accepts", play.post())
    meter.add("commit 15 at once", play.commit(*range(SEATS)))
    approvals = [play.approval(seat, 2**SEATS - 1) for seat in range(SEATS)]
    meter.add("finalise, 15 seats, 15 approvals", play.finalise(play.openings(), approvals))


def _exceptions(world: World, meter: Meter) -> None:
    play = Play(world, world.task())
    play.post()
    released = world.operator_call(2, "release", **play.both, seat=2)
    meter.add("release", released)
    world.advance(LEASE + 1)
    play.members[1] = 5
    accept = play.accept(1, attempt=1)
    done = world.owner_call(CLIENT, "reassign", **play.both, seat=1, accept=accept)
    play.learn(meter.add("reassign", done))
    pair = {"first": play.result(1), "second": play.result(1, b"\x09" * 32)}
    evidence = {**play.both, "seat": 1, **pair}
    meter.add("prove_equivocation", world.call(STRANGER, "prove_equivocation", evidence))
    meter.add("unjail", world.owner_call(OWNERS[5], "unjail", node=world.nodes[5]))
    play.commit(0, 1)
    world.advance(play.task.commit_deadline - world.now + 1)
    world.call(STRANGER, "reveal", {**play.both, "openings": play.openings()})
    world.advance(WINDOW)
    done = play.finalise(play.openings(), by=STRANGER)
    meter.add("finalise, 3 seats, after the window", done)
    play = Play(world, world.task())
    play.post()
    world.advance(play.task.commit_deadline - world.now + 1)
    meter.add("expire", world.call(STRANGER, "expire", play.both))
    meter.add("sweep_burns", world.call(STRANGER, "sweep_burns"))


def _leaving(world: World, meter: Meter) -> None:
    node = world.nodes[0]
    meter.add("withdraw", world.owner_call(CLIENT, "withdraw", to=CLIENT, amount=str(UNIT)))
    unstake = world.owner_call(OWNERS[0], "request_unstake", node=node, amount=str(STAKE))
    meter.add("request_unstake", unstake)
    world.advance(UNBONDING + 1)
    done = world.owner_call(OWNERS[0], "withdraw_stake", node=node, to=OWNERS[0])
    meter.add("withdraw_stake", done)
    burnt = world.call(CLIENT, "burn", {"amount": "5"}, deposit=1, receiver=TOKEN)
    meter.add("token burn", burnt, TOKEN)


def _storage(world: World, meter: Meter) -> None:
    done = world.call(STRANGER, "storage_deposit", {}, deposit=DEPOSIT)
    meter.add("storage_deposit", done)
    meter.add("storage_withdraw", world.owner_call(STRANGER, "storage_withdraw"))
    meter.add("storage_unregister", world.owner_call(STRANGER, "storage_unregister"))
    new = {"account_id": GUARDIAN}
    done = world.call(STRANGER, "storage_deposit", new, deposit=NEAR // 100, receiver=TOKEN)
    meter.add("token storage_deposit", done, TOKEN)
    for method in ("storage_withdraw", "storage_unregister"):
        done = world.call(GUARDIAN, method, deposit=1, receiver=TOKEN)
        meter.add(f"token {method}", done, TOKEN)


def _governance(world: World, meter: Meter) -> None:
    meter.add("pause", world.call(GUARDIAN, "pause"))
    meter.add("unpause", world.call(GUARDIAN, "unpause"))
    for method in ("add_guardian", "remove_guardian"):
        meter.add(method, world.owner_call(OWNER, method, account_id=STRANGER))
    meter.add("propose_owner", world.owner_call(OWNER, "propose_owner", account_id=CLIENT))
    world.advance(int(str(PARAMETERS["owner_delay"])))
    meter.add("accept_owner", world.owner_call(CLIENT, "accept_owner"))
    code = (ARTIFACTS / "compute.wasm").read_bytes()
    named = {"code_hash": base58(hashlib.sha256(code).digest())}
    meter.add("propose_upgrade", world.owner_call(CLIENT, "propose_upgrade", **named))
    meter.add("cancel_upgrade", world.call(CLIENT, "cancel_upgrade"))
    world.owner_call(CLIENT, "propose_upgrade", **named)
    world.advance(int(str(PARAMETERS["upgrade_delay"])))
    meter.skip()
    meter.add("upgrade", world.call(CLIENT, "upgrade", code, gas=300))
