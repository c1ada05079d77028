"""What contracts say when they refuse, in our errors: the name they use, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from deai.channels import ChannelRecord
from deai.errors import (
    BadSignature,
    IllegalTransition,
    InsufficientFunds,
    LedgerRejected,
    LimitExceeded,
    NotSetUp,
)
from deai.ids import ChannelId

HINTS: Final[Mapping[str, str]] = {
    "AcceptExpired": "ask the node for a new accept",
    "AlreadyBeaten": "nothing to do: the node has beaten in this epoch",
    "AlreadySettled": "nothing to do: an order with this nonce was settled",
    "BadApproval": "an approval of every committed seat is needed, once, and none after the window",
    "BadData": "check amounts, keys, the peer id (64 bytes) and the addresses (1,024 bytes)",
    "BadEpoch": "propose a later epoch than that of the root in force",
    "BadEvidence": "two results with different outputs are needed, and only once per attempt",
    "BadNonce": "read the lane again and use its next nonce",
    "BadOpening": "list every committed seat in the order of the chain, and only what it committed",
    "BadOperator": "the operator key must sign its own registration",
    "BadProof": "compute the claim again: another root may be in force by now",
    "BadOrder": "check the seats (of as many owners), the fee and the nonce against the network",
    "BadSignature": "the key that the chain records for this seat or channel must sign",
    "BadStanding": "look at the node's standing; only probation and active take seats",
    "BadState": "look at its state; only an open channel or pool grows",
    "BadTask": "check seats, fee, lease, window and deadlines against the network's limits",
    "CommissionTooHigh": "announce at most 20 %",
    "ERC20InsufficientBalance": "the account holds fewer tokens than that",
    "EnforcedPause": "deposits and new work are paused; withdrawals and running tasks are not",
    "Exhausted": "the root in force promises more than its total; wait for a sound one",
    "Forbidden": "another account must send this",
    "GasMoney": "send the account money for gas",
    "Insufficient": "deposit first, into the vault or for orders; of a pool, ask for fewer shares",
    "InUse": "take out tokens and stake first; an account with a node or lane stays",
    "IsPaused": "deposits and new work are paused; withdrawals and running tasks are not",
    "Jailed": "only the manager may add to a jailed node's stake",
    "LaneBusy": "use another lane, or end this lane's task first",
    "NoHeartbeat": "the node has to beat on chain first",
    "NothingDue": "nothing to do: what the token had refused was sent meanwhile",
    "NoQuorum": "60 % of the seats have to sign the same output, and have stake",
    "NothingEarned": "nothing to do: all that was earned is collected",
    "NothingNew": "nothing to do: as much was paid already, or the deposit is used up",
    "NothingRedeemed": "redeem one of them alone to see what refuses it",
    "NothingSettled": "settle one of them alone to see what refuses it",
    "NothingToClaim": "nothing to do: nothing is ready for that account",
    "NothingWaits": "only a root that waits can be taken back, by the name of its epoch",
    "NotOpen": "fetch the task's events again: its committee changed, or it has ended",
    "NotRegistered": "that account has to be opened with a storage deposit first",
    "OneYocto": "only the account's full key may do this",
    "Overleveraged": "the manager's own part carries no more; choose another node",
    "OwnerTwice": "every seat needs a node of another owner",
    "OwnPartTooLow": "take out less, add to your own part, or close the pool",
    "PageClosed": "the client has to buy that page of nonces with a deposit",
    "SeatTaken": "nothing to do: the seat has committed or was given back already",
    "SignatureExpired": "let the operator key sign again",
    "StakeTooLow": "stake at least the minimum, or take all of it out",
    "StillLeaving": "wait until the batch that unbonds is paid",
    "StillWaiting": "a root waits already: let its time come, or have it cancelled",
    "StillThawing": "wait until that time",
    "Storage": "the account lacks money for what it stores; send it some",
    "TooEarly": "wait until that time",
    "TooLate": "its deadline has passed",
    "TooSmall": "delegate more at once",
    "Unfunded": "pay in what is missing first",
    "UsedUp": "open a channel with another session key",
}

_FUNDS: Final = frozenset({"ERC20InsufficientBalance", "GasMoney", "Insufficient", "Storage"})


def refusal(name: str, arguments: Mapping[str, object] | None = None) -> LedgerRejected:
    """The error to raise for the contract's own error `name`."""
    kind = InsufficientFunds if name in _FUNDS else LedgerRejected
    return kind(name, dict(arguments or {}), hint=HINTS.get(name, ""))


@contextmanager
def as_contract(channel: ChannelId, record: ChannelRecord) -> Iterator[None]:
    """What the table of `deai.channels` refuses about a channel, under the contract's names."""
    try:
        yield
    except IllegalTransition as error:
        raise refusal("BadState", {"id": channel, "state": int(record.state)}) from error
    except LimitExceeded as error:
        raise refusal("UsedUp", {"id": channel}) from error
    except BadSignature as error:
        raise refusal("BadSignature") from error
    except LedgerRejected as error:
        raise refusal(error.name, error.arguments) from error


def no_channels() -> NotSetUp:
    """The error to raise where a deployment has no contract for payment channels."""
    return NotSetUp(
        "this network has no payment channels",
        hint="pay each task from escrow, or use a network whose file names PaymentChannels",
        code="no_channels",
    )


def no_rewards() -> NotSetUp:
    """The error to raise where a deployment has no contract for rewards."""
    return NotSetUp(
        "this network distributes no rewards",
        hint="use a network whose file names RewardDistributor",
        code="no_rewards",
    )


def no_orders() -> NotSetUp:
    """The error to raise where a deployment has no contract for signed orders."""
    return NotSetUp(
        "this network settles no signed orders",
        hint="pay each task from escrow, or use a network whose file names OrderSettlement",
        code="no_orders",
    )


def no_pools() -> NotSetUp:
    """The error to raise where a deployment has no contract for delegations."""
    return NotSetUp(
        "no node of this network takes delegations",
        hint="stake a node of your own, or use a network whose file names Delegations",
        code="no_pools",
    )
