"""`deai config`: the effective settings, where each comes from, and whether they are right."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from deai.cli.base import ExitWith, Settings, emit, group

if TYPE_CHECKING:
    from rich.console import Console

SECTIONS: Final = "deai.sections"
"""Entry-point group: section → the frozen type that reads it."""


@group("config")
def config() -> None:
    r"""Show and check the configuration.

    One TOML file, then DEAI_… variables, then flags; later ones win.

    \b
    Examples:
      deai config show --origin
      deai config check --config node.toml
    """


@config.command("show")
@click.option("--origin", is_flag=True, help="Also say where each value comes from.")
def show(settings: Settings, origin: bool) -> None:
    r"""Show the effective settings. Secrets are paths, so there is nothing to hide.

    \b
    Example:
      deai config show --origin
    """
    from deai.cli.render import say, table

    values = _effective(settings)
    origins = {name: settings.config.origins.get(name, "default") for name in values}
    document: dict[str, Any] = {
        "file": settings.config.path or None,
        "home": str(settings.home),
        "settings": values,
    }
    if origin:
        document["origins"] = origins

    def render(console: Console) -> None:
        say(console, f"file {settings.config.path or 'none'}   home {settings.home}")
        say(console)
        headings = ("Setting", "Value", "From") if origin else ("Setting", "Value")
        table(
            console,
            headings,
            [
                (name, _text(value), *((origins[name],) if origin else ()))
                for name, value in sorted(values.items())
            ],
            wrap=(1,),
        )

    emit(settings, document, render)


@config.command("check")
def check(settings: Settings) -> None:
    r"""Check file, sections, network file and keys. Exit 3 if something is wrong.

    \b
    Example:
      deai config check --config node.toml
    """
    from deai.cli.render import marked, say
    from deai.errors import DeaiError
    from deai.money import format_tokens

    checks: list[dict[str, Any]] = [
        {"name": "file", "ok": True, "detail": settings.config.path or "no file: defaults"}
    ]

    def attempt(name: str, look: Any) -> None:  # noqa: ANN401 - a callable giving a text
        try:
            checks.append({"name": name, "ok": True, "detail": look()})
        except DeaiError as error:
            checks.append(
                {"name": name, "ok": False, "detail": str(error), "fix": error.hint or error.advice}
            )

    for section in settings.config.sections:
        attempt(f"[{section}]", lambda section=section: _section(settings, section))
    attempt("client.max_fee", lambda: format_tokens(settings.max_fee))
    attempt("network", lambda: f"{settings.network.name}: {', '.join(settings.network.chains)}")
    attempt("chain", lambda: _chain(settings))
    if settings.client_key.exists():
        attempt("client key", lambda: _key(settings))
    ok = all(one["ok"] for one in checks)
    document = {"ok": ok, "checks": checks}

    def render(console: Console) -> None:
        for one in checks:
            say(
                console,
                f"{marked('ok' if one['ok'] else 'fail'):<7} {one['name']:<14} {one['detail']}",
            )
            if one.get("fix"):
                say(console, f"        {one['fix']}")

    emit(settings, document, render)
    if not ok:
        raise ExitWith(3)


def _effective(settings: Settings) -> dict[str, Any]:
    top = msgspec.to_builtins(settings.config)
    values: dict[str, Any] = {
        "network": top["network"] or str(settings.home / "network.json"),
        "chain": top["chain"],
        "coordinator_url": top["coordinator_url"],
        "client.key_file": str(settings.client_key),
        "client.passphrase_file": str(settings.client_passphrase),
        "client.account": top["client"]["account"],
        "client.max_fee": top["client"]["max_fee"],
        "client.mdns": top["client"]["mdns"],
    }
    known = {entry.name for entry in entry_points(group=SECTIONS)}
    for name in sorted(known | set(settings.config.sections)):
        values.update(_section_values(settings, name))
    return values


def _section_values(settings: Settings, name: str) -> dict[str, Any]:
    kind = _kind(name)
    if kind is None:
        raw = settings.config.sections.get(name, {})
        return {f"{name}.{key}": value for key, value in raw.items()}
    from deai.config import section

    decoded = msgspec.to_builtins(section(settings.config, name, kind), enc_hook=str)
    return {f"{name}.{key}": value for key, value in decoded.items()}


def _section(settings: Settings, name: str) -> str:
    from deai.config import section

    kind = _kind(name)
    if kind is None:
        return "not checked: its program is not installed"
    section(settings.config, name, kind)
    return "every setting is known and of the right type"


def _kind(name: str) -> Any:  # noqa: ANN401 - a Struct type of another package
    """The type of a program's section, if the program is installed."""
    for entry in entry_points(group=SECTIONS, name=name):
        try:
            return entry.load()
        except ModuleNotFoundError:
            return None
    return None


def _chain(settings: Settings) -> str:
    from deai.client.access import entry_of

    entry = entry_of(settings.network, settings.chain)
    return f"{settings.chain}, {entry.kind}, id {entry.chain_id}, {', '.join(entry.rpc_urls)}"


def _key(settings: Settings) -> str:
    from deai.keys import holder_of, load_signer

    key, passphrase = settings.client_key, settings.client_passphrase
    signer = load_signer(key, passphrase, chain=settings.chain)
    return holder_of(signer.account, settings.client_account)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
