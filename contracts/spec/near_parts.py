"""The parts about NEAR: tasks and signatures of its own, and what binds a node on both chains."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from common import NEAR_ACCOUNTS, RANDOM, bytes32, near_domain, random_signer, some_tasks

from deai import tasks
from deai.binding import Binding, Side, binding_digest, sign_half
from deai.codec import encode_canonical
from deai.ids import NEAR, SEI, AccountId, hexed, near_node_id, node_id
from deai.signing import Domain, Ed25519Signer
from deai.tasks import Task


def near() -> dict[str, Any]:
    """NEAR: tasks, every struct a key signs with its Ed25519 signature, text forms."""
    escrow = Domain(tasks.ESCROW_NAME, "near:testnet", AccountId("compute.deai.testnet"))
    registry = Domain(tasks.REGISTRY_NAME, "near:testnet", AccountId("compute.deai.testnet"))
    cases: list[dict[str, Any]] = []
    for number, base in enumerate(some_tasks()):
        account = AccountId(NEAR_ACCOUNTS[number % len(NEAR_ACCOUNTS)])
        fields = [getattr(base, name) for name in Task.__struct_fields__]
        task = Task(account, *fields[1:])
        secret = bytes32()
        signer = Ed25519Signer(secret)
        task_id = tasks.task_id(task, escrow)
        node = near_node_id(account, RANDOM.choice([0, 7, 2**32 - 1]))
        seat, attempt = RANDOM.randrange(15), RANDOM.randrange(4)
        output, evidence, salt = bytes32(), bytes32(), bytes32()
        valid_until, mask = RANDOM.getrandbits(40), RANDOM.getrandbits(15)
        value = tasks.commitment_value(task_id, seat, attempt, node, output, salt)
        signed = {
            "accept": tasks.accept_digest(escrow, task_id, seat, attempt, node, valid_until),
            "commit": tasks.commit_digest(escrow, task_id, seat, attempt, value),
            "result": tasks.result_digest(escrow, task_id, seat, attempt, output, evidence),
            "approval": tasks.approval_digest(escrow, task_id, seat, value, mask),
            "operate": tasks.operate_digest(registry, node, signer.account, valid_until),
        }
        cases.append(
            {
                "task": {
                    **{name: getattr(task, name) for name in Task.__struct_fields__},
                    "fee": str(task.fee),
                    "tip": str(task.tip),
                    "policy": int(task.policy),
                    "spec_hash": hexed(task.spec_hash),
                },
                "taskId": task_id,
                "secret": hexed(secret),
                "operator": signer.account,
                "node": node,
                "seat": seat,
                "attempt": attempt,
                "validUntil": valid_until,
                "outputDigest": hexed(output),
                "evidenceDigest": hexed(evidence),
                "salt": hexed(salt),
                "commitment": hexed(value),
                "mask": mask,
                "digests": {name: hexed(digest) for name, digest in signed.items()},
                "signatures": {
                    name: base64.b64encode(signer.sign(digest)).decode()
                    for name, digest in signed.items()
                },
            }
        )
    key = cases[0]["operator"]
    return {
        "escrow": near_domain(tasks.ESCROW_NAME),
        "registry": near_domain(tasks.REGISTRY_NAME),
        "cases": cases,
        "badNodes": [
            "", "#", "a.near", "a.near#", "#0", "a.near#00", "a.near#01", "a.near#+1",
            "a.near#-1", "a.near#4294967296", "a.near#0#1", "A.near#0", "a..near#0", "a#0",
            "a.near#٣", "a.near# 0", "a.near#0 ",
        ],
        "badKeys": [
            "", key[8:], "secp256k1:" + key[8:], key + "1", key[:-1], "ed25519:1" + key[8:],
            key.replace(key[12], "0", 1), "ed25519:" + "z" * 44, "ed25519:" + "z" * 10_000,
            "ED25519:" + key[8:],
        ],
    }  # fmt: skip


def bindings() -> dict[str, Any]:
    """Bindings of two registrations: the bytes, the digest and both owners' signatures."""
    cases = []
    for name, index in zip(NEAR_ACCOUNTS, (0, 1, 7, 2**32 - 1, 0), strict=True):
        sei_secret, sei_owner = random_signer()
        near_secret = bytes32()
        near_key = Ed25519Signer(near_secret)
        near_owner = AccountId(name)
        body = Binding(
            sei=Side(
                chain=SEI, chain_id=RANDOM.choice([1329, 713714, 1 << 62]),
                registry=AccountId(hexed(RANDOM.randbytes(20))),
                node=node_id(sei_owner.account, RANDOM.choice([0, 9, 2**96 - 1])),
                owner=sei_owner.account, operator=random_signer()[1].account,
            ),
            near=Side(
                chain=NEAR, chain_id=RANDOM.choice(["near:mainnet", "near:localnet"]),
                registry=AccountId("compute.deai.testnet"), node=near_node_id(near_owner, index),
                owner=near_owner, operator=Ed25519Signer(bytes32()).account,
            ),
            nonce=RANDOM.choice([0, 1, 1 << 62]), issued_at=RANDOM.getrandbits(32),
        )  # fmt: skip
        halves = {name: sign_half(body, key) for name, key in ((SEI, sei_owner), (NEAR, near_key))}
        cases.append(
            {
                "binding": {
                    SEI: msgspec.structs.asdict(body.sei),
                    NEAR: msgspec.structs.asdict(body.near),
                    "nonce": body.nonce,
                    "issued_at": body.issued_at,
                },
                "secrets": {SEI: sei_secret, NEAR: hexed(near_secret)},
                "body": hexed(encode_canonical(body)),
                "digest": hexed(binding_digest(body)),
                "signers": {name: half.signer for name, half in halves.items()},
                "signatures": {name: hexed(half.signature) for name, half in halves.items()},
            }
        )
    return {"tag": "deai binding/1\x00", "cases": cases}
