"""The part about rewards: trees of claims at every size, statements, and random runs."""

from __future__ import annotations

from typing import Any, Final

from common import RANDOM, domain_document, near_domain

from deai import claims
from deai.claims import ClaimTree, Line, Reason, RewardsRecord, Share, Statement
from deai.codec import encode_canonical
from deai.errors import LedgerRejected
from deai.ids import AccountId, hexed
from deai.money import MAX_AMOUNT, Amount
from deai.signing import Domain

SIZES: Final = (1, 2, 3, 5, 8, 17)
OPS: Final = ("fund", "propose", "cancel", "claim")
WEIGHTS: Final = (3, 3, 1, 6)
DELAY: Final = 100
SECONDS: Final = 6 * 3600
START: Final = 1_800_000_000
NEAR_NAMES: Final = ("aa", "client.near", "a-b_c.d-e.testnet", "7" * 64)


def reward_vectors() -> dict[str, Any]:
    """Rewards: leaves, roots and paths, statements, and runs of calls with their outcome."""
    contract = AccountId(hexed(RANDOM.randbytes(20)))
    sei = [Domain(claims.REWARDS_NAME, number, contract) for number in (1329, 713714)]
    near = Domain(claims.REWARDS_NAME, "near:testnet", AccountId("compute.deai.testnet"))
    return {
        "cases": [
            {"domain": domain_document(domain), **_tree(domain, size)}
            for domain, size in zip(sei * 3, SIZES, strict=True)
        ],
        "near": {
            "domain": near_domain(claims.REWARDS_NAME),
            "cases": [_tree(near, size) for size in (1, 2, 3, 4)],
        },
        "statements": [_statement(sei[0], size) for size in (1, 4)],
        "ops": OPS,
        "delay": DELAY,
        "seconds": SECONDS,
        "start": START,
        "accounts": 3,
        "runs": [_run(sei[1], 40) for _ in range(10)],
    }


def _leaves(domain: Domain, size: int) -> tuple[Share, ...]:
    if isinstance(domain.chain_id, str):
        names = sorted(NEAR_NAMES[:size])
    else:
        names = sorted(hexed(RANDOM.randbytes(20)) for _ in range(size))
    return tuple(
        Share(AccountId(name), Amount([1, MAX_AMOUNT, RANDOM.getrandbits(80) + 1][min(place, 2)]))
        for place, name in enumerate(names)
    )


def _tree(domain: Domain, size: int) -> dict[str, Any]:
    """Every leaf of a tree with its path; the first two amounts at the edges of the field."""
    leaves = _leaves(domain, size)
    tree = ClaimTree(domain, leaves)
    found = [tree.claim(one.account) for one in leaves]
    return {
        "root": hexed(tree.root),
        "claims": [
            {
                "account": one.account,
                "cumulativeAmount": str(one.cumulative_amount),
                "leaf": hexed(claims.claim_leaf(domain, one.account, one.cumulative_amount)),
                "sides": one.sides,
                "path": [hexed(sibling) for sibling in one.path],
            }
            for one in found
            if one is not None
        ],
    }


def _statement(domain: Domain, size: int) -> dict[str, Any]:
    """A statement as bytes, and its fields for another encoder."""
    leaves = tuple(
        Share(AccountId(hexed(bytes([place + 1]) * 20)), Amount(RANDOM.getrandbits(70)))
        for place in range(size)
    )
    lines = tuple(
        Line(one.account, Reason(1 + place % 4), Amount(one.amount // 2))
        for place, one in enumerate(leaves)
    )
    made = Statement(
        domain=domain, epoch=83_333, seconds=SECONDS, carried=Amount(7),
        received=Amount(sum(line.amount for line in lines)), pot=Amount(7), owed=Amount(0),
        lines=lines, leaves=leaves, total=Amount(sum(one.amount for one in leaves)),
        root=claims.claims_root(domain, leaves),
    )  # fmt: skip
    return {
        "domain": domain_document(domain),
        "epoch": made.epoch,
        "seconds": made.seconds,
        "carried": str(made.carried),
        "received": str(made.received),
        "pot": str(made.pot),
        "owed": str(made.owed),
        "lines": [[line.account, int(line.reason), str(line.amount)] for line in lines],
        "leaves": [[one.account, str(one.amount)] for one in leaves],
        "total": str(made.total),
        "root": hexed(made.root),
        "body": hexed(encode_canonical(made)),
        "digest": hexed(made.digest),
    }


def _account(number: int) -> AccountId:
    return AccountId(hexed((0x1000 + number).to_bytes(20, "big")))


class _Run:
    """One contract with three accounts: what was proposed last, and what everybody has."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.record = RewardsRecord()
        self.held = 0
        self.has = [0, 0, 0]
        self.trees: dict[bytes, list[int]] = {}
        """What the three are owed, by root."""

    def tree(self, owed: list[int]) -> ClaimTree:
        """Over three leaves, whatever they hold."""
        leaves = [Share(_account(who), Amount(sum_)) for who, sum_ in enumerate(owed)]
        return ClaimTree(self.domain, leaves)

    def step(self, op: str, who: int, owed: list[int], epoch: int, total: int, now: int) -> None:
        """Carry out a call; raises `LedgerRejected`."""
        match op:
            case "fund":
                self.held += total
            case "propose":
                root = self.tree(owed).root
                self.record = claims.proposed(
                    self.record, epoch, root, total,
                    held=self.held, now=now, delay=DELAY, seconds=SECONDS,
                )  # fmt: skip
                self.trees[root] = owed
            case "cancel":
                self.record, _ = claims.cancelled(self.record, epoch, now)
            case _:
                claim = self.tree(owed).claim(_account(who))
                assert claim is not None
                self.record, paid = claims.claimed(
                    self.record, self.domain, claim, self.has[who], now
                )
                self.has[who] += paid
                self.held -= paid


def _run(domain: Domain, length: int) -> dict[str, Any]:
    """Random calls to one contract, and what is so after each."""
    run, now, owed = _Run(domain), START, [0, 0, 0]
    columns: dict[str, list[Any]] = {
        name: [] for name in (
            "ops", "who", "first", "second", "third", "epochs", "totals", "times", "errors",
            "active", "promised", "paid", "waits", "held", "has0", "has1", "has2",
        )
    }  # fmt: skip
    for _ in range(length):
        op = RANDOM.choices(OPS, WEIGHTS)[0]
        who = RANDOM.randrange(3)
        now += RANDOM.choice([0, 1, 40, DELAY, SECONDS])
        epoch = now // SECONDS - RANDOM.choice([0, 1, 1, 1, 2])
        if op == "cancel" and run.record.waiting is not None and RANDOM.random() < 0.7:
            epoch = run.record.waiting.epoch
        if op == "propose":
            owed = [sum_ + RANDOM.choice([0, 5, 60]) for sum_ in owed]
        used = owed
        if op == "claim":
            used = run.trees.get(claims.matured(run.record, now).root, owed)
        if RANDOM.random() < 0.1:
            used = [sum_ + 1 for sum_ in used]
        total = RANDOM.randrange(1, 200) if op == "fund" else sum(used)
        if op == "propose" and RANDOM.random() < 0.3:
            total = max(1, total - RANDOM.randrange(40))
        error = ""
        try:
            run.step(op, who, used, epoch, total, now)
        except LedgerRejected as refused:
            error = refused.name
        seen = claims.matured(run.record, now)
        waits = seen.waiting.active_at if seen.waiting is not None else 0
        row = (
            OPS.index(op), who, *used, epoch, total, now, error, seen.epoch, seen.total, seen.paid,
            waits, run.held, *run.has,
        )  # fmt: skip
        for column, value in zip(columns.values(), row, strict=True):
            column.append(int(value) if isinstance(value, int) else value)
    return columns
