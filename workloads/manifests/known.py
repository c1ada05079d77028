"""Names of the models whose manifests ship with us.

A client without weights and every node mean the same bytes by one name.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Final

from deai.tasks import FaultCode
from workloads.faults import fault

_DIGEST: Final = re.compile("0x[0-9a-f]{64}")
_HERE: Final = Path(__file__).parent


def digest_of(manifest: bytes) -> str:
    """A model's digest: SHA-256 of its manifest's bytes, as `0x` and hex."""
    return "0x" + hashlib.sha256(manifest).hexdigest()


@cache
def manifests() -> dict[str, bytes]:
    """By name: the canonical bytes of each manifest we ship."""
    return {path.stem: path.read_bytes() for path in sorted(_HERE.glob("*.json"))}


def resolve(name: str) -> str:
    """The digest a name or digest means; a fault (UNKNOWN_MODEL) for an unknown name."""
    if _DIGEST.fullmatch(name):
        return name
    manifest = manifests().get(name)
    if manifest is None:
        fault(
            FaultCode.UNKNOWN_MODEL,
            f"no model is called {name[:80]!r}",
            hint=f"a digest, or one of: {', '.join(manifests())}",
        )
    return digest_of(manifest)
