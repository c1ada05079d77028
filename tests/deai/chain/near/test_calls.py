"""Actions as NEAR transactions: receiver, method, arguments, deposit, and which key may sign."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, get_args

import msgspec
import pytest

from deai import actions as act
from deai.chain.near.calls import OPERATOR_METHODS, PURSE_SHARE, encode_action, own_account
from deai.chain.near.channel_calls import MAX_REDEMPTIONS, paid_channels, pay_due
from deai.chain.near.steps import TGAS, AddKey, Call, Needs, Send
from deai.claims import MAX_SHARES, Reason, Share
from deai.errors import LedgerRejected, NotSetUp
from deai.hashing import ZERO, keccak
from deai.ids import AccountId, hexed, near_node_id
from deai.money import UNIT, Amount
from tests.deai.chain.near.samples import (
    ACTIONS,
    ALICE,
    BOB,
    CHANNEL,
    CHANNEL_ID,
    CHANNELS,
    CLAIM,
    COMPUTE,
    CONTRACTS,
    KEY,
    NODE,
    ON_CHANNELS,
    ON_REWARDS,
    OPENING,
    RESULT,
    REWARDS,
    SEAT,
    SESSION,
    SIGNATURE,
    TASK,
    TOKEN,
    VOUCHER,
)

TEXT = b64encode(SIGNATURE).decode()
TASK_JSON = {
    "client": ALICE, "lane": 1, "nonce": 2, "fee": "3000000000000000000", "tip": "4", "seats": 3,
    "policy": 1, "lease": 60, "commit_deadline": 1_800_000_000, "window": 600,
    "spec_hash": hexed(TASK.spec_hash),
}  # fmt: skip
OPEN = {
    "task": TASK_JSON,
    "committee": [
        {"node": NODE, "operator": KEY.account, "lease_end": SEAT.lease_end, "attempt": 1}
    ],
}
ACCEPT_JSON = {"node": NODE, "valid_until": 1_800_000_000, "signature": TEXT}
RESULT_JSON = {
    "output_digest": hexed(RESULT.output_digest),
    "evidence_digest": hexed(ZERO),
    "signature": TEXT,
}
OPENING_JSON = {"seat": 2, "digest": hexed(OPENING.digest), "salt": hexed(OPENING.salt)}
APPROVAL_JSON = {"seat": 1, "mask": 5, "signature": TEXT}
REGISTRATION = {
    "register": {
        "index": 7, "operator": KEY.account, "valid_until": 99, "signature": TEXT,
        "peer_id": "12D3", "addresses": ["/ip4/1.2.3.4/tcp/1"],
    }
}  # fmt: skip


EVERY = (*ACTIONS, *ON_CHANNELS, *ON_REWARDS)
CHANNEL_JSON = {"client": ALICE, "node": NODE, "session_key": SESSION.account}
VOUCHER_JSON = {
    "cumulative_amount": "12", "receipts_root": hexed(VOUCHER.receipts_root), "signature": TEXT,
}  # fmt: skip
OPEN_JSON = {"open": {"node": NODE, "session_key": SESSION.account}}
PAIR_JSON = {"channel": CHANNEL_JSON, "voucher": VOUCHER_JSON}


def paid(amount: str, message: object, to: str = COMPUTE) -> dict[str, object]:
    text = "" if message is None else msgspec.json.encode(message).decode()
    return {"receiver_id": to, "amount": amount, "msg": text}


ROWS: dict[type, tuple[str, str, int, dict[str, Any]]] = {
    act.TransferTokens: (TOKEN, "ft_transfer", 1, {"receiver_id": BOB, "amount": "5"}),
    act.Deposit: (TOKEN, "ft_transfer_call", 1, paid("6", None)),
    act.WithdrawVault: (COMPUTE, "withdraw", 1, {"to": BOB, "amount": "7"}),
    act.RegisterNode: (TOKEN, "ft_transfer_call", 1, paid("8", REGISTRATION)),
    act.AddStake: (TOKEN, "ft_transfer_call", 1, paid("9", {"add_stake": {"node": NODE}})),
    act.RequestUnstake: (COMPUTE, "request_unstake", 1, {"node": NODE, "amount": "10"}),
    act.WithdrawStake: (COMPUTE, "withdraw_stake", 1, {"node": NODE, "to": BOB}),
    act.RotateOperator: (
        COMPUTE, "rotate_operator", 1,
        {"node": NODE, "operator": KEY.account, "valid_until": 99, "signature": TEXT},
    ),
    act.Unjail: (COMPUTE, "unjail", 1, {"node": NODE}),
    act.Announce: (
        COMPUTE, "announce", 0, {"node": NODE, "peer_id": "12D3", "addresses": ["/a", "/b"]}
    ),
    act.Heartbeat: (COMPUTE, "heartbeat", 0, {"node": NODE}),
    act.PostTask: (COMPUTE, "submit_task", 1, {"task": TASK_JSON, "accepts": None}),
    act.AssignTask: (COMPUTE, "assign", 1, {"task": TASK_JSON, "accepts": [ACCEPT_JSON]}),
    act.PostAndAssign: (
        COMPUTE, "submit_task", 1, {"task": TASK_JSON, "accepts": [ACCEPT_JSON]}
    ),
    act.CancelTask: (COMPUTE, "cancel", 1, {"task": TASK_JSON}),
    act.CommitResults: (
        COMPUTE, "commit", 0,
        OPEN | {"commitments": [
            {"seat": 0, "value": hexed(ACTIONS[15].commitments[0].value),  # type: ignore[union-attr]
             "signature": TEXT},
            {"seat": 1, "value": hexed(ACTIONS[15].commitments[1].value),  # type: ignore[union-attr]
             "signature": None},
        ]},
    ),
    act.DeliverResult: (COMPUTE, "submit_result", 0, OPEN | {"result": RESULT_JSON}),
    act.ObjectToResult: (COMPUTE, "object", 1, OPEN),
    act.ReleaseSeat: (COMPUTE, "release", 0, OPEN | {"seat": 0}),
    act.ReassignSeat: (COMPUTE, "reassign", 1, OPEN | {"seat": 0, "accept": ACCEPT_JSON}),
    act.RevealResults: (COMPUTE, "reveal", 0, OPEN | {"openings": [OPENING_JSON]}),
    act.ApproveOutputs: (COMPUTE, "approve", 0, OPEN | {"approval": APPROVAL_JSON}),
    act.FinaliseTask: (
        COMPUTE, "finalise", 0,
        OPEN | {"openings": [OPENING_JSON], "approvals": [APPROVAL_JSON]},
    ),
    act.ExpireTask: (COMPUTE, "expire", 0, OPEN),
    act.ProveEquivocation: (
        COMPUTE, "prove_equivocation", 0,
        OPEN | {"seat": 0, "first": RESULT_JSON, "second": RESULT_JSON},
    ),
    act.SweepFees: (COMPUTE, "sweep", 0, {"client": ALICE, "lanes": [0, 4]}),
    act.OpenChannel: (TOKEN, "ft_transfer_call", 1, paid("11", OPEN_JSON, CHANNELS)),
    act.TopUpChannel: (
        TOKEN, "ft_transfer_call", 1,
        paid("13", {"top_up": {"channel_id": CHANNEL_ID}}, CHANNELS),
    ),
    act.RedeemVoucher: (CHANNELS, "redeem", 0, PAIR_JSON),
    act.RedeemMany: (CHANNELS, "redeem_many", 0, {"batch": [PAIR_JSON]}),
    act.CloseChannel: (CHANNELS, "close", 1, PAIR_JSON),
    act.RequestClose: (CHANNELS, "request_close", 1, {"channel": CHANNEL_JSON}),
    act.FinishClose: (CHANNELS, "finish", 0, {"channel": CHANNEL_JSON}),
    act.FundRewards: (
        TOKEN, "ft_transfer_call", 1,
        paid("20", {"reason": 1, "shares": [[ALICE, "15"], [BOB, "5"]]}, REWARDS),
    ),
    act.ProposeRewards: (
        REWARDS, "propose", 0,
        {"epoch": 5, "root": hexed(keccak(b"root")), "total": "16",
         "statement": hexed(keccak(b"statement"))},
    ),
    act.CancelRewards: (REWARDS, "cancel", 0, {"epoch": 5}),
    act.ClaimRewards: (
        REWARDS, "claim", 0,
        {"account": BOB, "cumulative": "14", "sides": "2",
         "path": [hexed(one) for one in CLAIM.path]},
    ),
}  # fmt: skip


def test_there_is_a_row_for_every_action() -> None:
    assert {type(one) for one in ACTIONS} == set(get_args(act.CoreAction))
    assert {type(one) for one in ON_CHANNELS} == set(get_args(act.ChannelAction))
    assert {type(one) for one in ON_REWARDS} == set(get_args(act.RewardAction))
    assert {type(one) for one in EVERY} == set(ROWS)


@pytest.mark.parametrize("action", EVERY, ids=lambda one: type(one).__name__)
def test_an_action_is_the_call_of_its_row(action: act.ContractAction) -> None:
    found = encode_action(action, CONTRACTS)
    receiver, method, deposit, arguments = ROWS[type(action)]
    (step,) = found.steps
    assert isinstance(step, Call)
    assert (found.to, step.method, step.deposit) == (receiver, method, deposit)
    assert msgspec.json.decode(step.args) == arguments
    assert found.deposit == deposit
    assert 10 * TGAS <= found.gas <= 100 * TGAS


@pytest.mark.parametrize("action", EVERY, ids=lambda one: type(one).__name__)
def test_a_nodes_key_may_sign_exactly_what_moves_nothing(action: act.ContractAction) -> None:
    found = encode_action(action, CONTRACTS)
    (step,) = found.steps
    assert isinstance(step, Call)
    allowed = found.is_for_key(COMPUTE, OPERATOR_METHODS)
    assert allowed == (step.method in OPERATOR_METHODS)
    if allowed:
        assert step.deposit == 0


def test_the_methods_of_a_key_are_those_of_the_operators_actions() -> None:
    hot = (
        act.Announce, act.Heartbeat, act.CommitResults, act.DeliverResult, act.ReleaseSeat,
        act.RevealResults, act.ApproveOutputs, act.FinaliseTask,
    )  # fmt: skip
    assert {ROWS[kind][1] for kind in hot} == set(OPERATOR_METHODS)


def test_gas_grows_with_what_a_contract_has_to_check() -> None:
    many = act.FinaliseTask(TASK, (SEAT,) * 15, (OPENING,) * 15, ())
    few = act.FinaliseTask(TASK, (SEAT,) * 3, (OPENING,) * 3, ())
    assert encode_action(many, CONTRACTS).gas > encode_action(few, CONTRACTS).gas
    assert encode_action(many, CONTRACTS).gas < 300 * TGAS


def test_gas_grows_with_what_a_batch_redeems_and_with_its_owners() -> None:
    def of(count: int, owners: int) -> int:
        channels = [
            msgspec.structs.replace(CHANNEL, node=near_node_id(AccountId(f"o{i % owners}.near"), 0))
            for i in range(count)
        ]
        many = act.RedeemMany(tuple((channel, VOUCHER) for channel in channels))
        return encode_action(many, CONTRACTS).gas

    assert (of(1, 1), of(10, 1), of(10, 3)) == (22 * TGAS, 40 * TGAS, 50 * TGAS)
    assert of(MAX_REDEMPTIONS, MAX_REDEMPTIONS) == 295 * TGAS
    with pytest.raises(LedgerRejected) as caught:
        of(MAX_REDEMPTIONS + 1, 1)
    assert (caught.value.name, caught.value.arguments["most"]) == ("BadData", MAX_REDEMPTIONS)


def test_a_payment_for_nobody_says_nothing_and_one_for_many_gets_gas_for_them() -> None:
    nobody = encode_action(act.FundRewards(Amount(5), Reason.POT, ()), CONTRACTS).steps[0]
    assert isinstance(nobody, Call)
    assert msgspec.json.decode(nobody.args)["msg"] == ""
    share = Share(AccountId("a" * 36 + ".near"), Amount(10**9 * UNIT // MAX_SHARES))
    many = act.FundRewards(Amount(10**9 * UNIT), Reason.AUDIT, (share,) * MAX_SHARES)
    assert encode_action(many, CONTRACTS).gas == 100 * TGAS
    longer = msgspec.structs.replace(share, account=AccountId("a" * 64))
    long = msgspec.structs.replace(many, shares=(longer,) * MAX_SHARES)
    with pytest.raises(LedgerRejected) as caught:
        encode_action(long, CONTRACTS)
    assert (caught.value.name, caught.value.arguments["most"]) == ("BadData", 16_000)
    without = {name: one for name, one in CONTRACTS.items() if one != REWARDS}
    for action in ON_REWARDS:
        with pytest.raises(NotSetUp):
            encode_action(action, without)


def test_what_was_refused_is_sent_to_both_parties() -> None:
    found = pay_due(CHANNEL, CHANNELS)
    (step,) = found.steps
    assert isinstance(step, Call)
    assert (found.to, step.method, step.deposit) == (CHANNELS, "pay_due", 0)
    assert msgspec.json.decode(step.args) == {"channel": CHANNEL_JSON}
    assert (found.needs, found.mends) == (Needs(receivers=(BOB, ALICE)), True)


def test_only_the_contract_of_channels_makes_good_what_fails_on_the_way() -> None:
    paying = (act.RedeemVoucher, act.RedeemMany, act.CloseChannel, act.FinishClose)
    for action in EVERY:
        assert encode_action(action, CONTRACTS).mends == isinstance(action, paying)
        assert paid_channels(action) == ((CHANNEL,) if isinstance(action, paying) else ())


def test_what_has_to_be_there_before_is_named() -> None:
    def needs(action: act.Action) -> Needs:
        return encode_action(action, CONTRACTS).needs

    assert needs(act.TransferTokens(BOB, Amount(5))) == Needs(receivers=(BOB,), tokens=5)
    assert needs(act.Deposit(Amount(6))) == Needs(at_vault=True, tokens=6)
    assert needs(act.WithdrawVault(BOB, Amount(7))) == Needs(receivers=(BOB,), free=7)
    assert needs(ACTIONS[3]) == Needs(at_vault=True, node=True, tokens=8)
    assert needs(act.PostTask(TASK)) == Needs(at_vault=True, lane=1, free=TASK.escrowed)
    assert needs(act.Heartbeat(NODE, 1)) == Needs()
    opened, topped, redeemed, many, closed, asked, finished = map(needs, ON_CHANNELS)
    assert opened == Needs(opens=(NODE, SESSION.account), tokens=11)
    assert topped == Needs(tokens=13)
    assert redeemed == many == Needs(receivers=(BOB,))
    assert closed == Needs(receivers=(BOB, ALICE))
    assert (asked, finished) == (Needs(), Needs(receivers=(ALICE,)))
    funded, proposed, cancelled, claimed = map(needs, ON_REWARDS)
    assert (funded, proposed, cancelled) == (Needs(tokens=20), Needs(), Needs())
    assert claimed == Needs(receivers=(BOB,), record_of=BOB)


def test_money_for_gas_goes_to_an_account_or_becomes_the_allowance_of_a_key() -> None:
    sent = encode_action(act.TransferGas(BOB, Amount(12)), CONTRACTS)
    assert (sent.to, sent.steps, sent.deposit) == (BOB, (Send(12),), 12)
    granted = encode_action(act.TransferGas(KEY.account, Amount(12)), CONTRACTS)
    key = AddKey(KEY.account, COMPUTE, OPERATOR_METHODS, 12)
    assert (granted.to, granted.steps, granted.deposit) == (None, (key,), 0)
    # It redeems vouchers as its own account, which gets a tenth as much.
    purse = own_account(KEY.account), 12 // PURSE_SHARE
    assert granted.needs == Needs(replaced=KEY.account, purse=purse)
    without = {name: one for name, one in CONTRACTS.items() if name != "PaymentChannels"}
    alone = encode_action(act.TransferGas(KEY.account, Amount(12)), without)
    assert (alone.steps, alone.needs) == ((key,), Needs(replaced=KEY.account))


def test_a_key_may_not_sign_for_another_contract_or_with_a_deposit() -> None:
    beat = encode_action(act.Heartbeat(NODE, 1), CONTRACTS)
    assert not beat.is_for_key(AccountId("other.near"), OPERATOR_METHODS)
    assert beat.is_for_key(COMPUTE, ())
    dear = msgspec.structs.replace(beat, steps=(msgspec.structs.replace(beat.steps[0], deposit=1),))
    assert not dear.is_for_key(COMPUTE, OPERATOR_METHODS)
