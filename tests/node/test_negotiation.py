"""Every reason to decline a seat, by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from deai.chain.ledger import NodeRecord
from deai.chain.memory import DEFAULT_PARAMETERS, MemoryChain
from deai.codec import encode_value
from deai.hashing import blob_digest
from deai.ids import AccountId, NodeId
from deai.messages import Propose
from deai.money import UNIT, Amount
from deai.ports import WorkloadInfo
from deai.standing import Standing
from deai.tasks import Policy, Task, TaskSpec, spec_hash
from node.config import NodeConfig, Price
from node.daemon import Mode
from node.services.negotiation import Refusal, Situation, judge
from rewards.rules import RULES

OPERATOR = AccountId("0x" + "0a" * 20)
INFO = MemoryChain(RULES, holder=OPERATOR).info
NOW = 1_800_000_000
SPEC = TaskSpec(
    domain=f"{INFO.chain_id}:{INFO.escrow.contract}",
    workload="shout",
    workload_version=1,
    model="",
    input_digest=blob_digest(b"hello"),
    input_bytes=5,
    parameters=encode_value({}),
    salt=bytes(32),
)
TASK = Task(
    client=AccountId("0x" + "cc" * 20),
    lane=0,
    nonce=1,
    fee=Amount(UNIT),
    tip=Amount(0),
    seats=3,
    policy=Policy.EXACT,
    lease=30,
    commit_deadline=NOW + 100,
    window=600,
    spec_hash=spec_hash(SPEC),
)
SHOUT = WorkloadInfo(
    id="shout", version=1, title="", description="", policies=("exact/1", "none/1"),
    default_policy="exact/1", determinism="bitwise", unit="byte", models=(), parameters={},
    output_type="json",
)  # fmt: skip
RECORD = NodeRecord(
    node=NodeId("0x" + "01" * 32), operator=OPERATOR, standing=Standing.PROBATION, stake=UNIT,
    unbonding=0, unbond_at=0, reputation=100_000, checked_tasks=0,
    last_epoch=NOW // DEFAULT_PARAMETERS.epoch_seconds,
)  # fmt: skip
SEEN = Situation(
    config=NodeConfig(),
    info=INFO,
    parameters=DEFAULT_PARAMETERS,
    operator=OPERATOR,
    mode=Mode.RUNNING,
    record=RECORD,
    now=NOW,
    workload=SHOUT,
    sandbox="full",
    load=0,
    share=3,
    peer_open=0,
)


def proposal(seat: int = 0, *, spec: dict[str, Any] | None = None, **task: Any) -> Propose:
    changed = msgspec.structs.replace(SPEC, **(spec or {}))
    made = msgspec.structs.replace(TASK, **{"spec_hash": spec_hash(changed), **task})
    return Propose(made, changed, seat, 0)


def record(**fields: Any) -> NodeRecord:
    return msgspec.structs.replace(RECORD, **fields)


DECLINED: dict[str, tuple[str, Propose, Situation]] = {
    "paused": ("paused", proposal(), replace(SEEN, mode=Mode.PAUSED)),
    "draining": ("draining", proposal(), replace(SEEN, mode=Mode.DRAINING)),
    "starting": ("joining", proposal(), replace(SEEN, mode=Mode.JOINING)),
    "full disk": ("disk_full", proposal(), replace(SEEN, is_ill="disk_full")),
    "unknown on chain": ("not_registered", proposal(), replace(SEEN, record=None)),
    "jailed": (
        "not_registered",
        proposal(),
        replace(SEEN, record=record(standing=Standing.JAILED)),
    ),
    "no beat for two epochs": (
        "not_registered",
        proposal(),
        replace(SEEN, record=record(last_epoch=RECORD.last_epoch - 2)),
    ),
    "another operator": (
        "not_registered",
        proposal(),
        replace(SEEN, record=record(operator=AccountId("0x" + "0b" * 20))),
    ),
    "weak sandbox": ("sandbox", proposal(), replace(SEEN, sandbox="none")),
    "every slot taken": ("capacity", proposal(), replace(SEEN, load=3)),
    "one peer holds too many": ("capacity", proposal(), replace(SEEN, peer_open=3)),
    "another spec": ("bad_spec", proposal(spec_hash=bytes(32)), SEEN),
    "another chain": ("bad_spec", proposal(spec={"domain": "1:0x"}), SEEN),
    "two seats": ("bad_spec", proposal(seats=2), SEEN),
    "one seat, checked": ("bad_spec", proposal(seats=1), SEEN),
    "three seats, unchecked": ("bad_spec", proposal(policy=Policy.NONE), SEEN),
    "a seat outside": ("bad_spec", proposal(3), SEEN),
    "input too large": ("too_large", proposal(spec={"input_bytes": (64 << 20) + 1}), SEEN),
    "unknown workload": ("workload", proposal(), replace(SEEN, workload=None)),
    "other version": ("workload", proposal(spec={"workload_version": 2}), SEEN),
    "unknown model": ("model", proposal(spec={"model": "0x" + "ab" * 32}), SEEN),
    "other policy": ("policy", proposal(policy=Policy.TOL32), SEEN),
    "too cheap": ("price", proposal(fee=Amount(UNIT // 100 - 1)), SEEN),
    "lease below ours": ("lease_too_short", proposal(lease=9), SEEN),
    "lease too short for the input": (
        "lease_too_short",
        proposal(spec={"input_bytes": 40 << 20}),
        SEEN,
    ),
    "no time before the deadline": ("deadline", proposal(commit_deadline=NOW + 29), SEEN),
    "deadline in the past": ("deadline", proposal(commit_deadline=NOW - 1), SEEN),
    "deadline years away": ("deadline", proposal(commit_deadline=NOW + 10**7), SEEN),
    "window of a second": ("bad_spec", proposal(window=1), SEEN),
    "another input": ("bad_spec", msgspec.structs.replace(proposal(), input=b"HELLO"), SEEN),
    "a longer input": ("bad_spec", msgspec.structs.replace(proposal(), input=b"hello!"), SEEN),
}


@pytest.mark.parametrize("case", DECLINED)
def test_a_seat_is_declined_with_its_own_code(case: str) -> None:
    code, proposed, seen = DECLINED[case]
    refusal = judge(proposed, seen)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    assert refusal.reason


def test_a_fair_proposal_is_taken() -> None:
    assert judge(proposal(), SEEN) is None
    assert judge(proposal(policy=Policy.NONE, seats=1), SEEN) is None


def test_the_price_of_the_workload_decides_and_another_may_have_its_own() -> None:
    config = NodeConfig(prices={"shout": Price(base_fee="2CT"), "default": Price(base_fee="1")})
    dear = replace(SEEN, config=config)
    refusal = judge(proposal(), dear)
    assert refusal is not None
    assert refusal.code == "price"
    assert "shout" in refusal.hint
    assert judge(proposal(fee=Amount(2 * UNIT)), dear) is None


def test_nothing_is_taken_below_the_fee_of_the_contract() -> None:
    free = NodeConfig(prices={"default": Price(base_fee="0")})
    refusal = judge(
        proposal(fee=Amount(DEFAULT_PARAMETERS.min_fee - 1)), replace(SEEN, config=free)
    )
    assert refusal is not None
    assert refusal.code == "price"
