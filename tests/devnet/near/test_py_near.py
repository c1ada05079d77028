"""A second client: the real py-near must be able to live on this chain."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from py_near import transactions as near
from py_near.account import ViewFunctionError
from py_near.exceptions import provider as errors

from devnet.near.rules import NEAR, TGAS
from tests.devnet.near.process import Running, login, run
from tests.devnet.near.tools import ALICE, BOB, HELLO, ROOT, keys
from tests.support.polling import wait

pytestmark = [pytest.mark.chain, pytest.mark.network]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("chain"), "--block-time", "0.05") as running:
        running.install()
        yield running
        assert running.stop() == 0


def value(result: Any) -> Any:
    assert "SuccessValue" in result.status, result.status
    raw = base64.b64decode(result.status["SuccessValue"])
    return json.loads(raw) if raw else None


def test_money_calls_views_and_logs(chain: Running) -> None:
    async def live() -> None:
        async with login(chain.url) as alice:
            before = await alice.get_balance(BOB)
            assert value(await alice.send_money(BOB, NEAR)) is None
            assert await alice.get_balance(BOB) == before + NEAR
            done = await alice.function_call(HELLO, "stake", {}, amount=3 * NEAR)
            assert value(done) == str(3 * NEAR)
            assert json.loads(done.logs[0].removeprefix("EVENT_JSON:"))["event"] == "staked"
            seen = await alice.view_function(HELLO, "stake_of", {"account_id": ALICE})
            assert seen.result == str(3 * NEAR)
            with pytest.raises(ViewFunctionError, match="not allowed in view"):
                await alice.view_function(HELLO, "set_greeting", {"text": "no"})

    run(live())


def test_errors_arrive_as_py_near_knows_them(chain: Running) -> None:
    async def live() -> None:
        async with login(chain.url, BOB) as bob:
            with pytest.raises(errors.NotEnoughBalance):
                await bob.send_money(ALICE, 10**6 * NEAR)
            with pytest.raises(errors.UnknownAccount):
                await bob.get_balance("nobody.near")
            failed = await bob.function_call(HELLO, "nothing_of_that_name", {})
            assert "MethodNotFound" in json.dumps(failed.status)
        async with login(chain.url, BOB, keys("a stranger")[0]) as stranger:
            with pytest.raises(ValueError, match="does not exist"):
                await stranger.send_money(ALICE, 1)

    run(live())


def test_an_account_of_ones_own_with_a_restricted_key(chain: Running) -> None:
    async def live() -> None:
        name = f"carol.{ROOT}"
        async with login(chain.url, ROOT) as root:
            created = await root.create_account(name, keys(name)[1], 10 * NEAR)
            assert value(created) is None
        secret, public = keys("carol's daemon")
        async with login(chain.url, name) as carol:
            added = await carol.add_public_key(public, HELLO, ["stake_of"], allowance=NEAR // 10)
            assert value(added) is None
        async with login(chain.url, name, secret) as daemon:
            asked = await daemon.function_call(HELLO, "stake_of", {"account_id": name})
            assert value(asked) == "0"
            for call in (
                daemon.function_call(HELLO, "unstake", {}),
                daemon.function_call(HELLO, "stake_of", {}, amount=1),
                daemon.send_money(ROOT, 1),
            ):
                with pytest.raises(errors.InvalidTransactionError):
                    await call
        key = {"public_key": public}

        def spent() -> int:
            # What was not used comes back a block after the call is done.
            found = chain.query("view_access_key", name, **key)["permission"]["FunctionCall"]
            less = NEAR // 10 - int(found["allowance"])
            return less if less < NEAR // 1_000 else 0

        assert await asyncio.to_thread(wait, spent) > 0

    run(live())


def test_many_calls_at_once_from_one_key(chain: Running) -> None:
    async def live() -> None:
        async with login(chain.url, BOB) as bob:
            calls = [bob.function_call(HELLO, "stake", {}, amount=NEAR) for _ in range(30)]
            done = await asyncio.gather(*calls)
            assert sorted(int(value(one)) for one in done) == [
                NEAR * number for number in range(1, 31)
            ]

    run(live())


def test_a_batch_of_actions_happens_whole_or_not_at_all(chain: Running) -> None:
    async def live() -> None:
        async with login(chain.url) as alice:
            before = await alice.get_balance(HELLO)
            batch = [
                near.create_transfer_action(NEAR),
                near.create_function_call_action("nothing_of_that_name", b"", 5 * TGAS, 0),
            ]
            failed = await alice.sign_and_submit_tx(HELLO, batch)
            assert failed.status["Failure"]["ActionError"]["index"] == 1
            assert await alice.get_balance(HELLO) - before < NEAR // 1_000  # a share of the gas

    run(live())


def test_asynchronous_sending_and_asking_afterwards(chain: Running) -> None:
    async def live() -> None:
        async with login(chain.url) as alice:
            sent = await alice.send_money(BOB, 5, nowait=True)
            found = await alice.provider.wait_for_trx(sent, ALICE)
            assert value(found) is None
            block = await alice.provider.get_block("final")
            assert block["header"]["height"] > 0
            status = await alice.provider.get_status()
            assert status["chain_id"] == "localnet"

    run(live())
