from __future__ import annotations

import pytest
import trio
from hypothesis import given, strategies as st

from deai.net import PeerAddress
from p2p.mdns import is_local, open_mdns, parse_announcement
from tests.p2p.worlds import identity

PEER = identity("one").peer_id


def properties(**changes: str | None) -> dict[bytes, bytes | None]:
    fields = {"net": "test", "peer": PEER, "addresses": "/ip4/127.0.0.1/tcp/4001"} | changes
    return {
        key.encode(): value.encode() if value is not None else None for key, value in fields.items()
    }


def test_an_announcement_says_who_and_where() -> None:
    heard = parse_announcement(
        properties(addresses="/ip4/10.0.0.7/tcp/4001 /ip4/8.8.8.8/tcp/53 /ip6/fd00::1/tcp/1"),
        "test",
    )
    assert heard == PeerAddress(PEER, ("/ip4/10.0.0.7/tcp/4001", "/ip6/fd00::1/tcp/1"))


@pytest.mark.parametrize(
    "changes",
    [
        {"net": "another"},
        {"net": None},
        {"peer": "not a peer"},
        {"peer": None},
        {"addresses": ""},
        {"addresses": "/ip4/8.8.8.8/tcp/4001"},
        {"addresses": "/dns4/example.org/tcp/4001"},
    ],
)
def test_what_is_not_of_this_network_or_not_local_is_ignored(
    changes: dict[str, str | None],
) -> None:
    assert parse_announcement(properties(**changes), "test") is None


@given(st.dictionaries(st.binary(max_size=20), st.none() | st.binary(max_size=300), max_size=8))
def test_any_properties_at_all_are_an_announcement_or_nothing(
    heard: dict[bytes, bytes | None],
) -> None:
    assert parse_announcement(heard, "test") is None


def test_local_means_loopback_or_private() -> None:
    for address in ("/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip6/::1/tcp/1"):
        assert is_local(address)
    for address in ("/ip4/0.0.0.0/tcp/1", "/ip4/1.1.1.1/tcp/1", "/ip4/10.0.0.1/udp/1", "10.0.0.1"):
        assert not is_local(address)


@pytest.mark.network
@pytest.mark.slow
async def test_two_on_one_machine_hear_of_each_other() -> None:
    one = PeerAddress(PEER, ("/ip4/127.0.0.1/tcp/4001",))
    two = PeerAddress(identity("two").peer_id, ("/ip4/127.0.0.1/tcp/4002", "/ip4/9.9.9.9/tcp/1"))
    with trio.fail_after(30):
        async with (
            open_mdns(one, "test", interfaces=["127.0.0.1"]) as by_one,
            open_mdns(two, "test", interfaces=["127.0.0.1"]) as by_two,
        ):
            assert await by_one.receive() == PeerAddress(two.peer_id, two.addresses[:1])
            assert await by_two.receive() == one
