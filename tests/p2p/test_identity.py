from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from deai.errors import ConfigError, MalformedMessage
from deai.ids import PeerId, parse_peer
from p2p.identity import Identity, load_identity, peer_id_of, public_key_of, save_identity


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_is_the_public_key(seed: bytes) -> None:
    identity = Identity.from_seed(seed)
    assert public_key_of(identity.peer_id) == identity.public_key
    assert peer_id_of(identity.public_key) == parse_peer(identity.peer_id) == identity.peer_id


def test_files_are_those_of_the_specification(tmp_path: Path) -> None:
    """The Ed25519 test vector of libp2p's "peer ids and keys"."""
    seed = "7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d"
    public = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
    identity = Identity.from_seed(bytes.fromhex(seed))
    save_identity(identity, tmp_path / "peer.key")
    assert identity.public_key.hex() == public
    assert (tmp_path / "peer.key").read_bytes().hex() == "08011240" + seed + public


def test_peer_ids_are_those_of_libp2p() -> None:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    identity = Identity.generate()
    assert str(ID.from_pubkey(create_new_key_pair(identity.seed).public_key)) == identity.peer_id


def test_a_saved_identity_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "peer.key"
    identity = Identity.generate()
    save_identity(identity, file)
    assert load_identity(file) == identity
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "peer.key"
    save_identity(Identity.generate(), file)
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=r"peer\.key"):
        save_identity(Identity.generate(), file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "peer.key"
    save_identity(Identity.generate(), file)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}") as caught:
        load_identity(file)
    assert caught.value.hint == f"chmod 600 {file}"


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.key"
    save_identity(Identity.generate(), good)
    data = good.read_bytes()
    contents = {
        "empty": b"",
        "short": data[:-1],
        "long": data + b"\0",
        "other": b"\x08\x02" + data[2:],
        "mixed": data[:36] + Identity.generate().public_key,
    }
    for name, content in contents.items():
        file = tmp_path / name
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match=name):
            load_identity(file)
    (tmp_path / "link").symlink_to(good)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe", "missing", "."):
        with pytest.raises(ConfigError):
            load_identity(tmp_path / name)


def test_the_secret_half_never_shows() -> None:
    identity = Identity.generate()
    assert repr(identity.seed) not in repr(identity)
    assert identity.seed.hex() not in str(identity)


@given(st.text(max_size=200))
def test_any_other_text_is_no_peer_id(text: str) -> None:
    with pytest.raises(MalformedMessage):
        public_key_of(PeerId(text))


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(MalformedMessage):
        Identity.from_seed(b"short")
