"""Which workloads are installed here: ours, and other people's through an entry point.

Entry-point group `deai.workloads`: each entry names a `WorkloadSpec`. Loading a spec imports no
torch; its runner is loaded by the worker's template only.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib import metadata
from typing import Any, Final

from deai.errors import ConfigError
from workloads import echo, embedding, matmul, portfolio
from workloads.spec import WorkloadSpec

ENTRY_POINTS: Final = "deai.workloads"
BUILT_IN: Final = (echo.SPEC, embedding.SPEC, matmul.SPEC, portfolio.SPEC)


def load(extra: Iterable[str] = ()) -> tuple[WorkloadSpec, ...]:
    """Every spec, sorted by name; `extra` are more of them as `module:attribute`.

    Raises `ConfigError` when an entry cannot be loaded, is no spec, or takes a name that is taken.
    """
    named = [(entry.name, entry.value) for entry in metadata.entry_points(group=ENTRY_POINTS)]
    named += [(reference, reference) for reference in extra]
    specs = {(spec.id, spec.version): spec for spec in BUILT_IN}
    for name, reference in named:
        spec = load_name(reference)
        if not isinstance(spec, WorkloadSpec):
            raise ConfigError(f"the workload entry point {name} is no WorkloadSpec")
        key = (spec.id, spec.version)
        if specs.get(key, spec) is not spec:
            raise ConfigError(f"two workloads are called {spec.id} version {spec.version}")
        specs[key] = spec
    return tuple(specs[key] for key in sorted(specs))


def load_name(reference: str) -> Any:  # noqa: ANN401 - whatever the module holds
    """Import `module:attribute`; raise `ConfigError` if it is not there."""
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load {reference}: {error}") from error
