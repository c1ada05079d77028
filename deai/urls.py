"""Addresses of coordinators as people write them."""

from __future__ import annotations

from urllib.parse import urlsplit

from deai.errors import UsageError


def parse_url(text: str) -> str:
    """An `http` or `https` address with a host; raise `UsageError` for anything else."""
    try:
        parts = urlsplit(text)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or any(character.isspace() for character in text):
        raise UsageError(
            f"not a web address: {text[:80]!r}",
            hint="write it as http://127.0.0.1:8080 or https://host",
            code="bad_url",
        )
    return text
