"""Lines of a chain's logs as events."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from deai import events as ev
from deai.chain.near.logs import _OF_CHANNELS, _OF_REWARDS, _READERS, NOBODY, Decoder
from deai.claims import Reason, Share
from deai.errors import MalformedMessage
from deai.hashing import ZERO
from deai.ids import AccountId, TaskId, hexed
from deai.money import Amount
from deai.standing import Standing
from tests.deai.chain.near.samples import (
    ALICE,
    BOB,
    CHANNEL,
    CHANNEL_ID,
    CHANNELS,
    COMMITTEE,
    COMPUTE,
    CONTRACTS,
    ID,
    KEY,
    NODE,
    REWARDS,
    SESSION,
    SIGNATURE,
    TASK,
    TOKEN,
)
from tests.deai.chain.near.test_calls import OPEN, TASK_JSON

DECODER = Decoder(CONTRACTS)
WORD, OTHER = "0x" + "11" * 32, "0x" + "22" * 32
RAW, RAW2 = bytes.fromhex("11" * 32), bytes.fromhex("22" * 32)
T = TaskId(ID)
SEATS = OPEN["committee"]
TEXT = b64encode(SIGNATURE).decode()
SOURCES = Path(__file__).parents[4] / "contracts" / "near"
UNFOLLOWED = {
    "burned", "transfer_failed", "pause_set", "guardian_set", "owner_proposed", "owner_changed",
    "upgrade_proposed", "upgrade_cancelled", "upgraded",
}  # fmt: skip
"""Governance and what only operators of the contract look at: as on the other chain."""
OF_ROLES = {"transfer_failed", "role_set", "owner_proposed", "owner_changed"}
SENT_AGAIN = "due_sent"
"""Beside `transfer_failed`: the record tells what waits."""


def line(event: str, data: object, standard: str = "deai") -> str:
    body = {"standard": standard, "version": "1.0.0", "event": event, "data": data}
    return "EVENT_JSON:" + json.dumps(body)


ROWS: list[tuple[str, dict[str, Any], ev.LedgerEvent]] = [
    ("node_registered",
     {"node": NODE, "owner": BOB, "operator": KEY.account, "stake": "8", "peer_id": "12D3",
      "addresses": ["/a", "/b"]},
     ev.NodeRegistered(NODE, KEY.account, Amount(8), "12D3", ("/a", "/b"))),
    ("node_announced", {"node": NODE, "peer_id": "12D3", "addresses": []},
     ev.NodeAnnounced(NODE, "12D3", ())),
    ("operator_rotated", {"node": NODE, "operator": KEY.account},
     ev.OperatorRotated(NODE, KEY.account)),
    ("stake_added", {"node": NODE, "added": "1", "bonded": "9"},
     ev.StakeAdded(NODE, Amount(1), Amount(9))),
    ("unbonding_started", {"node": NODE, "amount": "1", "unbond_at": 77},
     ev.UnbondingStarted(NODE, Amount(1), 77)),
    ("stake_withdrawn", {"node": NODE, "to": BOB, "amount": "1"},
     ev.StakeWithdrawn(NODE, BOB, Amount(1))),
    ("heartbeat", {"node": NODE, "epoch": 3}, ev.NodeBeat(NODE, 3)),
    ("node_slashed",
     {"node": NODE, "submitter": ALICE, "amount": "10", "bounty": "1", "burned": "9"},
     ev.NodeSlashed(NODE, ALICE, Amount(10), Amount(1), Amount(9))),
    ("node_released", {"node": NODE, "standing": "probation"},
     ev.StandingChanged(NODE, Standing.PROBATION)),
    ("node_status", {"node": NODE, "standing": "exited"},
     ev.StandingChanged(NODE, Standing.EXITED)),
    ("deposited", {"account": ALICE, "payer": BOB, "amount": "1"},
     ev.Deposited(ALICE, BOB, Amount(1))),
    ("withdrawn", {"account": ALICE, "to": BOB, "amount": "1"},
     ev.VaultWithdrawn(ALICE, BOB, Amount(1))),
    ("task_posted", {"task_id": ID, "task": TASK_JSON}, ev.TaskPosted(T, TASK)),
    ("task_assigned", {"task_id": ID, "committee": SEATS}, ev.TaskAssigned(T, COMMITTEE)),
    ("seat_reassigned",
     {"task_id": ID, "seat": 0, "previous": NODE, "released": True, "committee": SEATS},
     ev.SeatReassigned(T, 0, NODE, True, COMMITTEE)),
    ("seat_released", {"task_id": ID, "seat": 2}, ev.SeatReleased(T, 2)),
    ("result_committed", {"task_id": ID, "seat": 2, "attempt": 1, "value": WORD},
     ev.ResultCommitted(T, 2, 1, RAW)),
    ("result_delivered",
     {"task_id": ID, "node": NODE, "output_digest": WORD, "evidence_digest": OTHER,
      "signature": TEXT},
     ev.ResultDelivered(T, NODE, RAW, RAW2)),
    ("result_revealed", {"task_id": ID, "seat": 0, "digest": WORD, "salt": OTHER},
     ev.ResultRevealed(T, 0, RAW, RAW2)),
    ("result_approved", {"task_id": ID, "seat": 0, "mask": 5, "signature": TEXT},
     ev.OutputsApproved(T, 0, 5, SIGNATURE)),
    ("task_finalised",
     {"task_id": ID, "result": WORD, "fault": False, "refunded": "1", "protocol_fee": "2",
      "finaliser": BOB, "tip": "3",
      "seats": [{"payment": "4", "before": 100000, "after": 100010, "verdict": 2}]},
     ev.TaskFinalised(T, RAW, False, Amount(1), Amount(2), BOB, Amount(3),
                      (ev.SeatSettlement(Amount(4), 100000, 100010, 2),))),
    ("task_expired", {"task_id": ID, "refunded": "1"}, ev.TaskExpired(T, Amount(1))),
    ("task_cancelled", {"task_id": ID, "refunded": "1"}, ev.TaskCancelled(T, Amount(1))),
    ("task_objected", {"task_id": ID, "protocol_fee": "1", "refunded": "2"},
     ev.TaskObjected(T, Amount(1), Amount(2))),
    ("equivocation_proven", {"task_id": ID, "seat": 1, "node": NODE, "submitter": ALICE},
     ev.EquivocationProven(T, 1, NODE, ALICE)),
    ("fees_swept", {"client": ALICE, "lane": 4, "amount": "1"},
     ev.FeesSwept(ALICE, 4, Amount(1))),
]  # fmt: skip


ON_CHANNELS: list[tuple[str, dict[str, Any], ev.LedgerEvent]] = [
    ("channel_opened",
     {"channel_id": CHANNEL_ID, "client": ALICE, "node": NODE, "session_key": SESSION.account,
      "epoch": 2, "deposit": "11"},
     ev.ChannelOpened(CHANNEL_ID, CHANNEL, 2, Amount(11))),
    ("channel_topped_up", {"channel_id": CHANNEL_ID, "amount": "1", "deposit": "12"},
     ev.ChannelToppedUp(CHANNEL_ID, Amount(1), Amount(12))),
    ("voucher_redeemed",
     {"channel_id": CHANNEL_ID, "paid": "3", "claimed": "7", "receipts_root": WORD},
     ev.VoucherRedeemed(CHANNEL_ID, Amount(3), Amount(7), RAW)),
    ("voucher_skipped", {"channel_id": CHANNEL_ID, "reason": "E_BAD_SIGNATURE"},
     ev.VoucherSkipped(CHANNEL_ID, "BadSignature")),
    ("channel_closing", {"channel_id": CHANNEL_ID, "closes_at": 99},
     ev.ChannelClosing(CHANNEL_ID, 99)),
    ("channel_closed",
     {"channel_id": CHANNEL_ID, "epoch": 2, "claimed": "7", "refunded": "5"},
     ev.ChannelClosed(CHANNEL_ID, 2, Amount(7), Amount(5))),
]  # fmt: skip
ON_REWARDS: list[tuple[str, dict[str, Any], ev.LedgerEvent]] = [
    ("rewards_funded",
     {"payer": ALICE, "reason": 4, "amount": "9", "shares": [[BOB, "5"], [ALICE, "1"]]},
     ev.RewardsFunded(ALICE, Reason.DELEGATION, Amount(9),
                      (Share(BOB, Amount(5)), Share(ALICE, Amount(1))))),
    ("rewards_proposed",
     {"epoch": 5, "root": WORD, "total": "7", "statement": OTHER, "active_at": 99},
     ev.RewardsProposed(5, RAW, Amount(7), RAW2, 99)),
    ("rewards_cancelled", {"epoch": 5, "root": WORD}, ev.RewardsCancelled(5, RAW)),
    ("rewards_claimed", {"account": BOB, "amount": "3", "cumulative": "8"},
     ev.RewardsClaimed(BOB, Amount(3), Amount(8))),
]  # fmt: skip
EVERYWHERE = [
    *((COMPUTE, *row) for row in ROWS),
    *((CHANNELS, *row) for row in ON_CHANNELS),
    *((REWARDS, *row) for row in ON_REWARDS),
]
every_row = pytest.mark.parametrize(
    ("contract", "event", "data", "wanted"), EVERYWHERE, ids=[row[1] for row in EVERYWHERE]
)


def events_in(contract: str) -> set[str]:
    """The names of what a contract may say."""
    source = (SOURCES / contract / "src" / "events.rs").read_text()
    names = re.findall(r"event_version[^\n]*\n\s+([A-Z]\w+)", source[source.index("enum Event") :])
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in names}


def test_every_event_of_the_contracts_is_read_or_left_out_on_purpose() -> None:
    assert len(events_in("compute")) > 30
    assert events_in("compute") == set(_READERS) | UNFOLLOWED
    assert {event for event, _, _ in ROWS} == set(_READERS)
    assert events_in("channels") == set(_OF_CHANNELS) | (UNFOLLOWED - {"burned"}) | {SENT_AGAIN}
    assert {event for event, _, _ in ON_CHANNELS} == set(_OF_CHANNELS)
    assert events_in("rewards") == set(_OF_REWARDS) | OF_ROLES
    assert {event for event, _, _ in ON_REWARDS} == set(_OF_REWARDS)


@every_row
def test_a_line_is_the_event_of_its_row(
    contract: AccountId, event: str, data: dict[str, Any], wanted: ev.LedgerEvent
) -> None:
    assert DECODER.decode(contract, line(event, data)) == (wanted,)


@every_row
def test_only_the_contract_itself_is_believed(
    contract: AccountId, event: str, data: dict[str, Any], wanted: ev.LedgerEvent
) -> None:
    for executor in {TOKEN, "eve.near", ALICE, COMPUTE, CHANNELS, REWARDS} - {contract}:
        assert DECODER.decode(executor, line(event, data)) == ()
    assert DECODER.decode(contract, line(event, data, "other")) == ()
    assert DECODER.decode(contract, line(event, data).removeprefix("EVENT_JSON:")) == ()


@every_row
def test_a_line_with_a_field_missing_or_of_another_type_is_refused(
    contract: AccountId, event: str, data: dict[str, Any], wanted: ev.LedgerEvent
) -> None:
    unread = {"owner", "signature"} if event != "result_approved" else set()
    for field in set(data) - unread:
        less = {name: value for name, value in data.items() if name != field}
        with pytest.raises(MalformedMessage):
            DECODER.decode(contract, line(event, less))
        with pytest.raises(MalformedMessage):
            DECODER.decode(contract, line(event, data | {field: 1.5}))


def test_moves_of_tokens_are_read_from_the_token() -> None:
    moved = [{"old_owner_id": ALICE, "new_owner_id": BOB, "amount": "5", "memo": "thanks"}] * 2
    assert DECODER.decode(TOKEN, line("ft_transfer", moved, "nep141")) == (
        ev.TokensMoved(ALICE, BOB, Amount(5)),
    ) * 2  # fmt: skip
    minted = [{"owner_id": ALICE, "amount": "5"}]
    assert DECODER.decode(TOKEN, line("ft_mint", minted, "nep141")) == (
        ev.TokensMoved(NOBODY, ALICE, Amount(5)),
    )
    assert DECODER.decode(TOKEN, line("ft_burn", minted, "nep141")) == (
        ev.TokensMoved(ALICE, NOBODY, Amount(5)),
    )
    assert DECODER.decode(COMPUTE, line("ft_mint", minted, "nep141")) == ()


def test_a_task_of_a_later_policy_is_not_followed() -> None:
    later = line("task_posted", {"task_id": ID, "task": TASK_JSON | {"policy": 9}})
    assert DECODER.decode(COMPUTE, later) == ()


def test_a_task_that_nobody_won_has_no_result() -> None:
    _, data, _ = next(row for row in ROWS if row[0] == "task_finalised")
    for nothing in (None, hexed(ZERO)):
        (event,) = DECODER.decode(COMPUTE, line("task_finalised", data | {"result": nothing}))
        assert isinstance(event, ev.TaskFinalised)
        assert event.result is None


def test_later_events_are_passed_over() -> None:
    assert DECODER.decode(COMPUTE, line("pause_set", {"paused": True})) == ()
    assert DECODER.decode(COMPUTE, line("something_new", 3)) == ()


@given(st.text(max_size=200))
def test_any_line_is_read_or_refused(text: str) -> None:
    for told in (text, "EVENT_JSON:" + text, line(text, text)):
        for executor in (COMPUTE, TOKEN, CHANNELS, REWARDS, AccountId("x.near")):
            try:
                DECODER.decode(executor, told)
            except MalformedMessage:
                assert executor in (COMPUTE, TOKEN, CHANNELS, REWARDS)


def test_a_payment_for_a_reason_of_later_is_refused() -> None:
    event, data, _ = ON_REWARDS[0]
    for wrong in ({"reason": 9}, {"shares": [[BOB]]}, {"shares": [[BOB, 5]]}):
        with pytest.raises(MalformedMessage):
            DECODER.decode(REWARDS, line(event, data | wrong))


@pytest.mark.parametrize(
    ("contract", "row"), [("PaymentChannels", ON_CHANNELS[0]), ("RewardDistributor", ON_REWARDS[0])]
)
def test_a_deployment_without_a_contract_believes_nobody_about_it(
    contract: str, row: tuple[str, dict[str, Any], ev.LedgerEvent]
) -> None:
    known = {name: one for name, one in CONTRACTS.items() if name != contract}
    event, data, _ = row
    for executor in (CHANNELS, COMPUTE, TOKEN, REWARDS):
        assert Decoder(known).decode(executor, line(event, data)) == ()
    assert None not in Decoder(known).accounts
