"""Put the contracts on a chain: accounts below the deployer's, without any key of their own.

Each account is made, filled, given its code and initialised in one transaction, so that nobody can
come in between. Repeating a deployment with the same outbox gives the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from deai.chain.ledger import CHANNELS_CONTRACT, REWARDS_CONTRACT, Parameters
from deai.chain.near.calls import token_storage
from deai.chain.near.keys import NearKey
from deai.chain.near.rpc import open_pool
from deai.chain.near.sender import Sender, SenderSettings, no_crash, open_sender
from deai.chain.near.steps import TGAS, Call, CreateAccount, Deploy, NearCall, Send
from deai.errors import ConfigError, NotSetUp
from deai.ids import AccountId, parse_near_account
from deai.money import UNIT

SUPPLY: Final = 10**9 * UNIT
NEAR_COIN: Final = 10**24
MONEY: Final[Mapping[str, int]] = {
    "token": 10 * NEAR_COIN, "compute": 20 * NEAR_COIN, "channels": 10 * NEAR_COIN,
    "rewards": 10 * NEAR_COIN,
}  # fmt: skip
"""YoctoNEAR for each account: what its code and first records lock, and room to grow."""
DAY_S: Final = 24 * 3600
OWNER_DELAY_S: Final = 3 * DAY_S
"""Between the two steps by which the owner hands over."""
INITIAL_GAS: Final = 50 * TGAS


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """Where the contracts stand, and the block of the first of them."""

    contracts: dict[str, AccountId]
    block: int
    chain_id: str
    """`near:` and the network's name."""


def contract_code(name: str) -> bytes:
    """The committed wasm of `token`, `compute`, `channels` or `rewards`, as its checksum says.

    Raises `NotSetUp` when it is not there, `ConfigError` when it is another one.
    """
    folder = files("deai.chain") / "artifacts" / "near"
    try:
        code = (folder / f"{name}.wasm").read_bytes()
        sums = (folder / "SHA256SUMS").read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotSetUp(f"there is no {name}.wasm", hint="build it in contracts/near") from error
    listed = {file: digest for digest, file in (line.split() for line in sums.splitlines())}
    if listed.get(f"{name}.wasm") != sha256(code).hexdigest():
        raise ConfigError(
            f"{name}.wasm is not the one of SHA256SUMS",
            hint="rebuild all of them in contracts/near",
        )
    return code


async def deploy(
    rpc_urls: Sequence[str],
    deployer: NearKey,
    parameters: Parameters,
    *,
    supply: int = SUPPLY,
    holder: AccountId | None = None,
    owner: AccountId | None = None,
    proposer: AccountId | None = None,
    upgrade_delay: int | None = None,
    outbox_path: Path | None = None,
    crash: Callable[[str], None] = no_crash,
    settings: SenderSettings | None = None,
    timeout: float = 30.0,
) -> Deployment:
    """Deploy token, compute, channels and rewards.

    The supply goes to `holder` (default: the deployer). Channels are left out where the parameters
    give them no challenge period, rewards where they give them no delay. `owner` (default: the
    deployer) hands over, upgrades and is the first guardian; `proposer` (default: the owner)
    proposes rewards. An upgrade waits `upgrade_delay` seconds (default: longer than unbonding, of
    channels longer than the challenge period, by a day). Raises `LedgerRejected`,
    `LedgerUnreachable`, `NotSetUp`.
    """
    async with open_pool(rpc_urls, timeout=timeout) as pool:
        status = await pool.call("status")
        chain_id = f"near:{status['chain_id']}"
        identity = f"{chain_id}:deployment:{deployer.account}"
        async with open_sender(
            pool, deployer, outbox_path, identity, crash=crash, settings=settings
        ) as sender:
            ruler = owner if owner is not None else deployer.account
            governed = {"chain_id": chain_id, "owner": ruler, "guardian": ruler}
            proposing = {"proposer": proposer if proposer is not None else ruler}
            return await _deploy(
                sender,
                deployer.account,
                holder if holder is not None else deployer.account,
                supply,
                {**governed, "parameters": parameters_json(parameters, upgrade_delay)},
                {**governed, "parameters": _close_json(parameters, upgrade_delay)}
                if parameters.close_period
                else None,
                {**governed, **proposing, "parameters": _delay_json(parameters)}
                if parameters.reward_delay
                else None,
                chain_id,
            )


async def _deploy(
    sender: Sender,
    deployer: AccountId,
    holder: AccountId,
    supply: int,
    of_compute: Mapping[str, object],
    of_channels: Mapping[str, object] | None,
    of_rewards: Mapping[str, object] | None,
    chain_id: str,
) -> Deployment:
    async def create(name: str, **given: object) -> tuple[AccountId, int]:
        account = parse_near_account(f"{name}.{deployer}")
        first = Call("new", msgspec.json.encode(given), INITIAL_GAS)
        steps = (CreateAccount(), Send(MONEY[name]), Deploy(contract_code(name)), first)
        done = await sender.send(
            NearCall(account, steps), kind=f"Deploy{name.capitalize()}", key=f"deploy/1:{name}"
        )
        return account, done.block

    async def create_at_token(name: str, given: Mapping[str, object]) -> AccountId:
        account, _ = await create(name, token=token, **given)
        opening = NearCall(token, (token_storage(account),))
        await sender.send(opening, kind="OpenAccount", key=f"deploy/1:{name} at token")
        return account

    token, block = await create("token", holder=holder, supply=str(supply))
    compute = await create_at_token("compute", of_compute)
    contracts = {"ComputeToken": token, "NodeRegistry": compute, "TaskEscrow": compute}
    if of_channels is not None:
        contracts[CHANNELS_CONTRACT] = await create_at_token("channels", of_channels)
    if of_rewards is not None:
        contracts[REWARDS_CONTRACT] = await create_at_token("rewards", of_rewards)
    return Deployment(contracts=contracts, block=block, chain_id=chain_id)


def _close_json(parameters: Parameters, upgrade_delay: int | None) -> dict[str, object]:
    """The constants of the channel contract in its own form."""
    delay = parameters.close_period + DAY_S
    return {
        "close_period": parameters.close_period,
        "owner_delay": OWNER_DELAY_S,
        "upgrade_delay": upgrade_delay if upgrade_delay is not None else delay,
    }


def _delay_json(parameters: Parameters) -> dict[str, object]:
    """The constants of the contract for rewards in its own form; its code never changes."""
    return {
        "epoch_seconds": parameters.epoch_seconds,
        "delay": parameters.reward_delay,
        "owner_delay": OWNER_DELAY_S,
    }


def parameters_json(parameters: Parameters, upgrade_delay: int | None) -> dict[str, object]:
    """The constants of nodes, vault and tasks in their contract's own form."""
    delay = parameters.unbonding_seconds + DAY_S
    return {
        "treasury": parameters.treasury,
        "min_stake": str(int(parameters.min_stake)),
        "weight_fee": str(int(parameters.weight_fee)),
        "epoch_seconds": parameters.epoch_seconds,
        "unbonding_seconds": parameters.unbonding_seconds,
        "bounty": str(int(parameters.bounty)),
        "min_fee": str(int(parameters.min_fee)),
        "min_lease": parameters.min_lease,
        "min_window": parameters.min_window,
        "max_span": parameters.max_span,
        "owner_delay": OWNER_DELAY_S,
        "upgrade_delay": upgrade_delay if upgrade_delay is not None else delay,
    }
