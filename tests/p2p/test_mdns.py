from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from deai.errors import ConfigError
from deai.net import PeerAddress
from p2p import mdns
from p2p.mdns import (
    LIFE,
    LocalPeers,
    announce_mdns,
    is_local,
    open_mdns,
    parse_announcement,
    spread,
)
from tests.p2p.worlds import identity
from tests.support.polling import until

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


def test_a_net_on_any_address_is_announced_where_others_reach_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = {"ip4": ["192.168.1.7", "8.8.8.8"], "ip6": ["fd00::7"]}
    monkeypatch.setattr(mdns, "_own_ips", own.__getitem__)
    here, six = "/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4001"

    assert spread([here], ["/ip4/0.0.0.0/tcp/0"]) == ("/ip4/192.168.1.7/tcp/4001", here)
    assert spread([six], ["/ip6/::/tcp/0"]) == ("/ip6/fd00::7/tcp/4001", six)
    assert spread([here], ["/ip4/127.0.0.1/tcp/0"]) == (here,)
    assert spread(["/ip4/1.1.1.1/tcp/1"], ["/ip4/0.0.0.0/tcp/1"]) == ("/ip4/1.1.1.1/tcp/1",)


async def test_who_was_heard_is_forgotten_after_a_while(autojump_clock: MockClock) -> None:
    heard = LocalPeers()
    first, second = (
        PeerAddress(identity(name).peer_id, ("/ip4/10.0.0.1/tcp/1",)) for name in ("one", "two")
    )
    heard.hear(first)
    await trio.sleep(LIFE / 2)
    heard.hear(second)
    assert heard() == (second, first)
    await trio.sleep(LIFE / 2)
    assert heard() == (second,)


@pytest.mark.network
@pytest.mark.slow
async def test_two_on_one_machine_are_heard_by_a_third_of_their_network() -> None:
    one = PeerAddress(PEER, ("/ip4/127.0.0.1/tcp/4001",))
    two = PeerAddress(identity("two").peer_id, ("/ip4/127.0.0.1/tcp/4002", "/ip4/9.9.9.9/tcp/1"))
    alien = PeerAddress(identity("alien").peer_id, ("/ip4/127.0.0.1/tcp/4003",))
    here = ["127.0.0.1"]
    with trio.fail_after(200):
        async with (
            announce_mdns(alien, "another", interfaces=here),
            announce_mdns(one, "test", interfaces=here),
            announce_mdns(two, "test", interfaces=here),
            open_mdns("test", interfaces=here) as heard,
            open_mdns("another", interfaces=here) as aliens,
        ):
            await until(lambda: len(heard()) >= 2 and aliens(), 120)
            assert set(heard()) == {one, PeerAddress(two.peer_id, two.addresses[:1])}
            assert aliens() == (alien,)


@pytest.mark.network
@pytest.mark.slow
async def test_a_peer_that_is_announced_already_is_refused() -> None:
    own = PeerAddress(identity("twice").peer_id, ("/ip4/127.0.0.1/tcp/4001",))
    with trio.fail_after(200):
        async with announce_mdns(own, "test", interfaces=["127.0.0.1"]):
            with pytest.raises(ConfigError, match="another process"):
                async with announce_mdns(own, "test", interfaces=["127.0.0.1"]):
                    pass


async def test_a_machine_without_multicast_is_a_typed_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without() -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(mdns, "Zeroconf", without)

    with pytest.raises(ConfigError, match=r"no multicast.*No such device"):
        async with open_mdns("test"):
            pass
