"""Configuration: one TOML file, then `DEAI_…` variables, then flags, into frozen types.

Sections live with their owners (`[node]` in `node.config`, `[coordinator]` in
`coordinator.config`); this module owns the top level and the one loader they share. Secrets are
paths here, never values.
"""

from __future__ import annotations

import copy
import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from deai.errors import ConfigError, UsageError
from deai.urls import parse_url

T = TypeVar("T")

MAX_CONFIG_BYTES: Final = 256 * 1024
PREFIX: Final = "DEAI_"
HINT: Final = "`deai config show` without this file lists every setting and its default"


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[client]`: what the task commands use."""

    key_file: str = ""
    """Key that pays for tasks; default `HOME/keys/client.json`, on NEAR `client-near.json`."""
    passphrase_file: str = ""
    """Where the key's passphrase stands; default `HOME/keys/passphrase`."""
    account: str = ""
    """NEAR account for which the key signs; default the key's implicit account."""
    max_fee: str = "1CT"
    """Most that a submission pays per seat unless it says otherwise."""
    mdns: bool = False
    """Look for nodes that announce themselves on the local network too."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The top level. Programs read their own sections with `section`."""

    network: str = ""
    """Path of the network file; default `HOME/network.json`."""
    chain: str = "sei"
    """Which of the configured chains commands mean by default."""
    coordinator_url: str = ""
    """URL of a coordinator; default the first of the network file."""
    client: ClientConfig = msgspec.field(default_factory=ClientConfig)
    sections: dict[str, Any] = msgspec.field(default_factory=dict)
    """Raw tables of the programs' sections, checked by their owners."""
    path: str = ""
    """The file this came from."""
    origins: dict[str, str] = msgspec.field(default_factory=dict)
    """Setting → `file`, `environment`, `flag`; everything else is a default."""
    texts: dict[str, str] = msgspec.field(default_factory=dict)
    """Setting → what its variable holds, letter by letter."""


_TOP: Final = {"network", "chain", "coordinator_url", "client"}
_SECTIONS: Final = {"node", "coordinator", "workloads", "devnet"}


def default_home(environment: Mapping[str, str]) -> Path:
    """`DEAI_HOME`, else `~/.deai`."""
    given = environment.get("DEAI_HOME")
    return Path(given or "~/.deai").expanduser().absolute()


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """A TOML file and its text; raise `ConfigError` naming file and line."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes")
    try:
        text = data.decode()
        return tomllib.loads(text), text
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", hint="the file must be UTF-8 TOML") from error


def line_of(text: str, setting: str) -> int:
    """The line (from 1) that most likely sets `setting` (`section.key`); 0 if none does."""
    *tables, key = setting.split(".")
    table, wanted = "", ".".join(tables)
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]\s]+)\s*\]+", line):
            table = header[1]
            if table == setting:
                return number
        elif table == wanted and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return 0


def convert(
    raw: Any,  # noqa: ANN401
    kind: type[T],
    *,
    where: str,
    text: str = "",
    section: str = "",
    texts: Mapping[str, str] | None = None,
) -> T:
    """Decode a table into a frozen type; raise `ConfigError` with file, line and setting.

    `where` names the file; `text` is its content, used to find the line. `texts` are the
    variables by setting: what was read as a number is text again where a text is wanted.
    """
    try:
        return msgspec.convert(raw, kind, strict=True)
    except (msgspec.ValidationError, ValueError) as error:
        message = str(error)
        found = re.search(r"at `\$\.?([^`]*)`", message)
        setting = found[1] if found else ""
        if unknown := re.search(r"unknown field `([^`]*)`", message):
            setting = f"{setting}.{unknown[1]}".strip(".")
        full = f"{section}.{setting}".strip(".")
        if message.startswith("Expected `str`") and full in (texts or {}):
            left = dict(texts or {})
            again = copy.deepcopy(raw)
            _put(again, setting.split("."), left.pop(full))
            return convert(again, kind, where=where, text=text, section=section, texts=left)
        line = line_of(text, full)
        place = f"{where}:{line}" if line else where
        raise ConfigError(
            f"{place}: setting {full or '(top level)'}: {message.split(' - at')[0]}",
            hint=_known(kind, setting) if unknown else HINT,
        ) from error


def _known(kind: type, setting: str) -> str:
    """The settings of the table in which an unknown one was found."""
    *tables, key = setting.split(".")
    for name in tables:
        kind = {field.name: field.type for field in msgspec.structs.fields(kind)}.get(name, kind)
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return HINT
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    near = get_close_matches(key, names, n=1)
    return f"did you mean {near[0]}?" if near else "settings are " + ", ".join(sorted(names))


def section(config: Config, name: str, kind: type[T]) -> T:
    """A program's own section as its frozen type; raise `ConfigError` for unknown settings."""
    text = ""
    if config.path:
        _, text = read_toml(Path(config.path))
    return convert(
        config.sections.get(name, {}),
        kind,
        where=config.path or "config",
        text=text,
        section=name,
        texts=config.texts,
    )


def load_config(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str] | None = None
) -> Config:
    """Read file, environment and flags, in rising order of precedence.

    `DEAI_CHAIN` sets `chain`, `DEAI_NODE__CAPACITY` sets `node.capacity` (numbers and booleans
    as in TOML). A missing file is empty unless it was named. Raises `ConfigError`.
    """
    raw: dict[str, Any] = {}
    text = ""
    origins: dict[str, str] = {}
    texts: dict[str, str] = {}
    if path is not None:
        raw, text = read_toml(path)
        origins.update(dict.fromkeys(_flatten(raw), "file"))
    for name, value in environment.items():
        keys = name.removeprefix(PREFIX).lower().split("__")
        if not name.startswith(PREFIX) or keys[0] not in _TOP | _SECTIONS:
            continue
        _put(raw, keys, _toml_value(value))
        origins[".".join(keys)] = "environment"
        texts[".".join(keys)] = value
    for name, value in (flags or {}).items():
        _put(raw, name.split("."), value)
        origins[name] = "flag"
    sections = {key: raw.pop(key) for key in list(raw) if key in _SECTIONS}
    for key in raw:
        if key not in _TOP:
            line = line_of(text, key)
            raise ConfigError(
                f"{path}:{line}: unknown setting {key}" if line else f"unknown setting {key}",
                hint="settings are " + ", ".join(sorted(_TOP | _SECTIONS)),
            )
    config = convert(raw, Config, where=str(path or "environment"), text=text, texts=texts)
    config = msgspec.structs.replace(
        config, sections=sections, path=str(path or ""), origins=origins, texts=texts
    )
    _check_url(config)
    return config


def setting_place(config: Config, name: str) -> str:
    """Where a setting was given: file and line, or the variable."""
    if config.origins.get(name) == "environment":
        return PREFIX + name.upper().replace(".", "__")
    line = line_of(read_toml(Path(config.path))[1], name) if config.path else 0
    return f"{config.path}:{line}" if line else config.path or "config"


def _check_url(config: Config) -> None:
    if not config.coordinator_url:
        return
    name = "coordinator_url"
    try:
        parse_url(config.coordinator_url)
    except UsageError as error:
        raise ConfigError(
            f"{setting_place(config, name)}: setting {name}: {error}",
            hint=error.hint,
            code=error.reason_code,
        ) from error


def environment() -> Mapping[str, str]:
    """The process environment: the only place of the libraries that reads it."""
    return os.environ


def _flatten(raw: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in raw.items():
        name = f"{prefix}{key}"
        names += _flatten(value, f"{name}.") if isinstance(value, dict) else [name]
    return names


def _put(raw: dict[str, Any], keys: list[str], value: Any) -> None:  # noqa: ANN401
    for key in keys[:-1]:
        inner = raw.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"setting {key} is not a table")
        raw = inner
    raw[keys[-1]] = value


def _toml_value(text: str) -> Any:  # noqa: ANN401
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
