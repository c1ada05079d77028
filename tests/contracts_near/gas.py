"""Measures what each call costs, and keeps the ledger that is shipped with the artifacts.

`python -m tests.contracts_near.gas` prints the table; `--write` replaces the committed ledger.
`call` is the gas of the contract's own receipt, `whole` that of the whole transaction with all
that follows from it, `storage` the bytes that the compute account grows by.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from deai.money import UNIT
from deai.tasks import Policy
from devnet.near.rules import NEAR
from tests.contracts_near.world import (
    ARTIFACTS,
    CLIENT,
    COMPUTE,
    DEPOSIT,
    EPOCH,
    LEASE,
    OWNER,
    OWNERS,
    SEATS,
    STAKE,
    STRANGER,
    TOKEN,
    UNBONDING,
    WINDOW,
    Play,
    World,
    a_world,
    refusal,
)
from tests.devnet.near.tools import Result

LEDGER: Final = ARTIFACTS / "gas.json"
Row = dict[str, int]


class Meter:
    """Rows by name; what is refused is no measurement."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[str, Row] = {}
        self._usage = world.usage()

    def add(self, row: str, done: Result, account: str = COMPUTE) -> Result:
        """Note a transaction that has just been made."""
        failed = [
            one for one in done.outcomes.values() if "Failure" in one["outcome"]["status"]
        ]  # fmt: skip
        assert not failed, (row, refusal(done))
        own = [
            one["outcome"]["gas_burnt"]
            for one in done.outcomes.values()
            if one["outcome"]["executor_id"] == account
        ]
        usage = self.world.usage()
        self.rows[row] = {"call": max(own), "whole": done.gas, "storage": usage - self._usage}
        self._usage = usage
        return done

    def skip(self) -> None:
        """Forget what was stored by calls that are not measured."""
        self._usage = self.world.usage()


def measure(directory: Path) -> dict[str, Row]:
    """Gas and storage of every call on a chain of their own."""
    with a_world(directory) as world:
        meter = Meter(world)
        _nodes(world, meter)
        _tasks(world, meter)
        _exceptions(world, meter)
        _others(world, meter)
        return meter.rows


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


def _tasks(world: World, meter: Meter) -> None:
    sent = {"receiver_id": CLIENT, "amount": str(UNIT)}
    world.call(OWNER, "ft_transfer", sent, deposit=1, receiver=TOKEN)
    meter.add("deposit", world.pay_in(CLIENT, UNIT))
    for label in ("new lane", "reused lane"):
        play = Play(world, world.task())
        meter.add(f"submit_task ({label})", play.post(assign=False))
        if label == "new lane":
            meter.add("cancel", world.owner_call(CLIENT, "cancel", task=play.document))
    done = world.owner_call(CLIENT, "assign", task=play.document, accepts=play.accepts())
    play.learn(meter.add("assign, 3 seats", done))
    meter.add("commit 1 of 3", play.commit(0))
    meter.add("commit 2 of 3 at once", play.commit(1, 2))
    meter.add("finalise, 3 seats", play.finalise(play.openings()))
    play = Play(world, world.task())
    meter.add("submit_task with 3 accepts", play.post())
    meter.add("commit 3 at once", play.commit(0, 1, 2))
    meter.add(
        "reveal 3", world.call(STRANGER, "reveal", {**play.both, "openings": play.openings()})
    )
    play.finalise(play.openings())
    play = Play(world, world.task(policy=Policy.TOL32))
    play.post()
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
    sweep = {"client": CLIENT, "lanes": [0]}
    meter.add("sweep, 1 lane", world.call(STRANGER, "sweep", sweep))
    meter.add("sweep_burns", world.call(STRANGER, "sweep_burns"))


def _others(world: World, meter: Meter) -> None:
    node = world.nodes[0]
    meter.add("withdraw", world.owner_call(CLIENT, "withdraw", to=CLIENT, amount=str(UNIT)))
    unstake = world.owner_call(OWNERS[0], "request_unstake", node=node, amount=str(STAKE))
    meter.add("request_unstake", unstake)
    world.advance(UNBONDING + 1)
    done = world.owner_call(OWNERS[0], "withdraw_stake", node=node, to=OWNERS[0])
    meter.add("withdraw_stake", done)
    done = world.call(STRANGER, "storage_deposit", {}, deposit=DEPOSIT)
    meter.add("storage_deposit", done)
    meter.add("storage_withdraw", world.owner_call(STRANGER, "storage_withdraw"))
    meter.add("pause", world.call("guardian.deai.near", "pause"))
    done = world.call(
        STRANGER, "storage_deposit", {"account_id": OWNER}, deposit=NEAR // 100, receiver=TOKEN
    )
    meter.add("token storage_deposit", done, TOKEN)


def main() -> None:
    """Print the table or write the ledger."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as directory:
        rows = measure(Path(directory))
    for name, row in rows.items():
        gas = f"{row['call'] / 1e12:6.2f} {row['whole'] / 1e12:6.2f}"
        sys.stdout.write(f"{name:40s} {gas} {row['storage']:5d}\n")
    if write:
        LEDGER.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
