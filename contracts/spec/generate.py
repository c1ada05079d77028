"""Writes the shared tables and test vectors that Python, Solidity and Rust replay.

Run `python contracts/spec/generate.py` after a change of the core and commit the result; with
`--check` it only compares. Inputs are drawn from a fixed seed plus the edges of every field.

Longer than modules should be: one flat function per committed file, and most of it is their
inputs; what channels need stands in `channel_parts`, as the next subject should in a part of its
own.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
from pathlib import Path
from typing import Any, Final

import channel_parts
import msgspec

from deai import channels, lifecycle, standing, tasks
from deai.binding import Binding, Side, binding_digest, sign_half
from deai.codec import encode_canonical
from deai.hashing import blob_digest
from deai.ids import NEAR, SEI, AccountId, NodeId, hexed, near_node_id, node_id
from deai.money import Amount
from deai.signing import Domain, Ed25519Signer, LocalSigner, word
from deai.tasks import FaultCode, Policy, Task
from rewards import fees, reputation, slashing

HERE: Final = Path(__file__).parent
RANDOM: Final = random.Random("deai contract vectors")  # noqa: S311 - vectors, not secrets
MAX96: Final = (1 << 96) - 1


def _bytes32() -> bytes:
    return RANDOM.randbytes(32)


def _signer() -> tuple[str, LocalSigner]:
    secret = _bytes32()
    return hexed(secret), LocalSigner(secret)


def tables() -> dict[str, Any]:
    """The state tables, as names."""
    return {
        "task": {
            "initial": lifecycle.TaskState.PENDING,
            "transitions": {state: dict(row) for state, row in lifecycle.TRANSITIONS.items()},
            "anybody_ends": {
                state: sorted(events) for state, events in lifecycle.ANYBODY_ENDS.items()
            },
        },
        "seat": {
            "initial": lifecycle.SeatState.HELD,
            "transitions": {state: dict(row) for state, row in lifecycle.SEAT_TRANSITIONS.items()},
        },
        "standing": {
            "initial": standing.Standing.NONE.label,
            "numbers": {state.label: int(state) for state in standing.Standing},
            "transitions": {
                state.label: {event: after.label for event, after in row.items()}
                for state, row in standing.ON_CHAIN.items()
            },
        },
        "channel": {
            "initial": channels.ChannelState.NONE.label,
            "numbers": {state.label: int(state) for state in channels.ChannelState},
            "transitions": {
                state.label: {event: after.label for event, after in row.items()}
                for state, row in channels.CHANNEL_TRANSITIONS.items()
            },
            "exits": {state.label: dict(ways) for state, ways in channels.CHANNEL_EXITS.items()},
        },
    }


def _domains() -> list[Domain]:
    return [
        Domain(tasks.ESCROW_NAME, 1329, AccountId("0x" + "11" * 20)),
        Domain(tasks.ESCROW_NAME, 713714, AccountId(hexed(RANDOM.randbytes(20)))),
    ]


def _tasks() -> list[Task]:
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
            RANDOM.getrandbits(31), RANDOM.randrange(600, 10_000), _bytes32(),
        )
        for _ in range(6)
    ]  # fmt: skip


def _task_document(task: Task) -> dict[str, Any]:
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


def _domain_document(domain: Domain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "version": domain.version,
        "chainId": domain.chain_id,
        "verifyingContract": domain.contract,
        "separator": hexed(domain.separator),
    }


def ids() -> dict[str, Any]:
    """Task ids, node ids and blob digests."""
    domains = _domains()
    cases = [
        {
            "domain": _domain_document(domain),
            "task": _task_document(task),
            "taskId": tasks.task_id(task, domain),
        }
        for domain in domains
        for task in _tasks()
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
    for domain in _domains():
        for task in _tasks():
            secret, signer = _signer()
            task_id = tasks.task_id(task, domain)
            node = node_id(AccountId(hexed(RANDOM.randbytes(20))), RANDOM.getrandbits(20))
            seat, attempt = RANDOM.randrange(15), RANDOM.randrange(4)
            output, evidence, salt = _bytes32(), _bytes32(), _bytes32()
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
                    "domain": _domain_document(domain),
                    "task": _task_document(task),
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
        secret, signer = _signer()
        node = NodeId(hexed(_bytes32()))
        valid_until = RANDOM.getrandbits(40)
        digest = tasks.operate_digest(registry, node, signer.account, valid_until)
        operate.append(
            {
                "domain": _domain_document(registry),
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
        values = [(seat, _bytes32()) for seat in order]
        folds.append(
            {
                "nonce": nonce,
                "seats": [seat for seat, _ in values],
                "values": [hexed(value) for _, value in values],
                "acc": hexed(word(tasks.fold_commitments(nonce, values))),
            }
        )
    task_id = tasks.task_id(_tasks()[2], _domains()[0])
    faults = [
        {"code": int(code), "digest": hexed(tasks.fault_digest(task_id, code))}
        for code in FaultCode
    ]
    return {"folds": folds, "faultTaskId": task_id, "faults": faults}


def arithmetic() -> dict[str, Any]:
    """Fees, reputation and slashes; amounts as decimal text."""
    amounts = [1, 2, 9, 10, 999, 10**6, 10**18, 123456789012345678901, MAX96]
    points = [0, 1, 19, 20, 100_000, 100_001, 123_456, 500_000, 999_999, 1_000_000]
    scales = [1, 10**15, 10**18, MAX96]
    seats = [
        {
            "fee": str(fee),
            "reputation": before,
            "w0": str(w0),
            "paid": str(fees.paid(fee, before)),
            "protocolCut": str(fees.protocol_cut(fee, before)),
            "faultPaid": str(fees.fault_paid(fee)),
            "success": reputation.success(before, fee, w0),
            "lostVote": reputation.lost_vote(before, fee, w0),
            "silent": reputation.silent(before),
        }
        for fee in amounts
        for before in points
        for w0 in scales
    ]
    idle = [
        {"reputation": before, "weeks": weeks, "after": reputation.idle(before, weeks)}
        for before in points
        for weeks in (0, 1, 2, 10, 52, 200)
    ]
    slashes = []
    for bonded in (0, 1, 4, 5, 6, 10**18, MAX96 // 2):
        for unbonding in (0, 1, 10**17):
            for bounty in (0, 1, 10**16, MAX96):
                split = slashing.equivocation(bonded, unbonding, bounty)
                slashes.append(
                    {
                        "bonded": str(bonded),
                        "unbonding": str(unbonding),
                        "fixedBounty": str(bounty),
                        "amount": str(split.amount),
                        "fromBonded": str(split.from_bonded),
                        "bounty": str(split.bounty),
                        "burned": str(split.burned),
                    }
                )
    return {"seats": seats, "idle": idle, "slashes": slashes}


def verdicts() -> dict[str, Any]:
    """Who wins: digest policies by equal digests (0 = not revealed), tolerance by masks."""
    domain, base = _domains()[0], _tasks()[2]
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
        "domain": _domain_document(domain),
        "digest": digest_cases,
        "tolerance": tolerance_cases,
    }


NEAR_ACCOUNTS: Final = ("aa", "client.near", "a-b_c.d-e.testnet", "0x" + "1f" * 20, "7" * 64)


def _near_domain(name: str) -> dict[str, Any]:
    domain = Domain(name, "near:testnet", AccountId("compute.deai.testnet"))
    return {
        "name": name,
        "version": domain.version,
        "chainId": domain.chain_id,
        "contract": domain.contract,
        "separator": hexed(domain.separator),
    }


def near() -> dict[str, Any]:
    """NEAR: tasks, every struct a key signs with its Ed25519 signature, text forms."""
    escrow = Domain(tasks.ESCROW_NAME, "near:testnet", AccountId("compute.deai.testnet"))
    registry = Domain(tasks.REGISTRY_NAME, "near:testnet", AccountId("compute.deai.testnet"))
    cases: list[dict[str, Any]] = []
    for number, base in enumerate(_tasks()):
        account = AccountId(NEAR_ACCOUNTS[number % len(NEAR_ACCOUNTS)])
        fields = [getattr(base, name) for name in Task.__struct_fields__]
        task = Task(account, *fields[1:])
        secret = _bytes32()
        signer = Ed25519Signer(secret)
        task_id = tasks.task_id(task, escrow)
        node = near_node_id(account, RANDOM.choice([0, 7, 2**32 - 1]))
        seat, attempt = RANDOM.randrange(15), RANDOM.randrange(4)
        output, evidence, salt = _bytes32(), _bytes32(), _bytes32()
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
        "escrow": _near_domain(tasks.ESCROW_NAME),
        "registry": _near_domain(tasks.REGISTRY_NAME),
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
        sei_secret, sei_owner = _signer()
        near_secret = _bytes32()
        near_key = Ed25519Signer(near_secret)
        near_owner = AccountId(name)
        body = Binding(
            sei=Side(
                chain=SEI, chain_id=RANDOM.choice([1329, 713714, 1 << 62]),
                registry=AccountId(hexed(RANDOM.randbytes(20))),
                node=node_id(sei_owner.account, RANDOM.choice([0, 9, 2**96 - 1])),
                owner=sei_owner.account, operator=_signer()[1].account,
            ),
            near=Side(
                chain=NEAR, chain_id=RANDOM.choice(["near:mainnet", "near:localnet"]),
                registry=AccountId("compute.deai.testnet"), node=near_node_id(near_owner, index),
                owner=near_owner, operator=Ed25519Signer(_bytes32()).account,
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


def channel_vectors() -> dict[str, Any]:
    """Payment channels: ids, vouchers, receipts roots, and runs of calls with their outcome."""
    contract = AccountId(hexed(RANDOM.randbytes(20)))
    sei = [Domain(channels.CHANNELS_NAME, number, contract) for number in (1329, 713714)]
    near = Domain(channels.CHANNELS_NAME, "near:testnet", AccountId("compute.deai.testnet"))
    return {
        "cases": [
            {"domain": _domain_document(domain), **channel_parts.case(RANDOM, domain, number)}
            for domain in sei
            for number in range(4)
        ],
        "near": {
            "domain": _near_domain(channels.CHANNELS_NAME),
            "cases": [channel_parts.case(RANDOM, near, number) for number in range(5)],
        },
        "receipts": [channel_parts.receipts(RANDOM, count) for count in (1, 2, 5)],
        "ops": channel_parts.OPS,
        "period": channel_parts.PERIOD,
        "start": channel_parts.START,
        "runs": [channel_parts.run(RANDOM, 40) for _ in range(12)],
    }


def _with(task: Task, seats: int, policy: Policy) -> Task:
    fields = [getattr(task, name) for name in Task.__struct_fields__]
    fields[5], fields[6] = seats, policy
    return Task(*fields)


FILES: Final = {
    "tables.json": tables,
    "vectors/ids.json": ids,
    "vectors/digests.json": digests,
    "vectors/commitments.json": commitments,
    "vectors/arithmetic.json": arithmetic,
    "vectors/verdicts.json": verdicts,
    "vectors/near.json": near,
    "vectors/bindings.json": bindings,
    "vectors/channels.json": channel_vectors,
}


def main() -> int:
    """Write all files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    stale = []
    for name, make in FILES.items():
        RANDOM.seed(f"deai {name}")
        text = json.dumps(make(), indent=1) + "\n"
        path = HERE / name
        if check and (not path.exists() or path.read_text() != text):
            stale.append(name)
        elif not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    for name in stale:
        sys.stderr.write(f"contracts/spec/{name} is not what the core says; run this script\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
