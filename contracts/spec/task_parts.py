"""The parts about single tasks on Sei: ids, digests, signatures, commitments, who wins."""

from __future__ import annotations

from typing import Any

from common import (
    RANDOM,
    bytes32,
    domain_document,
    escrows,
    random_signer,
    some_tasks,
    task_document,
)

from deai import tasks
from deai.hashing import blob_digest
from deai.ids import AccountId, NodeId, hexed, node_id
from deai.signing import Domain, word
from deai.tasks import FaultCode, Policy, Task


def ids() -> dict[str, Any]:
    """Task ids, node ids and blob digests."""
    domains = escrows()
    cases = [
        {
            "domain": domain_document(domain),
            "task": task_document(task),
            "taskId": tasks.task_id(task, domain),
        }
        for domain in domains
        for task in some_tasks()
    ]
    owners = [AccountId(hexed(RANDOM.randbytes(20))) for _ in range(3)]
    nodes = [
        {"owner": owner, "index": str(index), "node": node_id(owner, index)}
        for owner in owners
        for index in (0, 1, 2**96 - 1)
    ]
    lengths = [0, 1, 65_535, 65_536, 65_537, 3 * 65_536, 5 * 65_536 + 7]
    blobs = [
        {"length": length, "byte": 171, "digest": hexed(blob_digest(b"\xab" * length))}
        for length in lengths
    ]
    return {"tasks": cases, "nodes": nodes, "blobs": blobs}


def digests() -> dict[str, Any]:
    """Every struct a key signs, with the key, its digest and its EIP-2098 signature."""
    cases: list[dict[str, Any]] = []
    for domain in escrows():
        for task in some_tasks():
            secret, signer = random_signer()
            task_id = tasks.task_id(task, domain)
            node = node_id(AccountId(hexed(RANDOM.randbytes(20))), RANDOM.getrandbits(20))
            seat, attempt = RANDOM.randrange(15), RANDOM.randrange(4)
            output, evidence, salt = bytes32(), bytes32(), bytes32()
            valid_until, mask = RANDOM.getrandbits(40), RANDOM.getrandbits(15)
            value = tasks.commitment_value(task_id, seat, attempt, node, output, salt)
            signed = {
                "accept": tasks.accept_digest(domain, task_id, seat, attempt, node, valid_until),
                "commit": tasks.commit_digest(domain, task_id, seat, attempt, value),
                "result": tasks.result_digest(domain, task_id, seat, attempt, output, evidence),
                "approval": tasks.approval_digest(domain, task_id, seat, value, mask),
            }
            cases.append(
                {
                    "domain": domain_document(domain),
                    "task": task_document(task),
                    "taskId": task_id,
                    "secret": secret,
                    "signer": signer.account,
                    "node": node,
                    "seat": seat,
                    "attempt": attempt,
                    "validUntil": valid_until,
                    "outputDigest": hexed(output),
                    "evidenceDigest": hexed(evidence),
                    "salt": hexed(salt),
                    "commitment": hexed(value),
                    "commitments": hexed(value),
                    "mask": mask,
                    "digests": {name: hexed(digest) for name, digest in signed.items()},
                    "signatures": {
                        name: hexed(signer.sign(digest)) for name, digest in signed.items()
                    },
                }
            )
    registry = Domain(tasks.REGISTRY_NAME, 713714, AccountId(hexed(RANDOM.randbytes(20))))
    operate = []
    for _ in range(3):
        secret, signer = random_signer()
        node = NodeId(hexed(bytes32()))
        valid_until = RANDOM.getrandbits(40)
        digest = tasks.operate_digest(registry, node, signer.account, valid_until)
        operate.append(
            {
                "domain": domain_document(registry),
                "node": node,
                "operator": signer.account,
                "validUntil": valid_until,
                "secret": secret,
                "digest": hexed(digest),
                "signature": hexed(signer.sign(digest)),
            }
        )
    return {"cases": cases, "operate": operate}


def commitments() -> dict[str, Any]:
    """The lane's word after commitments in chain order, and the digests of faults."""
    folds = []
    for seats in (1, 3, 15):
        nonce = RANDOM.randrange(1, 2**32)
        order = RANDOM.sample(range(seats), RANDOM.randrange(1, seats + 1))
        values = [(seat, bytes32()) for seat in order]
        folds.append(
            {
                "nonce": nonce,
                "seats": [seat for seat, _ in values],
                "values": [hexed(value) for _, value in values],
                "acc": hexed(word(tasks.fold_commitments(nonce, values))),
            }
        )
    task_id = tasks.task_id(some_tasks()[2], escrows()[0])
    faults = [
        {"code": int(code), "digest": hexed(tasks.fault_digest(task_id, code))}
        for code in FaultCode
    ]
    return {"folds": folds, "faultTaskId": task_id, "faults": faults}


def verdicts() -> dict[str, Any]:
    """Who wins: digest policies by equal digests (0 = not revealed), tolerance by masks."""
    domain, base = escrows()[0], some_tasks()[2]
    digest_cases, tolerance_cases = [], []
    for seats in (3, 5, 7, 15):
        for _ in range(12):
            task = _with(base, seats, Policy.EXACT)
            choice = [RANDOM.choice([0, 1, 1, 1, 2]) for _ in range(seats)]
            revealed = [bytes([value]) * 32 if value else None for value in choice]
            found, mask = tasks.winner(task, revealed)
            digest_cases.append(
                {"seats": seats, "digests": choice, "winner": found[0] if found else 0,
                 "paid": mask}
            )  # fmt: skip
            task = _with(base, seats, Policy.TOL32)
            shown = sum(1 << seat for seat in range(seats) if RANDOM.random() < 0.9)
            masks = [
                RANDOM.getrandbits(seats) | RANDOM.getrandbits(seats)
                if shown >> seat & 1 and RANDOM.random() < 0.9
                else None
                for seat in range(seats)
            ]
            best, paid = tasks.approved(task, masks, shown)
            tolerance_cases.append(
                {
                    "seats": seats,
                    "revealed": shown,
                    "masks": [-1 if mask is None else mask for mask in masks],
                    "best": -1 if best is None else best,
                    "paid": paid,
                }
            )
    return {
        "domain": domain_document(domain),
        "digest": digest_cases,
        "tolerance": tolerance_cases,
    }


def _with(task: Task, seats: int, policy: Policy) -> Task:
    fields = [getattr(task, name) for name in Task.__struct_fields__]
    fields[5], fields[6] = seats, policy
    return Task(*fields)
