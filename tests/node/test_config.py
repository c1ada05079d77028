"""Settings: defaults that work, mistakes named with file, line and setting."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from deai.config import load_config
from deai.errors import ConfigError
from deai.money import UNIT
from node.config import NodeConfig, node_config
from node.ports import load_behaviour
from node.program import OPEN_FILES, allow_open_files
from p2p.limits import NetLimits


def read(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> NodeConfig:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return node_config(load_config(path, environment or {}))


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == NodeConfig()


def test_prices_are_asked_by_workload_then_by_default(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        '[node.prices.embedding]\nbase_fee = "2CT"\nunit_fee = "5"\n'
        '[node.prices.default]\nbase_fee = "7"\n',
    )
    assert config.price("embedding").base == 2 * UNIT
    assert config.price("embedding").unit == 5
    assert config.price("other").base == 7


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environment = {"DEAI_NODE__CAPACITY": "3", "DEAI_NODE__PATIENCE__DRAIN": "7"}
    config = read(tmp_path, "[node]\ncapacity = 2\n", environment)
    assert config.capacity == 3
    assert config.patience.drain == 7


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[node]\n\ncapacty = 2\n", "config.toml:3: setting node.capacty"),
        ('[node]\ncapacity = "many"\n', "config.toml:2: setting node.capacity"),
        ("[node]\nbeat_seconds = 0\n", "config.toml:2: setting node.beat_seconds"),
        ('[node]\nmin_sandbox = "some"\n', "config.toml:2: setting node.min_sandbox"),
        ('[node.prices.embedding]\nbase_fee = "cheap"\n', "setting node.prices.embedding.base_fee"),
        ('[node]\nadmin = "0.0.0.0:80"\n', "setting node.admin"),
        ('[node]\nadmin = "127.0.0.1:99999"\n', "setting node.admin"),
        ('[node]\nlisten = ["/ip4/0.0.0.0/tcp/99999"]\n', "setting node.listen"),
        ('[node]\nlisten = ["/ip4/0.0.0.0/tcp/web"]\n', "setting node.listen"),
        ('[node]\nlisten = ["/ip4/0.0.0.0/udp/4001/quic-v1"]\n', "setting node.listen"),
        ("[node.patience]\ndrain = -1\n", "setting node.patience.drain"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert named in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "no.such.module:wrap", "node.ports:missing", ":x"])
def test_a_behaviour_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="behaviour"):
        load_behaviour(name)


def test_a_behaviour_is_any_callable_over_the_ports() -> None:
    assert load_behaviour("devnet.behaviours:lazy").__name__ == "lazy"


def test_a_daemon_asks_for_as_many_descriptors_as_its_peers_may_take() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        allow_open_files()
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert raised == (OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard))
        assert 2 * NetLimits().max_connections < OPEN_FILES
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard), "never lowered"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
