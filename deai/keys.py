"""Keys at rest: Ethereum keystore version 3 for accounts, raw Ed25519 for the peer identity.

A keystore (Web3 Secret Storage, version 3: scrypt, AES-128-CTR, Keccak MAC) of a Sei key opens in
any wallet. A NEAR key lies in the same container, which then says `"kind": "ed25519"` and names
the public key in place of an address. The passphrase stands in a 0600 file or is asked for; files
that others can read are refused. Nothing here ever prints, logs or returns a secret except to a
`Signer`.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from deai.errors import ConfigError, MalformedMessage, NotSetUp, UsageError
from deai.files import create_file
from deai.hashing import keccak
from deai.ids import (
    NEAR,
    SEI,
    AccountId,
    ChainName,
    implicit_account,
    parse_account,
    parse_base58,
    parse_operator,
)
from deai.signing import Ed25519Signer, LocalSigner, Signer, public_key

MAX_KEY_FILE_BYTES: Final = 16 * 1024
SCRYPT_N: Final = 1 << 14
"""Interactive strength (0.05 s, 16 MiB): the passphrase is 256 random bits."""
_MAX_N: Final = 1 << 20
_SCRYPT_R: Final = 8
_SECP256K1: Final = "secp256k1"
_ED25519: Final = "ed25519"


def key_file(home: Path, kind: str, chain: str) -> Path:
    """Where a home keeps a key: `keys/owner.json`, `keys/owner-near.json`."""
    return home / "keys" / (f"{kind}.json" if chain == SEI else f"{kind}-{chain}.json")


def create_key(
    path: Path, passphrase_file: Path, *, secret: bytes | None = None, chain: str = SEI
) -> AccountId:
    """Write a new keystore (never over an old one); its address, on NEAR its public key.

    A missing `passphrase_file` is created with a random passphrase. Raises `ConfigError`, also
    for a `secret` that is no key of the chain's curve.
    """
    if path.exists():
        raise _exists(path)
    secret = secrets.token_bytes(32) if secret is None else secret
    signer = _signer(path, secret, chain)
    passphrase = _ensure_passphrase(passphrase_file)
    store = json.dumps(_seal(secret, passphrase, signer.account), indent=1)
    try:
        _write_private(path, store.encode())
    except FileExistsError:  # somebody else was faster
        raise _exists(path) from None
    return signer.account


def load_signer(path: Path, passphrase_file: Path | None = None, *, chain: str = "") -> Signer:
    """Open a key file: a keystore, one line of 64 hex digits (Sei), or a key as NEAR writes it.

    `chain` is the one it must be for. Raises `NotSetUp` when it is missing, `ConfigError` when it
    is unreadable, readable by others, of another chain, or when the passphrase is wrong.
    """
    secret, kind = _secret_of(path, passphrase_file)
    _check_kind(path, kind, chain)
    return _signer(path, secret, kind)


def account_of(path: Path, *, chain: str = "") -> AccountId:
    """What `load_signer(path).account` is, without opening a keystore; raise as it does."""
    data = _read_private(path)
    try:
        store = json.loads(data)
        if store.get("kind") == _ED25519:
            account, kind = parse_operator(store["public_key"]), NEAR
        else:
            account, kind = parse_account("0x" + store["address"].removeprefix("0x")), SEI
    except (ValueError, KeyError, TypeError, AttributeError, MalformedMessage):
        return load_signer(path, chain=chain).account
    _check_kind(path, kind, chain)
    return account


def holder_of(key: AccountId, named: AccountId | None = None) -> AccountId:
    """The account for which a key speaks: its own on Sei.

    On NEAR the one that was `named`, else the implicit account of the key. Raises `UsageError`
    for a name where keys have one account.
    """
    if not key.startswith("ed25519:"):
        if named is not None and named != key:
            raise UsageError(f"the account of this key is {key}, not {named}", code="bad_account")
        return key
    return named if named is not None else implicit_account(public_key(key))


def create_peer_key(path: Path) -> None:
    """Write a new Ed25519 identity (32 raw bytes) unless there is one.

    Of several processes that need it at the same time, the first one's stays.
    """
    if path.exists():
        return
    with suppress(FileExistsError):
        _write_private(path, Ed25519PrivateKey.generate().private_bytes_raw())


def export_key(path: Path, passphrase_file: Path | None, target: Path, target_pass: Path) -> None:
    """Write the key again under another passphrase."""
    secret, kind = _secret_of(path, passphrase_file)
    create_key(target, target_pass, secret=secret, chain=kind)


def read_secret(path: Path, text: str) -> tuple[bytes, ChainName] | None:
    """A key in plain text and the chain it is for; None if it is none.

    64 hex digits are a Sei key; `ed25519:` and base58 of 64 bytes (seed, public key), alone or in
    the file that NEAR's tools write, a NEAR key. Raises `ConfigError` for a damaged one.
    """
    text = text.strip()
    digits = text.removeprefix("0x")
    if len(digits) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
        return bytes.fromhex(digits), SEI
    if text.startswith("{"):
        try:
            store = json.loads(text)
            text = str(store.get("private_key") or store.get("secret_key") or "")
        except ValueError:
            return None
    if not text.startswith("ed25519:"):
        return None
    try:
        both = parse_base58(text.removeprefix("ed25519:"), 64)
    except MalformedMessage:
        # Its own text, which a traceback would show, is the secret.
        raise ConfigError(f"{path}: a damaged NEAR key") from None
    if Ed25519PrivateKey.from_private_bytes(both[:32]).public_key().public_bytes_raw() != both[32:]:
        raise ConfigError(f"{path}: the NEAR key's two halves do not belong together")
    return both[:32], NEAR


def _secret_of(path: Path, passphrase_file: Path | None) -> tuple[bytes, ChainName]:
    data = _read_private(path)
    plain = read_secret(path, data.decode("ascii", "replace"))
    if plain is not None:
        return plain
    try:
        store = json.loads(data)
        crypto = store["crypto"] if "crypto" in store else store["Crypto"]
        kind = store.get("kind", _SECP256K1)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: neither a keystore nor a plain key") from error
    if kind not in (_SECP256K1, _ED25519):
        raise ConfigError(f"{path}: keys of kind {str(kind)[:40]!r} are not known")
    passphrase = _read_passphrase(passphrase_file or path.parent / "passphrase")
    return _unseal(path, crypto, passphrase), NEAR if kind == _ED25519 else SEI


def _check_kind(path: Path, kind: ChainName, chain: str) -> None:
    if chain and kind != chain:
        raise ConfigError(
            f"{path} is a key for {kind}, not for {chain}",
            hint=f"make one with `deai keys new --chain {chain}`, or name another file",
            code="wrong_key_kind",
        )


def _signer(path: Path, secret: bytes, chain: str) -> Signer:
    try:
        return Ed25519Signer(secret) if chain == NEAR else LocalSigner(secret)
    except ValueError as error:
        curve = "an Ed25519" if chain == NEAR else "a secp256k1"
        raise ConfigError(f"{path}: not {curve} key") from error


def _seal(secret: bytes, passphrase: bytes, account: AccountId) -> dict[str, Any]:
    salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    derived = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=_SCRYPT_R, p=1).derive(passphrase)
    ciphertext = _aes(derived[:16], iv, secret)
    return {
        "version": 3,
        "id": str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
        **(
            {"kind": _ED25519, "public_key": account}
            if account.startswith("ed25519:")
            else {"address": account[2:]}
        ),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": 32, "n": SCRYPT_N, "r": _SCRYPT_R, "p": 1, "salt": salt.hex(),
            },
            "mac": keccak(derived[16:], ciphertext).hex(),
        },
    }  # fmt: skip


def _unseal(path: Path, crypto: dict[str, Any], passphrase: bytes) -> bytes:
    try:
        if crypto["kdf"] != "scrypt" or crypto["cipher"] != "aes-128-ctr":
            raise ConfigError(f"{path}: only scrypt with aes-128-ctr is read")
        parameters = crypto["kdfparams"]
        n, r, p = int(parameters["n"]), int(parameters["r"]), int(parameters["p"])
        if not (2 <= n <= _MAX_N and 1 <= r <= 16 and 1 <= p <= 16):
            raise ConfigError(f"{path}: scrypt parameters out of range")
        ciphertext = bytes.fromhex(crypto["ciphertext"])
        derived = Scrypt(salt=bytes.fromhex(parameters["salt"]), length=32, n=n, r=r, p=p).derive(
            passphrase
        )
        expected = bytes.fromhex(crypto["mac"])
        iv = bytes.fromhex(crypto["cipherparams"]["iv"])
    except (KeyError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: damaged keystore") from error
    if not hmac.compare_digest(keccak(derived[16:32], ciphertext), expected):
        raise ConfigError(f"{path}: wrong passphrase", hint="check the passphrase file")
    return _aes(derived[:16], iv, ciphertext)


def _aes(key: bytes, iv: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def _ensure_passphrase(path: Path) -> bytes:
    if not path.exists():
        with suppress(FileExistsError):
            _write_private(path, secrets.token_hex(32).encode() + b"\n")
    return _read_passphrase(path)


def _read_passphrase(path: Path) -> bytes:
    passphrase = _read_private(path).strip(b"\r\n")
    if not passphrase:
        raise ConfigError(f"{path}: the passphrase is empty")
    return passphrase


def _exists(path: Path) -> ConfigError:
    return ConfigError(f"{path} exists", hint="a key is never overwritten; choose another file")


def _write_private(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    create_file(path, data)


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise ConfigError(f"{path} can be read by others", hint=f"run: chmod 600 {path}")
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotSetUp(
            f"no key at {path}",
            hint="make one with `deai keys new --kind KIND`, or name the file that holds it",
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_KEY_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_KEY_FILE_BYTES} bytes")
    return data
