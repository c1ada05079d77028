"""Pays in several intents and dies by SIGKILL at a named point: `python -m … ENTRY OUTBOX`.

Arguments are the chain's entry as JSON, the outbox, the key, the receiver, the first amount, the
point (or `-`) and at which visit of it to die. Amounts are powers of two, so that the receiver's
balance tells which of them arrived, and how often.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from deai import actions as act
from deai.chain.sei.ledger import open_sei_ledger
from deai.chain.sei.sender import SenderSettings
from deai.codec import decode_json
from deai.ids import AccountId
from deai.money import Amount
from deai.network import ChainEntry
from deai.signing import LocalSigner

INTENTS = 4
SETTINGS = SenderSettings(poll_s=0.02, stuck_s=0.3, dead_s=0.5, patience_s=60)


def killer(point: str, visit: int) -> Callable[[str], None]:
    visits = 0

    def crash(name: str) -> None:
        nonlocal visits
        if name == point:
            visits += 1
            if visits == visit:
                os.kill(os.getpid(), signal.SIGKILL)

    return crash


async def main(arguments: list[str]) -> None:
    entry, outbox, secret, receiver, point, visit = arguments
    crash = killer(point, int(visit))
    chain = decode_json(entry.encode(), ChainEntry)
    signer = LocalSigner(bytes.fromhex(secret))
    with trio.fail_after(200):
        async with open_sei_ledger(
            chain, signer, Path(outbox), crash=crash, settings=SETTINGS
        ) as ledger:

            async def pay(number: int) -> None:
                action = act.TransferTokens(AccountId(receiver), Amount(1 << number))
                await ledger.submit(action, key=f"payment {number}")

            async with trio.open_nursery() as nursery:
                for number in range(INTENTS):
                    nursery.start_soon(pay, number)


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
