"""Measures what each call costs, and keeps the ledger that is shipped with the artifacts.

`python -m tests.contracts.gas` prints the table; `--write` replaces the committed ledger. Every
key, salt and time is fixed, so that two runs give the same numbers to the unit of gas.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

import msgspec

from deai.ids import raw
from deai.money import UNIT
from deai.orders import Settlement
from deai.tasks import Policy
from devnet.evm.rules import ETHEREUM_SSTORE_SET_GAS, SEI_SSTORE_SET_GAS
from tests.contracts.channels import CLOSE_PERIOD, NO_VOUCHER, Channels, Paid
from tests.contracts.evm import account
from tests.contracts.orders import THAW_PERIOD, Orders, clients
from tests.contracts.pools import Pools
from tests.contracts.rewards import SHARES, Rewards
from tests.contracts.world import EPOCH, LEASE, Job, World

LEDGER: Final = Path(__file__).parents[2] / "deai/chain/artifacts/sei/gas.json"
PRICES: Final = {"ethereum": ETHEREUM_SSTORE_SET_GAS, "sei": SEI_SSTORE_SET_GAS}


def measure(sstore_set_gas: int) -> dict[str, int]:
    """Gas of every call, as whole transactions, at this price of a fresh slot."""
    world = World(sstore_set_gas)
    _exact(world)
    _exceptions(world)
    _unchecked(world)
    _tolerance(world)
    _fifteen(world)
    _rest(world)
    _channels(world)
    _rewards(world)
    orders = _orders(world)
    _pools(world, orders.contract.address)
    return world.rows


def _exact(world: World) -> None:
    for label in ("new lane", "", "reused lane"):
        job = Job(world, 3, Policy.EXACT)
        rows = [f"{name}, 3 seats ({label})" for name in ("postAndAssign", "commit", "finalise")]
        job.assign(label and rows[0])
        job.relay(label and f"commit 3 at once ({label})")
        job.finalise(label and rows[2], world.client)
        if label:
            relayed = (rows[0], f"commit 3 at once ({label})", rows[2])
            world.rows[f"exact/1, 3 seats, one commit ({label})"] = sum(
                world.rows[row] for row in relayed
            )
    job = Job(world, 3, Policy.EXACT)
    job.assign()
    each = 0
    for seat in range(3):
        job.commit(seat, row="commit 1 of 3" if seat < 2 else "commit 3 of 3")
        each += world.evm.gas
    job.finalise("", world.client)
    each += world.rows["postAndAssign, 3 seats (reused lane)"]
    each += world.rows["finalise, 3 seats (reused lane)"]
    world.rows["exact/1, 3 seats, three commits (reused lane)"] = each
    job = Job(world, 3, Policy.EXACT, tip=0)
    world.do("post", world.client, "post", job.words)
    job.assign("assign, 3 seats", "assign")
    for seat in range(3):
        job.commit(seat, bytes([6 + seat // 2]) * 32)
    job.finalise("finalise, 3 seats, one lost vote, no tip", world.other)


def _exceptions(world: World) -> None:
    job = Job(world, 3, Policy.EXACT)
    job.assign()
    job.do("release", world.operators[2], "release", 2)
    job.commit(0)
    job.reassign(2, 4, "reassign, released seat")
    world.evm.wait(LEASE + 1)
    job.reassign(1, 5, "reassign, lapsed seat")
    job.commit(1)
    job.commit(2)
    job.do("reveal 1 of 3", world.other, "reveal", job.only(0))
    job.do("reveal 2 of 3", world.other, "reveal", job.only(1, 2))
    job.past(job.task.commit_deadline + job.task.window)
    job.finalise("finalise, 3 seats, after the window", world.other, job.only(0, 1, 2))
    job = Job(world, 3, Policy.EXACT)
    world.do("", world.client, "post", job.words)
    world.do("cancel", world.client, "cancel", job.words)
    job = Job(world, 3, Policy.EXACT)
    job.assign()
    job.past(job.task.commit_deadline)
    job.do("expire", world.other, "expire")


def _unchecked(world: World) -> None:
    for row in ("", "none/1"):
        job = Job(world, 1, Policy.NONE, lane=1)
        job.assign(row and f"postAndAssign, {row}")
        job.do(
            row and f"deliver, {row}", world.other, "deliver", job.result(0, b"\6" * 32, bytes(32))
        )
        job.openings.append((0, b"\6" * 32, bytes(32)))
        job.finalise(row and f"finalise, {row}", world.client)
    job = Job(world, 1, Policy.NONE, lane=1)
    job.assign()
    job.do("", world.other, "deliver", job.result(0, b"\6" * 32, bytes(32)))
    job.do("object, none/1", world.client, "object")


def _tolerance(world: World) -> None:
    for row in ("", "finalise, tolerance, 3 approvals"):
        job = Job(world, 3, Policy.TOL32, lane=2)
        job.assign()
        for seat in range(3):
            job.commit(seat, bytes([seat + 1]) * 32)
        job.finalise(row, world.client, approvals=job.approvals())
    job = Job(world, 3, Policy.TOL32, lane=2)
    job.assign()
    for seat in range(3):
        job.commit(seat, bytes([seat + 1]) * 32)
    for approval in job.approvals():
        job.do("approve", world.other, "approve", approval)
    job.finalise("finalise, tolerance, approvals on chain", world.client)


def _fifteen(world: World) -> None:
    for row in ("", "15 seats"):
        job = Job(world, 15, Policy.EXACT, lane=3)
        job.assign(row and f"postAndAssign, {row}")
        job.relay(row and f"commit 15 at once, {row}")
        job.finalise(row and f"finalise, {row}", world.client)
    job = Job(world, 15, Policy.TOL32, lane=3)
    job.assign()
    for seat in range(15):
        job.commit(seat, bytes([seat + 1]) * 32, row="commit 1 of 15")
    job.finalise("finalise, 15 seats, 15 approvals", world.client, approvals=job.approvals())
    evidence = [job.result(0, bytes([n]) * 32, bytes(32)) for n in (1, 2)]
    job.do("proveEquivocation, 15 seats", world.other, "proveEquivocation", 0, *evidence)


def _rest(world: World) -> None:
    world.do("sweep, 1 lane", world.other, "sweep", world.client.address, [0])
    world.do("withdraw", world.owners[1], "withdraw", world.owners[1].address, 10**6)
    world.evm.wait(EPOCH)
    world.beat("heartbeat")
    registry, owner, node = world.registry, world.owners[3], raw(world.nodes[3])
    registry.do(owner, "requestUnstake", node, 10**18)
    world.rows["requestUnstake"] = world.evm.gas
    world.evm.wait(8 * 86_400)
    registry.do(owner, "withdrawStake", node, owner.address)
    world.rows["withdrawStake"] = world.evm.gas


BATCH: Final = 10
"""Channels redeemed at once, as the published figure has it."""


def _channels(world: World) -> None:
    channels = Channels(world)
    one, operator = Paid(channels, 0), world.operators[0]
    one.open(row="open channel, first")
    one.top_up(UNIT, "topUp channel")
    one.do("", operator, "redeem", one.promise(UNIT))
    one.do("redeem", operator, "redeem", one.promise(3 * UNIT // 2))
    one.do("close channel, with a voucher", one.owner, "close", one.promise(7 * UNIT // 3))
    one.open(row="open channel, again")
    one.do("requestClose", one.client, "requestClose")
    world.evm.wait(CLOSE_PERIOD + 1)
    one.do("finish", world.other, "finish")
    one.open()
    one.do("close channel, unused", one.owner, "close", NO_VOUCHER)
    many = [Paid(channels, number) for number in range(1, BATCH + 1)]
    for paid in many:
        paid.open()
    for share in (3, 2):
        batch = [(paid.words, paid.promise(10 * UNIT // share)) for paid in many]
        channels.do("redeemMany, 10 channels", operator, "redeemMany", batch)
    world.rows["redeemMany, each of 10 channels"] = world.rows["redeemMany, 10 channels"] // BATCH


LARGE: Final = 100_000
"""Accounts of the tree from which claims are published."""


def _rewards(world: World) -> None:
    rewards = Rewards(world)
    rewards.fund(10 * UNIT, row="fund rewards")
    rewards.fund(UNIT, SHARES, row=f"fund rewards, {SHARES} shares")
    claims = rewards.in_force(LARGE, UNIT, "propose rewards, first")
    rewards.claim(claims[0], "claim rewards, 100,000 accounts, first")
    rewards.cancel("cancel rewards")
    claims = rewards.in_force(LARGE, UNIT + 1, "propose rewards")
    rewards.claim(claims[1], "")  # the new root comes into force
    rewards.claim(claims[0], "claim rewards, 100,000 accounts, again")


def _orders(world: World) -> Orders:
    orders, several = Orders(world), clients(50)
    one = several[0]
    orders.fund(one, row="fund orders, first")
    orders.fund(one, row="fund orders")
    orders.fund(one, row="fund orders, another page", page=1)
    for client in several[1:]:
        orders.fund(client)
    # Every owner earns once before: with its first earnings an owner's slot is bought.
    nonces = iter(range(1, 256))
    for first in range(1, 16, 3):
        at = (first, first + 1, first + 2)
        row = "settle 1 order, 3 seats, first earnings" if first == 1 else ""
        orders.settle([orders.signed(one, orders.order(one, next(nonces), at=at))], row)

    def batch(size: int, by: int, nodes: int) -> list[Settlement]:
        """Orders of `by` clients in turn, on so many nodes; not node 0, which was slashed."""
        made = []
        for i in range(size):
            client = several[i % by]
            at = [1 + (i + step) % nodes for step in (0, 1, 2)]
            made.append(orders.signed(client, orders.order(client, next(nonces), at=at)))
        return made

    orders.settle(batch(1, 1, 3), "settle 1 order, 3 seats")
    orders.settle(batch(10, 10, 15), "settle 10 orders, 10 clients, 15 nodes, 3 seats")
    orders.settle(batch(50, 50, 15), "settle 50 orders, 50 clients, 15 nodes, 3 seats")
    orders.settle(batch(50, 1, 3), "settle 50 orders, 1 client, 3 nodes, 3 seats")
    late = batch(50, 50, 15)
    late[:49] = [msgspec.structs.replace(bad, signature=bytes(64)) for bad in late[:49]]
    orders.settle(late, "settle 50 orders, 49 of them badly signed")
    alone = [orders.order(one, next(nonces), at=(1,)) for _ in range(50)]
    orders.settle([orders.signed(one, order) for order in alone], "settle 50 orders, none/1")
    orders.do("request thaw", one, "requestThaw", UNIT)
    world.evm.wait(THAW_PERIOD + 1)
    orders.do("withdraw thawed", one, "withdraw", one.address)
    paid = world.owners[1].address
    orders.do("collect earnings", world.other, "collect", paid)
    orders.do("sweep order fees, 1 owner", world.other, "sweep", [paid])
    return orders


WEEK: Final = 7 * 86_400
"""For which stake unbonds here."""


def _pools(world: World, orders: str) -> None:
    pools, other = Pools(world, orders), world.other
    one, two = account("delegator 1"), account("delegator 2")
    pools.open("open pool")
    pools.delegate(one, 100 * UNIT, "delegate, first")
    pools.delegate(one, 100 * UNIT, "delegate")
    pools.delegate(two, 100 * UNIT)
    pools.do("advance pool, nothing new", other, "advance")
    for row in ("", "advance pool, income"):
        pools.earn(10 * UNIT)
        pools.do(row, other, "advance")
    pools.earn(10 * UNIT)
    pools.delegate(one, 100 * UNIT, "delegate, with income")
    pools.do("undelegate, batch starts, first", one, "undelegate", UNIT)
    pools.do("undelegate, waits", two, "undelegate", UNIT)
    world.evm.wait(WEEK + 1)
    pools.do("advance pool, batch paid, next starts", other, "advance")
    pools.do("claim delegation", other, "claim", one.address)
    world.evm.wait(WEEK + 1)
    pools.do("claim delegation, batch paid", other, "claim", two.address)
    pools.do("undelegate, batch starts", one, "undelegate", UNIT)
    pools.do("announce commission", pools.manager, "announceCommission", 500)
    world.evm.wait(WEEK + 1)
    pools.do("close pool", pools.manager, "close")
    world.evm.wait(WEEK + 1)
    pools.do("claim delegation, of a closed pool, first", other, "claim", one.address)
    pools.do("claim delegation, of a closed pool", other, "claim", two.address)


def table() -> dict[str, dict[str, int]]:
    """`{call: {"ethereum": gas, "sei": gas}}`."""
    measured = {chain: measure(price) for chain, price in PRICES.items()}
    return {row: {chain: rows[row] for chain, rows in measured.items()} for row in measured["sei"]}


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = table()
    if arguments.write:
        LEDGER.write_text(json.dumps(rows, indent=1) + "\n")
    for row, gas in rows.items():
        print(f"{row:52}{gas['ethereum']:12,}{gas['sei']:12,}")  # noqa: T201


if __name__ == "__main__":
    main()
