"""The three contracts on an `Evm`, nodes that sign, and one task as its parties see it.

Digests and signatures come from the core (`deai.tasks`): what succeeds here also shows that
Python and Solidity mean the same bytes.
"""

from __future__ import annotations

from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from deai import tasks
from deai.hashing import keccak
from deai.ids import AccountId, NodeId, TaskId, node_id, raw
from deai.money import UNIT, Amount
from deai.signing import Domain, LocalSigner, split
from deai.tasks import Policy, Seat, Task
from devnet.evm.rules import Rules
from devnet.evm.vm import Outcome
from tests.contracts.evm import START, Deployed, Evm, account

SEATS = 15
FEE = 3 * UNIT
TIP = UNIT // 10
LEASE, SPAN, WINDOW = 300, 1000, 1000  # seconds
DIGEST = b"\x06" * 32
FOREVER = 2**40 - 1
EPOCH = 6 * 3600


class World:
    """Contracts deployed, fifteen nodes registered, client and treasury funded."""

    def __init__(self, sstore_set_gas: int) -> None:
        self.evm = Evm(sstore_set_gas)
        self.rows: dict[str, int] = {}
        self.admin, self.client = account("admin"), account("client")
        self.other, self.treasury = account("other"), account("treasury")
        self.owners = [account(f"owner {i}") for i in range(SEATS + 1)]
        self.operators = [account(f"operator {i}") for i in range(SEATS + 1)]
        self.signers = [LocalSigner(bytes(key.key)) for key in self.operators]
        self._deploy()
        self.escrow_domain = self._domain(tasks.ESCROW_NAME, self.escrow)
        self.registry_domain = self._domain(tasks.REGISTRY_NAME, self.registry)
        self.nodes = [self._register(i) for i in range(SEATS + 1)]
        self.token.do(self.admin, "transfer", self.treasury.address, UNIT)
        for label in ("deposit, first", "deposit"):
            self.token.do(self.admin, "transfer", self.client.address, 10**5 * UNIT)
            self._pay(self.client, self.escrow, 10**4 * UNIT)
            self.rows[label] = self.evm.gas
        self.token.do(self.admin, "transfer", self.other.address, 10 * UNIT)
        self._pay(self.other, self.escrow, UNIT)

    def _domain(self, name: str, contract: Deployed) -> Domain:
        return Domain(name, Rules().chain_id, AccountId(contract.address.lower()))

    def _deploy(self) -> None:
        deploy = self.evm.deploy
        self.token = deploy(self.admin, "ComputeToken", self.admin.address, 10**9 * UNIT)
        self.rows["deploy ComputeToken"] = self.evm.gas
        escrow = self.evm.next_address(self.admin, 1)
        numbers = (100 * UNIT, UNIT, EPOCH, 7 * 86_400, UNIT)
        admin = self.admin.address
        self.registry = deploy(
            self.admin, "NodeRegistry", self.token.address, escrow, admin, 86_400, admin, numbers
        )
        self.rows["deploy NodeRegistry"] = self.evm.gas
        limits = (self.treasury.address, 10**6, 10, 600, 86_400)
        self.escrow = deploy(
            self.admin, "TaskEscrow", self.token.address, self.registry.address, limits
        )
        self.rows["deploy TaskEscrow"] = self.evm.gas

    def _pay(self, payer: LocalAccount, to: Deployed, amount: int, data: bytes = b"") -> None:
        self.token.do(payer, "transferAndCall(address,uint256,bytes)", to.address, amount, data)

    def _register(self, i: int) -> NodeId:
        owner, signer = self.owners[i], self.signers[i]
        node = node_id(AccountId(owner.address.lower()), 0)
        digest = tasks.operate_digest(self.registry_domain, node, signer.account, FOREVER)
        data = encode(
            ["uint96", "address", "uint40", "bytes", "bytes", "string"],
            [0, signer.account, FOREVER, signer.sign(digest), b"\x12" * 34, "/ip4/1.2.3.4/tcp/1"],
        )
        self.token.do(self.admin, "transfer", owner.address, 10**4 * UNIT)
        self._pay(owner, self.registry, 1000 * UNIT, data)
        self.rows["register"] = self.evm.gas
        return node

    def do(self, row: str, sender: LocalAccount, function: str, *arguments: Any) -> Outcome:
        """Send a call to the escrow; its gas becomes a row unless `row` is empty."""
        outcome = self.escrow.do(sender, function, *arguments)
        if row:
            self.rows[row] = self.evm.gas
        return outcome

    def beat(self, row: str = "") -> None:
        """Every node's heartbeat."""
        for node, operator in zip(self.nodes, self.operators, strict=True):
            self.registry.do(operator, "heartbeat", raw(node))
        if row:
            self.rows[row] = self.evm.gas

    def balance(self, owner: LocalAccount) -> int:
        """Base units in a vault account."""
        return int(self.escrow.read("accountOf", owner.address)[0])


class Job:
    """One task, from post to payout."""

    def __init__(
        self, world: World, seats: int, policy: Policy, lane: int = 0, tip: int = TIP
    ) -> None:
        self.world = world
        info = world.escrow.read("laneOf", world.client.address, lane)
        self.task = Task(
            AccountId(world.client.address.lower()), lane, info[4] + 1, Amount(FEE), Amount(tip),
            seats, policy, LEASE, world.evm.now + SPAN, WINDOW, b"\x05" * 32,
        )  # fmt: skip
        self.id: TaskId = tasks.task_id(self.task, world.escrow_domain)
        self.committee: list[Seat] = []
        self.holders = list(range(seats))
        self.openings: list[tuple[int, bytes, bytes]] = []

    @property
    def words(self) -> tuple[Any, ...]:
        """The task as the contract takes it."""
        t = self.task
        return (
            t.client, t.lane, t.nonce, t.fee, t.tip, t.seats, int(t.policy), t.lease,
            t.commit_deadline, t.window, t.spec_hash,
        )  # fmt: skip

    @property
    def seats(self) -> list[tuple[bytes, int]]:
        """The committee as the contract takes it."""
        return [(raw(seat.node), seat.info) for seat in self.committee]

    def do(self, row: str, sender: LocalAccount, function: str, *arguments: Any) -> None:
        """A call that names the task and its committee first."""
        self.world.do(row, sender, function, self.words, self.seats, *arguments)

    def accept(self, seat: int, attempt: int, holder: int) -> tuple[Any, ...]:
        """The signed promise of node `holder`."""
        w, until = self.world, FOREVER
        digest = tasks.accept_digest(
            w.escrow_domain, self.id, seat, attempt, w.nodes[holder], until
        )
        return (raw(w.nodes[holder]), until, *split(w.signers[holder].sign(digest)))

    def seat(self, holder: int, attempt: int) -> Seat:
        """A seat taken now."""
        w = self.world
        return Seat(w.nodes[holder], w.signers[holder].account, w.evm.now + LEASE, attempt)

    def assign(self, row: str = "", function: str = "postAndAssign") -> None:
        """Seat nodes 0, 1, 2 …"""
        accepts = [self.accept(i, 0, i) for i in self.holders]
        self.world.do(row, self.world.client, function, self.words, accepts)
        self.committee = [self.seat(i, 0) for i in self.holders]

    def reassign(self, seat: int, holder: int, row: str) -> None:
        """Give a seat to node `holder`."""
        attempt = self.committee[seat].attempt + 1
        self.do(row, self.world.client, "reassign", seat, self.accept(seat, attempt, holder))
        self.committee[seat], self.holders[seat] = self.seat(holder, attempt), holder

    def _value(self, seat: int, digest: bytes) -> bytes:
        held = self.committee[seat]
        salt = keccak(b"salt", bytes([seat]))
        return tasks.commitment_value(self.id, seat, held.attempt, held.node, digest, salt)

    def commit(self, seat: int, digest: bytes = DIGEST, row: str = "") -> None:
        """The seat's own transaction, without a signature."""
        value = self._value(seat, digest)
        sender = self.world.operators[self.holders[seat]]
        self.do(row, sender, "commit", [(seat, value, bytes(32), bytes(32))])
        self.openings.append((seat, digest, keccak(b"salt", bytes([seat]))))

    def relay(self, row: str, digest: bytes = DIGEST) -> None:
        """Every seat's signed commitment in one transaction of the client."""
        signed = []
        for seat, held in enumerate(self.committee):
            value = self._value(seat, digest)
            what = tasks.commit_digest(self.world.escrow_domain, self.id, seat, held.attempt, value)
            signature = self.world.signers[self.holders[seat]].sign(what)
            signed.append((seat, value, *split(signature)))
            self.openings.append((seat, digest, keccak(b"salt", bytes([seat]))))
        self.do(row, self.world.client, "commit", signed)

    def result(self, seat: int, output: bytes, evidence: bytes) -> tuple[Any, ...]:
        """A signed result."""
        attempt = self.committee[seat].attempt
        digest = tasks.result_digest(
            self.world.escrow_domain, self.id, seat, attempt, output, evidence
        )
        signature = self.world.signers[self.holders[seat]].sign(digest)
        return (output, evidence, *split(signature))

    def only(self, *opened: int) -> list[tuple[int, bytes, bytes]]:
        """All openings, every seat but `opened` closed again."""
        return [
            (seat, digest, salt) if seat in opened else (seat, bytes(32), self._value(seat, digest))
            for seat, digest, salt in self.openings
        ]

    def approvals(self) -> list[tuple[Any, ...]]:
        """Everybody approves everybody."""
        values = [(seat, self._value(seat, digest)) for seat, digest, _ in self.openings]
        acc = tasks.fold_commitments(self.task.nonce, values).to_bytes(32, "big")
        mask = (1 << self.task.seats) - 1
        given = []
        for seat, holder in enumerate(self.holders):
            digest = tasks.approval_digest(self.world.escrow_domain, self.id, seat, acc, mask)
            given.append((seat, mask, *split(self.world.signers[holder].sign(digest))))
        return given

    def finalise(
        self,
        row: str,
        sender: LocalAccount,
        openings: list[tuple[int, bytes, bytes]] | None = None,
        approvals: list[tuple[Any, ...]] | None = None,
    ) -> None:
        """End the task with the openings and approvals given (else all, and none)."""
        self.do(row, sender, "finalise", openings or self.openings, approvals or [])

    def past(self, moment: int) -> None:
        """Wait until just after chain time `moment`."""
        self.world.evm.wait(moment + 1 - self.world.evm.now)


__all__ = ["DIGEST", "START", "Job", "World"]
