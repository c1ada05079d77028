"""A book that is kept while the chain grows says what one from the beginning says."""

from __future__ import annotations

import msgspec
import trio
from hypothesis import given, strategies as st

from deai import actions as act
from deai.chain.ledger import Cursor, EventBatch
from deai.chain.memory import MemoryChain
from deai.claims import Reason, Share
from deai.client.rewards import Bookkeeper, read_history
from deai.client.rewards_following import Proposer
from deai.money import Amount
from rewards.rules import RULES
from tests.client.following.world import HOLDER, ONE, SECONDS, Here
from tests.client.support.world import PARAMETERS
from tests.support.examples import examples


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
