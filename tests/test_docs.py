"""What the pages say is so: links, command lines, settings and examples, held against the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from coordinator.config import CoordinatorConfig
from deai.cli.base import _GLOBAL
from deai.cli.program import deai
from deai.client import connect
from deai.client.client import Client
from deai.config import ClientConfig, Config
from node.config import NodeConfig, Patience, Price

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("adr/*.md")),
]  # fmt: skip
SHARED = {name for option in _GLOBAL for name in option.opts} | {"--help", "-h"}
VALUED = SHARED - {"--json", "--help", "-h"}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_page_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    linked = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [
        link
        for link in linked
        if link and "://" not in link and not (page.parent / link).resolve().exists()
    ]
    named = re.findall(r"`(docs/[\w/.-]+|[A-Z]+\.md)`", text)
    assert missing + [name for name in named if not (ROOT / name).exists()] == []


def commands(group: click.Group = deai, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command there is, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        words = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, words)
        else:
            yield words, command


def lines_of(page: Path) -> Iterator[str]:
    """The command lines of a page: in blocks, with what continues them, and in running text."""
    whole = ""
    for line in page.read_text().splitlines():
        if re.match(r"( {4})?deai (?!  )", line):
            if whole:
                yield whole
            whole = line.strip()
        elif whole and re.match(r" {8,}[\[-]", line):
            whole += " " + line.strip()
        elif whole:
            yield whole
            whole = ""
    if whole:
        yield whole
    yield from re.findall(r"`(deai [^`]+)`", page.read_text())


def faults(line: str) -> list[str]:
    """What is wrong with a command line, in the notation of the pages (`[--x N]…`, `a · b`)."""
    line = re.sub(r"\s+#.*|\s+&&.*", "", line).removeprefix("deai").strip()
    found, prefix = [], list[str]()
    for number, part in enumerate(line.split("·")):
        tokens = re.sub(r"[\[\]…]", " ", part).split()
        command: click.Command = deai
        words: list[str] = []
        tokens = prefix + tokens if number else tokens
        while tokens:
            token = tokens.pop(0)
            if token in VALUED and isinstance(command, click.Group):
                tokens = tokens[1:]
            elif token.startswith("-"):
                known = {name for param in command.params for name in param.opts} | SHARED
                if token.split("=")[0] not in known and token != "-":
                    found.append(f"{' '.join(words)} has no {token}")
            elif isinstance(command, click.Group):
                context = click.Context(command)
                if token not in command.list_commands(context):
                    found.append(f"no command {' '.join([*words, token])}")
                    break
                after = command.get_command(context, token)
                assert after is not None
                command, words = after, [*words, token]
        if not number:
            prefix = words[:1]
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_line_that_is_shown_can_be_given(page: Path) -> None:
    assert {line: wrong for line in lines_of(page) if (wrong := faults(line))} == {}


def words_of(line: str) -> tuple[str, ...]:
    """The words of a command line that name its command."""
    command: click.Command = deai
    words: list[str] = []
    tokens = line.split()[1:]
    while tokens and isinstance(command, click.Group):
        token = tokens.pop(0)
        if token in VALUED:
            tokens = tokens[1:]
            continue
        found = command.get_command(click.Context(command), token)
        if found is None:
            break
        command, words = found, [*words, token]
    return tuple(words)


def test_every_command_of_the_front_page_is_run_by_a_test_or_by_ci() -> None:
    tests = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests/e2e").glob("*.py")]
    # The part about a devnet is run word for word in tests/e2e/test_both.py, but for up and down.
    text = "\n".join(page.read_text() for page in tests if page != Path(__file__))
    ci = (ROOT / ".ci/run").read_text()
    left = []
    for line in set(lines_of(ROOT / "README.md")):
        *group, last = words_of(line)
        quoted = r",\s*".join(f'"{word}"' for word in (*group, last))
        helper = {"devnet": "devnet|run", "node": "deai"}.get(" ".join(group), "none")
        called = rf'{quoted}|\b(?:{helper})\(\s*"{last}"'
        if not (re.search(called, text) or f"make --no-print-directory {last}" in ci):
            left.append(line)
    assert left == []


def test_command_lines_are_found_and_wrong_ones_told_apart() -> None:
    assert len(list(lines_of(ROOT / "README.md"))) > 5
    assert faults("deai task submit W --max-fee 1 [--seats K] --json") == []
    assert faults("deai --config x.toml network nodes # a comment --colour") == []
    assert faults("deai task show ID · explode") == ["no command task explode"]
    assert faults("deai task submit W --colour") == ["task submit has no --colour"]


def sections() -> dict[str, str]:
    """The sections of the page of commands, by the first word after `deai`."""
    parts = re.split(r"^## `deai ([a-z]+)`.*$", (DOCS / "cli.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    ("words", "command"), list(commands()), ids=lambda one: one if isinstance(one, str) else ""
)
def test_the_page_of_commands_has_every_command_and_option(
    words: str, command: click.Command
) -> None:
    group, _, name = words.partition(" ")
    text = sections().get(group, "")
    if group == "node":
        text += (DOCS / "running-a-node.md").read_text()
    assert text, f"docs/cli.md has no section of deai {group}"
    code = " ".join(re.findall(r"```.*?```|`[^`]+`", text, flags=re.DOTALL))
    wanted = [name] if name else []
    wanted += [
        option
        for param in command.params
        if isinstance(param, click.Option)
        for option in param.opts
        if option not in SHARED and option.startswith("--")
    ]
    assert [one for one in wanted if not re.search(rf"(?<![\w-]){one}(?![\w-])", code)] == []


def toml_of(page: Path, section: str) -> dict[str, Any]:
    """The settings that a page shows of a section, read as a program would."""
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(), flags=re.DOTALL):
        found = tomllib.loads(block)
        if section in found:
            shown: dict[str, Any] = found[section]
            return shown
    raise AssertionError(f"{page} shows no [{section}]")


@pytest.mark.parametrize(
    ("kind", "section", "page"),
    [(NodeConfig, "node", "running-a-node.md"), (CoordinatorConfig, "coordinator", "cli.md")],
)
def test_every_setting_of_a_program_is_shown_with_its_default(
    kind: type[NodeConfig | CoordinatorConfig], section: str, page: str
) -> None:
    shown = toml_of(DOCS / page, section)
    assert set(shown) == set(kind.__struct_fields__)
    prices = shown.pop("prices", {})
    assert msgspec.convert(shown, kind) == kind()
    assert msgspec.convert(prices.get("default", {}), Price) == Price()
    if kind is NodeConfig:
        assert set(shown["patience"]) == set(Patience.__struct_fields__)
        assert set(prices["default"]) == set(Price.__struct_fields__)


def test_every_setting_of_the_commands_has_its_row() -> None:
    text = (DOCS / "cli.md").read_text()
    top = set(Config.__struct_fields__) - {"client", "sections", "path", "origins", "texts"}
    for name in top | {f"client.{name}" for name in ClientConfig.__struct_fields__}:
        assert f"| `{name}` |" in text, name


def examples() -> list[tuple[str, str]]:
    return [
        (page_id(page), block)
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    ]


@pytest.mark.parametrize(
    ("page", "code"), examples(), ids=lambda one: one if one.endswith(".md") else ""
)
def test_examples_call_what_there_is(page: str, code: str) -> None:
    takes = {
        "connect": inspect.signature(connect),
        "submit": inspect.signature(Client.submit),
        "run": inspect.signature(Client.submit),  # of the client without async
    }
    for found in ast.walk(ast.parse(code, page)):
        if isinstance(found, ast.ImportFrom) and found.module:
            module = importlib.import_module(found.module)
            assert [one.name for one in found.names if not hasattr(module, one.name)] == []
        elif isinstance(found, ast.Call):
            called = found.func
            name = getattr(called, "attr", getattr(called, "id", ""))
            given = {one.arg for one in found.keywords if one.arg}
            if name in takes:
                assert given <= set(takes[name].parameters), f"{page}: {name}"


def test_there_is_an_example_at_the_front_and_in_the_guide() -> None:
    assert {"README.md", "docs/sdk.md"} <= {page for page, _ in examples()}
