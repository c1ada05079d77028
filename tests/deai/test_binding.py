"""A binding says what both owners signed, and nothing that either did not."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import given, strategies as st

from deai import messages
from deai.binding import (
    MAX_BINDING_FILE_BYTES,
    Half,
    SignedBinding,
    binding_digest,
    check,
    decode_draft,
    encode_draft,
    read_binding,
    sign_half,
    write_binding,
)
from deai.codec import ENCODER
from deai.errors import BadSignature, ConfigError, MalformedMessage, NotSetUp
from deai.ids import NEAR, SEI, AccountId, near_node_id, node_id
from tests.support.bindings import NEAR_OWNER, SEI_OWNER, binding, draft, near_signer, signed
from tests.support.samples import signer

change = msgspec.structs.replace


def test_a_binding_that_both_owners_signed_is_accepted() -> None:
    assert check(signed()) == binding()


def test_half_a_binding_is_none() -> None:
    assert draft(near=False).signed is None
    assert draft(sei=False).signed is None
    assert draft().signed == signed()


def test_a_stranger_cannot_sign_for_the_owner_on_sei() -> None:
    half = sign_half(binding(), signer(99))

    with pytest.raises(BadSignature, match="does not own"):
        check(change(signed(), sei=half))


def test_the_name_of_the_owner_over_a_strangers_signature_is_refused() -> None:
    half = Half(SEI_OWNER.account, signer(99).sign(binding_digest(binding())))

    with pytest.raises(BadSignature):
        check(change(signed(), sei=half))


def test_one_direction_twice_is_not_two_directions() -> None:
    whole = signed()

    with pytest.raises(BadSignature, match="another kind"):
        check(change(whole, near=whole.sei))
    with pytest.raises(BadSignature, match="another kind"):
        check(change(whole, sei=whole.near))


def test_a_half_of_another_binding_does_not_fit() -> None:
    other = binding(nonce=8)

    with pytest.raises(BadSignature):
        check(change(signed(), near=sign_half(other, NEAR_OWNER)))
    with pytest.raises(BadSignature):
        check(SignedBinding(other, signed().sei, signed().near))


ELSEWHERE = (
    ("sei", "chain_id", 1328),
    ("sei", "registry", AccountId("0x" + "ee" * 20)),
    ("sei", "node", node_id(SEI_OWNER.account, 1)),
    ("sei", "operator", signer(98).account),
    ("near", "chain_id", "near:mainnet"),
    ("near", "registry", AccountId("compute.other.testnet")),
    ("near", "node", near_node_id(AccountId("owner.testnet"), 1)),
    ("near", "operator", near_signer(98).account),
)


@pytest.mark.parametrize(("side", "name", "value"), ELSEWHERE)
def test_a_signature_counts_for_its_own_chains_contracts_nodes_and_operators_alone(
    side: str, name: str, value: object
) -> None:
    body = binding()
    moved = change(body, **{side: change(body.side(side), **{name: value})})

    with pytest.raises(BadSignature):
        check(change(signed(), binding=moved))


def test_every_field_changes_what_is_signed() -> None:
    body = binding()
    others = [
        change(body, **{side: change(body.side(side), **{name: value})})
        for side, name, value in ELSEWHERE
    ]
    others += [change(body, nonce=body.nonce + 1), change(body, issued_at=body.issued_at + 1)]

    digests = {binding_digest(one) for one in [body, *others]}

    assert len(digests) == len(others) + 1


@pytest.mark.parametrize(
    ("side", "name", "value"),
    [
        ("sei", "chain", NEAR),
        ("sei", "chain", "bitcoin"),
        ("near", "chain", SEI),
        ("sei", "chain_id", "near:testnet"),
        ("near", "chain_id", 1329),
        ("sei", "owner", signer(98).account),  # not the one whose node it is
        ("near", "owner", AccountId("stranger.testnet")),
        ("sei", "operator", near_signer(98).account),
        ("near", "operator", signer(98).account),
        ("sei", "registry", AccountId("compute.testnet")),
        ("sei", "node", near_node_id(AccountId("owner.testnet"), 0)),
        ("near", "node", near_node_id(AccountId("owner.testnet"), 0).replace("owner", "öwner")),
        ("near", "node", "owner.testnet#00"),
        ("near", "node", "owner.testnet#4294967296"),
        ("near", "operator", "ed25519:" + "z" * 44),
    ],
)
def test_a_side_that_is_not_of_its_chain_is_malformed(side: str, name: str, value: object) -> None:
    body = binding()
    wrong = change(body, **{side: change(body.side(side), **{name: value})})

    with pytest.raises(MalformedMessage):
        sign_half(wrong, SEI_OWNER)
    with pytest.raises(MalformedMessage):
        check(change(signed(), binding=wrong))


def test_the_twin_of_a_node_is_the_other_side() -> None:
    body = binding()

    assert body.twin(body.sei.node) == body.near
    assert body.twin(body.near.node) == body.sei
    with pytest.raises(MalformedMessage):
        body.twin("someone.testnet#0")


def test_a_binding_survives_the_wire() -> None:
    message = messages.PublishBinding(signed())

    assert messages.decode_beat(messages.encode_beat(message)) == message
    assert messages.decode_beat(messages.encode_beat(messages.BindingSeen(7))) == (
        messages.BindingSeen(7)
    )


@given(st.data())
def test_no_byte_of_a_binding_on_the_wire_can_change(data: st.DataObject) -> None:
    wire = bytearray(messages.encode_beat(messages.PublishBinding(signed())))
    position = data.draw(st.integers(min_value=0, max_value=len(wire) - 1))
    wire[position] ^= data.draw(st.integers(min_value=1, max_value=255))

    def take() -> None:
        found = messages.decode_beat(bytes(wire))
        assert isinstance(found, messages.PublishBinding)
        check(found.signed)

    with pytest.raises((MalformedMessage, BadSignature)):
        take()


@pytest.mark.parametrize("cut", [1, 10, 100, 200])
def test_a_binding_cut_short_is_malformed(cut: int) -> None:
    wire = messages.encode_beat(messages.PublishBinding(signed()))

    with pytest.raises(MalformedMessage):
        messages.decode_beat(wire[:-cut])
    with pytest.raises(MalformedMessage):
        messages.decode_beat(wire + b"\x00")


@pytest.mark.parametrize(
    ("side", "name", "value"),
    [
        ("sei", "chain", "x" * 40_000),
        ("sei", "registry", "x" * 65),
        ("near", "chain_id", "near:" + "x" * 33),
        ("near", "chain_id", "near:tést"),
        ("near", "owner", "ówner.testnet"),
        ("near", "node", "owner.testnet#٣"),
        ("near", "node", "owner.testnet#0\n"),
        ("sei", "chain_id", -1),
        ("sei", "chain_id", 1.0),
        ("sei", "chain_id", True),
        ("sei", "owner", None),
    ],
)
def test_a_field_on_the_wire_that_is_too_long_or_of_another_script_is_malformed(
    side: str, name: str, value: object
) -> None:
    body = binding()
    wrong = change(body, **{side: change(body.side(side), **{name: value})})
    wire = b"\x01" + ENCODER.encode(messages.PublishBinding(change(signed(), binding=wrong)))

    with pytest.raises(MalformedMessage):
        messages.decode_beat(wire)


def test_a_field_more_on_the_wire_is_malformed() -> None:
    kind, whole = msgpack.unpackb(messages.encode_beat(messages.PublishBinding(signed()))[1:])
    more = [[*whole, 1], [[*whole[0], 1], *whole[1:]], [whole[0], [*whole[1], 1], whole[2]]]
    for one in more:
        with pytest.raises(MalformedMessage):
            messages.decode_beat(b"\x01" + msgpack.packb([kind, one]))


@pytest.mark.parametrize("halves", [(True, True), (True, False), (False, True), (False, False)])
def test_a_draft_survives_its_file(tmp_path: Path, halves: tuple[bool, bool]) -> None:
    path = tmp_path / "deep" / "binding.json"
    one = draft(sei=halves[0], near=halves[1])

    write_binding(path, one)

    assert read_binding(path) == one
    assert [found.name for found in path.parent.iterdir()] == ["binding.json"]


def _edited(**changes: object) -> bytes:
    document = json.loads(encode_draft(draft()))
    for name, value in changes.items():
        *parents, last = name.split("__")
        inner = document
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 5000,
        b"{" * 100,
        encode_draft(draft())[:-1],
        encode_draft(draft()) + b"{}",
        b" " * MAX_BINDING_FILE_BYTES + encode_draft(draft()),
        _edited(format="deai binding/2"),
        _edited(surplus=1),
        _edited(sei__surplus=1),
        _edited(nonce="7"),
        _edited(nonce=-1),
        _edited(nonce=1 << 63),
        _edited(nonce=True),
        _edited(near__owner="ówner.testnet"),
        _edited(near__owner="x" * 8000),
        _edited(sei__owner=SEI_OWNER.account.upper()),
        _edited(signatures={"bitcoin": {"signer": SEI_OWNER.account, "signature": "0x"}}),
        _edited(signatures__sei__signature="0x" + "00" * 63),
        _edited(signatures__sei__signature="0x" + "٣" * 128),
        encode_draft(draft()).replace(b'"nonce":7', b'"nonce":6,"nonce":7'),
        encode_draft(draft()).replace(b'"chain":"sei"', b'"chain":"near","chain":"sei"'),
    ],
)
def test_a_file_that_is_no_binding_is_malformed(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "binding.json"
    path.write_bytes(data)

    with pytest.raises(MalformedMessage):
        decode_draft(data)
    with pytest.raises(ConfigError, match=r"binding\.json"):
        read_binding(path)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_draft_or_refused(data: bytes) -> None:
    with pytest.raises((MalformedMessage, BadSignature)):
        decode_draft(data)


def test_a_file_whose_signature_does_not_fit_its_tuple_is_refused() -> None:
    with pytest.raises(BadSignature):
        decode_draft(_edited(nonce=8))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotSetUp) as caught:
        read_binding(tmp_path / "binding.json")

    assert "deai stake bind" in caught.value.hint


def test_a_half_that_does_not_fit_is_not_added_to_a_draft() -> None:
    whole = draft(near=False)

    with pytest.raises(BadSignature):
        whole.with_half(sign_half(binding(nonce=8), NEAR_OWNER))
    assert whole.with_half(sign_half(binding(), NEAR_OWNER)).signed == signed()
