"""Who signs on NEAR: an account and one of its keys.

Three roles, three keys. The *owner* holds a full-access key; it never lies on a node. The
*operator* is a function-call key on the owner's account that may call eight methods of one
contract and burn a limited sum as gas; a stolen one can spoil tasks, not take money. Vouchers are
in another contract, and whoever has one may redeem it: the operator does so as the implicit account
of its key, where nothing lies but what that costs. A *client* holds a full-access key of its own
account.
"""

from __future__ import annotations

from dataclasses import dataclass

from deai.ids import AccountId
from deai.signing import Signer


@dataclass(frozen=True)
class NearKey:
    """An account and the key that signs for it; its repr shows the public key only."""

    account: AccountId
    signer: Signer

    @property
    def public_key(self) -> AccountId:
        """The key as NEAR writes it: `ed25519:` + base58."""
        return self.signer.account
