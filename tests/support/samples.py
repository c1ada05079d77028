"""Values to build tests from: signers, tasks, specs, and Hypothesis strategies for them."""

from __future__ import annotations

from hypothesis import strategies as st

from deai import messages as m, tasks
from deai.hashing import blob_digest
from deai.ids import AccountId, NodeId, TaskId, hexed, node_id
from deai.money import MAX_AMOUNT, Amount
from deai.signing import Domain, LocalSigner
from deai.tasks import Policy, Seat, Task, TaskSpec

ESCROW = Domain(tasks.ESCROW_NAME, 713714, AccountId("0x" + "ab" * 20))
REGISTRY = Domain(tasks.REGISTRY_NAME, 713714, AccountId("0x" + "cd" * 20))


def signer(number: int) -> LocalSigner:
    """A key that depends on `number` alone."""
    return LocalSigner(number.to_bytes(32, "big"))


def spec(
    data: bytes = b"hello\n", workload: str = "embedding", salt: bytes = bytes(32)
) -> TaskSpec:
    """A spec over `data`."""
    return TaskSpec(
        domain=f"{ESCROW.chain_id}:{ESCROW.contract}",
        workload=workload,
        workload_version=1,
        model="",
        input_digest=blob_digest(data),
        input_bytes=len(data),
        parameters=b"\x80",
        salt=salt,
    )


def task(
    client: AccountId, *, seats: int = 3, policy: Policy = Policy.EXACT, fee: int = 10**18,
    tip: int = 10**15, nonce: int = 1, deadline: int = 2_000_000_000,
) -> Task:  # fmt: skip
    """A plausible task of `client`."""
    return Task(
        client=client, lane=0, nonce=nonce, fee=Amount(fee), tip=Amount(tip), seats=seats,
        policy=policy, lease=30, commit_deadline=deadline, window=600,
        spec_hash=tasks.spec_hash(spec()),
    )  # fmt: skip


amounts = st.integers(min_value=0, max_value=MAX_AMOUNT).map(Amount)
digests = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
accounts = st.binary(min_size=20, max_size=20).map(lambda raw: AccountId(hexed(raw)))
nodes = st.builds(node_id, accounts, st.integers(0, (1 << 96) - 1))
task_ids = digests.map(lambda raw: TaskId(hexed(raw)))
seconds = st.integers(0, (1 << 40) - 1)
seat_numbers = st.integers(0, 14)
attempts = st.integers(0, 3)
words = st.integers(1, (1 << 32) - 1)

held_seats = st.builds(Seat, nodes, accounts, seconds, attempts)
all_tasks = st.builds(
    Task, accounts, st.integers(0, (1 << 32) - 1), words, amounts, amounts, st.integers(1, 15),
    st.sampled_from(Policy), words, seconds, words, digests,
)  # fmt: skip
specs = st.builds(
    TaskSpec, domain=st.text(max_size=40), workload=st.text(max_size=30),
    workload_version=st.integers(1, 1000), model=st.text(max_size=66), input_digest=digests,
    input_bytes=seconds, parameters=st.binary(max_size=64), salt=digests,
)  # fmt: skip
reasons = st.text(max_size=80)
codes = st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
members = st.builds(m.Member, seat_numbers, st.text(max_size=60), st.just(("/ip4/1.2.3.4/tcp/1",)))

task_messages = st.one_of(
    st.just(m.AskOffer()),
    st.builds(m.Propose, all_tasks, specs, seat_numbers, attempts),
    st.builds(m.Accepted, task_ids, seat_numbers, attempts, nodes, seconds, signatures),
    st.builds(m.DeclinedSeat, task_ids, seat_numbers, codes, reasons),
    st.builds(
        m.Assigned, task_ids, seconds, st.lists(held_seats, max_size=5).map(tuple),
        st.lists(members, max_size=5).map(tuple),
    ),
    st.builds(
        m.BlobHeader, task_ids, st.sampled_from(["input", "output"]), seat_numbers,
        st.integers(0, 1 << 26), st.lists(digests, min_size=1, max_size=4).map(tuple),
    ),
    st.builds(
        m.BlobChunk, task_ids, st.sampled_from(["input", "output"]), seat_numbers,
        st.integers(0, 1023), st.binary(max_size=200),
    ),
    st.builds(m.Progress, task_ids, seat_numbers, attempts, st.integers(0, 1000)),
    st.builds(m.Committed, task_ids, seat_numbers, attempts, digests, signatures),
    st.builds(m.Opened, task_ids, seat_numbers, attempts, digests, digests, digests, signatures),
    st.builds(
        m.ApprovedOutputs, task_ids, seat_numbers, digests, st.integers(0, (1 << 15) - 1),
        signatures,
    ),
    st.builds(m.FailedSeat, task_ids, seat_numbers, attempts, codes, reasons),
    st.builds(m.Resume, task_ids),
    st.builds(m.Ended, task_ids, seconds),
    st.builds(m.Refused, st.none() | task_ids, codes, reasons),
    st.builds(m.Goodbye, reasons),
)  # fmt: skip


def node(owner: AccountId, index: int = 0) -> NodeId:
    """The owner's node number `index`."""
    return node_id(owner, index)
