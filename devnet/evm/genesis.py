"""Reading the accounts a chain begins with."""

from pathlib import Path
from typing import Final

from deai.errors import ConfigError
from devnet.serving import read_accounts

MAX_WEI: Final = 2**128


def read_genesis(path: Path) -> dict[bytes, int]:
    """Read ``{"0xaddress": wei}``; an amount is a number, or text for readers that lose digits.

    Raises :class:`ConfigError` that names the file and the entry.
    """
    document = read_accounts(path, '{"0xaddress": wei}')
    balances: dict[bytes, int] = {}
    for text, amount in document.items():
        balances[_address(path, text)] = _wei(path, text, amount)
    return balances


def _address(path: Path, text: str) -> bytes:
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise ConfigError(f"{path}: {text!r} is not an address") from error
    if len(address) != 20:
        raise ConfigError(f"{path}: {text!r} is not an address")
    return address


def _wei(path: Path, text: str, amount: object) -> int:
    if isinstance(amount, str) and amount.isascii() and amount.isdigit() and len(amount) < 40:
        amount = int(amount)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount < MAX_WEI:
        raise ConfigError(f"{path}: the balance of {text} is not a number of wei")
    return amount
