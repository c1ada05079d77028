"""Put the contracts on a chain. Repeating a deployment with the same outbox gives the same one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from deai.chain.ledger import (
    CHANNELS_CONTRACT,
    ORDERS_CONTRACT,
    POOLS_CONTRACT,
    REWARDS_CONTRACT,
    Parameters,
)
from deai.chain.sei.abi import creation_data
from deai.chain.sei.calls import ContractCall
from deai.chain.sei.pool import open_pool
from deai.chain.sei.quantities import quantity
from deai.chain.sei.sender import Sender, SenderSettings, no_crash, open_sender
from deai.chain.sei.transaction import contract_address
from deai.errors import ConfigError
from deai.ids import AccountId
from deai.money import UNIT
from deai.signing import Signer

SUPPLY: Final = 10**9 * UNIT
ADMIN_DELAY_S: Final = 3 * 24 * 3600
"""Between the two steps by which an admin hands over."""
_NOBODY: Final = AccountId("0x" + "00" * 20)


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """Where the contracts stand, and the block of the first of them."""

    contracts: dict[str, AccountId]
    block: int
    chain_id: int


async def deploy(
    rpc_urls: Sequence[str],
    deployer: Signer,
    parameters: Parameters,
    *,
    supply: int = SUPPLY,
    admin: AccountId | None = None,
    proposer: AccountId | None = None,
    outbox_path: Path | None = None,
    crash: Callable[[str], None] = no_crash,
    settings: SenderSettings | None = None,
    timeout: float = 30.0,
) -> Deployment:
    """Deploy token, registry, escrow, channels, rewards; the whole supply goes to the deployer.

    Channels are left out where the parameters give them no challenge period, rewards where they
    give them no delay, orders where they give them no thaw, pools where nothing is the least that
    may be delegated. `admin` (default: the deployer) may hand out roles and is the guardian;
    `proposer` (default: the admin) proposes rewards. The deployer needs
    money for gas and must send nothing else meanwhile. Raises `LedgerRejected`,
    `LedgerUnreachable`.
    """
    async with open_pool(rpc_urls, timeout=timeout) as pool:
        chain_id = quantity(await pool.call("eth_chainId"))
        identity = f"{chain_id}:deployment:{deployer.account}"
        async with open_sender(
            pool, deployer, chain_id, outbox_path, identity, crash=crash, settings=settings
        ) as sender:
            rulers = (admin or deployer.account, proposer or admin or deployer.account)
            return await _deploy(sender, deployer.account, parameters, supply, rulers, chain_id)


async def _deploy(
    sender: Sender,
    by: AccountId,
    parameters: Parameters,
    supply: int,
    rulers: tuple[AccountId, AccountId],
    chain_id: int,
) -> Deployment:
    ruler, proposer = rulers

    async def create(contract: str, *arguments: object) -> tuple[AccountId, int, int]:
        call = ContractCall(None, creation_data(contract, *arguments), 1_000_000)
        done = await sender.send(call, kind=f"Deploy{contract}", key=f"deploy/1:{contract}")
        nonce = await sender.nonce_of(f"deploy/1:{contract}")
        return contract_address(by, nonce), done.block, nonce

    token, block, _ = await create("ComputeToken", by, supply)
    # Registry and escrow name each other: the escrow's address follows from its nonce, which is
    # the one after the registry's.
    expected = contract_address(by, await sender.next_nonce("deploy/1:NodeRegistry") + 1)
    registry, _, _ = await create(
        "NodeRegistry", token, expected, ruler, ADMIN_DELAY_S, ruler,
        (
            int(parameters.min_stake), int(parameters.weight_fee), parameters.epoch_seconds,
            parameters.unbonding_seconds, int(parameters.bounty),
        ),
    )  # fmt: skip
    escrow, _, _ = await create(
        "TaskEscrow", token, registry,
        (
            parameters.treasury, int(parameters.min_fee), parameters.min_lease,
            parameters.min_window, parameters.max_span,
        ),
    )  # fmt: skip
    if escrow != expected:
        raise ConfigError(
            "the deployer sent other transactions meanwhile, so the contracts do not fit together",
            hint="deploy again from an account that does nothing else",
        )
    contracts = {"ComputeToken": token, "NodeRegistry": registry, "TaskEscrow": escrow}
    if parameters.close_period:
        contracts[CHANNELS_CONTRACT], _, _ = await create(
            CHANNELS_CONTRACT, token, registry, parameters.close_period
        )
    if parameters.reward_delay:
        contracts[REWARDS_CONTRACT], _, _ = await create(
            REWARDS_CONTRACT, token, registry, ruler, ADMIN_DELAY_S, proposer, ruler,
            parameters.reward_delay,
        )  # fmt: skip
    if parameters.thaw_period:
        contracts[ORDERS_CONTRACT], _, _ = await create(
            ORDERS_CONTRACT, token, registry, parameters.thaw_period
        )
    if parameters.min_delegation:
        orders = contracts.get(ORDERS_CONTRACT, _NOBODY)
        contracts[POOLS_CONTRACT], _, _ = await create(
            POOLS_CONTRACT, token, registry, orders, int(parameters.min_delegation)
        )
    return Deployment(contracts=contracts, block=block, chain_id=chain_id)
