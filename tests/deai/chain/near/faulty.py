"""Accounts with money, and a ledger through endpoints that a test breaks."""

from __future__ import annotations

import msgspec

from deai import actions as act
from deai.chain.near.keys import NearKey
from deai.chain.near.ledger import NearLedger, open_near_ledger
from deai.chain.near.sender import SenderSettings
from deai.ids import AccountId
from deai.money import UNIT, Amount
from deai.network import ChainEntry
from tests.deai.chain.near.harness import Actor, NearChain, settings
from tests.deai.chain.proxy import Proxy

IMPATIENT = SenderSettings(poll_s=0.03, stuck_s=0.5, dead_s=0.5, patience_s=60)


def through(chain: NearChain, *proxies: Proxy, direct: bool = False) -> ChainEntry:
    urls = tuple(proxy.url for proxy in proxies) + ((chain.rpc_url,) if direct else ())
    return msgspec.structs.replace(chain.entry, rpc_urls=urls)


def key_of(actor: Actor) -> NearKey:
    return NearKey(actor.account, actor.key)


async def pay(ledger: NearLedger, to: AccountId, amount: int, key: str) -> str:
    return (await ledger.submit(act.TransferTokens(to, Amount(amount)), key=key)).hash


async def funded(chain: NearChain) -> Actor:
    signer = chain.signer()
    bank = key_of(chain.holder)
    async with open_near_ledger(chain.entry, bank, settings=settings()) as ledger:
        await pay(ledger, signer.account, 1000 * UNIT, f"fund {signer.account}")
    return signer


async def tokens(chain: NearChain, account: AccountId) -> int:
    async with open_near_ledger(chain.entry) as reader:
        return (await reader.balances(account)).tokens
