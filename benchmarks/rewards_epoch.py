"""An epoch's rewards: from events to the statement, its root and a claim.

Accounts are named in payments of 200 shares, as the contract takes them. The baselines build the
root over the same accounts: a tree of dictionaries and text as many distributors have it (leaves
sorted and hashed twice, a lone one paired with itself), with the hash function that we use and
with the one of `eth_utils`, and hashing every leaf alone, which no tree can do without.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from eth_abi.abi import encode
from eth_utils.crypto import keccak as eth_keccak

from benchmarks.report import Report, parser
from deai.claims import (
    MAX_SHARES,
    REWARDS_NAME,
    ClaimTree,
    Reason,
    Share,
    Statement,
    claim_leaf,
    claim_root,
)
from deai.codec import encode_canonical
from deai.events import LedgerRecord, Position, RewardsFunded, TokensMoved
from deai.ids import AccountId, hexed
from deai.money import UNIT, Amount
from deai.signing import Domain
from rewards.epoch import statement

ACCOUNTS = 100_000
QUICK_ACCOUNTS = 5_000
SECONDS = 6 * 3600
DOMAIN = Domain(REWARDS_NAME, 1329, AccountId("0x" + "44" * 20))
PAYER = AccountId("0x" + "55" * 20)
CLAIMS = 100

T = TypeVar("T")


def main() -> None:
    """Measure and report."""
    options = parser(__doc__)
    options.add_argument("--accounts", type=int, default=0, help="accounts that are owed something")
    given = options.parse_args()
    count = given.accounts or (QUICK_ACCOUNTS if given.quick else ACCOUNTS)
    records = list(history(count))
    report = Report(
        "rewards_epoch", parameters={"accounts": count, "events": len(records), "claims": CLAIMS}
    )
    found, seconds = timed(lambda: statement(records, DOMAIN, SECONDS, 1))
    if len(found.leaves) != count:
        raise SystemExit("accounts were lost: nothing here can be believed")
    report.add("epoch_s", seconds, "s")
    report.add("accounts_per_s", count / seconds, "1/s")
    data, seconds = timed(lambda: encode_canonical(found))
    report.add("statement_encode_s", seconds, "s")
    report.add("statement_bytes_per_account", len(data) / count, "B")
    report.add("root_s", timed(lambda: ClaimTree(DOMAIN, found.leaves))[1], "s")
    report.add("claim_ms", 1_000 * claims(found) / CLAIMS, "ms")
    hashes = timed(lambda: [claim_leaf(DOMAIN, one.account, one.amount) for one in found.leaves])[1]
    report.baseline("leaves_alone_s", hashes, "s")
    report.baseline("plain_tree_sha256_s", timed(lambda: plain_tree(found, sha256))[1], "s")
    report.baseline("plain_tree_eth_utils_s", timed(lambda: plain_tree(found, eth_keccak))[1], "s")
    report.emit(as_json=given.json)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a piece of work gives, and its seconds."""
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def history(count: int) -> Iterator[LedgerRecord]:
    """Payments that name every account once in the first of two epochs, every second one again."""
    index = 0
    for epoch, step in ((0, 1), (1, 2)):
        for first in range(0, count, MAX_SHARES * step):
            numbers = range(first, min(first + MAX_SHARES * step, count), step)
            shares = tuple(Share(account(n), Amount(UNIT + n)) for n in numbers)
            amount = Amount(sum(one.amount for one in shares))
            for event in (
                TokensMoved(PAYER, DOMAIN.contract, amount),
                RewardsFunded(PAYER, Reason.AUDIT, amount, shares),
            ):
                at = Position(1 + index, index, "", epoch * SECONDS, f"0x{index:064x}")
                yield LedgerRecord(at, event)
                index += 1


def account(number: int) -> AccountId:
    """One of many, in no order."""
    return AccountId(hexed(hashlib.sha256(number.to_bytes(8, "big")).digest()[:20]))


def claims(found: Statement) -> float:
    """Seconds for some accounts' claims, each checked."""
    tree = ClaimTree(found.domain, found.leaves)
    seconds = 0.0
    for one in found.leaves[:: max(1, len(found.leaves) // CLAIMS)][:CLAIMS]:
        claim, spent = timed(lambda one=one: tree.claim(one.account))  # type: ignore[misc]
        seconds += spent
        if claim is None or claim_root(found.domain, claim) != found.root:
            raise SystemExit("a claim is not under its root: nothing here can be believed")
    return seconds


def sha256(data: bytes) -> bytes:
    """SHA-256 as a function of bytes."""
    return hashlib.sha256(data).digest()


def plain_tree(found: Statement, hashed: Callable[[bytes], bytes]) -> str:
    """A root as it is usually built: ABI-encoded leaves, hashed twice, pairs sorted, all levels."""
    level = sorted(
        hashed(hashed(encode(("address", "uint256"), (one.account, int(one.amount)))))
        for one in found.leaves
    )
    levels = [level]
    while len(level) > 1:
        if len(level) % 2:
            level = [*level, level[-1]]
        level = [hashed(b"".join(sorted(level[at : at + 2]))) for at in range(0, len(level), 2)]
        levels.append(level)
    return hexed(levels[-1][0])


if __name__ == "__main__":
    main()
