"""What a task is: immutable records, and the digests by which a contract judges them.

A `Task` is what the escrow contract knows; a `TaskSpec` is what a node needs to compute it and
is bound by `Task.spec_hash`. Field order and types are those of the contract (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Final, TypeAlias

import msgspec

from deai.codec import encode_canonical
from deai.errors import MalformedMessage
from deai.hashing import keccak
from deai.ids import AccountId, NodeId, TaskId, hexed, owner_of, raw
from deai.money import Amount
from deai.signing import Domain, node_word, struct_type, word

Digest: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Salt: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
_NEAR_NAME: Final = r"(?:[a-z0-9]+[-_])*[a-z0-9]+(?:\.(?:[a-z0-9]+[-_])*[a-z0-9]+)*"
Account: TypeAlias = Annotated[
    AccountId, msgspec.Meta(min_length=2, max_length=64, pattern=rf"^(?:{_NEAR_NAME})\Z")
]
"""Of either chain: what has the form of a Sei address has that of a NEAR name too."""
Operator: TypeAlias = Annotated[
    AccountId,
    msgspec.Meta(
        max_length=52, pattern=r"^(?:0x[0-9a-f]{40}|ed25519:[1-9A-HJ-NP-Za-km-z]{32,44})\Z"
    ),
]
"""Of either chain: a Sei address or a NEAR key."""
Node: TypeAlias = Annotated[
    NodeId,
    msgspec.Meta(
        min_length=4,
        max_length=75,
        pattern=rf"^(?:0x[0-9a-f]{{64}}|(?:{_NEAR_NAME})#(?:0|[1-9][0-9]{{0,9}}))\Z",
    ),
]
"""Of either chain."""
TaskKey: TypeAlias = Annotated[TaskId, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}\Z")]
SeatIndex: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=14)]
AttemptIndex: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=3)]
Seconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Mask: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 15)]

ESCROW_NAME: Final = "deai escrow"
REGISTRY_NAME: Final = "deai registry"
MAX_SEATS: Final = 15
MAX_REASSIGNMENTS: Final = 3
MAX_COMMIT_SPAN: Final = 24 * 3600
QUORUM_PERCENT: Final = 60

_TASK: Final = struct_type(
    "Task(ACCOUNT client,uint32 lane,uint32 nonce,uint96 fee,uint96 tip,uint8 seats,"
    "uint8 policy,uint32 lease,uint40 commitDeadline,uint32 window,bytes32 specHash)"
)
_ACCEPT: Final = struct_type(
    "Accept(bytes32 taskId,uint8 seat,uint8 attempt,NODE node,uint40 validUntil)"
)
_COMMIT: Final = struct_type("Commit(bytes32 taskId,uint8 seat,uint8 attempt,bytes32 value)")
_RESULT: Final = struct_type(
    "Result(bytes32 taskId,uint8 seat,uint8 attempt,bytes32 outputDigest,bytes32 evidenceDigest)"
)
_APPROVAL: Final = struct_type(
    "Approval(bytes32 taskId,uint8 seat,bytes32 commitments,uint16 mask)"
)
_OPERATE: Final = struct_type("Operate(NODE node,KEY operator,uint40 validUntil)")
_COMMIT_TAG: Final = keccak(b"deai commit/1")
_FAULT_TAG: Final = keccak(b"fault/1")
_SPEC_TAG: Final = b"deai spec/1\x00"


class FaultCode(IntEnum):
    """Why a task itself is bad; decided by parsing its input alone, alike on every node."""

    MALFORMED_INPUT = 1  # not UTF-8, not JSON, duplicate keys, a blank line, no line at all
    TOO_MANY_ITEMS = 2
    ITEM_TOO_LARGE = 3
    NOT_FINITE = 4  # NaN or infinity where a number is asked for
    INVALID_PARAMETERS = 5
    UNKNOWN_MODEL = 6
    INCONSISTENT_INPUT = 7  # negative volatility, a correlation that is not one
    INPUT_TOO_LARGE = 8


class Policy(IntEnum):
    """How a result is verified; the number is the contract's."""

    NONE = 0
    EXACT = 1
    TOL32 = 128

    @property
    def label(self) -> str:
        """The name used in documents: `exact/1`."""
        return f"{self.name.lower()}/1"

    @property
    def is_tolerance(self) -> bool:
        """Whether members judge each other's outputs by approvals."""
        return self >= 128


def parse_policy(text: str) -> Policy:
    """Read `exact/1`, `tol32/1` or `none/1`; raise `MalformedMessage` for anything else."""
    for policy in Policy:
        if policy.label == text:
            return policy
    raise MalformedMessage(f"unknown policy: {text[:40]!r}", hint="one of none/1, exact/1, tol32/1")


class Task(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One escrowed request as the contract sees it; amounts per seat, times in chain seconds."""

    client: Account
    lane: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    nonce: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    fee: Amount
    tip: Amount
    seats: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEATS)]
    policy: Policy
    lease: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    commit_deadline: Seconds
    window: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    spec_hash: Digest

    @property
    def escrowed(self) -> int:
        """Base units that leave the client's vault account when the task is posted."""
        return self.fee * self.seats + self.tip

    @property
    def quorum(self) -> int:
        """The least number of seats that is at least 60 % of all."""
        return -(-self.seats * QUORUM_PERCENT // 100)


class TaskSpec(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True
):
    """What is to be computed. Any change is another task.

    `domain` is `chain id:contract`; `parameters` canonical MessagePack (`codec.encode_value`);
    `model` the manifest digest as hex or empty; `salt` makes a deliberate repetition a new spec.
    """

    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    domain: Annotated[str, msgspec.Meta(max_length=128)]
    workload: Annotated[str, msgspec.Meta(max_length=64)]
    workload_version: Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)]
    model: Annotated[str, msgspec.Meta(max_length=66)]
    input_digest: Digest
    input_bytes: Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
    parameters: Annotated[bytes, msgspec.Meta(max_length=32 * 1024)]
    salt: Salt


class Seat(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One place of a committee: who holds it, with which key, until when, which attempt."""

    node: Node
    operator: Operator
    lease_end: Seconds
    attempt: AttemptIndex

    @property
    def owner(self) -> AccountId:
        """Who is paid for this seat."""
        return owner_of(self.node)

    @property
    def info(self) -> int:
        """The contract's packed word: operator 160 | lease end 40 | attempt 8."""
        return int(self.operator, 16) | self.lease_end << 160 | self.attempt << 200


def seat_from_words(node: bytes, info: int) -> Seat:
    """Read a seat from the contract's two words."""
    return Seat(
        node=NodeId(hexed(node)),
        operator=AccountId(f"0x{info & ((1 << 160) - 1):040x}"),
        lease_end=info >> 160 & ((1 << 40) - 1),
        attempt=info >> 200 & 0xFF,
    )


class Accept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A node's signed promise to take one seat of one task."""

    node: Node
    valid_until: Seconds
    signature: Signature


class Commitment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A seat's commitment; the signature lets anybody carry it to the chain."""

    seat: SeatIndex
    value: Digest
    signature: Signature


class Opening(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a commitment hid."""

    seat: SeatIndex
    digest: Digest
    salt: Salt


class Result(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A node's signed statement of what it computed; the heart of the receipt."""

    output_digest: Digest
    evidence_digest: Digest
    signature: Signature


class Approval(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member's signed mask of the seats whose output is within tolerance of its own."""

    seat: SeatIndex
    mask: Mask
    signature: Signature


def spec_hash(spec: TaskSpec) -> bytes:
    """The digest of a spec: Keccak-256 over a tag and its canonical bytes."""
    return keccak(_SPEC_TAG, encode_canonical(spec))


# Whoever speaks of a task names it and its signed words many times: the latest are remembered.
@lru_cache(maxsize=1024)
def task_id(task: Task, domain: Domain) -> TaskId:
    """The chain's name of a task: the EIP-712 digest of all its fields."""
    fields = (
        task.client, task.lane, task.nonce, task.fee, task.tip, task.seats, int(task.policy),
        task.lease, task.commit_deadline, task.window, task.spec_hash,
    )  # fmt: skip
    return TaskId(hexed(domain.digest(_TASK, fields)))


@lru_cache(maxsize=1024)
def accept_digest(
    domain: Domain, task: TaskId, seat: int, attempt: int, node: NodeId, valid_until: int
) -> bytes:
    """What a node signs to take a seat."""
    return domain.digest(_ACCEPT, (raw(task), seat, attempt, node, valid_until))


def commit_digest(domain: Domain, task: TaskId, seat: int, attempt: int, value: bytes) -> bytes:
    """What a node signs so that others may relay its commitment."""
    return domain.digest(_COMMIT, (raw(task), seat, attempt, value))


@lru_cache(maxsize=1024)
def result_digest(
    domain: Domain, task: TaskId, seat: int, attempt: int, output: bytes, evidence: bytes
) -> bytes:
    """What a node signs about its output; two for one attempt cost its stake."""
    return domain.digest(_RESULT, (raw(task), seat, attempt, output, evidence))


def approval_digest(
    domain: Domain, task: TaskId, seat: int, commitments: bytes, mask: int
) -> bytes:
    """What a member signs about the others' outputs, bound to all commitments."""
    return domain.digest(_APPROVAL, (raw(task), seat, commitments, mask))


def operate_digest(registry: Domain, node: NodeId, operator: AccountId, valid_until: int) -> bytes:
    """What an operator key signs to let an owner register it."""
    return registry.digest(_OPERATE, (node, operator, valid_until))


def commitment_value(
    task: TaskId, seat: int, attempt: int, node: NodeId, output: bytes, salt: bytes
) -> bytes:
    """H(domain, task, seat, attempt, node, output digest, salt); the id names the chain."""
    return keccak(
        _COMMIT_TAG, raw(task), word(seat), word(attempt), node_word(node), word(output), word(salt)
    )


def fault_digest(task: TaskId, code: FaultCode) -> bytes:
    """The output digest by which nodes say that the task itself is bad."""
    return keccak(_FAULT_TAG, raw(task), word(int(code)))


@lru_cache(maxsize=1024)
def fault_digests(task: TaskId) -> Mapping[bytes, FaultCode]:
    """All digests by which nodes would say that the task itself is bad."""
    return MappingProxyType({fault_digest(task, code): code for code in FaultCode})


_CHAIN_MASK: Final = ((1 << 256) - 1) ^ ((1 << 48) - 1)


def fold_commitments(nonce: int, commitments: Sequence[tuple[int, bytes]]) -> int:
    """The lane's `acc` word after `commitments` (seat, value) in the order of the chain.

    Hash chain 208 | nonce 32 | committed seats 16. `word(...)` of it is what approvals sign.
    """
    chain = mask = 0
    for seat, value in commitments:
        hashed = keccak(word(chain), word(seat), word(value))
        chain = int.from_bytes(hashed, "big") & _CHAIN_MASK
        mask |= 1 << seat
    return chain | nonce << 16 | mask


def winner(task: Task, digests: Sequence[bytes | None]) -> tuple[bytes | None, int]:
    """Digest policies: the digest revealed by at least 60 % of the seats, and its seats' mask.

    `digests` is by seat, None where nothing was revealed. `(None, 0)`: nobody wins.
    """
    for digest in digests:
        if digest is None:
            continue
        mask = sum(1 << seat for seat, other in enumerate(digests) if other == digest)
        if mask.bit_count() >= task.quorum:
            return digest, mask
    return None, 0


def approved(task: Task, masks: Sequence[int | None], revealed: int) -> tuple[int | None, int]:
    """Tolerance policies: `(seat whose output is the result, mask of paid seats)`.

    `masks` is by seat, None where no approval was given. Only revealed seats have a voice and
    only bits of revealed seats count. A seat is paid when at least 60 % of the seats, itself
    included, mask it; the result is the paid seat with the most masks, lowest index on ties.
    """
    voices = [
        mask & revealed if mask is not None and revealed >> seat & 1 else 0
        for seat, mask in enumerate(masks)
    ]
    counts = [sum(voice >> seat & 1 for voice in voices) for seat in range(task.seats)]
    paid = [
        seat
        for seat in range(task.seats)
        if counts[seat] >= task.quorum and voices[seat] >> seat & 1
    ]
    if not paid:
        return None, 0
    best = max(paid, key=lambda seat: (counts[seat], -seat))
    return best, sum(1 << seat for seat in paid)
