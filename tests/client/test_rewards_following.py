"""Roots that are proposed by themselves, and proposed roots that are checked by themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest
import trio
from hypothesis import given, strategies as st

from deai import actions as act
from deai.chain.ledger import Cursor, EventBatch, Head, Transaction
from deai.chain.memory import GENESIS_TIME, MemoryChain, MemoryLedger
from deai.chain.refusals import refusal
from deai.claims import Reason, RewardsRecord, Share, Statement
from deai.cli.render_rewards import NOTICES
from deai.client.rewards import Bookkeeper, read_history
from deai.client.rewards_following import RETRY_S, Checker, Notice, Proposer, follow_book
from deai.errors import LedgerRejected, LedgerUnreachable
from deai.hashing import ZERO
from deai.ids import AccountId
from deai.money import Amount
from rewards.rules import RULES
from tests.client.support.world import PARAMETERS, signer
from tests.support.disk_clock import use_clock
from tests.support.examples import examples

ONE, TWO = (AccountId(f"0x{n:040x}") for n in (1, 2))
HOLDER, OTHER = signer("holder").account, signer("other").account
SECONDS, DELAY = PARAMETERS.epoch_seconds, PARAMETERS.reward_delay
LIE = b"\x13" * 32


class Watched(MemoryLedger):
    """A ledger that counts what is read and sent, and may be out of reach."""

    followed: list[Cursor | None]
    sent: list[act.Action]
    trouble: Exception | None = None
    """What asking about rewards, and sending, meets with."""
    is_silent = False
    is_behind = False
    """Whether the chain has always one block more than was read."""

    def __init__(self, chain: MemoryChain, account: AccountId | None) -> None:
        super().__init__(chain, account)
        self.followed, self.sent = [], []

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[EventBatch]]:
        self.followed.append(cursor)
        async with super().follow(cursor) as batches:
            quiet = self._quiet(batches)
            try:
                yield quiet
            finally:
                await quiet.aclose()

    async def _quiet(self, batches: AsyncIterator[EventBatch]) -> AsyncGenerator[EventBatch, None]:
        async for batch in batches:
            if self.is_silent:
                await trio.sleep_forever()
            head = batch.head
            if self.is_behind:
                head = Head(head.number + 1, "", head.time)
            yield msgspec.structs.replace(batch, head=head)

    async def rewards(self) -> RewardsRecord:
        if self.trouble is not None:
            raise self.trouble
        return await super().rewards()

    async def submit(self, action: act.Action, *, key: str = "") -> Transaction:
        self.sent.append(action)
        return await super().submit(action, key=key)


@dataclass
class Here:
    """A chain on trio's clock, and programs that follow it."""

    chain: MemoryChain
    nursery: trio.Nursery
    told: list[Notice] = field(default_factory=list)
    ended: list[object] = field(default_factory=list)
    _keys: int = 0

    @property
    def epoch(self) -> int:
        """The present one."""
        return self.chain.now // SECONDS

    def events(self) -> list[str]:
        return [one.event for one in self.told]

    async def until(self, met: Callable[[], object], seconds: float = 300.0) -> None:
        with trio.fail_after(seconds):
            while not met():
                await trio.sleep(0.25)

    async def hear(self, event: str, times: int = 1) -> Notice:
        """The `times`-th notice of that kind."""
        await self.until(lambda: self.events().count(event) >= times)
        return [one for one in self.told if one.event == event][times - 1]

    async def send(self, action: act.Action) -> Transaction:
        self._keys += 1
        return await self.chain.ledger(HOLDER).submit(action, key=f"{self._keys}")

    async def fund(self, amount: int, to: AccountId = ONE) -> None:
        shares = (Share(to, Amount(amount)),)
        await self.send(act.FundRewards(Amount(amount), Reason.AUDIT, shares))

    async def lie(self, epoch: int) -> None:
        """A root that nobody's events give, proposed with the proposer's key."""
        await self.send(act.ProposeRewards(epoch, LIE, Amount(10), ZERO))

    def pass_(self, seconds: int) -> None:
        self.chain.advance(seconds)

    def over(self) -> int:
        """Let the present epoch end."""
        epoch = self.epoch
        self.chain.advance((epoch + 1) * SECONDS - self.chain.now)
        return epoch

    async def record(self) -> RewardsRecord:
        return await self.chain.ledger().rewards()

    async def computed(self, epoch: int) -> Statement:
        history = await read_history(self.chain.ledger(), RULES, {epoch})
        return history.statements[epoch]

    def ledger(self, account: AccountId | None = HOLDER) -> Watched:
        return Watched(self.chain, account)

    def propose(self, ledger: Watched | None = None) -> tuple[Watched, trio.CancelScope]:
        """Start a proposer; its ledger, and what ends it."""
        ledger = ledger or self.ledger()
        proposer = Proposer(ledger, self.told.append)
        return ledger, self._start(ledger, proposer.visit)

    def check(self, *, cancels: bool, ledger: Watched | None = None) -> tuple[Watched, Checker]:
        ledger = ledger or self.ledger(HOLDER if cancels else None)
        checker = Checker(ledger, RULES, self.told.append, cancels=cancels)
        self._start(ledger, checker.visit)
        return ledger, checker

    def _start(
        self, ledger: Watched, visit: Callable[[Bookkeeper, Head], object]
    ) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                try:
                    await follow_book(ledger, RULES, self.told.append, visit)  # type: ignore[arg-type]
                    self.ended.append(None)
                except LedgerRejected as error:
                    self.ended.append(error)

        self.nursery.start_soon(run)
        return scope


@pytest.fixture(autouse=True)
def jumping(request: pytest.FixtureRequest) -> None:
    """No test here waits by the wall's clock."""
    use_clock(request, trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    start = trio.current_time()
    chain = MemoryChain(
        RULES, holder=HOLDER, parameters=PARAMETERS,
        clock=lambda: GENESIS_TIME + trio.current_time() - start,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        made = Here(chain, nursery)
        yield made
        nursery.cancel_scope.cancel()
    assert set(made.events()) <= set(NOTICES), "each has words on a screen"


async def test_each_epoch_is_proposed_once_it_is_over(here: Here) -> None:
    await here.fund(10)
    ledger, _ = here.propose()
    await here.hear("ready")
    for amount in (5, 7):
        epoch = here.over()
        told = await here.hear("proposed", len(ledger.sent) + 1)
        found = await here.computed(epoch)
        assert (told.epoch, told.root, told.total) == (epoch, found.root, found.total)
        record = await here.record()
        assert record.waiting is not None
        assert (record.waiting.root, record.waiting.active_at) == (found.root, told.active_at)
        assert told.next_at == (epoch + 2) * SECONDS
        here.pass_(DELAY)
        await here.fund(amount, TWO)
    assert len(ledger.sent) == 2
    assert ledger.followed == [None]


async def test_it_waits_for_the_clock_of_the_chain_and_not_for_its_own(here: Here) -> None:
    await here.fund(10)
    here.propose()
    await here.hear("ready")
    await trio.sleep(1)
    assert here.events() == ["ready", "nothing_owed"]
    ends = (here.epoch + 1) * SECONDS
    here.pass_(ends - here.chain.now - 2)
    await trio.sleep(1)
    assert here.chain.now < ends
    assert "proposed" not in here.events()
    here.pass_(1)
    await here.hear("proposed")


async def test_what_gives_nobody_anything_is_not_proposed(here: Here) -> None:
    ledger, _ = here.propose()
    await here.hear("nothing_owed")
    await here.fund(10)
    here.over()
    await here.hear("proposed")
    here.pass_(DELAY)
    await here.send(act.FundRewards(Amount(9), Reason.POT, ()))
    here.over()
    await here.hear("nothing_new")
    assert len(ledger.sent) == 1


async def test_a_root_waits_until_the_one_before_it_is_in_force(here: Here) -> None:
    await here.fund(10)
    epoch = here.over()
    found = await here.computed(epoch)
    await here.send(act.ProposeRewards(epoch, found.root, found.total, found.digest))
    await here.fund(10)
    here.chain.advance(1)
    here.over()
    record = await here.record()
    if record.waiting is None:  # the delay is shorter than an epoch here
        pytest.skip("the delay is over")
    here.propose()
    held = await here.hear("held")
    assert held.active_at == record.waiting.active_at
    here.pass_(DELAY)
    await here.hear("proposed")
    assert here.events().count("held") == 1


async def test_who_never_reads_to_the_end_of_a_busy_chain_proposes_too(here: Here) -> None:
    await here.fund(10)
    ledger = here.ledger()
    ledger.is_behind = True
    here.propose(ledger)
    await here.hear("ready")
    assert here.events()[0] == "reading"
    epoch = here.over()
    told = await here.hear("proposed")
    assert (told.epoch, told.root) == (epoch, (await here.computed(epoch)).root)


async def test_two_proposers_send_one_root(here: Here) -> None:
    await here.fund(10)
    ledgers = [here.propose()[0] for _ in range(2)]
    await here.hear("ready", 2)
    here.over()
    await here.hear("proposed")
    await here.hear("proposed_before")
    assert sum(len(ledger.sent) for ledger in ledgers) <= 2
    assert "problem" not in here.events()


async def test_a_second_life_goes_on_where_the_first_ended(here: Here) -> None:
    await here.fund(10)
    ledger, life = here.propose()
    await here.hear("ready")
    here.over()
    await here.hear("proposed")
    life.cancel()
    here.propose(ledger)
    await here.hear("proposed_before")
    here.pass_(DELAY)
    await here.fund(5)
    here.over()
    await here.hear("proposed", 2)
    assert len(ledger.sent) == 2


async def test_what_the_guardian_took_back_is_not_proposed_again(here: Here) -> None:
    await here.fund(10)
    ledger, life = here.propose()
    await here.hear("ready")
    epoch = here.over()
    told = await here.hear("proposed")
    assert told.root is not None
    await here.send(act.CancelRewards(epoch, told.root))
    life.cancel()
    _, life = here.propose(ledger)
    await here.hear("cancelled_before")
    life.cancel()
    # Nor where a liar came in between, so that the events tell of another root last.
    await here.lie(epoch)
    await here.send(act.CancelRewards(epoch, LIE))
    here.propose(ledger)
    await here.hear("cancelled_before", 2)
    assert (await here.record()).waiting is None
    assert here.events().count("proposed") == 1


async def test_a_lie_that_is_taken_back_is_followed_by_the_truth(here: Here) -> None:
    await here.fund(10)
    epoch = here.over()
    await here.lie(epoch)
    here.propose()
    wrong = await here.hear("wrong")
    found = await here.computed(epoch)
    assert (wrong.root, wrong.expected) == (LIE, found.root)
    await trio.sleep(10)
    assert here.events().count("wrong") == 1
    await here.send(act.CancelRewards(epoch, LIE))
    assert (await here.hear("proposed")).root == found.root


async def test_a_chain_out_of_reach_is_told_once_and_asked_again(here: Here) -> None:
    await here.fund(10)
    ledger, _ = here.propose()
    await here.hear("ready")
    ledger.trouble = LedgerUnreachable("no endpoint answers")
    here.over()
    assert (await here.hear("problem")).code == "ledger_unreachable"
    await trio.sleep(3 * RETRY_S)
    assert here.events().count("problem") == 1
    ledger.trouble = None
    await here.hear("proposed")
    await here.hear("solved")


async def test_a_silent_chain_is_taken_up_where_it_fell_silent(here: Here) -> None:
    await here.fund(10)
    ledger, _ = here.propose()
    await here.hear("ready")
    ledger.is_silent = True
    assert (await here.hear("problem")).code == "chain"
    ledger.is_silent = False
    here.over()
    await here.hear("proposed")
    assert len(ledger.followed) > 1
    assert None not in ledger.followed[1:]


async def test_replaced_blocks_are_read_again_from_the_beginning(here: Here) -> None:
    replace_blocks = here.chain.snapshot()
    await here.fund(10, ONE)
    ledger, _ = here.propose()
    await here.hear("ready")
    await trio.sleep(2)
    replace_blocks()
    await here.fund(3, TWO)
    epoch = here.over()
    told = await here.hear("proposed")
    found = await here.computed(epoch)
    assert [(one.account, one.amount) for one in found.leaves] == [(TWO, 3)]
    assert told.root == found.root
    assert ledger.followed == [None, None]


@pytest.mark.parametrize("name", ["GasMoney", "Unfunded"])
async def test_a_refusal_is_told_and_tried_again(here: Here, name: str) -> None:
    await here.fund(10)
    ledger, _ = here.propose()
    await here.hear("ready")
    ledger.trouble = refusal(name)
    here.over()
    assert (await here.hear("problem")).code == name
    ledger.trouble = None
    await here.hear("proposed")


async def test_a_key_that_may_not_propose_ends_it(here: Here) -> None:
    await here.fund(10)
    here.over()
    here.propose(here.ledger(OTHER))
    await here.until(lambda: here.ended)
    (error,) = here.ended
    assert isinstance(error, LedgerRejected)
    assert error.name == "Forbidden"


async def test_right_roots_are_told_and_the_check_goes_on(here: Here) -> None:
    await here.fund(10)
    ledger, checker = here.check(cancels=False)
    here.propose()
    await here.hear("ready", 2)
    for number in (1, 2):
        epoch = here.over()
        right = await here.hear("right", number)
        assert (right.epoch, right.expected) == (epoch, None)
        here.pass_(DELAY)
        await here.fund(1)
    assert (checker.checked, checker.standing, here.ended) == (2, 0, [])
    assert ledger.followed == [None]


@pytest.mark.parametrize("is_active", [False, True])
async def test_a_wrong_root_ends_a_check_that_may_not_cancel(here: Here, is_active: bool) -> None:
    await here.fund(10)
    epoch = here.over()
    await here.lie(epoch)
    if is_active:
        here.pass_(DELAY)
    _, checker = here.check(cancels=False)
    wrong = await here.hear("wrong")
    await here.until(lambda: here.ended)
    assert (wrong.epoch, wrong.root) == (epoch, LIE)
    assert wrong.expected == (await here.computed(epoch)).root
    assert (here.ended, checker.standing) == ([None], 1)


async def test_a_guardian_takes_wrong_roots_back_while_they_wait(here: Here) -> None:
    await here.fund(10)
    ledger, checker = here.check(cancels=True)
    await here.hear("ready")
    for number in (1, 2):  # the same lie twice is two proposals
        await here.lie(here.over())
        gone = await here.hear("cancelled", number)
        assert gone.root == LIE
        assert (await here.record()).waiting is None
    assert (checker.checked, checker.cancelled, checker.standing) == (2, 2, 0)
    assert here.ended == []
    here.propose()
    await here.hear("right")
    assert len(ledger.sent) == 2


async def test_the_same_lie_for_the_same_epoch_is_taken_back_again(here: Here) -> None:
    await here.fund(10)
    epoch = here.over()
    here.check(cancels=True)
    for number in (1, 2):
        await here.lie(epoch)
        await here.hear("cancelled", number)
    assert (await here.record()).waiting is None


async def test_a_guardian_watches_on_under_a_wrong_root_that_is_in_force(here: Here) -> None:
    await here.fund(10)
    await here.lie(here.over())
    here.pass_(DELAY)
    _, checker = here.check(cancels=True)
    await here.hear("wrong")
    await here.lie(here.over())
    await here.hear("cancelled")
    assert (checker.cancelled, checker.standing, here.ended) == (1, 1, [])


async def test_a_guardian_without_the_right_key_says_so(here: Here) -> None:
    await here.fund(10)
    await here.lie(here.over())
    here.check(cancels=True, ledger=here.ledger(OTHER))
    await here.until(lambda: here.ended)
    assert here.events()[-1] == "wrong"
    assert isinstance(here.ended[0], LedgerRejected)


async def test_an_epoch_of_long_ago_is_checked_too(here: Here) -> None:
    await here.fund(10)
    old = here.over()
    found = await here.computed(old)
    await here.fund(5)
    for _ in range(4):
        here.over()
    _, checker = here.check(cancels=False)
    await here.hear("ready")
    await here.send(act.ProposeRewards(old, found.root, found.total, found.digest))
    assert (await here.hear("right")).epoch == old
    assert checker.checked == 1


async def test_roots_from_before_the_start_are_checked_in_the_first_reading(here: Here) -> None:
    for _ in range(2):
        await here.fund(10)
        epoch = here.over()
        found = await here.computed(epoch)
        here.pass_(5 * SECONDS)
        await here.send(act.ProposeRewards(epoch, found.root, found.total, found.digest))
        if (await here.record()).epoch == 0:
            here.pass_(DELAY)
    ledger, checker = here.check(cancels=False)
    await here.hear("right", 2)
    assert (checker.checked, ledger.followed) == (2, [None])


async def test_a_right_root_with_a_wrong_total_or_statement_is_wrong(here: Here) -> None:
    await here.fund(10)
    epoch = here.over()
    found = await here.computed(epoch)
    here.check(cancels=True)
    for number, lie in enumerate(
        (
            act.ProposeRewards(epoch, found.root, Amount(9), found.digest),
            act.ProposeRewards(epoch, found.root, found.total, ZERO),
        ),
        1,
    ):
        await here.send(lie)
        await here.hear("cancelled", number)


async def test_an_epoch_that_was_passed_over_while_reading_is_left_to_later_ones(
    here: Here,
) -> None:
    keeper, ledger = Bookkeeper(RULES, here.chain.info.rewards, SECONDS), here.ledger()
    proposer, blocks = Proposer(ledger, here.told.append), []
    for _ in range(9):
        await here.fund(1)
        blocks.append(here.chain.head().number)
        here.over()
    at, end = here.chain.info.deployed_at - 1, here.chain.head().number
    # The chain was once no longer than what is read by now, and has grown by epochs since.
    for until, seen in ((blocks[1], blocks[2]), (blocks[5], end), (end, end)):
        block, told = here.chain.block(until), here.chain.block(seen)
        assert block is not None
        assert told is not None
        cursor = Cursor(until, block.hash)
        keeper.take(EventBatch(records=here.chain.between(at, until), cursor=cursor, head=told))
        at = until
        assert keeper.is_current == (until > blocks[1])
        if keeper.is_current:
            await proposer.visit(keeper, told)
    assert [one.epoch for one in here.told] == [here.epoch - 1] == [keeper.last]
    assert here.events() == ["proposed"]


@examples(50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=8), st.data())
def test_a_book_that_was_kept_says_what_one_from_the_beginning_says(
    moves: list[tuple[int, int]], data: st.DataObject
) -> None:
    async def run() -> None:
        chain = MemoryChain(RULES, holder=HOLDER, parameters=PARAMETERS)
        ledger, wanted = chain.ledger(HOLDER), set()
        for number, (epochs, amount) in enumerate(moves):
            shares = (Share(ONE, Amount(amount)),)
            action = act.FundRewards(Amount(2 * amount), Reason.AUDIT, shares)
            await ledger.submit(action, key=f"{number}")
            wanted.add(chain.now // SECONDS)
            chain.advance(epochs * SECONDS)
        chain.advance(SECONDS)
        last = chain.now // SECONDS - 1
        keeper = Bookkeeper(RULES, chain.info.rewards, SECONDS, wanted)
        at, head = chain.info.deployed_at - 1, chain.head()
        while at < head.number:
            to = data.draw(st.integers(at + 1, head.number))
            seen = data.draw(st.integers(to, head.number))
            block, told = chain.block(to), chain.block(seen)
            assert block is not None
            assert told is not None
            cursor = Cursor(to, block.hash)
            keeper.take(EventBatch(records=chain.between(at, to), cursor=cursor, head=told))
            at = to
        keeper.close(last)
        fresh = await read_history(chain.ledger(), RULES, {*wanted, last})
        assert keeper.last == last
        for epoch in {*wanted, last}:
            assert keeper.statements[epoch] == fresh.statements[epoch]
            alone = RULES.book(chain.info.rewards, SECONDS, epoch)
            for record in chain.records:
                alone.apply(record)
            assert alone.statement() == fresh.statements[epoch]

    trio.run(run)


async def test_no_more_statements_are_kept_than_are_needed(here: Here) -> None:
    keeper = Bookkeeper(RULES, here.chain.info.rewards, SECONDS)
    at = here.chain.info.deployed_at - 1
    for _ in range(5):
        await here.fund(1)
        here.over()
        head = here.chain.head()
        records = here.chain.between(at, head.number)
        at = head.number
        keeper.take(EventBatch(records=records, cursor=Cursor(at, head.hash), head=head))
    assert sorted(keeper.statements) == [keeper.last - 1, keeper.last]
    assert msgspec.structs.asdict(keeper.statements[keeper.last])["total"] == 5
