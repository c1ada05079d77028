"""One node on two chains: a statement that the owners of both registrations sign.

A slash of either registration is then held against both. Nobody binds another's node: the Sei
half is signed by the key whose address owns the node there, the NEAR half by a full-access key
of the account that owns the node there, and both halves sign the same whole tuple. That a NEAR
key speaks for an account only that chain can tell; `Ledger.speaks_for` asks it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from deai.codec import check_json_depth, decode_json, encode_canonical, encode_json
from deai.errors import BadSignature, ConfigError, MalformedMessage, NotSetUp
from deai.files import replace_file
from deai.hashing import keccak
from deai.ids import NEAR, SEI, ChainName, account_on, node_on, owner_of, parse_operator
from deai.offers import Sequence
from deai.signing import Signer, verify
from deai.tasks import Account, Node, Operator, Seconds, Signature

MAX_BINDING_FILE_BYTES: Final = 8 * 1024
FORMAT: Final = "deai binding/1"

_TAG: Final = b"deai binding/1\x00"

ChainNumber = Annotated[int, msgspec.Meta(ge=1, le=1 << 62)]
ChainText = Annotated[str, msgspec.Meta(max_length=37, pattern=r"^near:[-_a-zA-Z0-9]{1,32}\Z")]


class Side(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One registration: where it stands, whose it is, which hot key it had when bound."""

    chain: ChainName
    chain_id: ChainNumber | ChainText
    registry: Account
    """The contract that holds the registration."""
    node: Node
    owner: Account
    operator: Operator


class Binding(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True
):
    """Both registrations of one node; a higher nonce replaces a lower one of the same pair."""

    sei: Side
    near: Side
    nonce: Sequence
    issued_at: Seconds

    def side(self, chain: str) -> Side:
        """The registration on one chain; raise `MalformedMessage` for an unknown chain."""
        if chain not in (SEI, NEAR):
            raise MalformedMessage(f"no such chain: {chain[:40]!r}")
        return self.near if chain == NEAR else self.sei

    def twin(self, node: str) -> Side:
        """The other registration of one of the two nodes; raise `MalformedMessage` for a third."""
        if node not in (self.sei.node, self.near.node):
            raise MalformedMessage("this binding is about other nodes")
        return self.sei if node == self.near.node else self.near


class Half(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An owner's signature; on NEAR the key that made it, which is one of several of an account."""

    signer: Operator
    signature: Signature


class SignedBinding(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A binding that both owners signed: what hubs take."""

    binding: Binding
    sei: Half
    near: Half


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A binding of which one half, both or none are signed: what a file holds."""

    binding: Binding
    sei: Half | None = None
    near: Half | None = None

    @property
    def signed(self) -> SignedBinding | None:
        """The whole of it, None while a half is missing."""
        if self.sei is None or self.near is None:
            return None
        return SignedBinding(self.binding, self.sei, self.near)

    def half(self, chain: str) -> Half | None:
        """The half of one chain's owner."""
        return self.near if chain == NEAR else self.sei

    def with_half(self, half: Half) -> Draft:
        """With one half more; raise `BadSignature` or `MalformedMessage` unless it fits."""
        chain = NEAR if ":" in half.signer else SEI
        check_half(self.binding, chain, half)
        return msgspec.structs.replace(self, **{chain: half})


def binding_digest(binding: Binding) -> bytes:
    """What both owners sign: 32 bytes over every field, with chain ids and contracts."""
    return keccak(_TAG, keccak(encode_canonical(binding)))


def sign_half(binding: Binding, signer: Signer) -> Half:
    """Sign with an owner's key; which half it is follows from the kind of key.

    Raises `MalformedMessage` for a tuple that names no pair of nodes.
    """
    check_form(binding)
    return Half(signer.account, signer.sign(binding_digest(binding)))


def check_form(binding: Binding) -> None:
    """Raise `MalformedMessage` unless each side is one of its chain's, in its one text form."""
    for chain, side in ((SEI, binding.sei), (NEAR, binding.near)):
        if side.chain != chain or isinstance(side.chain_id, str) != (chain == NEAR):
            raise MalformedMessage(f"the {chain} side of a binding is of another chain")
        if (":" in side.operator) != (chain == NEAR):
            raise MalformedMessage(f"not an operator on {chain}: {side.operator}")
        written = (
            account_on(chain, side.registry), account_on(chain, side.owner),
            node_on(chain, side.node), parse_operator(side.operator),
        )  # fmt: skip
        if written != (side.registry, side.owner, side.node, side.operator):
            raise MalformedMessage(f"the {chain} side of a binding is not in canonical form")
        if owner_of(side.node) != side.owner:
            raise MalformedMessage(f"{side.node} belongs to {owner_of(side.node)}")


def check_half(binding: Binding, chain: ChainName, half: Half) -> None:
    """Check one half; raise `BadSignature` or `MalformedMessage`.

    On NEAR this says that the key signed; the caller still asks the chain whether the key speaks
    for the owner's account.
    """
    check_form(binding)
    if (":" in half.signer) != (chain == NEAR):
        raise BadSignature(f"the {chain} half of a binding is signed by a key of another kind")
    if chain == SEI and half.signer != binding.sei.owner:
        raise BadSignature(f"{half.signer} does not own {binding.sei.node}")
    verify(binding_digest(binding), half.signature, half.signer)


def check(signed: SignedBinding) -> Binding:
    """Check both halves; raise `BadSignature` or `MalformedMessage`. See `check_half`."""
    check_half(signed.binding, SEI, signed.sei)
    check_half(signed.binding, NEAR, signed.near)
    return signed.binding


class _SideFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    chain: ChainName
    chain_id: ChainNumber | ChainText
    registry: Account
    node: Node
    owner: Account
    operator: Operator


class _HalfFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    signer: Operator
    signature: Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{128}\Z")]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Annotated[str, msgspec.Meta(max_length=32)]
    sei: _SideFile
    near: _SideFile
    nonce: Sequence
    issued_at: Seconds
    signatures: dict[ChainName, _HalfFile] = {}


def encode_draft(draft: Draft) -> bytes:
    """A draft as the JSON of a binding file or of an API."""
    halves = {name: draft.half(name) for name in (SEI, NEAR)}
    document: dict[str, Any] = {
        "format": FORMAT,
        "sei": msgspec.structs.asdict(draft.binding.sei),
        "near": msgspec.structs.asdict(draft.binding.near),
        "nonce": draft.binding.nonce,
        "issued_at": draft.binding.issued_at,
        "signatures": {
            name: {"signer": half.signer, "signature": "0x" + half.signature.hex()}
            for name, half in halves.items()
            if half is not None
        },
    }
    return encode_json(document)


def parse_draft(data: bytes) -> Draft:
    """Read what `encode_draft` wrote without checking the halves; raise `MalformedMessage`.

    Also for a field that stands twice.
    """
    if len(data) > MAX_BINDING_FILE_BYTES:
        raise MalformedMessage(f"{len(data)} bytes exceed {MAX_BINDING_FILE_BYTES}")
    try:
        text = data.decode()
        check_json_depth(text)
        json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
    file = decode_json(data, _File)
    if file.format != FORMAT:
        raise MalformedMessage(f"not a {FORMAT}: {file.format!r}")
    if set(file.signatures) - {SEI, NEAR}:
        raise MalformedMessage("signatures of chains that are none")
    halves = {
        name: Half(half.signer, bytes.fromhex(half.signature.removeprefix("0x")))
        for name, half in file.signatures.items()
    }
    body = Binding(
        sei=Side(**msgspec.structs.asdict(file.sei)),
        near=Side(**msgspec.structs.asdict(file.near)),
        nonce=file.nonce,
        issued_at=file.issued_at,
    )
    return Draft(binding=body, sei=halves.get(SEI), near=halves.get(NEAR))


def decode_draft(data: bytes) -> Draft:
    """Read what `encode_draft` wrote; every half that is there is checked.

    Raises `MalformedMessage` or `BadSignature`.
    """
    draft = parse_draft(data)
    check_form(draft.binding)
    for chain in (SEI, NEAR):
        if (half := draft.half(chain)) is not None:
            check_half(draft.binding, chain, half)
    return draft


def read_binding(path: Path) -> Draft:
    """Read a binding file; raise `NotSetUp` when it is missing, `ConfigError` naming the fault."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BINDING_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotSetUp(f"no binding at {path}", hint="make one with `deai stake bind`") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        return decode_draft(data)
    except (MalformedMessage, BadSignature) as error:
        raise ConfigError(
            f"{path}: {error}",
            hint="make a new one with `deai stake bind`, in another file",
            code="bad_binding",
        ) from error


def write_binding(path: Path, draft: Draft) -> None:
    """Write a binding file, replacing an old one in one step; raise `ConfigError`."""
    data = msgspec.json.format(encode_draft(draft), indent=2) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands twice")
    return found
