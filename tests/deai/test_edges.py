"""Amounts, ids, configuration and key files: what people and files hand us."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import given, strategies as st

from deai import keys
from deai.codec import MAX_JSON_DEPTH, check_json_depth
from deai.config import ClientConfig, load_config, section
from deai.errors import ConfigError, MalformedMessage, NotSetUp, UsageError
from deai.ids import node_id, owner_of, parse_account, parse_digest, parse_node, parse_peer
from deai.money import MAX_AMOUNT, Amount, decimals_of, format_tokens, parse_amount, typed_amount
from deai.network import load_network
from deai.urls import parse_url


@pytest.mark.parametrize(
    ("text", "units"),
    [("0", 0), ("1000", 1000), ("0.12CT", 12 * 10**16), ("1CT", 10**18),
     ("0.000000000000000001CT", 1)],
)  # fmt: skip
def test_amounts_are_base_units_or_tokens(text: str, units: int) -> None:
    assert parse_amount(text) == units


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "1 CT", "1ct", "0.1", "1e18", "١", "0.1234567890123456789CT",
             "99999999999CT", "1" * 31, ".5CT", "NaNCT"],
)  # fmt: skip
def test_other_amounts_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_amount(text)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8080", "https://host", "http://[::1]:1/prefix", "HTTP://HOST"]
)
def test_a_web_address_is_taken_as_it_stands(text: str) -> None:
    assert parse_url(text) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:80", "ftp:/x", "ftp://x", "http:", "http:/x", "http://", "http://:80",
             "http://h:0", "http://h:65536", "http://h:x", "http://[::1", "http://a b", "http://h\n",
             "file:///etc/passwd", "//host"],
)  # fmt: skip
def test_what_is_no_web_address_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_url(text)
    assert (refused.value.reason_code, bool(refused.value.hint)) == ("bad_url", True)


def test_a_variable_that_looks_like_a_number_is_a_text_where_one_is_wanted() -> None:
    name = "1" * 64
    given = {
        "DEAI_CLIENT__MAX_FEE": "1000", "DEAI_CLIENT__ACCOUNT": name, "DEAI_CLIENT__MDNS": "true",
        "DEAI_NODE__CAPACITY": "2",
    }  # fmt: skip
    config = load_config(None, given)
    assert (config.client.max_fee, config.client.account, config.client.mdns) == (
        "1000",
        name,
        True,
    )
    assert config.sections == {"node": {"capacity": 2}}
    with pytest.raises(ConfigError, match=r"client\.mdns: Expected `bool`"):
        load_config(None, {"DEAI_CLIENT__MDNS": "1"})


@pytest.mark.parametrize("before", ["", "[]" * 100, '"[[[["', '"\\"[[["', '{"]": "}"}'])
def test_depth_counts_brackets_outside_of_text_only(before: str) -> None:
    check_json_depth(before + "[" * MAX_JSON_DEPTH)
    with pytest.raises(MalformedMessage, match="deep"):
        check_json_depth(before + "[" * MAX_JSON_DEPTH + '{"a": 1')


@pytest.mark.timeout(20)
def test_looking_at_the_depth_takes_no_longer_than_reading() -> None:
    check_json_depth('"' + '\\"' * (1 << 20))  # hours, if every quote began a text of its own


@given(st.integers(0, MAX_AMOUNT))
def test_a_base_unit_amount_reads_back(units: int) -> None:
    assert parse_amount(str(Amount(units))) == units
    assert format_tokens(units).endswith(" CT")


@pytest.mark.parametrize("units", [-1, MAX_AMOUNT + 1])
def test_an_amount_stays_in_its_range(units: int) -> None:
    with pytest.raises(ValueError, match="between"):
        Amount(units)


def test_a_node_id_tells_its_owner() -> None:
    owner = parse_account("0x" + "AB" * 20)

    assert owner_of(node_id(owner, 5)) == owner == "0x" + "ab" * 20
    assert parse_node(node_id(owner, 5).upper().replace("0X", "0x")) == node_id(owner, 5)


@pytest.mark.parametrize("text", ["", "0x", "0x12", "zz" * 33, "0x" + "g" * 40, "1" * 70])
def test_ids_that_are_none_are_refused(text: str) -> None:
    for parse in (parse_account, parse_node, parse_digest, parse_peer):
        with pytest.raises(MalformedMessage):
            parse(text)


def test_environment_beats_the_file_and_flags_beat_both(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('chain = "near"\n[client]\nmax_fee = "2CT"\n')

    config = load_config(path, {"DEAI_CHAIN": "sei", "DEAI_CLIENT__MAX_FEE": '"3CT"'}, {})
    flagged = load_config(path, {"DEAI_CHAIN": "sei"}, {"chain": "near"})

    assert (config.chain, config.client.max_fee) == ("sei", "3CT")
    assert config.origins == {"chain": "environment", "client.max_fee": "environment"}
    assert (flagged.chain, flagged.origins["chain"]) == ("near", "flag")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chian = 1\n", r"config\.toml:1.*chian"),
        ("\n[client]\nkeyfile = 'x'\n", r"config\.toml:3.*client\.keyfile"),
        ("\nchain = 7\n", r"config\.toml:2.*chain"),
        ("chain = \n", r"config\.toml"),
        ("[client\n", r"config\.toml"),
    ],
)
def test_a_wrong_setting_is_named_with_file_and_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=expected):
        load_config(path, {}, {})


def test_a_programs_section_is_checked_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[node]\nmax_fee = 3\n")
    config = load_config(path, {}, {})

    with pytest.raises(ConfigError, match=r"config\.toml:2.*node\.max_fee"):
        section(config, "node", ClientConfig)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml", {}, {})
    with pytest.raises(ConfigError, match="network file"):
        load_network(tmp_path / "none.json")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"name": 1}', '{"name": "x", "chains": {}, "extra": 1}',
             '{"name":"x","chains":{"sei":{"kind":"e","chain_id":1,"rpc_urls":["u"],"contracts":{}}}}',
             '{"name":"x","chains":{},"bootstrap":[{"peer_id":"nobody","addresses":[]}]}'],
)  # fmt: skip
def test_a_bad_network_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "network.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"network\.json"):
        load_network(path)


def test_a_key_is_a_keystore_that_other_wallets_open(tmp_path: Path) -> None:
    path, passphrase = tmp_path / "keys" / "client.json", tmp_path / "keys" / "passphrase"
    account = keys.create_key(path, passphrase)

    secret = Account.decrypt(json.loads(path.read_text()), passphrase.read_text().strip())

    assert Account.from_key(secret).address.lower() == account
    assert keys.load_signer(path).account == keys.account_of(path) == account
    assert path.stat().st_mode & 0o777 == passphrase.stat().st_mode & 0o777 == 0o600


def test_a_keystore_of_another_wallet_opens_here(tmp_path: Path) -> None:
    other = Account.create()
    store = Account.encrypt(other.key, "correct horse", kdf="scrypt", iterations=2)
    path, passphrase = tmp_path / "k.json", tmp_path / "p"
    for file, text in ((path, json.dumps(store)), (passphrase, "correct horse\n")):
        file.touch(0o600)
        file.write_text(text)

    assert keys.load_signer(path, passphrase).account == other.address.lower()


def test_a_raw_hex_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text("0x" + "11" * 32 + "\n")

    assert keys.load_signer(path).account.startswith("0x")


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, b"", bytes(33)])
def test_a_secret_that_is_no_key_is_refused_before_a_file_is_written(
    secret: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="not a secp256k1 key"):
        keys.create_key(tmp_path / "client.json", tmp_path / "passphrase", secret=secret)

    assert list(tmp_path.iterdir()) == []


def test_bad_key_files_are_typed_errors(tmp_path: Path) -> None:
    path, passphrase = tmp_path / "client.json", tmp_path / "passphrase"
    with pytest.raises(NotSetUp):
        keys.load_signer(path)
    keys.create_key(path, passphrase)
    with pytest.raises(ConfigError, match="exists"):
        keys.create_key(path, passphrase)
    passphrase.write_text("wrong")
    with pytest.raises(ConfigError, match="wrong passphrase"):
        keys.load_signer(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="read by others") as refused:
        keys.load_signer(path)
    assert "chmod 600" in refused.value.hint
    for text in ("{}", "[]", "0" * 64, "nonsense", '{"crypto": {"kdf": "scrypt"}}'):
        path.chmod(0o600)
        path.write_text(text)
        with pytest.raises(ConfigError):
            keys.load_signer(path)


@given(st.lists(st.integers(0, 10**24), min_size=1, max_size=4))
def test_sums_that_are_told_beside_each_other_add_up_as_they_are_read(parts: list[int]) -> None:
    decimals = decimals_of(*parts, sum(parts))

    def read(units: int) -> Decimal:
        return Decimal(format_tokens(units, decimals).removesuffix(" CT").replace(",", ""))

    with localcontext(prec=60):
        assert sum(map(read, parts)) == read(sum(parts))


@given(st.integers(0, MAX_AMOUNT))
def test_an_amount_in_a_hint_can_be_typed(units: int) -> None:
    assert parse_amount(typed_amount(units)) == units
