"""What the parts of the vectors share: one stream of random numbers, edge cases, documents."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from deai import tasks
from deai.ids import AccountId, hexed
from deai.money import Amount
from deai.signing import Domain, LocalSigner
from deai.tasks import Policy, Task

RANDOM: Final = Random("deai contract vectors")  # noqa: S311 - vectors, not secrets
"""Seeded again for each file."""
MAX96: Final = (1 << 96) - 1
NEAR_ACCOUNTS: Final = ("aa", "client.near", "a-b_c.d-e.testnet", "0x" + "1f" * 20, "7" * 64)


def bytes32() -> bytes:
    """32 random bytes."""
    return RANDOM.randbytes(32)


def random_signer() -> tuple[str, LocalSigner]:
    """A random secret, as text, and its key."""
    secret = bytes32()
    return hexed(secret), LocalSigner(secret)


def escrows() -> list[Domain]:
    """The escrow of two Sei chains."""
    return [
        Domain(tasks.ESCROW_NAME, 1329, AccountId("0x" + "11" * 20)),
        Domain(tasks.ESCROW_NAME, 713714, AccountId(hexed(RANDOM.randbytes(20)))),
    ]


def some_tasks() -> list[Task]:
    """Two tasks at the edges of every field, and six random ones."""
    edges = [
        Task(
            AccountId("0x" + "00" * 20), 0, 1, Amount(1), Amount(0), 1, Policy.NONE, 1, 0, 1,
            bytes(32),
        ),
        Task(
            AccountId("0x" + "ff" * 20), 2**32 - 1, 2**32 - 1, Amount(MAX96), Amount(MAX96), 15,
            Policy.TOL32, 2**32 - 1, 2**40 - 1, 2**32 - 1, b"\xff" * 32,
        ),
    ]  # fmt: skip
    return edges + [
        Task(
            AccountId(hexed(RANDOM.randbytes(20))), RANDOM.getrandbits(32),
            RANDOM.randrange(1, 2**32), Amount(RANDOM.randrange(1, 2**90)),
            Amount(RANDOM.getrandbits(80)), RANDOM.choice([3, 5, 7, 15]),
            RANDOM.choice([Policy.EXACT, Policy.TOL32]), RANDOM.randrange(10, 3600),
            RANDOM.getrandbits(31), RANDOM.randrange(600, 10_000), bytes32(),
        )
        for _ in range(6)
    ]  # fmt: skip


def task_document(task: Task) -> dict[str, Any]:
    """A task as the Solidity tests read it."""
    return {
        "client": task.client,
        "lane": task.lane,
        "nonce": task.nonce,
        "fee": str(task.fee),
        "tip": str(task.tip),
        "seats": task.seats,
        "policy": int(task.policy),
        "lease": task.lease,
        "commitDeadline": task.commit_deadline,
        "window": task.window,
        "specHash": hexed(task.spec_hash),
    }


def domain_document(domain: Domain) -> dict[str, Any]:
    """A domain on Sei, with its hash."""
    return {
        "name": domain.name,
        "version": domain.version,
        "chainId": domain.chain_id,
        "verifyingContract": domain.contract,
        "separator": hexed(domain.separator),
    }


def near_domain(name: str) -> dict[str, Any]:
    """The domain of the NEAR contract under a name, with its hash."""
    domain = Domain(name, "near:testnet", AccountId("compute.deai.testnet"))
    return {
        "name": name,
        "version": domain.version,
        "chainId": domain.chain_id,
        "contract": domain.contract,
        "separator": hexed(domain.separator),
    }
