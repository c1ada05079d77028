"""A model is its digest: what is damaged, pickled or different never becomes one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from deai.errors import ConfigError, NodeFault, NotSetUp, WorkloadFault
from workloads import models as store
from workloads.manifests.known import digest_of, manifests, resolve

pytestmark = pytest.mark.slow

NAME = "all-minilm-l6-v2"


def small_model(
    tmp_path: Path, size: int = 3 * store.CHUNK_BYTES + 5
) -> tuple[Path, store.Manifest]:
    """A folder with a model of four chunks, and its manifest."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * (size // 256 + 1))
    file = store.describe_file(folder / "model.safetensors")
    manifest = store.Manifest(
        name="small",
        licence="CC0-1.0",
        source="test",
        architecture={},
        tolerances={},
        files=(file,),
        total=file.bytes,
    )
    return folder, manifest


def test_the_shipped_manifest_describes_the_package() -> None:
    shipped = store.decode_manifest(manifests()[NAME])
    described = store.describe_bert(
        store.package_directory(NAME),
        name=NAME,
        licence=shipped.licence,
        source=shipped.source,
        tolerances=shipped.tolerances,
    )
    assert described == shipped


def test_an_imported_model_verifies_and_is_imported_once(models: Path) -> None:
    (digest,) = store.installed(models)
    assert digest == resolve(NAME) == resolve(digest)
    before = (models / digest / "model.safetensors").stat()
    seen: list[tuple[int, int]] = []
    assert store.import_model(NAME, models, on_progress=lambda *at: seen.append(at)) == digest
    assert (models / digest / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns
    assert seen[-1][0] == seen[-1][1] == store.read_manifest(models, digest).total
    assert seen == sorted(seen)


def test_an_interrupted_import_goes_on_where_it_was(tmp_path: Path) -> None:
    folder, manifest = small_model(tmp_path)
    target = tmp_path / "models"

    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done >= 2 * store.CHUNK_BYTES:
            raise Interrupted

    with pytest.raises(Interrupted):
        store.import_model("x", target, directory=folder, manifest=manifest, on_progress=interrupt)
    assert store.installed(target) == {}
    # What was copied is not read from the source again: damage there does not matter any more.
    source = folder / "model.safetensors"
    damaged = bytearray(source.read_bytes())
    damaged[0] ^= 1
    source.write_bytes(damaged)
    digest = store.import_model("x", target, directory=folder, manifest=manifest)
    assert store.verify_model(target, digest) == manifest


def test_files_that_are_not_the_manifests_are_refused(tmp_path: Path) -> None:
    folder, manifest = small_model(tmp_path)
    source = folder / "model.safetensors"
    source.write_bytes(source.read_bytes()[:-1] + b"\xfe")
    with pytest.raises(ConfigError, match="chunk 3"):
        store.import_model("x", tmp_path / "models", directory=folder, manifest=manifest)
    assert store.installed(tmp_path / "models") == {}


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_on_disk_is_found(tmp_path: Path, damage: str) -> None:
    folder, manifest = small_model(tmp_path)
    target = tmp_path / "models"
    digest = store.import_model("x", target, directory=folder, manifest=manifest)
    path = target / digest / "model.safetensors"
    match damage:
        case "flip":
            path.write_bytes(b"\x99" + path.read_bytes()[1:])
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case _:
            path.unlink()
    with pytest.raises(ConfigError, match=r"damaged|missing|length"):
        store.verify_model(target, digest)
    with pytest.raises(ConfigError) as caught:
        store.import_model("x", target, directory=folder, manifest=manifest)
    # Whoever does what the hint says has the model again.
    assert str(target / digest) in caught.value.hint
    shutil.rmtree(target / digest)
    assert store.import_model("x", target, directory=folder, manifest=manifest) == digest
    store.verify_model(target, digest)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(
        store.package_directory(NAME), folder, ignore=shutil.ignore_patterns("*.safetensors")
    )
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match="pickled"):
        store.describe_bert(folder, name="x", licence="", source="", tolerances={})


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(store.package_directory(NAME), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    with pytest.raises(ConfigError, match="only BERT"):
        store.describe_bert(folder, name="x", licence="", source="", tolerances={})


def test_a_manifest_has_one_form_and_its_sums_hold(tmp_path: Path) -> None:
    _, manifest = small_model(tmp_path)
    data = store.encode_manifest(manifest)
    assert store.decode_manifest(data) == manifest
    changed = msgspec.structs.replace(manifest, total=manifest.total + 1)
    for bad in (
        data + b" ",
        data.replace(b'"version":1', b'"version":2'),
        b"{}",
        b"\xff",
        store.encode_manifest(changed),
        data.replace(b"model.safetensors", b"../../etc/passwd"),
    ):
        with pytest.raises(ConfigError):
            store.decode_manifest(bad)


def test_a_changed_manifest_is_another_model(tmp_path: Path) -> None:
    folder, manifest = small_model(tmp_path)
    target = tmp_path / "models"
    digest = store.import_model("x", target, directory=folder, manifest=manifest)
    looser = msgspec.structs.replace(manifest, tolerances={"tol32/1": {"max_abs": 1.0}})
    (target / digest / "manifest.json").write_bytes(store.encode_manifest(looser))
    with pytest.raises(ConfigError, match="digest"):
        store.read_manifest(target, digest)
    with pytest.raises(NodeFault):
        store.load_model(target, digest)


def test_what_is_not_here_says_so(tmp_path: Path) -> None:
    missing = digest_of(b"nothing")
    with pytest.raises(NotSetUp):
        store.read_manifest(tmp_path, missing)
    with pytest.raises(NotSetUp):
        store.import_model("no-such-model", tmp_path)
    with pytest.raises(WorkloadFault):
        resolve("no-such-model")
    assert store.installed(tmp_path / "none") == {}
