"""What an account may ask a chain to do: pure data, one type per verb of the lifecycle.

An action is carried out by `Ledger.submit`; the adapter encodes it for its chain. Every action
has an intent key: submitting an equal intent twice has one effect. Longer than other modules
because every verb is here.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TypeAlias

import msgspec

from deai.channels import Channel, Voucher
from deai.claims import Claim, Reason, Share
from deai.codec import encode_canonical
from deai.ids import AccountId, ChannelId, NodeId
from deai.money import Amount, Count
from deai.orders import Settlement
from deai.tasks import Accept, Approval, Commitment, Opening, Result, Seat, Task

Committee: TypeAlias = tuple[Seat, ...]
Redemption: TypeAlias = tuple[Channel, Voucher]


class _Action(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    """Base: tagged by its class name."""


class TransferTokens(_Action, frozen=True):
    """Send tokens to an account."""

    to: AccountId
    amount: Amount


class TransferGas(_Action, frozen=True):
    """Send money for gas, in the chain's own coin (wei on Sei)."""

    to: AccountId
    amount: Amount


class Deposit(_Action, frozen=True):
    """Move the sender's tokens into its vault account."""

    amount: Amount


class WithdrawVault(_Action, frozen=True):
    """Move tokens from the sender's vault account to `to`."""

    to: AccountId
    amount: Amount


class RegisterNode(_Action, frozen=True):
    """Owner: stake and register node `index`; `operator_signature` proves the hot key agrees."""

    index: int
    operator: AccountId
    valid_until: int
    operator_signature: bytes
    stake: Amount
    peer_id: str
    addresses: tuple[str, ...]


class AddStake(_Action, frozen=True):
    """Owner: add to the stake of a node."""

    node: NodeId
    amount: Amount


class RequestUnstake(_Action, frozen=True):
    """Owner: start unbonding part of the stake above the minimum, or all of it."""

    node: NodeId
    amount: Amount


class WithdrawStake(_Action, frozen=True):
    """Owner: take what has finished unbonding."""

    node: NodeId
    to: AccountId


class RotateOperator(_Action, frozen=True):
    """Owner: a new hot key for a node."""

    node: NodeId
    operator: AccountId
    valid_until: int
    operator_signature: bytes


class Unjail(_Action, frozen=True):
    """Owner: release a jailed node."""

    node: NodeId


class Announce(_Action, frozen=True):
    """Operator: publish where the node listens."""

    node: NodeId
    peer_id: str
    addresses: tuple[str, ...]


class Heartbeat(_Action, frozen=True):
    """Operator: the on-chain beat of this epoch; `epoch` keeps intents apart."""

    node: NodeId
    epoch: int


class PostTask(_Action, frozen=True):
    """Client: move fees and tip into escrow."""

    task: Task


class AssignTask(_Action, frozen=True):
    """Client: name the committee of a posted task by its nodes' accepts, in seat order."""

    task: Task
    accepts: tuple[Accept, ...]


class PostAndAssign(_Action, frozen=True):
    """Client: both in one transaction."""

    task: Task
    accepts: tuple[Accept, ...]


class CancelTask(_Action, frozen=True):
    """Client: take a task back before its first assignment."""

    task: Task


class CommitResults(_Action, frozen=True):
    """Anybody: put commitments of seats on chain."""

    task: Task
    committee: Committee
    commitments: tuple[Commitment, ...]


class DeliverResult(_Action, frozen=True):
    """Anybody, `none/1`: a signed result is commit and reveal at once."""

    task: Task
    committee: Committee
    result: Result


class ObjectToResult(_Action, frozen=True):
    """Client, `none/1`: refuse the result; the fee goes to the pot."""

    task: Task
    committee: Committee


class ReleaseSeat(_Action, frozen=True):
    """The seat's key: give a seat back before committing."""

    task: Task
    committee: Committee
    seat: int


class ReassignSeat(_Action, frozen=True):
    """Client: give a released or lapsed seat to another node."""

    task: Task
    committee: Committee
    seat: int
    accept: Accept


class RevealResults(_Action, frozen=True):
    """Anybody: open commitments on chain.

    `openings` lists every committed seat in commit order; a zero digest means "not opened" and
    then carries the commitment itself as its salt.
    """

    task: Task
    committee: Committee
    openings: tuple[Opening, ...]


class ApproveOutputs(_Action, frozen=True):
    """Anybody, tolerance policies: record a member's approval."""

    task: Task
    committee: Committee
    approval: Approval


class FinaliseTask(_Action, frozen=True):
    """Anybody: settle; openings as in `RevealResults`, approvals for tolerance policies."""

    task: Task
    committee: Committee
    openings: tuple[Opening, ...]
    approvals: tuple[Approval, ...]


class ExpireTask(_Action, frozen=True):
    """Anybody: end a task to which nobody committed in time."""

    task: Task
    committee: Committee


class ProveEquivocation(_Action, frozen=True):
    """Anybody: show two results of one seat and attempt with different outputs."""

    task: Task
    committee: Committee
    seat: int
    first: Result
    second: Result


class SweepFees(_Action, frozen=True):
    """Anybody: send the fees accrued in lanes to the treasury."""

    client: AccountId
    lanes: tuple[int, ...]
    nonce: int


class OpenChannel(_Action, frozen=True):
    """Client: lock a deposit for a node; `epoch`, the one that begins, keeps intents apart.

    The channel is the sender's. It must be closed or never have been open.
    """

    node: NodeId
    session_key: AccountId
    epoch: int
    deposit: Amount


class TopUpChannel(_Action, frozen=True):
    """Anybody: add to the deposit of a channel that is open."""

    channel_id: ChannelId
    amount: Amount


class RedeemVoucher(_Action, frozen=True):
    """Anybody who holds a voucher: the node's owner is paid what it adds to those before it."""

    channel: Channel
    voucher: Voucher


class RedeemMany(_Action, frozen=True):
    """The same for many channels; one that cannot be redeemed does not stop the others."""

    redemptions: tuple[Redemption, ...]


class CloseChannel(_Action, frozen=True):
    """Owner: redeem the last voucher, if there is one, and end the channel at once.

    `epoch`, the one that ends, keeps intents apart; so it does in the two actions below.
    """

    channel: Channel
    epoch: int
    voucher: Voucher | None


class RequestClose(_Action, frozen=True):
    """Client: ask for the rest; the challenge period begins, in which vouchers still pay."""

    channel: Channel
    epoch: int


class FinishClose(_Action, frozen=True):
    """Anybody, after the challenge period: return the rest to the client.

    On NEAR also of a closed channel that has something `due`: it is sent once more.
    """

    channel: Channel
    epoch: int


class FundRewards(_Action, frozen=True):
    """Anybody: pay into the contract for rewards, for the accounts named or for nobody.

    `reason` is the pot's exactly where nobody is named; shares add up to `amount` at most.
    """

    amount: Amount
    reason: Reason
    shares: tuple[Share, ...]


class ProposeRewards(_Action, frozen=True):
    """Proposer: the root of an epoch that is over; `statement` is the statement's digest.

    One that was cancelled and is proposed again needs a key of the caller's own.
    """

    epoch: int
    root: bytes
    total: Amount
    statement: bytes


class CancelRewards(_Action, frozen=True):
    """Guardian: take the waiting root back; `root` keeps intents apart."""

    epoch: int
    root: bytes


class ClaimRewards(_Action, frozen=True):
    """Anybody, for any account: let it be paid what it has not had."""

    claim: Claim


class FundOrders(_Action, frozen=True):
    """Client: set tokens aside for signed orders, and buy a page of nonces if it is not bought."""

    amount: Amount
    page: int = 0


class SettleOrders(_Action, frozen=True):
    """Anybody: settle what can be settled; an order that cannot does not stop the others."""

    settlements: tuple[Settlement, ...]


class RequestThaw(_Action, frozen=True):
    """Client: ask for so much in all; 0 takes the request back. Settlements go on meanwhile."""

    amount: Amount


class WithdrawThawed(_Action, frozen=True):
    """Client, after the thaw: take what was asked for and is still there."""

    to: AccountId


class CollectEarnings(_Action, frozen=True):
    """Anybody: send what an owner earned with orders to the owner."""

    owner: AccountId


class SweepOrderFees(_Action, frozen=True):
    """Anybody: send the protocol's part, which accrued beside earnings, to the treasury."""

    owners: tuple[AccountId, ...]


class OpenPool(_Action, frozen=True):
    """Manager: stake and register a node that takes delegations, owned by a contract account.

    `signature` is the operator's, for the id of `pools.pool_node(…, manager, index)`;
    `commission_bps` in hundredths of a percent of income.
    """

    index: int
    commission_bps: int
    stake: Amount
    operator: AccountId
    valid_until: int
    signature: bytes
    peer_id: str
    addresses: tuple[str, ...]


class Delegate(_Action, frozen=True):
    """Anybody: lend tokens to a node's stake for shares of its pool."""

    node: NodeId
    amount: Amount


class Undelegate(_Action, frozen=True):
    """A holder of shares: put so many into the next batch that unbonds."""

    node: NodeId
    shares: Count


class AdvancePool(_Action, frozen=True):
    """Anybody, whenever: share income, pay a batch that matured, start the next one."""

    node: NodeId


class ClaimDelegation(_Action, frozen=True):
    """Anybody: let an account be paid what its matured batches hold."""

    node: NodeId
    account: AccountId


class AnnounceCommission(_Action, frozen=True):
    """Manager: another commission, in force from the second epoch boundary after."""

    node: NodeId
    bps: int


class ClosePool(_Action, frozen=True):
    """Manager: everything unbonds, and nobody can delegate any more."""

    node: NodeId


class PoolRotateOperator(_Action, frozen=True):
    """Manager: a new hot key for the pool's node."""

    node: NodeId
    operator: AccountId
    valid_until: int
    signature: bytes


class PoolUnjail(_Action, frozen=True):
    """Manager: release the pool's jailed node."""

    node: NodeId


ChannelAction: TypeAlias = (
    OpenChannel
    | TopUpChannel
    | RedeemVoucher
    | RedeemMany
    | CloseChannel
    | RequestClose
    | FinishClose
)

RewardAction: TypeAlias = FundRewards | ProposeRewards | CancelRewards | ClaimRewards

OrderAction: TypeAlias = (
    FundOrders | SettleOrders | RequestThaw | WithdrawThawed | CollectEarnings | SweepOrderFees
)

PoolAction: TypeAlias = (
    OpenPool
    | Delegate
    | Undelegate
    | AdvancePool
    | ClaimDelegation
    | AnnounceCommission
    | ClosePool
    | PoolRotateOperator
    | PoolUnjail
)

CoreAction: TypeAlias = (
    TransferTokens
    | Deposit
    | WithdrawVault
    | RegisterNode
    | AddStake
    | RequestUnstake
    | WithdrawStake
    | RotateOperator
    | Unjail
    | Announce
    | Heartbeat
    | PostTask
    | AssignTask
    | PostAndAssign
    | CancelTask
    | CommitResults
    | DeliverResult
    | ObjectToResult
    | ReleaseSeat
    | ReassignSeat
    | RevealResults
    | ApproveOutputs
    | FinaliseTask
    | ExpireTask
    | ProveEquivocation
    | SweepFees
)
"""What every deployment carries out."""

ContractAction: TypeAlias = CoreAction | ChannelAction | RewardAction | OrderAction | PoolAction

Action: TypeAlias = ContractAction | TransferGas


def intent_key(action: Action) -> str:
    """The default idempotency key: verb and hash of all fields.

    Right for every action that names a task, an epoch, a voucher or a nonce; a transfer, deposit,
    top-up, stake, thaw, withdrawal, collection or payment for rewards or orders that may be meant
    twice needs a key of the caller's own, and so do a voucher or an order that is shown again
    because the deposit grew, and what delegators and managers do with a pool.
    """
    return f"{type(action).__name__}:{sha256(encode_canonical(action)).hexdigest()[:40]}"
