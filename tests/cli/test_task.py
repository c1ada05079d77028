"""`deai task`: documents, screens, exit codes and refusals, with the real client behind them."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from deai.actions import Deposit, PostTask
from deai.codec import decode_value
from deai.money import UNIT, Amount
from deai.tasks import task_id
from tests.cli.conftest import Shell
from tests.cli.network import Neighbourhood
from tests.client.support.node import Script, honest
from tests.support.samples import task
from workloads import tensors

pytestmark = pytest.mark.world

FEE = str(UNIT // 100)
QUICK = Script(seconds=0.02)
KEYS = {
    "task_id", "workload", "chain", "lane", "policy", "state", "detail", "attempts", "result",
    "escrowed", "held", "paid", "refunded", "protocol_fee", "payments", "transactions", "receipt",
    "timings",
}  # fmt: skip


@pytest.fixture
def network(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Neighbourhood:
    made = Neighbourhood(shell.home, *[QUICK] * 4)
    made.install(monkeypatch)
    return made


def check_document(document: dict[str, Any]) -> None:
    assert set(document) == KEYS
    sums = [int(document[name]) for name in ("held", "paid", "refunded", "protocol_fee")]
    assert sum(sums) == int(document["escrowed"])
    for attempt in document["attempts"]:
        assert set(attempt) == {
            "attempt", "seat", "node_id", "provider", "fee", "state", "output_digest", "reason",
            "started_at", "ended_at",
        }  # fmt: skip
    assert set(document["timings"]) == {
        "match_ms", "assign_ms", "input_ms", "execute_ms", "settle_ms", "total_ms",
    }  # fmt: skip
    for transaction in document["transactions"]:
        assert {"kind", "hash", "block", "gas_used"} <= set(transaction)


def test_submit_follows_to_the_end_and_prints_one_document(
    shell: Shell, network: Neighbourhood, tmp_path: Path
) -> None:
    done = shell.json(
        "task", "submit", "matmul-proof", "--output", str(tmp_path / "proof"), "--param", "seed=3"
    )
    assert done.status == 0, done.err
    document = done.document
    check_document(document)
    assert document["state"] == "completed"
    assert document["escrowed"] == str(3 * int(FEE))
    work = next(iter(network.nodes[0].works.values()), None) or next(
        iter(network.nodes[1].works.values())
    )
    assert (tmp_path / "proof").read_bytes() == honest(work.spec, b"")
    assert document["result"]["path"] == str(tmp_path / "proof")
    assert "settled" in done.err


def test_a_screen_for_people_names_result_money_and_receipt(
    shell: Shell, network: Neighbourhood
) -> None:
    done = shell("task", "submit", "matmul-proof")
    assert done.status == 0
    for expected in ("Result", "Receipt", "Escrowed  0.030000 CT", "● completed"):
        assert expected in done.out
    assert all(len(line) <= 100 for line in done.err.splitlines())


def test_without_signs_the_screen_says_the_same_in_ascii(
    shell: Shell, network: Neighbourhood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAI_ASCII", "1")
    done = shell("task", "submit", "matmul-proof")
    assert "* completed" in done.out
    assert done.out.isascii()
    assert done.err.isascii()


def test_what_was_submitted_can_be_listed_shown_fetched_and_verified(
    shell: Shell, network: Neighbourhood, tmp_path: Path
) -> None:
    submitted = shell.json("task", "submit", "matmul-proof").document
    identity = submitted["task_id"]
    (listed,) = shell.json("task", "list").document["items"]
    assert (listed["task_id"], listed["state"]) == (identity, "completed")
    shown = shell.json("task", "show", identity[:12]).document
    check_document(shown)
    assert shown == submitted
    events = [one["event"] for one in shell.json("task", "events", identity).document["items"]]
    assert events[0] == "TaskPosted"
    assert events[-1] == "TaskFinalised"
    fetched = shell.json("task", "result", identity, "--output", str(tmp_path / "again"))
    assert fetched.status == 0
    checked = shell.json(
        "task", "verify-receipt", submitted["receipt"], "--output", str(tmp_path / "again")
    )
    assert checked.status == 0
    assert checked.document["ok"] is True
    assert {one["name"] for one in checked.document["checks"]} >= {"task id", "winner", "output"}
    for screen in (("show", identity), ("list",), ("events", identity)):
        assert shell("task", *screen).status == 0


def test_a_receipt_that_was_changed_does_not_verify(shell: Shell, network: Neighbourhood) -> None:
    receipt = Path(shell.json("task", "submit", "matmul-proof").document["receipt"])
    changed = json.loads(receipt.read_bytes())
    changed["task"][3] = str(int(changed["task"][3]) + 1)
    receipt.write_text(json.dumps(changed))
    done = shell.json("task", "verify-receipt", str(receipt))
    assert done.status == 1
    assert done.document["ok"] is False


def test_the_exit_code_mirrors_a_failed_task(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from deai.tasks import FaultCode

    bad = Script(seconds=0.02, fault=FaultCode.NOT_FINITE)
    Neighbourhood(shell.home, bad, bad, bad).install(monkeypatch)
    done = shell.json("task", "submit", "matmul-proof")
    assert done.status == 1
    check_document(done.document)
    assert done.document["state"] == "failed"
    assert done.document["result"] is None


def test_detach_returns_while_the_task_runs_and_result_waits_for_it(
    shell: Shell, network: Neighbourhood
) -> None:
    left = shell.json("task", "submit", "matmul-proof", "--detach").document
    assert left["state"] == "assigned"
    assert left["held"] == left["escrowed"]


def test_the_same_key_gives_the_same_task_and_another_request_is_refused(
    shell: Shell, network: Neighbourhood
) -> None:
    command = ("task", "submit", "matmul-proof", "--idempotency-key", "k1")
    first = shell.json(*command).document
    assert shell.json(*command).document == first
    refused = shell.json(*command, "--param", "seed=9")
    assert refused.status == 2
    assert refused.error["code"] == "idempotency_conflict"


def test_a_dry_run_shows_everybody_and_moves_nothing(shell: Shell, network: Neighbourhood) -> None:
    done = shell.json("task", "submit", "matmul-proof", "--dry-run")
    assert done.status == 0
    document = done.document
    assert sum(one["chosen"] for one in document["nodes"]) == 3
    assert document["fee"] == FEE
    assert document["escrowed"] == str(3 * int(FEE))
    assert shell.json("task", "list").document["items"] == []
    poor = shell.json("task", "submit", "matmul-proof", "--dry-run", "--max-fee", "1").document
    assert {one["code"] for one in poor["rejected"]} == {"price"}
    assert "price below every offer" in poor["problem"]
    assert shell("task", "submit", "matmul-proof", "--dry-run").status == 0


def test_vectors_are_converted_by_the_name_of_the_file(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def embed(spec: Any, data: bytes) -> bytes:
        return tensors.encode_matrix("embeddings", np.ones((data.count(b"\n") + 1, 2), np.float32))

    script = Script(seconds=0.02, compute=embed)
    Neighbourhood(shell.home, script, script, script).install(monkeypatch)
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo")
    command = ("task", "submit", "embedding", "--input", str(texts), "--output")
    assert shell.json(*command, str(tmp_path / "v.npy")).status == 0
    assert (tmp_path / "v.npy").read_bytes().startswith(b"\x93NUMPY")
    assert shell.json(*command, str(tmp_path / "v.jsonl")).status == 0
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 2


def test_standard_input_is_read_where_a_dash_stands(
    shell: Shell, network: Neighbourhood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo")))
    done = shell.json("task", "submit", "embedding", "--input", "-", "--dry-run")
    assert done.document["items"] == 2


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["no-such-workload"], 2, "unknown_workload"),
        (["matmul-proof", "--policy", "zk/1"], 2, "unsupported_policy"),
        (["matmul-proof", "--policy", "tol32/1"], 2, "unsupported_policy"),
        (["matmul-proof", "--seats", "4"], 2, "bad_seats"),
        (["matmul-proof", "--policy", "none/1", "--seats", "3"], 2, "bad_seats"),
        (["matmul-proof", "--seats", "two"], 2, "usage"),
        (["matmul-proof", "--seats", "0"], 2, "usage"),
        (["matmul-proof", "--max-fee", "much"], 2, "bad_amount"),
        (["matmul-proof", "--max-fee", "0.1"], 2, "bad_amount"),
        (["matmul-proof", "--max-fee", ""], 2, "bad_amount"),
        (["matmul-proof", "--max-fee", "0"], 2, "bad_amount"),
        (["matmul-proof", "--max-fee", "79228162515CT"], 2, "bad_amount"),
        (["matmul-proof", "--tip", "some"], 2, "bad_amount"),
        (["matmul-proof", "--max-fee", "1"], 1, "price_below_every_offer"),
        (["matmul-proof", "--deadline=-5s"], 2, "deadline_in_the_past"),
        (["matmul-proof", "--deadline", "soon"], 2, "bad_duration"),
        (["matmul-proof", "--deadline", "0"], 2, "deadline_in_the_past"),
        (["matmul-proof", "--deadline", "25h"], 2, "bad_deadline"),
        (["matmul-proof", "--deadline", "9" * 400], 2, "bad_deadline"),
        (["matmul-proof", "--deadline", "7s"], 2, "deadline_too_close"),
        (["matmul-proof", "--param", "size=17"], 2, "bad_parameter"),
        (["matmul-proof", "--param", "colour=red"], 2, "bad_parameter"),
        (["matmul-proof", "--param", "size=1e999"], 2, "bad_parameter"),
        (["matmul-proof", "--param", 'size={"a": 1, "a": 2}'], 2, "usage"),
        (["matmul-proof", "--param", "novalue"], 2, "usage"),
        (["matmul-proof", "--param", "seed=1", "--param", "seed=2"], 2, "usage"),
        (["matmul-proof", "--input", "/no/such/file"], 2, "unreadable_input"),
        (["matmul-proof", "--output", "/no/such/folder/x"], 2, "unwritable_output"),
        (["matmul-proof", "--output", "/"], 2, "unwritable_output"),
        (["matmul-proof", "--output", "x.npy"], 2, "bad_output"),
        (["matmul-proof", "--input", "/"], 2, "unreadable_input"),
        (["matmul-proof", "--params", "/no/such/file"], 2, "unreadable_input"),
        (["matmul-proof", "--params", "/"], 2, "unreadable_input"),
        (["matmul-proof", "--coordinator", "ftp:/x"], 2, "bad_url"),
        (["matmul-proof", "--coordinator", ""], 2, "bad_url"),
        (["matmul-proof", "--idempotency-key", ""], 2, "usage"),
        (["matmul-proof", "--idempotency-key", "k" * 201], 2, "usage"),
        (["matmul-proof", "--policy", ""], 2, "usage"),
        (["matmul-proof", "--node", "0x12"], 2, "bad_node_id"),
        (["embedding", "--param", "model=nobodys"], 2, "bad_parameter"),
        (["embedding"], 2, "no_input"),
        (["portfolio-risk"], 2, "no_input"),
        (["matmul-proof", "--chain", "moon"], 2, "unknown_chain"),
        (["matmul-proof", "--lane", "order"], 5, "insufficient_funds"),
        (["matmul-proof", "--lane", "channel"], 3, "no_channel"),
        ([], 2, "usage"),
    ],
)
def test_a_submission_that_cannot_be_is_refused_with_a_code_and_a_hint(
    shell: Shell, network: Neighbourhood, arguments: list[str], status: int, code: str
) -> None:
    done = shell.json("task", "submit", *arguments)
    assert (done.status, done.error["code"]) == (status, code), done.error
    assert done.error["hint"]
    assert shell.json("task", "list").document["items"] == []


def test_an_input_that_is_missing_is_asked_for_with_an_example(
    shell: Shell, network: Neighbourhood, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    none = shell.json("task", "submit", "embedding")
    nothing = shell.json("task", "submit", "embedding", "--input", str(empty))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    piped = shell.json("task", "submit", "embedding", "--input", "-")
    for done, said in ((none, "needs an input"), (nothing, "empty.txt is empty"),
                       (piped, "standard input was empty")):  # fmt: skip
        assert (done.status, done.error["code"]) == (2, "no_input")
        assert said in done.error["message"]
        assert "--input texts.txt" in done.error["hint"]


def test_a_wrong_value_names_its_option_on_the_screen(shell: Shell, network: Neighbourhood) -> None:
    done = shell("task", "submit", "matmul-proof", "--max-fee", "much")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: --max-fee: not an amount: 'much'\nhint: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"seed": 1, "seed": 2}', "'seed' stands there twice"),
        ('{"seed": {"a": 1, "a": 2}}', "'a' stands there twice"),
        ('{"seed": NaN}', "NaN"),
        ("[1]", "no JSON object"),
        ('{"seed": 1', "delimiter"),
        ('{"a": ' * 10_000, "deep"),
        ("[" * 60_000, "deep"),
        (" " * 70_000, "larger than"),
    ],
)
def test_a_file_of_parameters_that_could_mean_two_things_is_refused(
    shell: Shell, network: Neighbourhood, tmp_path: Path, text: str, said: str
) -> None:
    params = tmp_path / "params.json"
    params.write_text(text)
    done = shell.json("task", "submit", "matmul-proof", "--params", str(params))
    assert (done.status, done.error["code"]) == (2, "usage")
    assert "params.json" in done.error["message"]
    assert said in done.error["message"]


def test_a_single_parameter_overrides_the_one_of_the_file(
    shell: Shell, network: Neighbourhood, tmp_path: Path
) -> None:
    params = tmp_path / "params.json"
    params.write_text('{"seed": 3, "size": 64}')
    command = ("task", "submit", "matmul-proof", "--params", str(params))
    assert shell.json(*command, "--param", "seed=4").status == 0
    work = next(work for node in network.nodes for work in node.works.values())
    parameters = decode_value(work.spec.parameters)
    assert (parameters["seed"], parameters["size"]) == (4, 64)


def test_a_coordinator_that_is_no_web_address_is_refused_where_it_stands(
    shell: Shell, network: Neighbourhood
) -> None:
    for url in ("ftp:/x", "127.0.0.1:8080", "http://", "http://host:99999", "http://a b"):
        done = shell.json("task", "submit", "matmul-proof", "--coordinator", url)
        assert (done.status, done.error["code"]) == (2, "bad_url"), url
        assert "--coordinator" in done.error["message"]
    config = shell.home / "config.toml"
    config.write_text('chain = "sei"\ncoordinator_url = "ftp:/x"\n')
    done = shell.json("task", "list")
    assert (done.status, done.error["code"]) == (3, "bad_url")
    assert f"{config}:2: setting coordinator_url" in done.error["message"]
    config.unlink()
    shell.monkeypatch.setenv("DEAI_COORDINATOR_URL", "ftp:/x")
    done = shell.json("task", "list")
    assert (done.status, done.error["code"]) == (3, "bad_url")
    assert "DEAI_COORDINATOR_URL" in done.error["message"]


def test_a_wrong_price_limit_of_the_settings_is_no_usage_error(
    shell: Shell, network: Neighbourhood
) -> None:
    config = shell.home / "config.toml"
    config.write_text('[client]\nmax_fee = "much"\n')
    done = shell.json("task", "submit", "matmul-proof")
    assert (done.status, done.error["code"]) == (3, "bad_amount")
    assert f"{config}:2: setting client.max_fee" in done.error["message"]
    assert shell.json("config", "check").status == 3


def test_an_output_never_replaces_a_device_or_a_link(
    shell: Shell, network: Neighbourhood, tmp_path: Path
) -> None:
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()), daemon=True)
    reader.start()
    done = shell.json("task", "submit", "matmul-proof", "--output", str(pipe))
    assert done.status == 0, done.err
    reader.join(timeout=30)
    assert [len(data) for data in heard] == [done.document["result"]["bytes"]]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    target.touch()
    link.symlink_to(target)
    assert shell.json("task", "submit", "matmul-proof", "--output", str(link)).status == 0
    assert link.is_symlink()
    assert target.stat().st_size == done.document["result"]["bytes"]


def test_without_money_the_exit_code_is_five_and_the_hint_says_how_much(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    dear = Script(seconds=0.02, base_fee=50 * UNIT)
    Neighbourhood(shell.home, dear, dear, dear).install(monkeypatch)
    done = shell.json("task", "submit", "matmul-proof", "--max-fee", "60CT")
    assert done.status == 5
    assert done.error["code"] == "insufficient_funds"
    assert "50.000000 CT" in done.error["hint"]


def test_a_task_that_nobody_knows_is_not_found(shell: Shell, network: Neighbourhood) -> None:
    for command in ("show", "events", "cancel"):
        done = shell.json("task", command, "0x" + "ab" * 32)
        assert (done.status, done.error["code"]) == (1, "not_found")


@pytest.mark.parametrize("text", ["", "0x", "xyz", "0xabab", "0x" + "zz" * 32, "12345678"])
def test_what_is_no_task_id_is_a_usage_error(
    shell: Shell, network: Neighbourhood, text: str
) -> None:
    assert shell.json("task", "submit", "matmul-proof").status == 0
    for command in ("show", "events", "cancel", "result"):
        done = shell.json("task", command, text)
        assert (done.status, done.error["code"]) == (2, "bad_task_id"), command
        assert "deai task list" in done.error["hint"]


def test_a_task_of_this_home_is_looked_for_on_its_own_chain(
    shell: Shell, network: Neighbourhood
) -> None:
    identity = shell.json("task", "submit", "matmul-proof").document["task_id"]
    with sqlite3.connect(shell.home / "client.db") as journal:
        journal.execute("update requests set chain = 'near'")
    for command in ("show", "events"):
        assert shell.json("task", command, identity[:12]).status == 0
    assert network.asked == ["near", "near"]
    for command in ("show", "events", "result", "cancel"):
        done = shell.json("task", command, identity, "--chain", "sei")
        assert (done.status, done.error["code"]) == (2, "other_chain"), command
        assert "near" in done.error["message"]


def test_a_cancelled_task_is_named_in_full(shell: Shell, network: Neighbourhood) -> None:
    shell.json("task", "submit", "matmul-proof")
    ledger, payer = network.chain.ledger(network.payer), network.payer.account
    posted = task(payer, deadline=network.chain.now + 600, nonce=2)

    async def post() -> None:
        await ledger.submit(Deposit(Amount(posted.escrowed)))
        await ledger.submit(PostTask(posted))

    trio.run(post)
    identity = task_id(posted, ledger.info.escrow)
    done = shell.json("task", "cancel", "0x" + identity[2:].upper())
    assert done.status == 0, done.out
    assert done.document["task_id"] == identity
    assert done.document["state"] == "cancelled"


def test_a_finished_task_cannot_be_cancelled(shell: Shell, network: Neighbourhood) -> None:
    identity = shell.json("task", "submit", "matmul-proof").document["task_id"]
    done = shell.json("task", "cancel", identity)
    assert (done.status, done.error["code"]) == (1, "not_cancellable")


def test_without_a_network_file_the_command_says_what_to_do(shell: Shell) -> None:
    done = shell.json("task", "submit", "matmul-proof")
    assert (done.status, done.error["code"]) == (3, "not_set_up")
    assert "deai devnet up" in done.error["hint"]


def test_a_converted_output_is_told_apart_from_a_wrong_one(
    shell: Shell, network: Neighbourhood, tmp_path: Path
) -> None:
    submitted = shell.json("task", "submit", "matmul-proof").document
    target = tmp_path / "proof.json"
    target.write_text("{}")
    document = shell.json("task", "list").document["items"][0]
    kept = shell.home / "results" / document["task_id"]
    plain = tmp_path / "plain"
    plain.write_bytes(b"something else")
    said = {}
    for file in (target, kept, plain):
        done = shell.json("task", "verify-receipt", submitted["receipt"], "--output", str(file))
        (check,) = (one for one in done.document["checks"] if one["name"] == "output")
        said[file] = (done.status, "converts to .json" in check["detail"])
    assert said == {target: (1, True), kept: (0, False), plain: (1, False)}


def test_a_chain_that_the_network_has_not_is_named_before_any_key_is_missed(
    shell: Shell, network: Neighbourhood
) -> None:
    done = shell.json("task", "submit", "matmul-proof", "--chain", "near")
    assert (done.status, done.error["code"]) == (3, "unknown_chain")
    assert "sei" in done.error["hint"]
