"""What every command shares: global options, settings, one JSON document, errors, exit codes.

`--json`, `--config`, `--home` and `--chain` are accepted before and after any sub-command.
Logs, progress and errors go to stderr, the result to stdout.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from deai.config import Config, default_home, load_config
from deai.errors import ConfigError, DeaiError, MalformedMessage, NotSetUp, UsageError

if TYPE_CHECKING:
    import trio
    from rich.console import Console

    from deai.ids import AccountId, NodeId
    from deai.money import Amount
    from deai.network import Network

T = TypeVar("T")

INTERRUPTED: Final = 130
NODES_HINT: Final = "`deai network nodes --json` lists their whole ids"


class ExitWith(click.exceptions.Exit):
    """Leave with a status after everything was printed."""


@dataclass(frozen=True)
class Options:
    """Global options as given so far; later ones win."""

    json: bool = False
    config: Path | None = None
    home: Path | None = None
    chain: str | None = None


@dataclass(frozen=True)
class Settings:
    """What a command runs with."""

    json: bool
    home: Path
    config: Config
    environment: Mapping[str, str] = field(repr=False)
    only_chain: str | None = None
    """The chain that the command named itself: lists are of this one, else of all."""

    @property
    def chain(self) -> str:
        """Which of the configured chains is meant."""
        return self.config.chain

    def on(self, chain: str) -> Settings:
        """The same, for another of the configured chains."""
        return replace(self, config=msgspec.structs.replace(self.config, chain=chain))

    @cached_property
    def out(self) -> Console:
        """Console for the result."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        """Console for progress and errors."""
        return _console(stderr=True)

    @cached_property
    def network(self) -> Network:
        """The network file; raise `NotSetUp` if there is none."""
        from deai.network import load_network

        path = Path(self.config.network) if self.config.network else self.home / "network.json"
        if not path.is_absolute() and self.config.path:
            path = Path(self.config.path).parent / path
        if not path.exists():
            raise NotSetUp(f"no network file at {path}", hint=self._where_a_network_is())
        return load_network(path)

    def _where_a_network_is(self) -> str:
        devnet = self.home / "devnet" / "client" / "config.toml"
        if devnet.exists():
            return f"for the devnet here: --config {devnet}"
        return "start one with `deai devnet up`, or pass --config FILE of a network"

    def path(self, configured: str, default: str) -> Path:
        """A configured path (relative to the config file), or `HOME/default`."""
        if not configured:
            return self.home / default
        path = Path(configured).expanduser()
        if not path.is_absolute() and self.config.path:
            path = Path(self.config.path).parent / path
        return path

    @property
    def max_fee(self) -> Amount:
        """The most to pay per seat unless told; raise `ConfigError` naming the setting."""
        from deai.config import setting_place
        from deai.money import parse_amount

        try:
            return parse_amount(self.config.client.max_fee)
        except UsageError as error:
            raise ConfigError(
                f"{setting_place(self.config, 'client.max_fee')}: setting client.max_fee: {error}",
                hint=error.hint,
                code=error.reason_code,
            ) from error

    @property
    def client_key(self) -> Path:
        """The key that pays for tasks."""
        from deai.keys import key_file

        default = key_file(self.home, "client", self.chain)
        return self.path(self.config.client.key_file, str(default))

    @property
    def client_account(self) -> AccountId | None:
        """The NEAR account that pays, None for the key's own; raise `ConfigError` for no name."""
        from deai.config import setting_place
        from deai.ids import NEAR, account_on

        name = self.config.client.account
        if not name or self.chain != NEAR:
            return None
        try:
            return account_on(NEAR, name)
        except MalformedMessage as error:
            place = setting_place(self.config, "client.account")
            raise ConfigError(f"{place}: setting client.account: {error}") from error

    @property
    def client_passphrase(self) -> Path:
        """Where the client key's passphrase stands."""
        return self.path(self.config.client.passphrase_file, "keys/passphrase")


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


_GLOBAL: Final = (
    click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document."),
    click.Option(["--config", "config_file"], type=click.Path(path_type=Path), help="TOML file."),
    click.Option(
        ["--home"], type=click.Path(path_type=Path), help="Data directory (default ~/.deai)."
    ),
    click.Option(["--chain"], metavar="sei|near", help="Which of the configured chains."),
)


class _Shared:
    """Mixin: add the global options and move their values into the context."""

    def _add_global(self, params: list[click.Parameter]) -> list[click.Parameter]:
        taken = {name for param in params for name in param.opts}
        return params + [option for option in _GLOBAL if not set(option.opts) & taken]


def _absorb(ctx: click.Context) -> None:
    known = ctx.find_object(Options) or Options()
    # A command may have a `--chain` of its own meaning; then the global one is not taken from it.
    is_global = any(param in _GLOBAL for param in ctx.command.params if param.name == "chain")
    chain = ctx.params.pop("chain") if is_global and "chain" in ctx.params else None
    ctx.obj = Options(
        json=ctx.params.pop("as_json", False) or known.json,
        config=ctx.params.pop("config_file", None) or known.config,
        home=ctx.params.pop("home", None) or known.home,
        chain=chain or known.chain,
    )


def _unwrapped(text: str | None) -> str | None:
    # Docstrings are raw strings: click's mark for "do not wrap" arrives as two characters.
    return text.replace("\\b", "\b") if text else None


class Command(click.Command, _Shared):
    """A command with the global options; its function receives `settings` first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature
        super().__init__(*args, **kwargs)
        self.params = self._add_global(self.params)
        self.help = _unwrapped(self.help)
        # What a list of commands has room for: the first clause.
        first = (self.help or "").strip().split("\n")[0].split(";")[0].split(". ")[0].rstrip(".")
        self.short_help = self.short_help or f"{first}."

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        _absorb(ctx)
        callback = self.callback
        if callback is None:
            return None
        return ctx.invoke(callback, load_settings(ctx.obj), **ctx.params)


class Group(click.Group, _Shared):
    """A group with the global options, whose commands default to `Command`."""

    command_class: type[click.Command] | None = Command
    group_class: type[click.Group] | type[type] | None = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature
        super().__init__(*args, **kwargs)
        self.params = self._add_global(self.params)
        self.help = _unwrapped(self.help)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        _absorb(ctx)
        return super().invoke(ctx)


def group(name: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Group]:  # noqa: ANN401
    """Declare a group: `@group("task") def task() -> None: ...` (docstring is its help)."""

    def decorate(function: Callable[..., Any]) -> Group:
        # A group takes nothing itself: the global options were absorbed into the context.
        made: Group = click.group(name, cls=Group, **kwargs)(lambda: None)
        made.help = _unwrapped(inspect.cleandoc(function.__doc__ or ""))
        made.short_help = (function.__doc__ or "").strip().splitlines()[0].rstrip(".")
        return made

    return decorate


def command(name: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Command]:  # noqa: ANN401
    """Declare a command outside a group; in a group use `@group.command("name")`."""
    return click.command(name, cls=Command, **kwargs)


def load_settings(options: Options) -> Settings:
    """Read home, config file, environment and flags; raise `ConfigError`."""
    environment = os.environ
    named = options.config or (
        Path(environment["DEAI_CONFIG"]) if "DEAI_CONFIG" in environment else None
    )
    if options.home is not None:
        home = options.home.expanduser().absolute()
    elif named is not None and "DEAI_HOME" not in environment:
        home = named.expanduser().resolve().parent
    else:
        home = default_home(environment)
    path = named or (home / "config.toml" if (home / "config.toml").exists() else None)
    flags = {"chain": options.chain} if options.chain else {}
    config = load_config(path, environment, flags)
    if config.chain not in ("sei", "near"):
        wrong = UsageError if options.chain else ConfigError
        raise wrong(
            f"unknown chain: {config.chain[:40]!r}", hint="one of sei, near", code="unknown_chain"
        )
    return Settings(
        json=options.json,
        home=home,
        config=config,
        environment=environment,
        only_chain=options.chain,
    )


def typed(name: str, parse: Callable[[str], T], text: str, *, code: str = "", hint: str = "") -> T:
    """What somebody typed for an option or argument, read; raise `UsageError` that names it.

    `code` and `hint` are the error's where `parse` knows none that fit what was typed.
    """
    try:
        return parse(text)
    except ConfigError as error:
        raise UsageError(
            f"{name}: {error}", hint=error.hint, code=code or error.reason_code
        ) from error
    except MalformedMessage as error:
        raise UsageError(f"{name}: {error}", hint=error.hint or hint, code=code) from error


def typed_node(settings: Settings, name: str, text: str) -> NodeId:
    """A node id of the chain that is meant; raises `UsageError` that says which chain it is of."""
    from deai.ids import NEAR, SEI, node_on

    hint = NODES_HINT
    other = SEI if settings.chain == NEAR else NEAR
    with suppress(MalformedMessage):
        node_on(other, text)
        hint = f"that is a node on {other}: say --chain {other}"
    read = partial(node_on, settings.chain)
    return typed(name, read, text, code="bad_node_id", hint=hint)


def emit(settings: Settings, document: Any, render: Callable[[Console], None]) -> None:  # noqa: ANN401
    """Print the result: the one JSON document, or `render(console)` for people."""
    if settings.json:
        sys.stdout.write(json.dumps(document, separators=(", ", ": ")) + "\n")
        sys.stdout.flush()
    else:
        render(settings.out)


def run_trio(function: Callable[..., Awaitable[T]], *args: Any) -> T:  # noqa: ANN401
    """Run a coroutine function to its end; a group that holds one `DeaiError` becomes it."""
    import trio

    try:
        return trio.run(function, *args, strict_exception_groups=True)
    except BaseExceptionGroup as group_error:
        raise _single(group_error) from group_error


async def until_told(scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
    """End `scope` at Ctrl-C or SIGTERM: for commands that run until then and say what they did.

    Tell `task_status` once either is waited for.
    """
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            break
    scope.cancel()


def _single(error: BaseException) -> BaseException:
    """The one reason inside nested groups; Ctrl-C wins, then the first deliberate error."""
    leaves = _leaves(error)
    for kind in (KeyboardInterrupt, click.exceptions.Exit, DeaiError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0] if len(leaves) == 1 else error


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def report_error(error: DeaiError, *, as_json: bool) -> int:
    """Print an error the way the caller asked for; return the exit status."""
    hint = error.hint or error.advice
    if as_json:
        body = {"code": error.reason_code, "message": str(error), "hint": hint}
        sys.stdout.write(json.dumps({"error": body}) + "\n")
        sys.stdout.flush()
    else:
        from deai.cli.render import one_line

        # What a peer or a coordinator answered may be part of it.
        sys.stderr.write(f"error: {one_line(str(error))}\n")
        sys.stderr.write(f"hint: {one_line(hint)}\n")
    return error.exit_status
