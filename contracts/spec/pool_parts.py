"""The part about pools: owner accounts, shares and slashes at the edges of their fields, runs."""

from __future__ import annotations

from typing import Any, Final

from common import MAX96, RANDOM

from deai import pools
from deai.hashing import keccak
from deai.ids import AccountId, hexed, node_id, raw
from deai.money import UNIT
from deai.signing import Domain

OPS: Final = ("delegate", "own", "income", "batch", "slash", "mature")
"""Of a run: a delegation, one of the manager, income, a batch that begins, a slash, its end."""
WEIGHTS: Final = (5, 2, 6, 4, 2, 4)
BOUNTY: Final = UNIT // 10


def pool_vectors() -> dict[str, Any]:
    """Accounts that own nodes, and who has what of a pool."""
    return {
        "owners": [_owner(number) for number in range(6)],
        "worth": [_worth(number) for number in range(16)],
        "minted": [_minted(number) for number in range(16)],
        "commissions": [_commission(number) for number in range(24)],
        "slashes": [_slash(number) for number in range(32)],
        "ops": OPS,
        "bounty": str(BOUNTY),
        "runs": [_run(40) for _ in range(8)],
    }


def _owner(number: int) -> dict[str, Any]:
    """The account of a manager's pool; `template` is what the contract creates first."""
    contract, manager = AccountId(hexed(RANDOM.randbytes(20))), hexed(RANDOM.randbytes(20))
    index = [0, 1, MAX96, RANDOM.getrandbits(96)][min(number, 3)]
    domain = Domain(pools.POOLS_NAME, 713_714, contract)
    owner = pools.pool_owner(domain, AccountId(manager), index)
    return {
        "delegations": contract,
        "template": hexed(keccak(b"\xd6\x94", raw(contract), b"\x01")[-20:]),
        "manager": manager,
        "index": str(index),
        "owner": owner,
        "node": node_id(owner, 0),
    }


def _some(most: int) -> int:
    """A number of any length, often at an edge; never 0."""
    length = RANDOM.randrange(1, most.bit_length() + 1)
    return RANDOM.choice([1, most, *(1 + RANDOM.getrandbits(length) % most for _ in range(4))])


def _texts(**numbers: int) -> dict[str, str]:
    return {name: str(number) for name, number in numbers.items()}


def _worth(number: int) -> dict[str, str]:
    shares, assets = _some(pools.MAX_SHARES), _some(MAX96)
    if number == 0:
        return _texts(some=5, shares=0, assets=7, worth=pools.worth(5, 0, 7))
    some = [0, shares, RANDOM.randrange(shares + 1)][min(number - 1, 2)]
    return _texts(some=some, shares=shares, assets=assets, worth=pools.worth(some, shares, assets))


def _minted(number: int) -> dict[str, str]:
    shares, assets = _some(pools.MAX_SHARES), _some(MAX96)
    amount = [0, MAX96][number] if number < 2 else _some(MAX96)
    found = pools.minted(amount, shares, assets)
    return _texts(amount=amount, shares=shares, assets=assets, minted=found)


def _commission(number: int) -> dict[str, Any]:
    """Also with so many shares that what the commission buys is cut."""
    shares, assets, income = _some(pools.MAX_SHARES), _some(MAX96 // 2), _some(MAX96 // 2)
    if number % 4 == 0:
        shares, assets = pools.MAX_SHARES - RANDOM.getrandbits(20), 1 + RANDOM.getrandbits(20)
    bps = RANDOM.choice([0, 1, 500, pools.MAX_COMMISSION])
    kept, bought = pools.commission(income, bps, shares, assets)
    sums = _texts(income=income, shares=shares, assets=assets, kept=kept, bought=bought)
    return {**sums, "bps": bps}


def _slash(number: int) -> dict[str, str]:
    """A fifth, as the registry takes it, and any other sum; also of the whole pool."""
    assets, leaving = _some(MAX96 // 2), RANDOM.choice([0, 0, _some(MAX96 // 2)])
    whole = assets + leaving
    amount = [-(-whole // 5), whole, 1 + RANDOM.randrange(whole)][number % 3]
    shares = _some(pools.MAX_SHARES)
    free = RANDOM.choice([0, shares, RANDOM.randrange(shares + 1)])
    fixed = RANDOM.choice([0, 1, BOUNTY, MAX96])
    found = pools.slash(amount, fixed, assets=assets, leaving=leaving, shares=shares, free=free)
    return _texts(
        amount=amount, fixedBounty=fixed, assets=assets, leaving=leaving, shares=shares,
        free=free, **found._asdict(),
    )  # fmt: skip


class _Pool:
    """What the arithmetic moves; one batch unbonds at a time."""

    def __init__(self, stake: int) -> None:
        self.assets = self.shares = self.own = stake
        self.leaving = self.leaving_shares = 0

    def step(self, op: str, amount: int, bps: int) -> None:
        match op:
            case "delegate" | "own":
                bought = pools.minted(amount, self.shares, self.assets)
                self._grow(amount, bought, bought if op == "own" else 0)
            case "income":
                _, bought = pools.commission(amount, bps, self.shares, self.assets)
                self._grow(amount, bought, bought)
            case "batch":  # `amount` shares of delegators
                self.leaving = pools.worth(amount, self.shares, self.assets)
                self.leaving_shares = amount
                self._grow(-self.leaving, -amount, 0)
            case "slash":
                found = pools.slash(
                    amount, BOUNTY, assets=self.assets, leaving=self.leaving,
                    shares=self.shares, free=self.own,
                )  # fmt: skip
                self.leaving -= found.lost
                self._grow(found.lost - amount, -found.burnt, -found.burnt)
            case "mature":
                self.leaving = self.leaving_shares = 0

    def _grow(self, assets: int, shares: int, own: int) -> None:
        self.assets, self.shares, self.own = (
            self.assets + assets, self.shares + shares, self.own + own,
        )  # fmt: skip


def _run(length: int) -> dict[str, Any]:
    """Random steps of one pool, and what is so after each."""
    stake = RANDOM.choice([100 * UNIT, 12_345 * UNIT + 678])
    pool = _Pool(stake)
    columns: dict[str, list[Any]] = {
        name: [] for name in (
            "ops", "amounts", "bps", "assets", "shares", "managerShares", "leaving",
            "leavingShares",
        )
    }  # fmt: skip
    while len(columns["ops"]) < length:
        op = RANDOM.choices(OPS, WEIGHTS)[0]
        others = pool.shares - pool.own
        if op == "batch" and (pool.leaving_shares or not others):
            continue
        amount = {
            "batch": RANDOM.choice([others, 1 + RANDOM.randrange(others)]) if others else 0,
            "slash": -(-(pool.assets + pool.leaving) // 5),
            "mature": 0,
        }.get(op, RANDOM.choice([1, 10**6 + 1, UNIT, RANDOM.randrange(1, 900 * UNIT)]))
        bps = RANDOM.choice([0, 1_000, pools.MAX_COMMISSION]) if op == "income" else 0
        pool.step(op, amount, bps)
        row = (
            OPS.index(op), str(amount), bps, str(pool.assets), str(pool.shares), str(pool.own),
            str(pool.leaving), str(pool.leaving_shares),
        )  # fmt: skip
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return {"stake": str(stake), **columns}
