"""Reading the accounts a chain begins with."""

from pathlib import Path
from typing import Final

from deai.errors import ConfigError
from devnet.near.chain import Grant
from devnet.near.keys import is_account, public_key_bytes, public_key_text
from devnet.serving import read_accounts

MAX_YOCTO: Final = 2**112  # all accounts of a real network together are far below
MAX_KEYS: Final = 100


def read_genesis(path: Path) -> dict[str, Grant]:
    """Read ``{"name.near": {"amount": "yoctoNEAR", "public_keys": ["ed25519:…"]}}``.

    An amount is a number, or text for readers that lose digits. Raises :class:`ConfigError` that
    names the file and the entry.
    """
    document = read_accounts(path, '{"name.near": {"amount": …}}')
    grants: dict[str, Grant] = {}
    for name, entry in document.items():
        if not is_account(name):
            raise ConfigError(f"{path}: {name!r} is not the name of an account")
        if not isinstance(entry, dict) or not entry.keys() <= {"amount", "public_keys"}:
            raise ConfigError(f"{path}: {name}: amount and public_keys expected")
        grants[name] = Grant(
            _amount(path, name, entry.get("amount")),
            tuple(_keys(path, name, entry.get("public_keys"))),
        )
    return grants


def _amount(path: Path, name: str, amount: object) -> int:
    if isinstance(amount, str) and amount.isascii() and amount.isdigit() and len(amount) < 40:
        amount = int(amount)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount < MAX_YOCTO:
        raise ConfigError(f"{path}: the amount of {name} is not a number of yoctoNEAR")
    return amount


def _keys(path: Path, name: str, keys: object) -> list[str]:
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ConfigError(f"{path}: public_keys of {name}: at most {MAX_KEYS} keys expected")
    found: list[str] = []
    for key in keys:
        try:
            found.append(public_key_text(public_key_bytes(str(key))))
        except ValueError as error:
            raise ConfigError(f"{path}: {name}: {error}") from error
    return found
