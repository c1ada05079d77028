"""One of everything that travels to and from the contract on NEAR."""

from __future__ import annotations

from deai import actions as act
from deai.channels import CHANNELS_NAME, Channel, Voucher, channel_id
from deai.claims import Claim, Reason, Share
from deai.hashing import ZERO, keccak
from deai.ids import AccountId, near_node_id
from deai.money import Amount
from deai.signing import Domain, Ed25519Signer
from deai.tasks import Accept, Approval, Commitment, Opening, Policy, Result, Seat, Task

TOKEN, COMPUTE = AccountId("token.test.near"), AccountId("compute.test.near")
CHANNELS, REWARDS = AccountId("channels.test.near"), AccountId("rewards.test.near")
CONTRACTS = {
    "ComputeToken": TOKEN, "NodeRegistry": COMPUTE, "TaskEscrow": COMPUTE,
    "PaymentChannels": CHANNELS, "RewardDistributor": REWARDS,
}  # fmt: skip
ALICE, BOB = AccountId("alice.test.near"), AccountId("bob.test.near")
KEY = Ed25519Signer(keccak(b"operator"))
SESSION = Ed25519Signer(keccak(b"session"))
NODE = near_node_id(BOB, 7)
SIGNATURE = bytes(range(64))
ID = "0x" + "ab" * 32
TASK = Task(
    client=ALICE, lane=1, nonce=2, fee=Amount(3 * 10**18), tip=Amount(4), seats=3,
    policy=Policy.EXACT, lease=60, commit_deadline=1_800_000_000, window=600,
    spec_hash=keccak(b"spec"),
)  # fmt: skip
SEAT = Seat(node=NODE, operator=KEY.account, lease_end=1_799_999_999, attempt=1)
COMMITTEE = (SEAT,)
ACCEPT = Accept(NODE, 1_800_000_000, SIGNATURE)
RESULT = Result(keccak(b"out"), ZERO, SIGNATURE)
OPENING = Opening(2, keccak(b"out"), keccak(b"salt"))
APPROVAL = Approval(1, 0b101, SIGNATURE)
COMMITMENT = Commitment(0, keccak(b"value"), SIGNATURE)
OWN = Commitment(1, keccak(b"value"), bytes(64))

ACTIONS: tuple[act.ContractAction, ...] = (
    act.TransferTokens(BOB, Amount(5)),
    act.Deposit(Amount(6)),
    act.WithdrawVault(BOB, Amount(7)),
    act.RegisterNode(7, KEY.account, 99, SIGNATURE, Amount(8), "12D3", ("/ip4/1.2.3.4/tcp/1",)),
    act.AddStake(NODE, Amount(9)),
    act.RequestUnstake(NODE, Amount(10)),
    act.WithdrawStake(NODE, BOB),
    act.RotateOperator(NODE, KEY.account, 99, SIGNATURE),
    act.Unjail(NODE),
    act.Announce(NODE, "12D3", ("/a", "/b")),
    act.Heartbeat(NODE, 3),
    act.PostTask(TASK),
    act.AssignTask(TASK, (ACCEPT,)),
    act.PostAndAssign(TASK, (ACCEPT,)),
    act.CancelTask(TASK),
    act.CommitResults(TASK, COMMITTEE, (COMMITMENT, OWN)),
    act.DeliverResult(TASK, COMMITTEE, RESULT),
    act.ObjectToResult(TASK, COMMITTEE),
    act.ReleaseSeat(TASK, COMMITTEE, 0),
    act.ReassignSeat(TASK, COMMITTEE, 0, ACCEPT),
    act.RevealResults(TASK, COMMITTEE, (OPENING,)),
    act.ApproveOutputs(TASK, COMMITTEE, APPROVAL),
    act.FinaliseTask(TASK, COMMITTEE, (OPENING,), (APPROVAL,)),
    act.ExpireTask(TASK, COMMITTEE),
    act.ProveEquivocation(TASK, COMMITTEE, 0, RESULT, RESULT),
    act.SweepFees(ALICE, (0, 4), 1),
)

CHANNEL = Channel(ALICE, NODE, SESSION.account)
CHANNEL_ID = channel_id(CHANNEL, Domain(CHANNELS_NAME, "near:test", CHANNELS))
VOUCHER = Voucher(CHANNEL_ID, 1, Amount(12), keccak(b"receipts"), SIGNATURE)
ON_CHANNELS: tuple[act.ChannelAction, ...] = (
    act.OpenChannel(NODE, SESSION.account, 1, Amount(11)),
    act.TopUpChannel(CHANNEL_ID, Amount(13)),
    act.RedeemVoucher(CHANNEL, VOUCHER),
    act.RedeemMany(((CHANNEL, VOUCHER),)),
    act.CloseChannel(CHANNEL, 1, VOUCHER),
    act.RequestClose(CHANNEL, 1),
    act.FinishClose(CHANNEL, 1),
)

CLAIM = Claim(BOB, Amount(14), 2, (keccak(b"left"), keccak(b"right")))
ON_REWARDS: tuple[act.RewardAction, ...] = (
    act.FundRewards(Amount(20), Reason.AUDIT, (Share(ALICE, Amount(15)), Share(BOB, Amount(5)))),
    act.ProposeRewards(5, keccak(b"root"), Amount(16), keccak(b"statement")),
    act.CancelRewards(5, keccak(b"root")),
    act.ClaimRewards(CLAIM),
)
