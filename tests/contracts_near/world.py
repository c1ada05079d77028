"""The two contracts on the embedded chain, nodes that sign, and one task as its parties see it.

Digests and signatures come from the core (`deai.tasks`): what succeeds here also shows that Python
and Rust mean the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from py_near import transactions as near

from deai import tasks
from deai.ids import AccountId, NodeId, TaskId, hexed, near_node_id
from deai.money import UNIT, Amount
from deai.signing import Domain, Ed25519Signer, word
from deai.tasks import Policy, Seat, Task
from devnet.near.borsh import signed_transaction
from devnet.near.chain import Chain, Grant, Options, open_chain
from devnet.near.keys import key_pair
from devnet.near.rules import NEAR, TGAS
from tests.devnet.near.tools import FakeClock, Result

ARTIFACTS: Final = Path(tasks.__file__).parent / "chain" / "artifacts" / "near"
SEATS: Final = 15
FEE: Final = 3 * UNIT
TIP: Final = UNIT // 10
LEASE, SPAN, WINDOW = 300, 1_000, 1_000  # seconds
MAX_SPAN: Final = 24 * 3600
EPOCH: Final = 6 * 3600
UNBONDING: Final = 7 * 24 * 3600
STAKE: Final = 100 * UNIT
SUPPLY: Final = 10**9 * UNIT
CHAIN: Final = "near:localnet"
TOKEN, COMPUTE = "token.deai.near", "compute.deai.near"
OWNER, GUARDIAN, TREASURY = "dao.deai.near", "guardian.deai.near", "treasury.deai.near"
CLIENT, STRANGER = "client.near", "stranger.near"
OWNERS: Final = [f"provider-{i}.near" for i in range(SEATS + 1)]
OPERATOR_METHODS: Final = (
    "heartbeat", "announce", "release", "commit", "submit_result", "reveal", "approve", "finalise",
)  # fmt: skip
DIGEST: Final = b"\x06" * 32
EVIDENCE: Final = b"\x07" * 32
DEPOSIT: Final = NEAR // 50
PARAMETERS: Final = {
    "treasury": TREASURY,
    "min_stake": str(STAKE),
    "weight_fee": str(UNIT // 100),
    "epoch_seconds": EPOCH,
    "unbonding_seconds": UNBONDING,
    "bounty": str(UNIT // 10),
    "min_fee": "1000",
    "min_lease": 10,
    "min_window": 600,
    "max_span": MAX_SPAN,
    "owner_delay": 2 * 24 * 3600,
    "upgrade_delay": UNBONDING + 24 * 3600,
}


def seed(name: str) -> bytes:
    """The 32-byte secret of a name, always the same."""
    return hashlib.sha256(name.encode()).digest()


def b64(signature: bytes) -> str:
    return base64.b64encode(signature).decode()


class Ground:
    """A chain with the token and one more contract, and who calls them."""

    contract = COMPUTE  # whom calls and views are for, unless said otherwise

    def __init__(self, chain: Chain, clock: FakeClock) -> None:
        self.chain, self.clock = chain, clock

    # --- sending ----------------------------------------------------------------------------

    def send(self, signer: str, receiver: str, *actions: Any, key: bytes | None = None) -> Result:
        """One transaction and all that follows from it."""
        name = self.submit(signer, receiver, *actions, key=key)
        self.chain.settle()
        return self.result(name)

    def submit(self, signer: str, receiver: str, *actions: Any, key: bytes | None = None) -> str:
        """One transaction that waits for its block."""
        secret, public = key_pair(key or seed(signer))
        held = self.chain.state.key(signer, public)
        nonce = held.nonce + 1 if held else 1
        raw = near.sign_and_serialize_transaction(
            signer, secret, receiver, nonce, list(actions), self.chain.head.hash
        )
        transaction = signed_transaction(base64.b64decode(str(raw)))
        self.chain.submit(transaction)
        return transaction.id

    def result(self, transaction_id: str) -> Result:
        included = self.chain.store.transaction(transaction_id)
        assert included is not None
        return Result(included.outcome, self.chain.store.receipts_of(transaction_id))

    def call(
        self, signer: str, method: str, arguments: Any = None, *, deposit: int = 0,
        receiver: str = "", gas: int = 30, key: bytes | None = None,
    ) -> Result:  # fmt: skip
        body = arguments if isinstance(arguments, bytes) else json.dumps(arguments or {}).encode()
        action = near.create_function_call_action(method, body, gas * TGAS, deposit)
        return self.send(signer, receiver or self.contract, action, key=key)

    def owner_call(self, signer: str, method: str, **arguments: Any) -> Result:
        """With the one yocto that a full-access key can attach."""
        return self.call(signer, method, arguments, deposit=1)

    def pay_in(self, signer: str, amount: int, message: object = "", *, gas: int = 60) -> Result:
        text = message if isinstance(message, str) else json.dumps(message)
        arguments = {"receiver_id": self.contract, "amount": str(amount), "msg": text}
        return self.call(signer, "ft_transfer_call", arguments, deposit=1, receiver=TOKEN, gas=gas)

    def view(self, method: str, contract: str = "", **arguments: Any) -> Any:
        chain = self.chain
        body = json.dumps(arguments).encode()
        outcome = chain.view(chain.state, chain.head, contract or self.contract, method, body)
        assert outcome is not None
        assert outcome.failure is None, outcome.failure
        assert isinstance(outcome.returned, bytes)
        return json.loads(outcome.returned)

    # --- time -------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.chain.head.timestamp // 10**9

    def advance(self, seconds: int) -> None:
        self.clock.now += seconds * 10**9
        self.chain.produce()

    # --- money ------------------------------------------------------------------------------

    def tokens(self, account: str) -> int:
        return int(self.view("ft_balance_of", TOKEN, account_id=account))

    def usage(self) -> int:
        """Bytes that the contract's account is charged for."""
        return self.chain.state.accounts[self.contract].usage

    def give(self, account: str, amount: int) -> None:
        """Tokens from the holder of the supply."""
        sent = {"receiver_id": account, "amount": str(amount)}
        self.call(OWNER, "ft_transfer", sent, deposit=1, receiver=TOKEN)

    def set_up(self, contract: str, wasm: bytes, **new: Any) -> None:
        """Deploy a contract and call its `new`."""
        self.send(contract, contract, near.create_deploy_contract_action(wasm))
        assert self.call(contract, "new", new, receiver=contract).value is None

    def deploy_token(self, registered: Iterable[str]) -> None:
        """The token, with the whole supply at `OWNER`'s."""
        code = (ARTIFACTS / "token.wasm").read_bytes()
        self.set_up(TOKEN, code, holder=OWNER, supply=str(SUPPLY))
        for account in registered:
            self.call(
                OWNER, "storage_deposit", {"account_id": account}, deposit=NEAR // 100,
                receiver=TOKEN,
            )  # fmt: skip


class World(Ground):
    """Contracts deployed, sixteen nodes registered, a client with tokens in its vault."""

    def __init__(self, chain: Chain, clock: FakeClock, wasm: bytes | None = None) -> None:
        super().__init__(chain, clock)
        self.escrow = Domain(tasks.ESCROW_NAME, CHAIN, AccountId(COMPUTE))
        self.registry = Domain(tasks.REGISTRY_NAME, CHAIN, AccountId(COMPUTE))
        self.signers = [Ed25519Signer(seed(f"operator {i}")) for i in range(SEATS + 1)]
        self.nodes = [near_node_id(AccountId(owner), 0) for owner in OWNERS]
        self._deploy(wasm or (ARTIFACTS / "compute.wasm").read_bytes())
        for i in range(SEATS + 1):
            self.register(i)
        self.deposit(CLIENT, 10**4 * UNIT)

    def operator_call(self, index: int, method: str, **arguments: Any) -> Result:
        """By a node's hot key, a function-call key on its owner's account."""
        key = seed(f"operator {index}")
        return self.call(OWNERS[index], method, arguments, key=key)

    def vault(self, account: str) -> int:
        found = self.view("get_account", account_id=account)
        return int(found["balance"]) if found else 0

    def deposit(self, account: str, amount: int) -> None:
        self.give(account, amount)
        assert self.pay_in(account, amount).value == str(amount)

    # --- set-up -----------------------------------------------------------------------------

    def _deploy(self, wasm: bytes) -> None:
        self.deploy_token((CLIENT, STRANGER, TREASURY, COMPUTE, *OWNERS))
        self.set_up(
            COMPUTE, wasm, token=TOKEN, chain_id=CHAIN, owner=OWNER, guardian=GUARDIAN,
            parameters=PARAMETERS,
        )  # fmt: skip
        for account in (CLIENT, *OWNERS):
            done = self.call(account, "storage_deposit", {}, deposit=DEPOSIT)
            assert done.value["total"] == str(DEPOSIT)

    def registration(self, i: int, *, index: int = 0, signer: int | None = None) -> dict[str, Any]:
        node = near_node_id(AccountId(OWNERS[i]), index)
        key = self.signers[i if signer is None else signer]
        valid_until = self.now + 3600
        digest = tasks.operate_digest(self.registry, node, key.account, valid_until)
        return {
            "index": index,
            "operator": key.account,
            "valid_until": valid_until,
            "signature": b64(key.sign(digest)),
            "peer_id": "12D3KooWAcKDgPnYkZ4MWVQ5pQ6P1nZ6zrWZXx5qbiSmuiQ6DPWm",
            "addresses": ["/ip4/203.0.113.7/udp/4001/quic-v1"],
        }

    def register(self, i: int, stake: int = 2 * STAKE) -> Result:
        owner = OWNERS[i]
        self.give(owner, stake)
        public = key_pair(seed(f"operator {i}"))[1]
        access = near.create_function_call_access_key_action(
            public, NEAR // 4, COMPUTE, list(OPERATOR_METHODS)
        )
        self.send(owner, owner, access)
        done = self.pay_in(owner, stake, {"register": self.registration(i)})
        assert done.value == str(stake)
        return done

    # --- tasks ------------------------------------------------------------------------------

    def task(self, **fields: Any) -> Task:
        """The next task of a lane, of three seats and `exact/1` unless said otherwise."""
        lane = fields.pop("lane", 0)
        known = {
            "client": CLIENT, "lane": lane,
            "nonce": self.view("get_lane", client=CLIENT, lane=lane)["closed"] + 1,
            "fee": Amount(FEE), "tip": Amount(TIP), "seats": 3, "policy": Policy.EXACT,
            "lease": LEASE, "commit_deadline": self.now + SPAN, "window": WINDOW,
            "spec_hash": b"\x05" * 32,
        }  # fmt: skip
        return Task(**{**known, **fields})


class Play:
    """A task, its committee and what its members sign."""

    def __init__(self, world: World, task: Task, members: list[int] | None = None) -> None:
        self.world, self.task = world, task
        self.id: TaskId = tasks.task_id(task, world.escrow)
        self.members = members if members is not None else list(range(task.seats))
        self.committee: list[Seat] = []
        self.order: list[tuple[int, bytes]] = []

    @property
    def document(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            name: getattr(self.task, name) for name in self.task.__struct_fields__
        }
        return {
            **fields, "fee": str(self.task.fee), "tip": str(self.task.tip),
            "policy": int(self.task.policy), "spec_hash": hexed(self.task.spec_hash),
        }  # fmt: skip

    @property
    def seats(self) -> list[dict[str, Any]]:
        return [msgspec.structs.asdict(seat) for seat in self.committee]

    @property
    def both(self) -> dict[str, Any]:
        return {"task": self.document, "committee": self.seats}

    def node(self, seat: int) -> NodeId:
        return self.world.nodes[self.members[seat]]

    def signer(self, seat: int) -> Ed25519Signer:
        return self.world.signers[self.members[seat]]

    def accept(self, seat: int, *, attempt: int = 0, valid_for: int = 60) -> dict[str, Any]:
        until = self.world.now + valid_for
        digest = tasks.accept_digest(
            self.world.escrow, self.id, seat, attempt, self.node(seat), until
        )
        signature = b64(self.signer(seat).sign(digest))
        return {"node": self.node(seat), "valid_until": until, "signature": signature}

    def accepts(self) -> list[dict[str, Any]]:
        return [self.accept(seat) for seat in range(self.task.seats)]

    def post(self, *, assign: bool = True, deposit: int = DEPOSIT) -> Result:
        arguments = {"task": self.document, "accepts": self.accepts() if assign else None}
        done = self.world.call(CLIENT, "submit_task", arguments, deposit=deposit)
        self.learn(done)
        return done

    def learn(self, done: Result) -> None:
        """Take the committee from the events, as a follower does."""
        for event in events(done):
            if "committee" in event["data"]:
                self.committee = [Seat(**seat) for seat in event["data"]["committee"]]

    def salt(self, seat: int) -> bytes:
        return hashlib.sha256(f"salt {seat}".encode()).digest()

    def commitment(self, seat: int, digest: bytes = DIGEST) -> dict[str, Any]:
        held = self.committee[seat]
        value = tasks.commitment_value(
            self.id, seat, held.attempt, held.node, digest, self.salt(seat)
        )
        signed = tasks.commit_digest(self.world.escrow, self.id, seat, held.attempt, value)
        self.order.append((seat, value))
        return {
            "seat": seat,
            "value": hexed(value),
            "signature": b64(self.signer(seat).sign(signed)),
        }

    def commit(self, *seats: int, digests: dict[int, bytes] | None = None) -> Result:
        given = [self.commitment(seat, (digests or {}).get(seat, DIGEST)) for seat in seats]
        return self.world.call(CLIENT, "commit", {**self.both, "commitments": given})

    def openings(
        self,
        digests: dict[int, bytes] | None = None,
        hidden: set[int] = frozenset(),  # type: ignore[assignment]
    ) -> list[dict[str, Any]]:
        return [
            {"seat": seat, "digest": hexed(bytes(32)), "salt": hexed(value)}
            if seat in hidden
            else {
                "seat": seat,
                "digest": hexed((digests or {}).get(seat, DIGEST)),
                "salt": hexed(self.salt(seat)),
            }
            for seat, value in self.order
        ]

    @property
    def acc(self) -> bytes:
        return word(tasks.fold_commitments(self.task.nonce, self.order))

    def approval(self, seat: int, mask: int) -> dict[str, Any]:
        digest = tasks.approval_digest(self.world.escrow, self.id, seat, self.acc, mask)
        return {"seat": seat, "mask": mask, "signature": b64(self.signer(seat).sign(digest))}

    def result(
        self, seat: int, output: bytes = DIGEST, evidence: bytes = EVIDENCE
    ) -> dict[str, Any]:
        attempt = self.committee[seat].attempt
        digest = tasks.result_digest(self.world.escrow, self.id, seat, attempt, output, evidence)
        signature = b64(self.signer(seat).sign(digest))
        return {
            "output_digest": hexed(output), "evidence_digest": hexed(evidence),
            "signature": signature,
        }  # fmt: skip

    def finalise(
        self, openings: list[dict[str, Any]], approvals: list[dict[str, Any]] | None = None,
        *, by: str = CLIENT,
    ) -> Result:  # fmt: skip
        arguments = {**self.both, "openings": openings, "approvals": approvals or []}
        return self.world.call(by, "finalise", arguments)


def events(done: Result) -> list[dict[str, Any]]:
    """The NEP-297 events of a transaction, the token's left out."""
    lines = [line.removeprefix("EVENT_JSON:") for line in done.logs if line.startswith("EVENT_")]
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [event for event in found if event["standard"] == "deai"]


def refusal(done: Result) -> tuple[str, dict[str, Any]]:
    """The contract's own error of the first receipt that failed: name and arguments."""
    for outcome in done.outcomes.values():
        status = outcome["outcome"]["status"]
        if "Failure" in status:
            message: str = status["Failure"]["ActionError"]["kind"]["FunctionCallError"][
                "ExecutionError"
            ]
            name, _, arguments = message.removeprefix("Smart contract panicked: ").partition(": ")
            return name, json.loads(arguments) if arguments.startswith("{") else {"": arguments}
    raise AssertionError("nothing was refused")


@contextmanager
def a_chain(
    directory: Path, accounts: Iterable[str], options: Options | None = None
) -> Iterator[tuple[Chain, FakeClock]]:
    """A chain with these accounts; afterwards its books balance."""
    genesis = {name: Grant(10_000 * NEAR, (key_pair(seed(name))[1],)) for name in accounts}
    clock = FakeClock()
    directory.mkdir(exist_ok=True)
    chain = open_chain(directory / "chain.sqlite", options or Options(), genesis, clock)
    try:
        yield chain, clock
        assert chain.supply() + chain.books.burnt == chain.books.minted
    finally:
        chain.store.close()


@contextmanager
def a_world(directory: Path, wasm: bytes | None = None) -> Iterator[World]:
    """A chain with everything on it."""
    accounts = (
        TOKEN, COMPUTE, OWNER, GUARDIAN, TREASURY, CLIENT, STRANGER, *OWNERS,
    )  # fmt: skip
    with a_chain(directory, accounts) as (chain, clock):
        yield World(chain, clock, wasm)
