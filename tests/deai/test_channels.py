"""A channel pays what its largest voucher says, and every party can leave alone."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given, strategies as st

from deai import channels as c
from deai.channels import (
    CHANNEL_EXITS,
    CHANNEL_TRANSITIONS,
    MAX_EPOCH,
    Channel,
    ChannelEvent,
    ChannelRecord,
    ChannelState,
    Party,
    Voucher,
    advance_channel,
    channel_id,
    sign_voucher,
    verify_voucher,
    voucher_digest,
)
from deai.codec import Codec
from deai.errors import (
    BadSignature,
    IllegalTransition,
    LedgerRejected,
    LimitExceeded,
    MalformedMessage,
)
from deai.hashing import keccak
from deai.ids import AccountId, ChannelId, NodeId, hexed, near_node_id, node_id
from deai.money import MAX_AMOUNT, Amount
from deai.signing import Domain, Ed25519Signer
from tests.support.examples import examples
from tests.support.samples import accounts, amounts, digests, nodes, signer

DOMAIN = Domain(c.CHANNELS_NAME, 713714, AccountId("0x" + "ce" * 20))
ON_NEAR = Domain(c.CHANNELS_NAME, "near:localnet", AccountId("compute.test"))
SESSION = signer(5)
CLIENT = signer(6).account
CHANNEL = Channel(CLIENT, node_id(signer(7).account, 3), SESSION.account)
ID = channel_id(CHANNEL, DOMAIN)
ROOT = b"\x05" * 32
PERIOD = 100
START = 1_000_000
epochs = st.integers(1, MAX_EPOCH)
few = st.integers(0, 1000).map(Amount)


def voucher(amount: int, epoch: int = 1) -> Voucher:
    return Voucher(ID, epoch, Amount(amount), ROOT, bytes(64))


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in ChannelState for e in ChannelEvent])
def test_a_step_is_in_the_table_or_illegal(state: ChannelState, event: ChannelEvent) -> None:
    if event in CHANNEL_TRANSITIONS[state]:
        assert advance_channel(state, event) is CHANNEL_TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTransition, match=f"{state.label}.*{event}"):
            advance_channel(state, event)


@pytest.mark.parametrize("party", [Party.CLIENT, Party.OWNER])
@pytest.mark.parametrize("state", [ChannelState.OPEN, ChannelState.CLOSING])
def test_each_party_gets_out_without_the_other(state: ChannelState, party: Party) -> None:
    for _ in ChannelState:
        exits = CHANNEL_EXITS.get(state, {})
        if not exits:
            break
        event = exits.get(party) or exits[Party.ANYBODY]
        state = advance_channel(state, event)
    assert state is ChannelState.CLOSED


# --- the record ---------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), few),
        st.tuples(st.just("top_up"), few),
        st.tuples(st.just("redeem"), few),
        st.tuples(st.just("request"), st.just(0)),
        st.tuples(st.just("close"), few),
        st.tuples(st.just("finish"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 2 * PERIOD)),
    ),
    max_size=40,
)


class Walk:
    """One channel driven at random, with a book of its own."""

    def __init__(self) -> None:
        self.record, self.now = ChannelRecord(), START
        self.put = self.paid = self.refunded = 0
        self.best = 0  # the largest voucher taken in this epoch

    def do(self, step: str, number: int) -> None:
        """Take a step; raises what refused it, and then nothing has changed."""
        record, amount = self.record, Amount(number)
        match step:
            case "open":
                self.record = c.opened(record, amount)
                self.best = 0
                self.put += amount
            case "top_up":
                self.record = c.topped_up(record, amount)
                self.put += amount
            case "redeem":
                self.record, paid = c.redeemed(record, voucher(amount, record.epoch), self.now)
                self.take(amount, paid)
            case "request":
                self.record = c.close_requested(record, self.now, PERIOD)
            case "close":
                held = voucher(amount, record.epoch) if amount else None
                self.record, paid, refunded = c.closed(record, held, self.now)
                self.take(amount, paid)
                self.refunded += refunded
            case "finish":
                self.record, refunded = c.finished(record, self.now)
                self.refunded += refunded
            case _:
                self.now += number

    def take(self, amount: int, paid: int) -> None:
        """A voucher was shown."""
        self.best = max(self.best, amount)
        self.paid += paid


EVENTS = {
    "open": ChannelEvent.OPENED, "top_up": ChannelEvent.TOPPED_UP,
    "redeem": ChannelEvent.REDEEMED, "request": ChannelEvent.CLOSE_REQUESTED,
    "close": ChannelEvent.CLOSED, "finish": ChannelEvent.FINISHED,
}  # fmt: skip


@given(steps)
def test_money_is_never_made_nor_lost_and_states_follow_the_table(
    taken: list[tuple[str, int]],
) -> None:
    walk = Walk()
    for step, number in taken:
        before = walk.record
        follows = CHANNEL_TRANSITIONS[before.state].get(EVENTS[step]) if step != "wait" else None
        try:
            walk.do(step, number)
        except IllegalTransition:
            assert follows is None
            assert walk.record is before
        except LedgerRejected:
            assert follows is not None or (step in ("open", "top_up") and not number)
            assert walk.record is before
        else:
            assert walk.record.state is (before.state if step == "wait" else follows)
        record = walk.record
        assert record.claimed <= record.deposit
        assert walk.put == walk.paid + walk.refunded + record.remaining
        if record.state in (ChannelState.NONE, ChannelState.CLOSED):
            assert (record.deposit, record.claimed, record.closes_at) == (0, 0, 0)
        assert record.epoch >= before.epoch


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8), st.randoms(), st.integers(1, 1500))
def test_the_largest_voucher_pays_whatever_the_order(
    promised: list[int], order: Random, deposit: int
) -> None:
    order.shuffle(promised)
    record, total = c.opened(ChannelRecord(), Amount(deposit)), 0
    for amount in promised:
        if c.payable(record, amount):
            record, paid = c.redeemed(record, voucher(amount), START)
            total += paid
        else:
            with pytest.raises(LedgerRejected, match="NothingNew"):
                c.redeemed(record, voucher(amount), START)
    assert total == min(max(promised), deposit)
    after, paid, refunded = c.closed(record, voucher(max(promised)), START)
    assert (after.state, paid, refunded) == (ChannelState.CLOSED, 0, deposit - total)


def test_a_voucher_above_the_deposit_pays_the_rest_when_the_deposit_grows() -> None:
    record, paid = c.redeemed(c.opened(ChannelRecord(), Amount(10)), voucher(14), START)
    assert paid == 10
    record, paid = c.redeemed(c.topped_up(record, Amount(10)), voucher(14), START)
    assert (paid, record.remaining) == (4, 6)


def test_a_newer_voucher_wins_until_the_last_second_of_the_challenge() -> None:
    record = c.close_requested(c.opened(ChannelRecord(), Amount(10)), START, PERIOD)
    end = START + PERIOD
    late, paid = c.redeemed(record, voucher(7), end)
    assert paid == 7
    with pytest.raises(LedgerRejected, match="TooEarly"):
        c.finished(late, end)
    assert c.finished(late, end + 1) == (ChannelRecord(epoch=1), 3)
    with pytest.raises(LedgerRejected, match="TooLate"):
        c.redeemed(record, voucher(8), end + 1)
    with pytest.raises(LedgerRejected, match="TooLate"):
        c.closed(record, voucher(8), end + 1)
    assert c.closed(record, None, end + 1) == (ChannelRecord(epoch=1), 0, 10)


def test_a_voucher_dies_with_its_epoch() -> None:
    record, *_ = c.closed(c.opened(ChannelRecord(), Amount(10)), None, START)
    record = c.opened(record, Amount(10))
    with pytest.raises(LedgerRejected, match="BadSignature"):
        c.redeemed(record, voucher(5, epoch=1), START)
    assert c.redeemed(record, voucher(5, epoch=2), START)[1] == 5


def test_epochs_end() -> None:
    last = ChannelRecord(epoch=MAX_EPOCH - 1)
    record = c.opened(last, Amount(1))
    assert record.epoch == MAX_EPOCH
    record, *_ = c.closed(record, None, START)
    with pytest.raises(LimitExceeded):
        c.opened(record, Amount(1))


def test_the_whole_supply_fits_one_channel() -> None:
    record = c.topped_up(c.opened(ChannelRecord(), Amount(MAX_AMOUNT - 1)), Amount(1))
    record, paid = c.redeemed(record, voucher(MAX_AMOUNT), START)
    assert paid == MAX_AMOUNT
    assert record.remaining == 0


# --- digests and signatures ---------------------------------------------------------------------


@given(accounts, nodes, accounts, epochs, amounts, digests)
@examples(25)
def test_ids_and_digests_are_what_a_wallet_computes(
    client: AccountId, node: NodeId, session: AccountId, epoch: int, amount: Amount, root: bytes
) -> None:
    def wallet(name: str, fields: list[tuple[str, str]], values: list[object]) -> bytes:
        names = [field for field, _ in fields]
        typed = encode_typed_data(
            {"name": DOMAIN.name, "version": "1", "chainId": DOMAIN.chain_id,
             "verifyingContract": DOMAIN.contract},
            {name: [{"name": field, "type": kind} for field, kind in fields]},
            dict(zip(names, values, strict=True)),
        )  # fmt: skip
        return keccak(b"\x19" + typed.version + typed.header + typed.body)

    key = channel_id(Channel(client, node, session), DOMAIN)
    fields = [("client", "address"), ("node", "bytes32"), ("sessionKey", "address")]
    assert key == hexed(wallet("Channel", fields, [client, node, session]))
    fields = [
        ("channelId", "bytes32"), ("epoch", "uint24"), ("cumulativeAmount", "uint96"),
        ("receiptsRoot", "bytes32"),
    ]  # fmt: skip
    found = voucher_digest(DOMAIN, key, epoch, amount, root)
    assert found == wallet("Voucher", fields, [key, epoch, int(amount), root])


OTHERS = [
    ("channel", channel_id(Channel(CLIENT, node_id(CLIENT, 3), SESSION.account), DOMAIN)),
    ("epoch", 2),
    ("cumulative_amount", Amount(8)),
    ("receipts_root", bytes(32)),
    ("signature", bytes(64)),
]


@pytest.mark.parametrize(("field", "value"), OTHERS, ids=[name for name, _ in OTHERS])
def test_another_value_in_any_field_is_not_signed(field: str, value: object) -> None:
    signed = sign_voucher(DOMAIN, SESSION, ID, 1, Amount(7), ROOT)
    verify_voucher(DOMAIN, SESSION.account, signed)
    changed = msgspec.structs.replace(signed, **{field: value})
    with pytest.raises(BadSignature):
        verify_voucher(DOMAIN, SESSION.account, changed)


@pytest.mark.parametrize(
    "other",
    [
        Domain(c.CHANNELS_NAME, 1329, DOMAIN.contract),
        Domain(c.CHANNELS_NAME, 713714, AccountId("0x" + "cf" * 20)),
        Domain("deai escrow", 713714, DOMAIN.contract),
        ON_NEAR,
    ],
    ids=["chain", "contract", "name", "near"],
)
def test_a_voucher_is_worth_nothing_elsewhere(other: Domain) -> None:
    signed = sign_voucher(DOMAIN, SESSION, ID, 1, Amount(7), ROOT)
    with pytest.raises(BadSignature):
        verify_voucher(other, SESSION.account, signed)


def test_nobody_but_the_session_key_promises() -> None:
    signed = sign_voucher(DOMAIN, signer(6), ID, 1, Amount(7), ROOT)
    with pytest.raises(BadSignature):
        verify_voucher(DOMAIN, SESSION.account, signed)


def test_on_near_the_session_key_is_an_ed25519_key() -> None:
    key = Ed25519Signer(bytes(range(32)))
    channel = Channel(AccountId("alice.near"), near_node_id(AccountId("bob.near"), 0), key.account)
    assert channel.owner == "bob.near"
    name = channel_id(channel, ON_NEAR)
    signed = sign_voucher(ON_NEAR, key, name, 1, Amount(7), ROOT)
    verify_voucher(ON_NEAR, key.account, signed)
    with pytest.raises(BadSignature):
        verify_voucher(ON_NEAR, Ed25519Signer(bytes(32)).account, signed)


@pytest.mark.parametrize(
    ("channel", "domain"),
    [
        (CHANNEL, ON_NEAR),
        (
            Channel(
                AccountId("alice.near"),
                near_node_id(AccountId("bob.near"), 0),
                Ed25519Signer(bytes(32)).account,
            ),
            DOMAIN,
        ),
        (Channel(AccountId("alice.near"), CHANNEL.node, SESSION.account), DOMAIN),
        (
            Channel(
                AccountId("a.near"),
                near_node_id(AccountId("b.near"), 0),
                AccountId("0x" + "11" * 20),
            ),
            ON_NEAR,
        ),
    ],
    ids=["sei on near", "near on sei", "mixed on sei", "mixed on near"],
)
def test_names_of_the_other_chain_make_no_channel(channel: Channel, domain: Domain) -> None:
    with pytest.raises(MalformedMessage):
        channel_id(channel, domain)


@pytest.mark.parametrize(
    ("field", "value"), [("epoch", 0), ("epoch", MAX_EPOCH + 1), ("channel", ChannelId("0x12"))]
)
def test_a_voucher_on_the_wire_is_in_its_bounds_or_refused(field: str, value: object) -> None:
    codec: Codec[Voucher] = Codec(Voucher, 256)
    signed = sign_voucher(DOMAIN, SESSION, ID, MAX_EPOCH, Amount(MAX_AMOUNT), ROOT)
    assert codec.decode(codec.encode(signed)) == signed
    broken = codec.encode(msgspec.structs.replace(signed, **{field: value}))
    with pytest.raises(MalformedMessage):
        codec.decode(broken)


# --- receipts and credit ------------------------------------------------------------------------


@given(st.lists(digests, min_size=1, max_size=6), st.data())
def test_a_receipts_root_stands_for_every_window_in_its_order(
    windows: list[bytes], data: st.DataObject
) -> None:
    def root(of: list[bytes]) -> bytes:
        folded = c.NO_RECEIPTS
        for window in of:
            folded = c.fold_receipts(folded, window)
        return folded

    other = data.draw(st.permutations(windows))
    assert (root(list(other)) == root(windows)) == (list(other) == windows)
    assert root(windows[:-1]) != root(windows)


@given(st.integers(0, 10**24), st.integers(0, 10**26))
def test_a_client_can_owe_one_task_or_a_twentieth(task: int, paid: int) -> None:
    assert c.credit(0, 0) == 0  # the first voucher travels with the first task
    allowed = c.credit(task, paid)
    assert allowed in (task, paid // 20)
    assert allowed >= max(task, paid // 20)
