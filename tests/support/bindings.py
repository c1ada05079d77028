"""Bindings to build tests from."""

from __future__ import annotations

from typing import Any

import msgspec

from deai.binding import Binding, Draft, Side, SignedBinding, sign_half
from deai.ids import NEAR, SEI, AccountId, near_node_id, node_id
from deai.signing import Ed25519Signer
from tests.support.samples import signer


def near_signer(number: int) -> Ed25519Signer:
    """A NEAR key that depends on `number` alone."""
    return Ed25519Signer(number.to_bytes(32, "big"))


SEI_OWNER = signer(71)
NEAR_OWNER = near_signer(72)
"""A full-access key of `owner.testnet`."""


def binding(**changes: Any) -> Binding:
    """A binding of one pair of nodes."""
    near_owner = AccountId("owner.testnet")
    body = Binding(
        sei=Side(
            chain=SEI, chain_id=713714, registry=AccountId("0x" + "cd" * 20),
            node=node_id(SEI_OWNER.account, 0), owner=SEI_OWNER.account,
            operator=signer(73).account,
        ),
        near=Side(
            chain=NEAR, chain_id="near:testnet", registry=AccountId("compute.deai.testnet"),
            node=near_node_id(near_owner, 0), owner=near_owner,
            operator=near_signer(74).account,
        ),
        nonce=7,
        issued_at=1_800_000_000,
    )  # fmt: skip
    return msgspec.structs.replace(body, **changes)


def signed(body: Binding | None = None) -> SignedBinding:
    """A binding that both owners signed."""
    body = body or binding()
    return SignedBinding(body, sign_half(body, SEI_OWNER), sign_half(body, NEAR_OWNER))


def draft(*, sei: bool = True, near: bool = True) -> Draft:
    """A binding with the halves that are asked for."""
    body = binding()
    return Draft(
        binding=body,
        sei=sign_half(body, SEI_OWNER) if sei else None,
        near=sign_half(body, NEAR_OWNER) if near else None,
    )
