"""A network without channels, rewards, orders and pools works, and says that it has none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from deai import actions as act
from deai.chain.ledger import OPTIONAL_CONTRACTS, Ledger
from deai.chain.memory import MemoryChain
from deai.chain.sei.deploy import deploy
from deai.chain.sei.ledger import open_sei_ledger
from deai.channels import Channel, Voucher
from deai.claims import Claim, Reason
from deai.errors import NotSetUp
from deai.hashing import ZERO
from deai.ids import AccountId, ChannelId
from deai.money import UNIT, Amount, Count
from deai.network import ChainEntry
from deai.signing import Signer
from rewards.rules import RULES
from tests.deai.chain.chains import PARAMETERS, SETTINGS, ChainProcess
from tests.deai.chain.near.harness import NearChain, settings
from tests.support.ledger_conformance import World, node_of

ID = ChannelId("0x" + "c0" * 32)
NONE = {"close_period": 0, "reward_delay": 0, "thaw_period": 0, "min_delegation": Amount(0)}
"""Parameters of a deployment that leaves out what may be left out."""


async def says_so(ledger: Ledger, by: Signer) -> None:
    """Every view and every verb of channels is refused with one error."""
    channel = Channel(by.account, node_of(by.account), by.account)
    voucher = Voucher(ID, 1, Amount(1), ZERO, bytes(64))
    actions: list[act.ChannelAction] = [
        act.OpenChannel(channel.node, by.account, 1, Amount(5)),
        act.TopUpChannel(ID, Amount(5)),
        act.RedeemVoucher(channel, voucher),
        act.RedeemMany(((channel, voucher),)),
        act.CloseChannel(channel, 1, voucher),
        act.RequestClose(channel, 1),
        act.FinishClose(channel, 1),
    ]
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: ledger.channel(ID),
        lambda: ledger.channels(client=by.account),
        *(lambda action=action: ledger.submit(action) for action in actions),
        *(lambda action=action: ledger.simulate(action) for action in actions),
    ]
    for ask in asked:
        with pytest.raises(NotSetUp, match="this network has no payment channels") as caught:
            await ask()
        assert (caught.value.reason_code, bool(caught.value.hint)) == ("no_channels", True)
    with pytest.raises(NotSetUp, match="no payment channels"):
        _ = ledger.info.channels
    assert (await ledger.parameters()).close_period == 0
    await tells_of_no_rewards(ledger, by)
    await tells_of_no_orders(ledger, by)
    await tells_of_no_pools(ledger, by)


async def tells_of_no_pools(ledger: Ledger, by: Signer) -> None:
    """Every view and every verb of pools is refused with one error."""
    node, me = node_of(by.account), by.account
    actions: list[act.PoolAction] = [
        act.OpenPool(0, 0, Amount(5), me, 1, bytes(64), "peer", ()),
        act.Delegate(node, Amount(5)),
        act.Undelegate(node, Count(5)),
        act.AdvancePool(node),
        act.ClaimDelegation(node, me),
        act.AnnounceCommission(node, 5),
        act.ClosePool(node),
        act.PoolRotateOperator(node, me, 1, bytes(64)),
        act.PoolUnjail(node),
    ]
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: ledger.pool(node),
        lambda: ledger.delegation(node, me),
        *(lambda action=action: ledger.submit(action) for action in actions),
        *(lambda action=action: ledger.simulate(action) for action in actions),
    ]
    for ask in asked:
        with pytest.raises(NotSetUp, match="no node of this network takes delegations") as caught:
            await ask()
        assert (caught.value.reason_code, bool(caught.value.hint)) == ("no_pools", True)
    with pytest.raises(NotSetUp, match="takes delegations"):
        _ = ledger.info.delegations
    assert (await ledger.parameters()).min_delegation == 0


async def tells_of_no_orders(ledger: Ledger, by: Signer) -> None:
    """Every view and every verb of signed orders is refused with one error."""
    actions: list[act.OrderAction] = [
        act.FundOrders(Amount(5)),
        act.SettleOrders(()),
        act.RequestThaw(Amount(5)),
        act.WithdrawThawed(by.account),
        act.CollectEarnings(by.account),
        act.SweepOrderFees((by.account,)),
    ]
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: ledger.order_balance(by.account),
        lambda: ledger.order_page(by.account, 0),
        lambda: ledger.order_earnings(by.account),
        *(lambda action=action: ledger.submit(action) for action in actions),
        *(lambda action=action: ledger.simulate(action) for action in actions),
    ]
    for ask in asked:
        with pytest.raises(NotSetUp, match="this network settles no signed orders") as caught:
            await ask()
        assert (caught.value.reason_code, bool(caught.value.hint)) == ("no_orders", True)
    with pytest.raises(NotSetUp, match="no signed orders"):
        _ = ledger.info.orders
    assert (await ledger.parameters()).thaw_period == 0


async def tells_of_no_rewards(ledger: Ledger, by: Signer) -> None:
    """Every view and every verb of rewards is refused with one error."""
    actions: list[act.RewardAction] = [
        act.FundRewards(Amount(5), Reason.POT, ()),
        act.ProposeRewards(1, ZERO, Amount(5), ZERO),
        act.CancelRewards(1, ZERO),
        act.ClaimRewards(Claim(by.account, Amount(5), 0, ())),
    ]
    asked: list[Callable[[], Awaitable[object]]] = [
        ledger.rewards,
        lambda: ledger.rewards_paid(by.account),
        *(lambda action=action: ledger.submit(action) for action in actions),
        *(lambda action=action: ledger.simulate(action) for action in actions),
    ]
    for ask in asked:
        with pytest.raises(NotSetUp, match="this network distributes no rewards") as caught:
            await ask()
        assert (caught.value.reason_code, bool(caught.value.hint)) == ("no_rewards", True)
    with pytest.raises(NotSetUp, match="no rewards"):
        _ = ledger.info.rewards
    assert (await ledger.parameters()).reward_delay == 0


@pytest.mark.parametrize("chain", ["memory"], indirect=True)
async def test_a_ledger_in_memory_says_so(world: World) -> None:
    contracts = {
        name: address
        for name, address in world.reader.info.contracts.items()
        if name not in OPTIONAL_CONTRACTS
    }
    info = msgspec.structs.replace(world.reader.info, contracts=contracts)
    parameters = msgspec.structs.replace(PARAMETERS, **NONE)
    chain = MemoryChain(RULES, holder=world.holder.account, parameters=parameters, info=info)
    await says_so(chain.ledger(world.holder), world.holder)


@pytest.mark.chain
@pytest.mark.network
async def test_a_deployment_without_their_contract_says_so_and_works(
    embedded: ChainProcess,
) -> None:
    by = embedded.signer()
    parameters = msgspec.structs.replace(PARAMETERS, **NONE)
    done = await deploy([embedded.rpc_url], by, parameters, settings=SETTINGS)
    assert set(done.contracts) == {"ComputeToken", "NodeRegistry", "TaskEscrow"}
    entry = ChainEntry(
        kind="embedded", chain_id=done.chain_id, rpc_urls=(embedded.rpc_url,),
        contracts=done.contracts, deployed_at=done.block,
    )  # fmt: skip
    async with open_sei_ledger(entry, by, settings=SETTINGS) as ledger:
        await says_so(ledger, by)
        await ledger.submit(act.Deposit(Amount(UNIT)))
        assert (await ledger.balances(by.account)).vault == UNIT


@pytest.mark.chain
@pytest.mark.network
async def test_a_near_deployment_without_their_contract_says_so_and_works(near: NearChain) -> None:
    from deai.chain.near.deploy import deploy as deploy_on_near
    from deai.chain.near.keys import NearKey
    from deai.chain.near.ledger import open_near_ledger

    by, hot = near.signer(), near.signer().key
    key = NearKey(by.account, by.key)
    parameters = msgspec.structs.replace(
        PARAMETERS,
        **NONE,
        treasury=AccountId("treasury.near"),
    )
    done = await deploy_on_near([near.rpc_url], key, parameters, settings=settings())
    assert set(done.contracts) == {"ComputeToken", "NodeRegistry", "TaskEscrow"}
    entry = ChainEntry(
        kind="embedded", chain_id=done.chain_id, rpc_urls=(near.rpc_url,),
        contracts=done.contracts, deployed_at=done.block,
    )  # fmt: skip
    async with open_near_ledger(entry, key, settings=settings()) as ledger:
        await says_so(ledger, by)
        await ledger.submit(act.Deposit(Amount(UNIT)))
        assert (await ledger.balances(by.account)).vault == UNIT
        await ledger.submit(act.TransferGas(hot.account, Amount(10**22)))
        assert (await ledger.balances(hot.account)).gas == 10**22


@pytest.mark.parametrize(
    "chain", [pytest.param("near", marks=[pytest.mark.chain, pytest.mark.network])], indirect=True
)
async def test_near_has_no_orders_and_pools_and_says_so(world: World) -> None:
    await tells_of_no_orders(await world.ledger(world.holder), world.holder)
    await tells_of_no_pools(await world.ledger(world.holder), world.holder)
