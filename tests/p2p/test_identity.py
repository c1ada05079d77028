from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from deai.errors import ConfigError, MalformedMessage
from deai.ids import parse_base58, parse_peer, peer_of
from deai.keys import create_peer_key
from p2p.identity import Identity, load_identity

pytestmark = pytest.mark.slow


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_is_the_public_key(seed: bytes) -> None:
    identity = Identity.from_seed(seed)
    assert peer_of(identity.public_key) == parse_peer(identity.peer_id) == identity.peer_id
    assert parse_base58(identity.peer_id, 38)[6:] == identity.public_key


def test_peer_ids_are_those_of_libp2p() -> None:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    identity = Identity.generate()
    assert str(ID.from_pubkey(create_new_key_pair(identity.seed).public_key)) == identity.peer_id


def test_an_identity_is_what_its_file_says(tmp_path: Path) -> None:
    file = tmp_path / "peer.key"
    create_peer_key(file)
    identity = load_identity(file)
    assert identity == Identity.from_seed(file.read_bytes()) == load_identity(file)


def test_programs_that_make_a_key_at_the_same_time_have_one(tmp_path: Path) -> None:
    file, count = tmp_path / "keys" / "peer.key", 8
    together = threading.Barrier(count)

    def begin(_: int) -> Identity:
        together.wait(30)
        create_peer_key(file)
        return load_identity(file)

    with ThreadPoolExecutor(count) as pool:
        assert len({found.peer_id for found in pool.map(begin, range(count))}) == 1
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "peer.key"
    create_peer_key(file)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}") as caught:
        load_identity(file)
    assert caught.value.hint == f"chmod 600 {file}"


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.key"
    create_peer_key(good)
    data = good.read_bytes()
    contents = {"empty": b"", "short": data[:-1], "long": data + b"\0"}
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


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(MalformedMessage):
        Identity.from_seed(b"short")
