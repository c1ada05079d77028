"""The committed vectors are what the core says, and another implementation agrees with them."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import msgpack
import rlp
from Crypto.Hash import keccak
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_abi.abi import encode
from eth_account import Account

from deai.ids import hexed, raw
from deai.signing import recover

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "contracts" / "spec"


def test_the_committed_tables_and_vectors_are_current() -> None:
    done = subprocess.run(
        [sys.executable, SPEC / "generate.py", "--check"], capture_output=True, text=True,
        check=False, cwd=ROOT, timeout=240,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_every_signature_of_the_vectors_names_its_signer() -> None:
    cases = json.loads((SPEC / "vectors" / "digests.json").read_text())["cases"]

    for case in cases:
        assert Account.from_key(case["secret"]).address.lower() == case["signer"]
        for name, digest in case["digests"].items():
            assert recover(raw(digest), raw(case["signatures"][name])) == case["signer"]


def test_bindings_are_what_a_plain_messagepack_library_and_two_curves_say() -> None:
    vectors = json.loads((SPEC / "vectors" / "bindings.json").read_text())

    def hashed(*parts: bytes) -> bytes:
        return keccak.new(digest_bits=256, data=b"".join(parts)).digest()

    for case in vectors["cases"]:
        binding = case["binding"]
        sides = [list(binding[chain].values()) for chain in ("sei", "near")]
        body = msgpack.packb([*sides, binding["nonce"], binding["issued_at"]])
        assert body == raw(case["body"])
        digest = hashed(vectors["tag"].encode(), hashed(body))
        assert digest == raw(case["digest"])
        assert recover(digest, raw(case["signatures"]["sei"])) == binding["sei"]["owner"]
        assert Account.from_key(case["secrets"]["sei"]).address.lower() == case["signers"]["sei"]
        key = Ed25519PrivateKey.from_private_bytes(raw(case["secrets"]["near"]))
        key.public_key().verify(raw(case["signatures"]["near"]), digest)


def test_vouchers_are_what_two_curves_say() -> None:
    vectors = json.loads((SPEC / "vectors" / "channels.json").read_text())

    for case in vectors["cases"]:
        session = case["channel"]["sessionKey"]
        assert Account.from_key(case["secret"]).address.lower() == session
        assert recover(raw(case["digest"]), raw(case["signature"])) == session
    for case in vectors["near"]["cases"]:
        key = Ed25519PrivateKey.from_private_bytes(raw(case["secret"]))
        key.public_key().verify(base64.b64decode(case["signature"]), raw(case["digest"]))


def test_receipts_roots_are_plain_sha_256() -> None:
    vectors = json.loads((SPEC / "vectors" / "channels.json").read_text())

    for case in vectors["receipts"]:
        root = bytes(32)
        for window in case["windows"]:
            root = hashlib.sha256(b"deai receipts/1\x00" + root + raw(window)).digest()
        assert hexed(root) == case["root"]


def test_claims_are_what_plain_hashes_say() -> None:
    vectors = json.loads((SPEC / "vectors" / "rewards.json").read_text())

    def hashed(data: bytes) -> bytes:
        return keccak.new(digest_bits=256, data=data).digest()

    kind = hashed(b"Claim(address account,uint96 cumulativeAmount)")
    for case in vectors["cases"]:
        for claim in case["claims"]:
            amount = int(claim["cumulativeAmount"]).to_bytes(32, "big")
            struct = hashed(kind + raw(claim["account"]).rjust(32, b"\0") + amount)
            digest = hashed(b"\x19\x01" + raw(case["domain"]["separator"]) + struct)
            node = hashlib.sha256(b"\x00" + digest).digest()
            assert hexed(node) == claim["leaf"]
            for k, sibling in enumerate(claim["path"]):
                pair = raw(sibling) + node if claim["sides"] >> k & 1 else node + raw(sibling)
                node = hashlib.sha256(b"\x01" + pair).digest()
            assert hexed(node) == case["root"]


def test_statements_are_what_a_plain_messagepack_library_says() -> None:
    vectors = json.loads((SPEC / "vectors" / "rewards.json").read_text())

    for one in vectors["statements"]:
        given = one["domain"]
        domain = {
            "name": given["name"], "chain_id": given["chainId"],
            "contract": given["verifyingContract"], "version": given["version"],
        }  # fmt: skip
        body = msgpack.packb([
            1, domain, one["epoch"], one["seconds"], one["carried"], one["received"], one["pot"],
            one["owed"], one["lines"], one["leaves"], one["total"], raw(one["root"]),
        ])  # fmt: skip
        assert hexed(body) == one["body"]
        tagged = hashlib.sha256(b"deai rewards statement/1\x00" + body).digest()
        assert hexed(tagged) == one["digest"]


def test_owners_of_pools_are_what_the_rules_of_the_evm_say() -> None:
    vectors = json.loads((SPEC / "vectors" / "pools.json").read_text())

    def hashed(data: bytes) -> bytes:
        return keccak.new(digest_bits=256, data=data).digest()

    for one in vectors["owners"]:
        contract = raw(one["delegations"])
        template = hashed(rlp.encode([contract, 1]))[12:]
        assert hexed(template) == one["template"]
        code = bytes.fromhex(  # EIP-1167, behind ten bytes that return it
            f"3d602d80600a3d3981f3363d3d373d3d3d363d73{template.hex()}5af43d82803e903d91602b57fd5bf3"
        )
        salt = hashed(encode(("address", "uint96"), (one["manager"], int(one["index"]))))
        owner = hashed(b"\xff" + contract + salt + hashed(code))[12:]
        assert hexed(owner) == one["owner"]
        assert raw(one["node"]) == owner + bytes(12)


def test_shares_are_what_fractions_say() -> None:
    vectors = json.loads((SPEC / "vectors" / "pools.json").read_text())

    def numbers(case: dict[str, str]) -> dict[str, int]:
        return {name: int(value) for name, value in case.items()}

    for case in map(numbers, vectors["minted"]):
        assert case["minted"] == Fraction(case["amount"], case["assets"]) * case["shares"] // 1
    for case in map(numbers, vectors["commissions"]):
        kept = Fraction(case["income"] * case["bps"], 10_000) // 1
        price = Fraction(case["assets"] + case["income"] - kept, case["shares"])
        assert case["kept"] == kept
        assert case["bought"] == min(kept / price // 1, (1 << 112) - 1 - case["shares"])
    for case in map(numbers, vectors["slashes"]):
        alone = min(case["amount"] // 10, case["fixedBounty"])
        whole = case["assets"] + case["leaving"]
        common = Fraction((case["amount"] - alone) * case["leaving"], whole)
        assert case["lost"] + case["bounty"] >= common
        assert case["lost"] - common < 1 or case["bounty"] < alone
        assert case["assets"] - (case["amount"] - case["lost"]) >= 0
        assert case["lost"] <= case["leaving"]
