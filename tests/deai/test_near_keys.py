"""Keys for NEAR at rest: the same container, another curve, an account that is not the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deai import keys
from deai.errors import ConfigError, UsageError
from deai.ids import NEAR, SEI, AccountId, base58
from deai.signing import Ed25519Signer, public_key, verify

SECRET = bytes(range(32))
PUBLIC = public_key(Ed25519Signer(SECRET).account)


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_near_key_is_sealed_named_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "owner-near.json"
    made = keys.create_key(path, tmp_path / "passphrase", secret=SECRET, chain=NEAR)
    store = json.loads(path.read_text())
    assert store["kind"] == "ed25519"
    assert store["public_key"] == made == keys.account_of(path)
    assert SECRET.hex() not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    signer = keys.load_signer(path, chain=NEAR)
    verify(b"\x07" * 32, signer.sign(b"\x07" * 32), made)


def test_a_sei_key_keeps_the_form_that_wallets_open(tmp_path: Path) -> None:
    keys.create_key(tmp_path / "owner.json", tmp_path / "passphrase", secret=SECRET)
    store = json.loads((tmp_path / "owner.json").read_text())
    assert set(store) == {"version", "id", "address", "crypto"}


@pytest.mark.parametrize(("made", "wanted"), [(SEI, NEAR), (NEAR, SEI)])
def test_a_key_of_the_other_chain_is_refused_by_name(
    tmp_path: Path, made: str, wanted: str
) -> None:
    path = tmp_path / "key.json"
    keys.create_key(path, tmp_path / "passphrase", chain=made)
    for read in (keys.load_signer, keys.account_of):
        with pytest.raises(ConfigError, match=f"is a key for {made}, not for {wanted}") as caught:
            read(path, chain=wanted)
        assert caught.value.reason_code == "wrong_key_kind"


def test_keys_as_nears_tools_write_them_are_read(tmp_path: Path) -> None:
    text = "ed25519:" + base58(SECRET + PUBLIC)
    tool = {"account_id": "alice.near", "public_key": "…", "private_key": text}
    for number, content in enumerate([text + "\n", json.dumps(tool)]):
        path = private(tmp_path / f"{number}.json", content)
        assert public_key(keys.load_signer(path, chain=NEAR).account) == PUBLIC
        keys.export_key(path, None, tmp_path / f"{number}-sealed.json", tmp_path / "passphrase")
        sealed = keys.load_signer(tmp_path / f"{number}-sealed.json", chain=NEAR)
        assert public_key(sealed.account) == PUBLIC


def test_a_damaged_near_key_is_refused_without_being_shown(tmp_path: Path) -> None:
    for body in (base58(SECRET + bytes(32)), base58(SECRET), "0OIl" * 20):
        with pytest.raises(ConfigError) as caught:
            keys.load_signer(private(tmp_path / "key", "ed25519:" + body))
        assert body not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_container_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    keys.create_key(path, tmp_path / "passphrase", chain=NEAR)
    store = json.loads(path.read_text()) | {"kind": "rsa"}
    with pytest.raises(ConfigError, match="keys of kind 'rsa' are not known"):
        keys.load_signer(private(path, json.dumps(store)))


def test_a_near_key_speaks_for_its_implicit_account_or_a_named_one() -> None:
    key = Ed25519Signer(SECRET).account
    assert keys.holder_of(key) == PUBLIC.hex()
    assert keys.holder_of(key, AccountId("alice.near")) == "alice.near"


def test_a_sei_key_has_one_account() -> None:
    account = AccountId("0x" + "ab" * 20)
    assert keys.holder_of(account) == keys.holder_of(account, account) == account
    with pytest.raises(UsageError):
        keys.holder_of(account, AccountId("alice.near"))
