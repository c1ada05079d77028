"""Bytes of strangers and of disks: messages, the file of vouchers, the tower's own file."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from deai.channels import Channel, Voucher, channel_id, sign_voucher
from deai.errors import BadSignature, ConfigError, MalformedMessage
from deai.hashing import keccak
from deai.ids import NEAR, SEI, AccountId, NodeId, PeerId
from deai.lane.tower import (
    Greet,
    Keep,
    Kept,
    NotKept,
    Refused,
    TowerMessage,
    Welcome,
    decode_tower,
    decode_vouchers,
    encode_tower,
    encode_vouchers,
    parse_tower,
    sign_greet,
    tower_dialect,
    verify_greet,
)
from deai.money import Amount
from deai.signing import Domain, Ed25519Signer, LocalSigner, Signer
from tests.support.examples import examples
from tests.tower.support import open_place, standing

EVM = Domain("deai channels", 713715, AccountId("0x" + "44" * 20))
ON_NEAR = Domain("deai channels", "near:localnet", AccountId("channels.deai.near"))
PEER = PeerId("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp")


def made(domain: Domain, number: int = 1) -> tuple[Channel, Voucher]:
    on_near = isinstance(domain.chain_id, str)
    secret = keccak(b"session", bytes([number]))
    key: Signer = Ed25519Signer(secret) if on_near else LocalSigner(secret)
    channel = Channel(
        AccountId("client.near" if on_near else "0x" + "11" * 20),
        NodeId("owner.near#0" if on_near else "0x" + "22" * 20 + "00" * 12),
        key.account,
    )
    id_ = channel_id(channel, domain)
    return channel, sign_voucher(domain, key, id_, 1, Amount(10**20 + number), keccak(b"root"))


@pytest.mark.parametrize(("chain", "domain"), [(SEI, EVM), (NEAR, ON_NEAR)])
def test_a_file_of_vouchers_is_read_as_it_was_written(chain: str, domain: Domain) -> None:
    vouchers = tuple(made(domain, number) for number in range(3))
    data = encode_vouchers(chain, domain, vouchers)  # type: ignore[arg-type]
    assert decode_vouchers(data, chain, domain) == vouchers  # type: ignore[arg-type]


def test_a_file_that_was_changed_or_is_another_network_s_is_refused() -> None:
    data = encode_vouchers(SEI, EVM, [made(EVM)])
    channel, voucher = made(EVM)
    with pytest.raises(MalformedMessage, match="another contract"):
        decode_vouchers(data, SEI, Domain("deai channels", 1, EVM.contract))
    with pytest.raises(MalformedMessage, match="another contract"):
        decode_vouchers(data, NEAR, EVM)
    more = Amount(voucher.cumulative_amount + 1)
    raised = msgspec.structs.replace(voucher, cumulative_amount=more)
    with pytest.raises(BadSignature, match=channel_id(channel, EVM)):
        decode_vouchers(encode_vouchers(SEI, EVM, [(channel, raised)]), SEI, EVM)
    moved = msgspec.structs.replace(channel, client=AccountId("0x" + "12" * 20))
    with pytest.raises(MalformedMessage, match="another channel"):
        decode_vouchers(encode_vouchers(SEI, EVM, [(moved, voucher)]), SEI, EVM)


@given(data=st.binary(max_size=400))
@examples(50)
def test_no_bytes_are_more_than_malformed(data: bytes) -> None:
    for attempt in (data, b"\x01" + data):
        with suppress(MalformedMessage):  # a lucky message is one
            assert encode_tower(decode_tower(attempt)) == attempt
        with pytest.raises(MalformedMessage):
            decode_vouchers(attempt, SEI, EVM)


@pytest.mark.parametrize("domain", [EVM, ON_NEAR])
def test_every_message_comes_back_as_it_was_sent(domain: Domain) -> None:
    channel, voucher = made(domain)
    messages: tuple[TowerMessage, ...] = (
        Greet(channel.node, bytes(64)),
        Welcome(5),
        Refused("full", "no room"),
        Keep(channel, voucher),
        Kept(voucher.channel, 1, Amount(5)),
        NotKept(voucher.channel, "gone", "closed"),
    )
    for message in messages:
        assert decode_tower(encode_tower(message)) == message
    with pytest.raises(MalformedMessage, match="version"):
        decode_tower(b"\x02" + encode_tower(messages[0])[1:])


def test_the_chains_have_dialects_of_their_own() -> None:
    assert tower_dialect(SEI).protocol_id == "/deai/tower/1"
    assert tower_dialect(NEAR).protocol_id == "/deai/tower/1/near"


@pytest.mark.parametrize("domain", [EVM, ON_NEAR])
def test_a_greeting_is_good_for_one_node_one_peer_and_one_tower(domain: Domain) -> None:
    on_near = domain is ON_NEAR
    secret = keccak(b"operator")
    operator: Signer = Ed25519Signer(secret) if on_near else LocalSigner(secret)
    node, tower = made(domain)[0].node, PeerId(PEER[:-1] + "q")
    greet = sign_greet(domain, operator, node, PEER, tower)
    verify_greet(domain, greet, operator.account, PEER, tower)
    other = NodeId("other.near#0" if on_near else "0x" + "23" * 20 + "00" * 12)
    for wrong, peer, place in (
        (greet, tower, tower),
        (greet, PEER, PEER),
        (Greet(other, greet.signature), PEER, tower),
    ):
        with pytest.raises(BadSignature):
            verify_greet(domain, wrong, operator.account, peer, place)


def test_the_address_of_a_tower() -> None:
    found = parse_tower(f"/ip4/192.0.2.1/tcp/4010/p2p/{PEER}")
    assert (found.peer_id, found.addresses) == (PEER, ("/ip4/192.0.2.1/tcp/4010",))
    for wrong in ("", "/ip4/192.0.2.1/tcp/4010", f"/p2p/{PEER}", "/ip4/1.2.3.4/tcp/1/p2p/x"):
        with pytest.raises(MalformedMessage):
            parse_tower(wrong)


async def test_one_tower_at_a_time_has_the_file(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        async with standing(place):
            with pytest.raises(ConfigError, match="another watchtower"):
                async with standing(place):
                    pass
        async with standing(place):
            pass


async def test_a_file_that_is_none_or_another_network_s_is_refused(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        (tmp_path / "tower.db").write_bytes(b"this only looks like a file of a tower" * 400)
        with pytest.raises(ConfigError, match="no usable file"):
            async with standing(place):
                pass
        (tmp_path / "tower.db").unlink()
        async with standing(place) as tower:
            db = tower.tower.shelf
        assert db.path.exists()
        with sqlite3.connect(db.path) as file:
            file.execute("UPDATE meta SET value='elsewhere' WHERE name='identity'")
        file.close()
        with pytest.raises(ConfigError, match="another network"):
            async with standing(place):
                pass
