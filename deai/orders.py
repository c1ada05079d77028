"""A signed order: a task that is paid for without a transaction of the client's own.

The client signs an order for a committee that it names, the nodes sign the digest they agree on,
and anybody carries both to the chain, many orders at once. One bit on chain keeps an order from
being settled twice; nothing else is stored of it, and only its expiry ends it. The money is a
balance that the client set aside for orders: settlements reduce it, and so does a thaw, which
the client has to ask for long enough before that payees see it (`is_covered`).

A settled order costs the fee of *every* seat. Who signed the result is paid; the fees of the
others go to the protocol. Were they the client's again, leaving out a seat that worked would be
the cheapest way to be served. Below 60 % of the seats nothing is settled and nothing paid.

As in `deai.channels` nothing here knows the time, a peer or a chain, and the functions named
like events say what each does to a record and what the contract answers instead;
`contracts/spec/vectors/orders.json` is written from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Annotated, Final, Never, TypeAlias

import msgspec

from deai.errors import BadSignature, IllegalTransition, LedgerRejected, MalformedMessage
from deai.hashing import ZERO, keccak
from deai.ids import AccountId, NodeId, OrderId, hexed, owner_of, raw
from deai.money import Amount
from deai.signing import Domain, Signer, node_word, struct_type, verify
from deai.standing import Standing
from deai.tasks import MAX_SEATS, Account, Digest, Node, Policy, Seconds, Signature

ORDERS_NAME: Final = "deai orders"
PAGE_ORDERS: Final = 255
"""Orders of a page: bit 0 of its word says that the client bought the word."""
MAX_NONCE: Final = (1 << 64) - 1
MAX_PAGE: Final = MAX_NONCE >> 8
QUORUM: Final = (3, 5)
"""The part of the seats that has to agree."""
PAYABLE: Final = frozenset({Standing.PROBATION, Standing.ACTIVE, Standing.UNBONDING})
"""Standings whose signature counts: registered, and with stake that can still be taken."""

Nonce: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
"""Below 2^64, which the form of messages ensures and `is_sound` asks."""

_ORDER: Final = struct_type(
    "Order(ACCOUNT client,uint96 fee,uint8 policy,uint40 validUntil,uint64 nonce,"
    "bytes32 specHash,NODE[] nodes)"
)
_RESULT: Final = struct_type("OrderResult(bytes32 orderId,NODE node,bytes32 outputDigest)")


class Order(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the client promises to pay for; `fee` per seat, `valid_until` in chain seconds.

    `nonce` names the order's bit: page `nonce >> 8`, bit `nonce & 255`, never bit 0.
    """

    client: Account
    fee: Amount
    policy: Policy
    valid_until: Seconds
    nonce: Nonce
    spec_hash: Digest
    nodes: Annotated[tuple[Node, ...], msgspec.Meta(min_length=1, max_length=MAX_SEATS)]

    @property
    def cost(self) -> int:
        """What settling it takes from the client's balance, in base units."""
        return self.fee * len(self.nodes)

    @property
    def quorum(self) -> int:
        """The least number of seats that is at least 60 % of all."""
        return -(-len(self.nodes) * QUORUM[0] // QUORUM[1])

    @property
    def page(self) -> int:
        """Which of the client's words holds its bit."""
        return self.nonce >> 8

    @property
    def bit(self) -> int:
        """Its bit, as a mask of the word."""
        return 1 << (self.nonce & 0xFF)


class Settlement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An order, its client's signature, and what the seats signed about one output.

    `results` is by seat, None where a seat signed nothing, or another digest. Under a tolerance
    policy a seat signs the digest of the output that it takes for its own within tolerance.
    """

    order: Order
    signature: Signature
    output_digest: Digest
    results: tuple[Signature | None, ...]


class Member(msgspec.Struct, frozen=True):
    """A node as its registry knows it now; reputation in thousandths of a point."""

    operator: AccountId
    standing: Standing
    reputation: int


class Payout(msgspec.Struct, frozen=True):
    """What a settled order pays: by seat, and to the protocol; together the cost of the order."""

    payments: tuple[int, ...]
    protocol_fee: int


def order_id(order: Order, domain: Domain) -> OrderId:
    """The chain's name of an order, and what its client signs: the EIP-712 digest of its fields.

    Raises `MalformedMessage` for accounts or nodes that are not of the domain's chain.
    """
    if any(("#" in node) is not isinstance(domain.chain_id, str) for node in order.nodes):
        raise MalformedMessage("a node of another chain")
    nodes = keccak(*(node_word(node) for node in order.nodes))
    fields = (
        order.client, order.fee, int(order.policy), order.valid_until, order.nonce,
        order.spec_hash, nodes,
    )  # fmt: skip
    return OrderId(hexed(domain.digest(_ORDER, fields)))


def sign_order(domain: Domain, key: Signer, order: Order) -> bytes:
    """The client's signature."""
    return key.sign(raw(order_id(order, domain)))


def result_digest(domain: Domain, order: OrderId, node: NodeId, output_digest: bytes) -> bytes:
    """What a seat's operator signs: bound to the order, and to the node, so to one seat."""
    return domain.digest(_RESULT, (raw(order), node, output_digest))


def sign_result(
    domain: Domain, key: Signer, order: OrderId, node: NodeId, output_digest: bytes
) -> bytes:
    """A seat's signature."""
    return key.sign(result_digest(domain, order, node, output_digest))


# --- the balance --------------------------------------------------------------------------------


class BalanceState(IntEnum):
    """Where a client's balance for orders is; the number is the contract's."""

    NONE = 0  # never opened
    FUNDED = 1  # all of it is there for orders
    THAWING = 2  # the client asked for some; settlements still take from all of it

    @property
    def label(self) -> str:
        """The word used in documents."""
        return self.name.lower()


class BalanceEvent(StrEnum):
    """What can happen to a balance."""

    FUNDED = "funded"  # by the client
    SETTLED = "settled"  # by anybody who holds a settlement
    THAW_REQUESTED = "thaw_requested"  # by the client: the thaw begins, or begins anew
    THAW_CANCELLED = "thaw_cancelled"  # by the client, who asks for nothing
    WITHDRAWN = "withdrawn"  # by the client, after the thaw: what settlements left of it


BALANCE_TRANSITIONS: Final[Mapping[BalanceState, Mapping[BalanceEvent, BalanceState]]] = {
    BalanceState.NONE: {BalanceEvent.FUNDED: BalanceState.FUNDED},
    BalanceState.FUNDED: {
        BalanceEvent.FUNDED: BalanceState.FUNDED,
        BalanceEvent.SETTLED: BalanceState.FUNDED,
        BalanceEvent.THAW_REQUESTED: BalanceState.THAWING,
    },
    BalanceState.THAWING: {
        BalanceEvent.FUNDED: BalanceState.THAWING,
        BalanceEvent.SETTLED: BalanceState.THAWING,
        BalanceEvent.THAW_REQUESTED: BalanceState.THAWING,
        BalanceEvent.THAW_CANCELLED: BalanceState.FUNDED,
        BalanceEvent.WITHDRAWN: BalanceState.FUNDED,
    },
}


def advance_balance(state: BalanceState, event: BalanceEvent) -> BalanceState:
    """Return the state that follows; raise `IllegalTransition` if there is none."""
    try:
        return BALANCE_TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"a balance that is {state.label} cannot be {event}") from None


class OrderBalance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the contract keeps of a client, in one word.

    `thaws_at` is chain time: what was asked for may leave after that second; 0 while nothing was.
    """

    balance: Amount = Amount(0)
    thawing: Amount = Amount(0)
    thaws_at: Seconds = 0
    is_open: bool = False

    @property
    def state(self) -> BalanceState:
        """The state of the table."""
        if not self.is_open:
            return BalanceState.NONE
        return BalanceState.THAWING if self.thaws_at else BalanceState.FUNDED

    @property
    def free(self) -> int:
        """What the client did not ask for, in base units."""
        return max(0, self.balance - self.thawing)


def funded(record: OrderBalance, amount: Amount) -> OrderBalance:
    """More to spend."""
    if not amount:
        _refuse("BadData")
    advance_balance(record.state, BalanceEvent.FUNDED)
    return msgspec.structs.replace(record, balance=Amount(record.balance + amount), is_open=True)


def thaw_requested(record: OrderBalance, amount: Amount, now: int, period: int) -> OrderBalance:
    """`amount` in all is asked for, whatever was before, and the clock starts; 0 takes it back."""
    if not amount:
        advance_balance(record.state, BalanceEvent.THAW_CANCELLED)
        return msgspec.structs.replace(record, thawing=Amount(0), thaws_at=0)
    advance_balance(record.state, BalanceEvent.THAW_REQUESTED)
    if amount > record.balance:
        _refuse("Insufficient", available=int(record.balance), needed=int(amount))
    return msgspec.structs.replace(record, thawing=amount, thaws_at=now + period)


def withdrawn(record: OrderBalance, now: int) -> tuple[OrderBalance, Amount]:
    """The record after the thaw, and what leaves: as much as was asked for and is still there."""
    advance_balance(record.state, BalanceEvent.WITHDRAWN)
    if now <= record.thaws_at:
        _refuse("StillThawing", thawsAt=record.thaws_at)
    amount = Amount(min(record.thawing, record.balance))
    return OrderBalance(balance=Amount(record.balance - amount), is_open=True), amount


def charged(record: OrderBalance, order: Order) -> OrderBalance:
    """The record after a settlement, which takes from what thaws, too."""
    advance_balance(record.state, BalanceEvent.SETTLED)
    if order.cost > record.balance:
        _refuse("Insufficient", available=int(record.balance), needed=order.cost)
    return msgspec.structs.replace(record, balance=Amount(record.balance - order.cost))


def is_covered(record: OrderBalance, order: Order, promised: int, now: int, period: int) -> bool:
    """Whether a payee may work for an order: no thaw can outrun it.

    `promised` is the cost of the client's other orders that the payee knows to be unsettled. An
    order that is valid for no longer than a thaw takes is settled, at the latest, before what is
    asked for from now on can leave. What other payees hold nobody but the client knows.
    """
    return now <= order.valid_until <= now + period and promised + order.cost <= record.free


# --- what settles -------------------------------------------------------------------------------


def judge(
    settlement: Settlement, *, record: OrderBalance, page: int, members: Sequence[Member],
    now: int, least_fee: int, domain: Domain,
) -> int:  # fmt: skip
    """The mask of seats that a settlement pays; asks what the contract asks, in its order.

    `page` is the word that holds the order's bit, `members` are the order's nodes, by seat.
    Raises `LedgerRejected` with the contract's error.
    """
    order = settlement.order
    if not is_sound(order, least_fee) or settlement.output_digest == ZERO:
        _refuse("BadOrder")
    if len(settlement.results) != len(order.nodes):
        _refuse("BadOrder")
    if now > order.valid_until:
        _refuse("TooLate")
    if not page & 1:
        _refuse("PageClosed")
    if page & order.bit:
        _refuse("AlreadySettled")
    charged(record, order)
    id_ = order_id(order, domain)
    if not _signed(raw(id_), settlement.signature, order.client):
        _refuse("BadSignature")
    mask = 0
    for seat, (node, result) in enumerate(zip(order.nodes, settlement.results, strict=True)):
        if result is None or members[seat].standing not in PAYABLE:
            continue
        digest = result_digest(domain, id_, node, settlement.output_digest)
        if _signed(digest, result, members[seat].operator):
            mask |= 1 << seat
    if mask.bit_count() < order.quorum:
        _refuse("NoQuorum")
    return mask


def is_sound(order: Order, least_fee: int) -> bool:
    """Whether an order could ever be settled: its form, apart from time, money and signatures."""
    seats = len(order.nodes)
    fitting = seats == 1 if order.policy is Policy.NONE else seats >= 3 and seats % 2 == 1
    owners = {owner_of(node) for node in order.nodes}
    named = order.nonce & 0xFF != 0 and order.nonce <= MAX_NONCE
    return fitting and len(owners) == seats and named and order.fee >= least_fee


def payout(
    order: Order, mask: int, members: Sequence[Member], paid: Callable[[int, int], int]
) -> Payout:
    """Who gets what; `paid(fee, reputation)` is the rule of a paid seat."""
    payments = tuple(
        paid(order.fee, member.reputation) if mask >> seat & 1 else 0
        for seat, member in enumerate(members)
    )
    return Payout(payments, order.cost - sum(payments))


def _signed(digest: bytes, signature: bytes, account: AccountId) -> bool:
    try:
        verify(digest, signature, account)
    except BadSignature:
        return False
    return True


def _refuse(name: str, **arguments: object) -> Never:
    raise LedgerRejected(name, arguments)
