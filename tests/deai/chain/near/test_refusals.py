"""What NEAR says when it refuses, under the names of the other chain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from deai.chain.near.refusals import failed, invalid_transaction, name_of, panicked
from deai.chain.refusals import HINTS
from deai.errors import InsufficientFunds, LedgerRejected

PANIC = "Smart contract panicked: "
PAGES = [
    (Path(__file__).parents[4] / "contracts" / "near" / page).read_text()
    for page in ("README.md", "channels/README.md")
]


def execution(text: str) -> dict[str, object]:
    kind = {"FunctionCallError": {"ExecutionError": text}}
    return {"ActionError": {"index": 0, "kind": kind}}


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ('E_ACCEPT_EXPIRED: {"valid_until":5}', "AcceptExpired", {"validUntil": 5}),
        ('E_ALREADY_BEATEN: {"epoch":4,"node":"a.near#0"}', "AlreadyBeaten",
         {"node": "a.near#0", "epoch": 4}),
        ("E_BAD_APPROVAL: {}", "BadApproval", {}),
        ('E_BAD_NONCE: {"expected":3}', "BadNonce", {"expected": 3}),
        ('E_BAD_OPERATOR: {"operator":"ed25519:x"}', "BadOperator", {"recovered": "ed25519:x"}),
        ('E_BAD_SEAT: {"seat":3}', "BadSeat", {"seat": 3}),
        ('E_BAD_STANDING: {"node":"a.near#0","standing":"jailed"}', "BadStanding",
         {"node": "a.near#0", "standing": 4}),
        ('E_FORBIDDEN: {"caller":"eve.near"}', "Forbidden", {"caller": "eve.near"}),
        ('E_INSUFFICIENT: {"account":"a.near","available":"1","needed":"79228162514264337593"}',
         "Insufficient",
         {"account": "a.near", "available": 1, "needed": 79228162514264337593}),
        ('E_NO_HEARTBEAT: {"last":1,"node":"a.near#0"}', "NoHeartbeat",
         {"node": "a.near#0", "last": 1}),
        ("E_NOT_OPEN: {}", "NotOpen", {}),
        ('E_OWNER_TWICE: {"owner":"a.near"}', "OwnerTwice", {"owner": "a.near"}),
        ("E_PAUSED: {}", "IsPaused", {}),
        ('E_STAKE_TOO_LOW: {"minimum":"100","stake":"99"}', "StakeTooLow",
         {"stake": 99, "minimum": 100}),
        ('E_STORAGE: {"needed":"1250000000000000000000"}', "Storage",
         {"needed": 1250000000000000000000}),
        ('E_TOO_EARLY: {"time":9}', "TooEarly", {"time": 9}),
        ('E_TOO_LATE: {"deadline":9}', "TooLate", {"deadline": 9}),
        ('E_BAD_STATE: {"channel_id":"0xab","state":"closing"}', "BadState",
         {"id": "0xab", "state": 2}),
        ('E_USED_UP: {"channel_id":"0xab"}', "UsedUp", {"id": "0xab"}),
        ('E_NOTHING_NEW: {"claimed":"45"}', "NothingNew", {"claimed": 45}),
        ("E_NOTHING_REDEEMED: {}", "NothingRedeemed", {}),
        ("E_NOTHING_DUE: {}", "NothingDue", {}),
        ('E_BAD_EPOCH: {"epoch":7}', "BadEpoch", {"epoch": 7}),
        ("E_BAD_PROOF: {}", "BadProof", {}),
        ('E_STILL_WAITING: {"active_at":9}', "StillWaiting", {"activeAt": 9}),
        ("E_NOTHING_WAITS: {}", "NothingWaits", {}),
        ('E_UNFUNDED: {"total":"9","available":"8"}', "Unfunded", {"total": 9, "available": 8}),
        ('E_EXHAUSTED: {"left":"3"}', "Exhausted", {"left": 3}),
        ("The amount should be a positive number", "BadData", {}),
        ('E_NOT_REGISTERED: {"account":"a.near"}', "NotRegistered", {"account": "a.near"}),
        ('E_NOT_REGISTERED: {"account":"me.near"}', "Insufficient",
         {"account": "me.near", "available": 0}),
        ("The account doesn't have enough balance", "ERC20InsufficientBalance",
         {"sender": "me.near"}),
        ("The account me.near is not registered", "ERC20InsufficientBalance",
         {"sender": "me.near"}),
        ("The account you.near is not registered", "NotRegistered", {"account": "you.near"}),
        ("Requires attached deposit of exactly 1 yoctoNEAR", "OneYocto", {}),
    ],
)  # fmt: skip
def test_a_panic_has_the_name_and_arguments_of_the_other_chain(
    text: str, name: str, arguments: dict[str, object]
) -> None:
    error = failed(execution(PANIC + text), "me.near")
    assert (error.name, error.arguments) == (name, arguments)
    assert error.hint == HINTS.get(name, "")


@pytest.mark.parametrize("page", PAGES)
def test_every_error_of_the_contracts_has_a_name_with_a_hint(page: str) -> None:
    codes = set(re.findall(r"^\| `(E_[A-Z_]+)` \|", page, re.MULTILINE))
    assert len(codes) > 15
    unknown = {name_of(code) for code in codes} - set(HINTS)
    assert unknown <= {"BadSeat", "NoUpgrade"}, "the same that have no hint on the other chain"


def test_what_is_lacking_is_told_apart_from_what_is_forbidden() -> None:
    for text in ("E_INSUFFICIENT: {}", "E_STORAGE: {}", "doesn't have enough balance"):
        assert isinstance(panicked(text), InsufficientFunds)
    assert not isinstance(panicked("E_FORBIDDEN: {}"), InsufficientFunds)


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (execution("Exceeded the prepaid gas."), "OutOfGas"),
        (execution(PANIC + "Failed to deserialize input from JSON.: missing field"), "BadData"),
        (execution(PANIC + "index out of bounds"), "Reverted"),
        ({"ActionError": {"index": 0, "kind": {"FunctionCallError": {
            "MethodResolveError": "MethodNotFound"}}}}, "Reverted"),
        ({"ActionError": {"index": 0, "kind": {"AccountDoesNotExist": {
            "account_id": "a.near"}}}}, "Reverted"),
        ({"ActionError": {"index": 0, "kind": {"LackBalanceForState": {
            "account_id": "a.near", "amount": "12"}}}}, "GasMoney"),
        ({"InvalidTxError": {"NotEnoughBalance": {
            "signer_id": "a.near", "balance": "1", "cost": "2"}}}, "GasMoney"),
        ({}, "Reverted"),
        (None, "Reverted"),
        ("strange", "Reverted"),
    ],
)  # fmt: skip
def test_other_failures_have_a_name_too(failure: object, name: str) -> None:
    assert failed(failure).name == name


@pytest.mark.parametrize(
    ("reason", "name", "arguments"),
    [
        ({"NotEnoughBalance": {"signer_id": "a", "balance": "1", "cost": "2"}}, "GasMoney",
         {"available": 1, "needed": 2}),
        ({"LackBalanceForState": {"signer_id": "a", "amount": "3"}}, "GasMoney", {"needed": 3}),
        ({"InvalidAccessKeyError": {"NotEnoughAllowance": {"allowance": "4", "cost": "5"}}},
         "GasMoney", {"available": 4, "needed": 5}),
        ({"InvalidAccessKeyError": "DepositWithFunctionCall"}, "Forbidden", {"caller": "a.near"}),
        ({"InvalidAccessKeyError": "RequiresFullAccess"}, "Forbidden", {"caller": "a.near"}),
        ({"InvalidAccessKeyError": {"MethodNameMismatch": {"method_name": "m"}}}, "Forbidden",
         {"caller": "a.near"}),
        ({"InvalidAccessKeyError": {"AccessKeyNotFound": {}}}, "Forbidden",
         {"caller": "a.near"}),
        ({"SignerDoesNotExist": {"signer_id": "a"}}, "GasMoney", {"available": 0}),
        ("InvalidSignature", "Refused", {"message": "InvalidSignature"}),
        ({"CostOverflow": {}}, "Refused", {"message": '{"CostOverflow":{}}'}),
    ],
)  # fmt: skip
def test_a_transaction_that_no_block_may_hold_says_why(
    reason: object, name: str, arguments: dict[str, object]
) -> None:
    error = invalid_transaction(reason, "a.near")
    assert (error.name, error.arguments) == (name, arguments)


@given(st.text(max_size=300))
def test_any_text_of_a_panic_is_an_error_of_ours(text: str) -> None:
    for told in (text, PANIC + text, f"E_BAD_STANDING: {{{text}}}"):
        error = panicked(told)
        assert isinstance(error, LedgerRejected)
        assert len(str(error)) < 1000
