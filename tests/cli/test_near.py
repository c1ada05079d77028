"""Commands with `--chain near`: keys of its curve, names of its form, each refusal with a code."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import pytest

from deai.ids import base58
from deai.keys import create_key
from deai.network import ChainEntry, Network, save_network
from deai.signing import Ed25519Signer, public_key
from tests.cli.conftest import Shell
from tests.deai.test_opening import ON_NEAR, ON_SEI

NEAR = ("--chain", "near")
SECRET = bytes(range(32))
PUBLIC = public_key(Ed25519Signer(SECRET).account)


@pytest.fixture
def both(shell: Shell) -> Shell:
    """A home whose network has both chains; nobody answers on either."""
    shell.home.mkdir()
    chains = {
        name: ChainEntry(**{**document, "rpc_urls": tuple(document["rpc_urls"])})
        for name, document in (("sei", ON_SEI), ("near", ON_NEAR))
    }
    save_network(Network(name="test", chains=chains), shell.home / "network.json")  # type: ignore[arg-type]
    return shell


def test_keys_of_both_chains_live_beside_each_other(shell: Shell) -> None:
    sei = shell.json("keys", "new", "--kind", "client").document
    near = shell.json("keys", "new", "--kind", "client", *NEAR).document
    assert sei["account"].startswith("0x")
    assert near["account"] == public_key(near["public_key"]).hex()
    assert Path(near["path"]).name == "client-near.json"
    assert stat.S_IMODE(Path(near["path"]).stat().st_mode) == 0o600
    assert shell.json("keys", "show", "--kind", "client").document == sei
    listed = shell.json("keys", "list", *NEAR).document["items"]
    assert [one["public_key"] for one in listed] == [near["public_key"]]
    assert shell("keys", "list", *NEAR).status == 0
    again = shell.json("keys", "new", "--kind", "client", *NEAR)
    assert (again.status, again.error["code"]) == (3, "config_error")


def test_an_operators_key_names_no_account(shell: Shell) -> None:
    made = shell.json("keys", "new", "--kind", "operator", *NEAR).document
    assert made["account"] is None
    assert made["public_key"].startswith("ed25519:")


def test_a_key_as_nears_tools_write_it_is_imported(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "ed25519:" + base58(SECRET + PUBLIC)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    done = shell.json("keys", "import", "--kind", "owner", "--from", "-", *NEAR)
    assert done.document["account"] == PUBLIC.hex()
    assert text not in Path(done.document["path"]).read_text()
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    wrong = shell.json("keys", "import", "--kind", "owner", "--from", "-")
    assert (wrong.status, wrong.error["code"]) == (3, "wrong_key_kind")
    assert not (shell.home / "keys" / "owner.json").exists()


def test_a_file_with_a_key_of_the_other_chain_is_not_imported(shell: Shell, tmp_path: Path) -> None:
    create_key(tmp_path / "sei.json", tmp_path / "passphrase")
    done = shell.json(
        "keys", "import", "--kind", "owner", "--from", str(tmp_path / "sei.json"), *NEAR
    )
    assert (done.status, done.error["code"]) == (3, "wrong_key_kind")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("stake", "withdraw", "--to", "Alice.near"), "bad_account"),
        (("stake", "status", "--node", "0x" + "ab" * 32), "bad_node_id"),
        (("stake", "status", "--owner-account", "a..b"), "bad_account"),
        (("network", "node", "alice.near#007"), "bad_node_id"),
        (("node", "init", "--owner-account", "Alice"), "bad_account"),
    ],
)
def test_names_that_are_none_on_near_leave_with_2(
    both: Shell, arguments: tuple[str, ...], code: str
) -> None:
    both.json("keys", "new", "--kind", "owner", *NEAR)
    done = both.json(*arguments, *NEAR)
    assert (done.status, done.error["code"]) == (2, code), done.err


def test_a_named_account_is_refused_where_keys_have_one(both: Shell) -> None:
    both.json("keys", "new", "--kind", "owner")
    done = both.json("stake", "status", "--owner-account", "0x" + "ab" * 20)
    assert (done.status, done.error["code"]) == (2, "bad_account")


def test_the_key_of_a_named_client_account_says_so(both: Shell) -> None:
    (both.home / "config.toml").write_text('chain = "near"\n[client]\naccount = "alice.near"\n')
    both.json("keys", "new", "--kind", "client")
    assert both.json("keys", "show", "--kind", "client").document["account"] == "alice.near"
    checks = both.json("config", "check").document["checks"]
    assert {"alice.near"} == {one["detail"] for one in checks if one["name"] == "client key"}


def test_a_key_file_of_the_other_chain_is_named_before_anybody_is_asked(
    both: Shell, tmp_path: Path
) -> None:
    create_key(tmp_path / "sei.json", tmp_path / "passphrase")
    config = (
        f'[client]\nkey_file = "{tmp_path}/sei.json"\npassphrase_file = "{tmp_path}/passphrase"\n'
    )
    (both.home / "config.toml").write_text(config)
    source = tmp_path / "texts.txt"
    source.write_text("a cat\n")
    done = both.json("task", "submit", "embedding", "--input", str(source), *NEAR)
    assert (done.status, done.error["code"]) == (3, "wrong_key_kind")
    assert "sei.json" in done.error["message"]


def test_no_owner_key_on_near_names_the_file_that_is_missing(both: Shell) -> None:
    done = both.json("stake", "status", *NEAR)
    assert (done.status, done.error["code"]) == (3, "not_set_up")
    assert "owner-near.json" in done.error["message"]
    assert json.loads(done.out)
