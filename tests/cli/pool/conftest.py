"""A chain, a person whose home has a node that takes delegations, and one who lends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.lending import LEAST, Managed, Person, Place, memory_place


@pytest.fixture
def place(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Place:
    return memory_place(tmp_path, shell, monkeypatch)


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting a node up would bring its models, of which nothing here depends."""
    monkeypatch.setattr("node.setup.import_models", lambda *_: None)


@pytest.fixture
def managed(place: Place) -> Managed:
    return Managed(place)


@pytest.fixture
def ann(place: Place) -> Person:
    return place.person("ann", tokens=2 * LEAST)
