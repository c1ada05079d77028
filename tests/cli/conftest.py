"""A shell: the real command line in this process, with a home of its own; and whom it reaches."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deai.cli.main import main
from deai.money import UNIT
from tests.cli.network import Neighbourhood
from tests.deai.chain.near.harness import NearChain, near_chain


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error document."""
        error = self.document["error"]
        assert set(error) == {"code", "message", "hint"}
        return dict(error)


@dataclass
class Shell:
    """Runs `deai …` with `--home`."""

    home: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Done:
        self.monkeypatch.setattr(sys, "argv", ["deai", *arguments, "--home", str(self.home)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        captured = self.capsys.readouterr()
        code = left.value.code
        return Done(code if isinstance(code, int) else 1, captured.out, captured.err)

    def json(self, *arguments: str) -> Done:
        """With `--json`."""
        return self(*arguments, "--json")


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    for name in ("DEAI_HOME", "DEAI_CONFIG", "DEAI_CHAIN"):
        monkeypatch.delenv(name, raising=False)
    return Shell(tmp_path / "home", monkeypatch, capsys)


@pytest.fixture
def rich(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Neighbourhood:
    """A payer with 100 tokens in its wallet."""
    made = Neighbourhood(shell.home)
    made.install(monkeypatch)
    made.give(100 * UNIT)
    return made


@pytest.fixture
def near(tmp_path: Path) -> Iterator[NearChain]:
    with near_chain(tmp_path / "chain", accounts=10) as made:
        yield made.embedded("a command signs with the key of an account, which only ours tells")


@contextmanager
def environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield
