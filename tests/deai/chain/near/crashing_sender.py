"""Pays in several intents and dies by SIGKILL at a named point: `python -m … ENTRY OUTBOX`.

Arguments are the chain's entry as JSON, the outbox, the account, its key's seed, the receiver, the
point (or `-`) and at which visit of it to die. Amounts are powers of two, so that the receiver's
balance tells which of them arrived, and how often.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from deai import actions as act
from deai.chain.near.keys import NearKey
from deai.chain.near.ledger import open_near_ledger
from deai.chain.near.sender import SenderSettings
from deai.codec import decode_json
from deai.ids import AccountId
from deai.money import Amount
from deai.network import ChainEntry
from deai.signing import Ed25519Signer
from tests.deai.chain.crashing_sender import INTENTS, killer

SETTINGS = SenderSettings(poll_s=0.02, stuck_s=0.3, dead_s=0.5, patience_s=60)


async def main(arguments: list[str]) -> None:
    entry, outbox, account, seed, receiver, point, visit = arguments
    crash = killer(point, int(visit))
    chain = decode_json(entry.encode(), ChainEntry)
    key = NearKey(AccountId(account), Ed25519Signer(bytes.fromhex(seed)))
    with trio.fail_after(200):
        async with open_near_ledger(
            chain, key, Path(outbox), crash=crash, settings=SETTINGS
        ) as ledger:

            async def pay(number: int) -> None:
                action = act.TransferTokens(AccountId(receiver), Amount(1 << number))
                await ledger.submit(action, key=f"payment {number}")

            async with trio.open_nursery() as nursery:
                for number in range(INTENTS):
                    nursery.start_soon(pay, number)


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
