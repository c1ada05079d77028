"""The chain of the tests that break things on NEAR."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deai.chain.near.harness import NearChain, near_chain


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NearChain]:
    with near_chain(tmp_path_factory.mktemp("near"), accounts=200) as found:
        yield found.embedded("these tests kill, rewind and hurry the chain")
