from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from deai.errors import MalformedMessage
from p2p.framing import FrameDecoder, Kind, encode_frame

LIMIT = 1000

bodies = st.one_of(
    st.tuples(st.sampled_from([Kind.MESSAGE, Kind.BULK]), st.binary(max_size=LIMIT)),
    st.tuples(
        st.sampled_from([Kind.CREDIT, Kind.PING, Kind.PONG]), st.binary(min_size=8, max_size=8)
    ),
)


@given(st.lists(bodies, max_size=20), st.lists(st.integers(1, 700), max_size=50))
def test_frames_survive_any_cut_of_the_stream(
    frames: list[tuple[Kind, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(encode_frame(kind, body) for kind, body in frames)
    decoder, decoded = FrameDecoder(LIMIT), []
    for size in [*cuts, len(wire)]:
        decoded += decoder.feed(wire[:size])
        wire = wire[size:]
    assert decoded == frames
    assert decoder.is_between_frames


@given(st.binary(max_size=3000))
def test_arbitrary_bytes_are_frames_or_malformed_and_never_kept_beyond_the_limit(
    data: bytes,
) -> None:
    decoder = FrameDecoder(LIMIT)
    try:
        frames = decoder.feed(data)
    except MalformedMessage:
        return
    rest = len(data) - sum(4 + len(body) for _, body in frames)
    assert 0 <= rest < 4 + LIMIT
    assert decoder.is_between_frames is (rest == 0)


@pytest.mark.parametrize(
    "header", ["05000000", "ff000000", "000003e9", "010fffff", "02000007", "03000000", "04000009"]
)
def test_a_bad_header_is_refused_before_its_body_arrives(header: str) -> None:
    with pytest.raises(MalformedMessage):
        FrameDecoder(LIMIT).feed(bytes.fromhex(header))


def test_the_bytes_of_a_frame_are_fixed() -> None:
    assert encode_frame(Kind.MESSAGE, b"hello") == bytes.fromhex("00000005") + b"hello"
    assert encode_frame(Kind.BULK, bytes(0x10203)) == bytes.fromhex("01010203") + bytes(0x10203)
    assert encode_frame(Kind.PING, bytes(8)) == bytes.fromhex("03000008") + bytes(8)
