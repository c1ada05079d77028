"""Keys at rest: Ethereum keystore version 3 for accounts, raw Ed25519 for the peer identity.

A keystore (Web3 Secret Storage, version 3: scrypt, AES-128-CTR, Keccak MAC) opens in any
wallet. Its passphrase stands in a 0600 file or is asked for; files that others can read are
refused. Nothing here ever prints, logs or returns a secret except to `LocalSigner`.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import stat
import uuid
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from deai.errors import ConfigError, NotSetUp
from deai.hashing import keccak
from deai.ids import AccountId
from deai.signing import LocalSigner

MAX_KEY_FILE_BYTES: Final = 16 * 1024
SCRYPT_N: Final = 1 << 14
"""Interactive strength (0.05 s, 16 MiB). The passphrase is 256 random bits by default; choose
`SCRYPT_N_STRONG` for one that a person remembers."""
SCRYPT_N_STRONG: Final = 1 << 18
_MAX_N: Final = 1 << 20
_SCRYPT_R: Final = 8


def create_key(path: Path, passphrase_file: Path, *, secret: bytes | None = None) -> AccountId:
    """Write a new keystore (never over an old one) and return its account.

    A missing `passphrase_file` is created with a random passphrase. Raises `ConfigError`, also
    for a `secret` that is no key of the curve.
    """
    if path.exists():
        raise ConfigError(f"{path} exists", hint="a key is never overwritten; choose another file")
    secret = secrets.token_bytes(32) if secret is None else secret
    signer = _signer(path, secret)
    passphrase = _ensure_passphrase(passphrase_file)
    _write_private(path, json.dumps(_seal(secret, passphrase, signer.account), indent=1).encode())
    return signer.account


def load_signer(path: Path, passphrase_file: Path | None = None) -> LocalSigner:
    """Open a key file: a keystore, or one line of 64 hex digits.

    Raises `NotSetUp` when it is missing, `ConfigError` when it is unreadable, readable by
    others, or when the passphrase is wrong.
    """
    data = _read_private(path)
    text = data.decode("ascii", "replace").strip().removeprefix("0x")
    if len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text):
        return _signer(path, bytes.fromhex(text))
    try:
        store = json.loads(data)
        crypto = store["crypto"] if "crypto" in store else store["Crypto"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: neither a keystore nor a hex key") from error
    passphrase = _read_passphrase(passphrase_file or path.parent / "passphrase")
    return _signer(path, _unseal(path, crypto, passphrase))


def account_of(path: Path) -> AccountId:
    """The account of a keystore without opening it; raise as `load_signer`."""
    data = _read_private(path)
    try:
        return AccountId("0x" + json.loads(data)["address"].lower().removeprefix("0x"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return load_signer(path).account


def create_peer_key(path: Path) -> None:
    """Write a new Ed25519 identity (32 raw bytes) unless there is one."""
    if not path.exists():
        _write_private(path, Ed25519PrivateKey.generate().private_bytes_raw())


def export_key(path: Path, passphrase_file: Path | None, target: Path, target_pass: Path) -> None:
    """Write the key again under another passphrase."""
    signer_secret = _secret_of(path, passphrase_file)
    create_key(target, target_pass, secret=signer_secret)


def _secret_of(path: Path, passphrase_file: Path | None) -> bytes:
    data = _read_private(path)
    text = data.decode("ascii", "replace").strip().removeprefix("0x")
    if len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text):
        return bytes.fromhex(text)
    try:
        crypto = json.loads(data)["crypto"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: neither a keystore nor a hex key") from error
    return _unseal(path, crypto, _read_passphrase(passphrase_file or path.parent / "passphrase"))


def _signer(path: Path, secret: bytes) -> LocalSigner:
    try:
        return LocalSigner(secret)
    except ValueError as error:
        raise ConfigError(f"{path}: not a secp256k1 key") from error


def _seal(secret: bytes, passphrase: bytes, account: AccountId) -> dict[str, Any]:
    salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    derived = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=_SCRYPT_R, p=1).derive(passphrase)
    ciphertext = _aes(derived[:16], iv, secret)
    return {
        "version": 3,
        "id": str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
        "address": account[2:],
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
        _write_private(path, secrets.token_hex(32).encode() + b"\n")
    return _read_passphrase(path)


def _read_passphrase(path: Path) -> bytes:
    passphrase = _read_private(path).strip(b"\r\n")
    if not passphrase:
        raise ConfigError(f"{path}: the passphrase is empty")
    return passphrase


def _write_private(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise ConfigError(f"{path} can be read by others", hint=f"run: chmod 600 {path}")
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotSetUp(f"no key at {path}", hint="create one with `deai keys new`") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_KEY_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_KEY_FILE_BYTES} bytes")
    return data
