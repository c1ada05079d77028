"""Every call of the rewards contract, played on the embedded chain and measured there.

Rows are those of `gas_plays`; a claim is followed by the token's transfer and the contract's
callback, which `whole` holds too. Trees are of a thousand accounts: ten siblings in a path.
"""

from __future__ import annotations

from pathlib import Path

from deai.claims import MAX_SHARES
from devnet.near.rules import NEAR
from tests.contracts_near.gas_plays import Meter
from tests.contracts_near.reward_world import (
    DELAY,
    PARAMETERS,
    PROPOSER,
    RewardWorld,
    a_reward_world,
)
from tests.contracts_near.world import CLIENT, EPOCH, GUARDIAN, OWNER, OWNERS, STRANGER, TOKEN

ACCOUNTS = 1_000
NAME = 40  # letters: so many shares fit one message


def play(directory: Path) -> Meter:
    """Gas and storage of every call on a chain of their own."""
    with a_reward_world(directory) as world:
        meter = Meter(world)
        _money_in(world, meter)
        _roots(world, meter)
        _roles(world, meter)
        return meter


def _others(count: int) -> list[str]:
    return [f"a{i}-".ljust(NAME, "0") for i in range(count)]


def _money_in(world: RewardWorld, meter: Meter) -> None:
    world.fund(1)
    meter.skip()
    done = meter.add("rewards fund (pot)", world.fund(10**9))
    meter.add("rewards ft_transfer_call (pot)", done, TOKEN)
    meter.add("rewards fund, 1 share", world.fund(10**9, [(OWNERS[0], 10**6)]))
    shares = [(name, 10**6) for name in _others(MAX_SHARES)]
    meter.add(f"rewards fund, {MAX_SHARES} shares", world.fund(10**9, shares, gas=100))


def _roots(world: RewardWorld, meter: Meter) -> None:
    owed = dict.fromkeys(_others(ACCOUNTS - 1), 10**3) | {OWNERS[0]: 10**6}
    world.advance(EPOCH)
    tree = world.tree(owed)
    done = world.propose(tree, sum(owed.values()))
    meter.add("rewards propose", done)
    meter.add("rewards cancel", world.call(GUARDIAN, "cancel", {"epoch": world.over}))
    world.propose(tree, sum(owed.values()))
    world.advance(DELAY)
    cost = int(world.view("storage_cost", account_id=OWNERS[0]))
    meter.add("rewards claim (first)", world.claim(tree, OWNERS[0], deposit=cost))
    for row, deposit in (("rewards claim", 0), ("rewards claim, deposit sent back", NEAR)):
        owed[OWNERS[0]] += 10**6
        tree = world.activate(owed)
        meter.skip()
        meter.add(row, world.claim(tree, OWNERS[0], deposit=deposit))


def _roles(world: RewardWorld, meter: Meter) -> None:
    for method in ("grant", "revoke"):
        done = world.owner_call(OWNER, method, role="guardian", account_id=STRANGER)
        meter.add(f"rewards {method}", done)
    world.owner_call(OWNER, "revoke", role="proposer", account_id=PROPOSER)
    meter.skip()
    done = world.owner_call(OWNER, "propose_owner", account_id=CLIENT)
    meter.add("rewards propose_owner", done)
    world.advance(PARAMETERS["owner_delay"])
    meter.add("rewards accept_owner", world.owner_call(CLIENT, "accept_owner"))
