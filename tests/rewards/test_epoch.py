"""An epoch's statement: every unit has one owner, and nobody else than events say."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgpack
import msgspec
import pytest
from hypothesis import given, strategies as st

from deai.claims import REWARDS_NAME, ClaimTree, Line, Reason, Share, Statement, claim_root
from deai.codec import Codec, encode_canonical
from deai.errors import MalformedMessage
from deai.events import (
    EquivocationProven,
    LedgerEvent,
    LedgerRecord,
    NodeSlashed,
    Position,
    RewardsFunded,
    SeatReassigned,
    SeatSettlement,
    TaskAssigned,
    TaskExpired,
    TaskFinalised,
    TaskObjected,
    TaskPosted,
    TokensMoved,
)
from deai.ids import AccountId, NodeId, TaskId, hexed, node_id
from deai.money import Amount
from deai.signing import Domain
from deai.tasks import Policy, Seat, Task
from rewards.epoch import REFUND_PERCENT, Book, statement
from tests.support.examples import examples

CONTRACT = AccountId("0x" + "44" * 20)
DOMAIN = Domain(REWARDS_NAME, 713714, CONTRACT)
SECONDS, FEE = 100, 1_000


def account(number: int) -> AccountId:
    return AccountId(hexed(number.to_bytes(20, "big")))


CLIENT, TREASURY = account(1), account(2)


def node(number: int) -> NodeId:
    return node_id(account(0x100 + number), 0)


@dataclass
class History:
    """Events in chain order; every `say` is a transaction."""

    records: list[LedgerRecord] = field(default_factory=list)
    block: int = 0

    def say(self, time: int, *events: LedgerEvent) -> History:
        self.block += 1
        for event in events:
            at = Position(self.block, len(self.records), "", time, f"tx {self.block}")
            self.records.append(LedgerRecord(at, event))
        return self

    def fund(self, time: int, amount: int, **shares: dict[int, int]) -> History:
        """A transfer, and with `audit={1: 5}` word of what it is for."""
        told = [
            RewardsFunded(
                TREASURY,
                Reason[name.upper()],
                Amount(amount),
                tuple(Share(account(to), Amount(sum_)) for to, sum_ in shared.items()),
            )
            for name, shared in shares.items()
        ]
        return self.say(time, TokensMoved(TREASURY, CONTRACT, Amount(amount)), *told)

    def task(self, time: int, nonce: int = 1, client: AccountId = CLIENT, **changed: int) -> TaskId:
        task = Task(
            client, 0, nonce, Amount(changed.get("fee", FEE)), Amount(0), 3, Policy.EXACT, 10,
            time + 50, 20, bytes(32),
        )  # fmt: skip
        id_ = TaskId(f"0x{client[-8:]}{nonce:056x}")
        self.say(time, TaskPosted(id_, task), TaskAssigned(id_, seats(0, 1, 2)))
        return id_

    def finalise(self, time: int, id_: TaskId, *verdicts: int) -> History:
        settled = tuple(SeatSettlement(Amount(100), 0, 0, verdict) for verdict in verdicts)
        end = TaskFinalised(id_, bytes(32), False, Amount(0), Amount(0), CLIENT, Amount(0), settled)
        return self.say(time, end)

    def prove(self, time: int, id_: TaskId, seat: int, by: int, burned: int) -> History:
        """The node numbered `by` signed twice; what it lost was burned but for a bounty."""
        slash = NodeSlashed(node(by), TREASURY, Amount(burned + 1), Amount(1), Amount(burned))
        return self.say(time, EquivocationProven(id_, seat, node(by), TREASURY), slash)

    def at(self, epoch: int) -> Statement:
        return statement(self.records, DOMAIN, SECONDS, epoch)


def seats(*numbers: int) -> tuple[Seat, ...]:
    return tuple(Seat(node(n), account(0x200 + n), 1, 0) for n in numbers)


def due(found: Statement) -> dict[AccountId, int]:
    return {one.account: int(one.amount) for one in found.leaves}


def test_shares_are_owed_to_whom_they_name_and_the_rest_is_nobodys() -> None:
    found = History().fund(5, 100, audit={7: 30, 8: 20}).fund(6, 9, delegation={7: 9}).at(0)
    assert due(found) == {account(7): 39, account(8): 20}
    assert found.lines == (
        Line(account(7), Reason.AUDIT, Amount(30)),
        Line(account(7), Reason.DELEGATION, Amount(9)),
        Line(account(8), Reason.AUDIT, Amount(20)),
    )
    assert (found.carried, found.received, found.pot, found.total) == (0, 109, 50, 59)


def test_amounts_are_cumulative_and_lines_are_of_their_epoch() -> None:
    history = History().fund(5, 10, audit={7: 10}).fund(150, 3, audit={7: 3}).fund(999, 50)
    first, second, third = (history.at(epoch) for epoch in (0, 1, 2))
    assert [due(one)[account(7)] for one in (first, second, third)] == [10, 13, 13]
    assert [one.amount for one in second.lines] == [3]
    assert third.lines == ()
    assert (third.received, third.pot, third.root) == (0, 0, second.root)
    assert history.at(9).pot == 50


def test_tokens_that_go_elsewhere_are_no_income() -> None:
    history = History().say(5, TokensMoved(TREASURY, account(3), Amount(10)))
    assert history.say(6, TokensMoved(CONTRACT, account(3), Amount(0))).at(0).received == 0


def test_a_client_gets_the_fee_of_a_proven_liar_out_of_the_pot() -> None:
    history = History().fund(1, 5_000)
    id_ = history.task(5)
    history.prove(20, id_, 1, by=1, burned=100_000).finalise(30, id_, 2, 2, 2)
    found = history.at(0)
    assert found.lines == (Line(CLIENT, Reason.REFUND, Amount(FEE)),)
    assert (found.pot, found.owed) == (4_000, 0)


@pytest.mark.parametrize(
    ("verdict", "loss"),
    [(0, 0), (1, FEE), (2, FEE), (3, FEE), (4, 0), (5, FEE), (6, 100)],
)
def test_only_what_the_chain_did_not_give_back_is_refunded(verdict: int, loss: int) -> None:
    history = History().fund(1, 5_000)
    id_ = history.task(5)
    history.finalise(30, id_, 2, 2, verdict).prove(40, id_, 2, by=2, burned=100_000)
    assert due(history.at(0)).get(CLIENT, 0) == loss


def test_whoever_reports_his_own_node_still_loses_most_of_the_slash() -> None:
    history = History().fund(1, 5_000)
    id_ = history.task(5)
    history.finalise(30, id_, 2, 2, 2).prove(40, id_, 0, by=0, burned=500)
    assert due(history.at(0)) == {CLIENT: 500 * REFUND_PERCENT // 100}
    assert REFUND_PERCENT < 50


def test_a_proof_that_took_nothing_refunds_nothing() -> None:
    history = History().fund(1, 5_000)
    id_ = history.task(5)
    history.finalise(30, id_, 2, 2, 2)
    history.say(40, EquivocationProven(id_, 0, node(0), TREASURY))
    assert history.at(0).lines == ()


def test_a_former_holder_cost_the_client_nothing() -> None:
    history = History().fund(1, 5_000)
    id_ = history.task(5)
    history.say(6, SeatReassigned(id_, 0, node(0), False, (*seats(9, 1, 2), *seats(0))))
    history.prove(20, id_, 0, by=0, burned=100_000).finalise(30, id_, 2, 2, 2)
    assert history.at(0).lines == ()


def test_a_proof_waits_for_the_end_of_its_task() -> None:
    history = History().fund(1, 5_000)
    id_ = history.task(5)
    history.prove(20, id_, 1, by=1, burned=100_000).finalise(130, id_, 2, 3, 2)
    assert history.at(0).lines == ()
    assert due(history.at(1)) == {CLIENT: FEE}


@pytest.mark.parametrize("end", ["expired", "objected"])
def test_other_ends_than_a_settlement(end: str) -> None:
    history = History().fund(1, 5_000)
    id_ = history.task(5)
    if end == "expired":
        history.say(30, TaskExpired(id_, Amount(3 * FEE)))
    else:
        history.say(30, TaskObjected(id_, Amount(FEE), Amount(0)))
    history.prove(40, id_, 0, by=0, burned=100_000)
    assert due(history.at(0)).get(CLIENT, 0) == (0 if end == "expired" else FEE)


def test_the_first_harmed_is_paid_first_and_the_rest_waits_for_the_pot_to_grow() -> None:
    history = History().fund(1, 1_500)
    ids = [history.task(5, client=account(50 + n)) for n in range(2)]
    for number, id_ in enumerate(ids):
        history.finalise(30, id_, 2, 2, 2).prove(40, id_, number, by=number, burned=100_000)
    assert due(history.at(0)) == {account(50): 1_000, account(51): 500}
    assert (history.at(0).owed, history.at(0).pot) == (500, 0)
    history.fund(250, 200).fund(350, 9_000)
    assert due(history.at(2))[account(51)] == 700
    found = history.at(3)
    assert (due(found)[account(51)], found.owed, found.pot) == (1_000, 0, 8_700)
    assert found.lines == (Line(account(51), Reason.REFUND, Amount(300)),)


def test_a_lane_is_forgotten_when_it_is_used_again() -> None:
    history, book = History(), Book(DOMAIN, SECONDS, 0)
    for nonce in range(1, 50):
        id_ = history.task(5, nonce)
        history.finalise(6, id_, 2, 2, 2)
    for record in history.records:
        book.apply(record)
    assert len(book._tasks) == len(book._lanes) == 1


def test_on_near_only_what_its_contract_says_has_come_in() -> None:
    """There tokens move a block before, maybe an epoch before, and back if they are refused."""
    contract = AccountId("rewards.deai.near")
    on_near = Domain(REWARDS_NAME, "near:test", contract)
    payer, one = AccountId("payer.near"), AccountId("one.near")
    told = RewardsFunded(payer, Reason.AUDIT, Amount(9), (Share(one, Amount(5)),))
    history = History().say(99, TokensMoved(payer, contract, Amount(9))).say(101, told)
    history.say(102, TokensMoved(payer, contract, Amount(1_000)))
    history.say(103, TokensMoved(contract, payer, Amount(1_000)))
    first, second = (statement(history.records, on_near, SECONDS, epoch) for epoch in (0, 1))
    assert (first.received, first.pot) == (0, 0)
    assert (second.received, second.pot, due(second)) == (9, 4, {one: 5})


def test_a_book_goes_on_where_it_was_closed() -> None:
    history = History().fund(5, 10, audit={7: 4}).fund(5, 3, audit={8: 3}).fund(350, 5)
    id_ = history.task(20, fee=1_000)
    history.prove(150, id_, 1, by=1, burned=100_000).finalise(160, id_, 2, 2, 2)
    history.records.sort(key=lambda record: record.position.time)
    book, at = Book(DOMAIN, SECONDS, 0), 0
    for epoch in range(5):
        book.go_on(epoch)
        while at < len(history.records) and book.apply(history.records[at]):
            at += 1
        assert book.statement() == book.statement() == history.at(epoch)
    book.go_on(0)
    assert book.statement() == history.at(4)


def test_shares_without_the_money_for_them_are_refused() -> None:
    told = RewardsFunded(TREASURY, Reason.AUDIT, Amount(5), (Share(account(7), Amount(5)),))
    with pytest.raises(MalformedMessage, match="more was shared out"):
        History().say(5, told).at(0)


def test_a_statement_has_one_form_that_another_decoder_reads() -> None:
    found = History().fund(5, 100, audit={7: 30, 8: 20}).at(0)
    data = encode_canonical(found)
    assert Codec[Statement](Statement, 1 << 20).decode(data) == found
    version, domain, epoch, *_ = msgpack.unpackb(data)
    assert (version, epoch, domain["contract"]) == (1, 0, CONTRACT)
    changed = msgspec.structs.replace(found, pot=Amount(51))
    assert changed.digest != found.digest


Moves = st.lists(
    st.tuples(
        st.integers(0, 60),  # seconds later
        st.sampled_from(["pot", "audit", "slash", "proof", "liar", "end"]),
        st.integers(1, 5),  # who
        st.integers(1, 3_000),  # how much
    ),
    max_size=40,
)


@examples(200)
@given(Moves)
def test_every_unit_that_came_in_has_one_owner(moves: list[tuple[int, str, int, int]]) -> None:
    history, time, nonce, came = History(), 0, 0, 0
    tasks: dict[int, TaskId] = {}
    for later, what, who, amount in moves:
        time += later
        if what == "pot":
            history.fund(time, amount)
            came += amount
        elif what in ("audit", "slash"):
            history.fund(time, amount, **{what: {who: amount - amount // 3}} if amount > 2 else {})
            came += amount
        elif what == "proof":
            nonce += 1
            tasks[who] = history.task(time, nonce, account(60 + who), fee=amount)
        elif who in tasks and what == "liar":
            history.prove(time, tasks[who], amount % 3, by=amount % 3, burned=amount)
        elif who in tasks:
            history.finalise(time, tasks.pop(who), 2, 3, 4)
    pot, total, owed_before = 0, 0, dict[AccountId, int]()
    for epoch in range(time // SECONDS + 2):
        found = history.at(epoch)
        added = sum(int(line.amount) for line in found.lines)
        assert found.carried == pot
        assert found.carried + found.received == added + found.pot
        assert found.total == total + added == sum(due(found).values())
        assert all(due(found)[who] >= sum_ for who, sum_ in owed_before.items())
        assert not (found.pot and found.owed)
        tree = ClaimTree(DOMAIN, found.leaves)
        for leaf in found.leaves:
            claim = tree.claim(leaf.account)
            assert claim is not None
            assert claim_root(DOMAIN, claim) == found.root
        pot, total, owed_before = int(found.pot), int(found.total), due(found)
    assert pot + total == came
    kept, at = Book(DOMAIN, SECONDS, 0), 0
    for epoch in range(time // SECONDS + 2):
        kept.go_on(epoch)
        while at < len(history.records) and kept.apply(history.records[at]):
            at += 1
        assert kept.statement() == history.at(epoch)
