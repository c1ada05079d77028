"""The model and the pool that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.models import import_model
from workloads.spec import ModelFiles


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the real MiniLM weights."""
    store = tmp_path_factory.mktemp("store") / "models"
    import_model("all-minilm-l6-v2", store)
    return store


@pytest.fixture(scope="session")
def minilm(models: Path) -> ModelFiles:
    """The real MiniLM, as a runner sees it."""
    from workloads.manifests.known import resolve
    from workloads.models import load_model

    return load_model(models, resolve("all-minilm-l6-v2"))
