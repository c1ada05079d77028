"""Every verb of the ledger in memory: which function carries out which action."""

from __future__ import annotations

from typing import Final, assert_never

from deai import actions as act
from deai.chain import (
    memory_channels as channels,
    memory_escrow as escrow,
    memory_orders as orders,
    memory_pools as pools,
    memory_registry as registry,
    memory_rewards as rewards,
)
from deai.chain.memory_state import Call
from deai.chain.refusals import refusal
from deai.events import Deposited, VaultWithdrawn
from deai.money import UNIT

FREE_GAS: Final = UNIT
"""What every account begins with for gas; calls cost nothing here."""


def carry_out(call: Call, action: act.Action) -> None:
    """Change what the chain stores and report events; raises `LedgerRejected`."""
    match action:
        case act.TransferGas():
            held = call.gas.get(call.sender, FREE_GAS)
            if held < action.amount:
                raise refusal("GasMoney", {"available": held, "needed": int(action.amount)})
            call.gas[call.sender] = held - action.amount
            call.gas[action.to] = call.gas.get(action.to, FREE_GAS) + action.amount
        case act.TransferTokens():
            call.move_tokens(call.sender, action.to, action.amount)
        case act.Deposit():
            call.move_tokens(call.sender, call.info.contracts["TaskEscrow"], action.amount)
            if call.paused:
                raise refusal("IsPaused")
            call.credit(call.sender, action.amount)
            call.emit(Deposited(call.sender, call.sender, action.amount))
        case act.WithdrawVault():
            call.debit(call.sender, action.amount)
            call.emit(VaultWithdrawn(call.sender, action.to, action.amount))
            call.move_tokens(call.info.contracts["TaskEscrow"], action.to, action.amount)
        case act.RegisterNode():
            registry.register(call, action)
        case act.AddStake():
            registry.add_stake(call, action)
        case act.RequestUnstake():
            registry.request_unstake(call, action)
        case act.WithdrawStake():
            registry.withdraw_stake(call, action)
        case act.RotateOperator():
            registry.rotate_operator(call, action)
        case act.Unjail():
            registry.unjail(call, action)
        case act.Announce():
            registry.announce(call, action)
        case act.Heartbeat():
            registry.heartbeat(call, action)
        case act.PostTask():
            escrow.post(call, action)
        case act.AssignTask():
            escrow.assign(call, action)
        case act.PostAndAssign():
            escrow.post_and_assign(call, action)
        case act.CancelTask():
            escrow.cancel(call, action)
        case act.CommitResults():
            escrow.commit(call, action)
        case act.DeliverResult():
            escrow.deliver(call, action)
        case act.ObjectToResult():
            escrow.object_to_result(call, action)
        case act.ReleaseSeat():
            escrow.release(call, action)
        case act.ReassignSeat():
            escrow.reassign(call, action)
        case act.RevealResults():
            escrow.reveal(call, action)
        case act.ApproveOutputs():
            escrow.approve(call, action)
        case act.FinaliseTask():
            escrow.finalise(call, action)
        case act.ExpireTask():
            escrow.expire(call, action)
        case act.ProveEquivocation():
            escrow.prove_equivocation(call, action)
        case act.SweepFees():
            escrow.sweep(call, action)
        case act.OpenChannel():
            channels.open_channel(call, action)
        case act.TopUpChannel():
            channels.top_up(call, action)
        case act.RedeemVoucher():
            channels.redeem(call, action)
        case act.RedeemMany():
            channels.redeem_many(call, action)
        case act.CloseChannel():
            channels.close(call, action)
        case act.RequestClose():
            channels.request_close(call, action)
        case act.FinishClose():
            channels.finish(call, action)
        case act.FundRewards():
            rewards.fund(call, action)
        case act.ProposeRewards():
            rewards.propose(call, action)
        case act.CancelRewards():
            rewards.cancel(call, action)
        case act.ClaimRewards():
            rewards.claim(call, action)
        case act.FundOrders():
            orders.fund(call, action)
        case act.SettleOrders():
            orders.settle(call, action)
        case act.RequestThaw():
            orders.request_thaw(call, action)
        case act.WithdrawThawed():
            orders.withdraw(call, action)
        case act.CollectEarnings():
            orders.collect(call, action)
        case act.SweepOrderFees():
            orders.sweep(call, action)
        case act.OpenPool():
            pools.open_pool(call, action)
        case act.Delegate():
            pools.delegate(call, action)
        case act.Undelegate():
            pools.undelegate(call, action)
        case act.AdvancePool():
            pools.advance(call, action)
        case act.ClaimDelegation():
            pools.claim(call, action)
        case act.AnnounceCommission():
            pools.announce_commission(call, action)
        case act.ClosePool():
            pools.close(call, action)
        case act.PoolRotateOperator():
            pools.rotate_operator(call, action)
        case act.PoolUnjail():
            pools.unjail(call, action)
        case _:
            assert_never(action)
