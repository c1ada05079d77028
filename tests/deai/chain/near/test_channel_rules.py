"""What is told before anything is sent is what the contract would say."""

from __future__ import annotations

import pytest

from deai import actions as act
from deai.chain.ledger import Transaction
from deai.chain.memory import MemoryLedger
from deai.chain.near.channel_rules import Rehearsal, ids_in, named_alike
from deai.chain.near.records import read_channel
from deai.channels import MAX_EPOCH, ChannelRecord, ChannelState
from deai.errors import LedgerRejected
from deai.money import Amount
from tests.deai.chain.conftest import memory_world
from tests.deai.chain.near.samples import CHANNEL_ID
from tests.deai.chain.test_random_channels import Walk
from tests.support.channel_conformance import Paying, paying

TOLD = {
    "channel_id": CHANNEL_ID, "state": "closing", "deposit": "10", "claimed": "4", "closes_at": 99,
    "epoch": 3, "due_owner": "5", "due_client": "6",
}  # fmt: skip


async def judged(one: Paying, ledger: MemoryLedger, action: act.ChannelAction) -> None:
    domain, by = ledger.info.channels, ledger.account
    assert by is not None
    records = {id_: await ledger.channel(id_) for id_ in ids_in(action, by, domain)}
    now, period = (await ledger.head()).time, (await ledger.parameters()).close_period
    Rehearsal(domain, records, by, now, period).judge(action)


@pytest.mark.parametrize("seed", range(10))
async def test_a_rehearsal_refuses_what_the_table_refuses_and_nothing_else(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = memory_world()
    walk = Walk(world, 5_000 + seed)
    await walk.begin()
    really, compared = MemoryLedger.submit, []

    async def submit(self: MemoryLedger, action: act.Action, *, key: str = "") -> Transaction:
        before = said = None
        assert isinstance(action, act.ChannelAction)
        try:
            await judged(walk.channels[0], self, action)
        except LedgerRejected as error:
            before = (error.name, error.arguments)
        try:
            return await really(self, action, key=key)
        except LedgerRejected as error:
            said = (error.name, error.arguments)
            raise
        finally:
            assert before == said, action
            compared.append(said)

    monkeypatch.setattr(MemoryLedger, "submit", submit)
    for _ in range(150):
        await walk.step()
    assert compared.count(None) > 20
    assert len(compared) - compared.count(None) > 20


async def test_what_is_due_of_a_closed_channel_may_be_fetched() -> None:
    world, _ = memory_world()
    one = await paying(world)
    domain, finish = world.reader.info.channels, act.FinishClose(one.channel, 1)
    for record, name in (
        (ChannelRecord(epoch=1, due=Amount(1)), ""),
        (ChannelRecord(epoch=1), "BadState"),
        (ChannelRecord(deposit=Amount(1), epoch=1, due=Amount(1)), "BadState"),
    ):
        rehearsal = Rehearsal(domain, {one.id: record}, one.client.account, 0, 5)
        if not name:
            rehearsal.judge(finish)
            continue
        with pytest.raises(LedgerRejected) as caught:
            rehearsal.judge(finish)
        assert caught.value.name == name


def test_a_record_is_read_with_all_that_waits_beside_it() -> None:
    record = read_channel(TOLD)
    assert record == ChannelRecord(
        deposit=Amount(10), claimed=Amount(4), closes_at=99, epoch=3, due=Amount(11)
    )
    assert record.state is ChannelState.CLOSING


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epoch", MAX_EPOCH + 1), ("epoch", "1"), ("deposit", 10), ("claimed", "-1"),
        ("deposit", str(1 << 96)), ("closes_at", None), ("due_owner", "1.5"), ("due_client", None),
    ],
)  # fmt: skip
def test_a_record_that_makes_no_sense_is_none(field: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_channel(TOLD | {field: value})


def test_times_have_the_name_of_the_other_chain() -> None:
    for name, argument in (("TooEarly", "time"), ("TooLate", "deadline")):
        told = named_alike(LedgerRejected(name, {argument: 9}))
        assert (told.name, told.arguments) == (name, {"closesAt": 9})
        assert told.hint
