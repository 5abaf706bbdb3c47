"""A model on disk is complete and unchanged, or it is refused."""

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from motorcade.fleet.messages import ModelAnnouncement
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.store import Manifest, ModelStore, Weights, _sha256

Learnt = tuple[Manifest, Weights]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def written(store: ModelStore, learnt: Learnt, version: int = 1) -> ModelAnnouncement:
    manifest, weights = learnt
    return store.write(msgspec.structs.replace(manifest, version=version), weights, 5)


def test_what_was_written_is_read_again(store: ModelStore, learnt: Learnt) -> None:
    announcement = written(store, learnt)
    manifest, weights = store.read(announcement)
    assert msgspec.structs.replace(manifest, version=0, weights_sha256="") == learnt[0]
    assert weights.keys() == learnt[1].keys()
    assert all(np.array_equal(weights[name], learnt[1][name]) for name in weights)
    assert (announcement.path, announcement.announced) == ("autoencoder/1", 5)


def test_versions_count_up_and_are_never_written_over(store: ModelStore, learnt: Learnt) -> None:
    assert store.next_version("autoencoder") == 1
    written(store, learnt, 1)
    written(store, learnt, 7)
    assert store.next_version("autoencoder") == 8
    with pytest.raises(ModelRefusedError, match="cannot be stored"):
        written(store, learnt, 7)
    assert sorted(p.name for p in (store.root / "autoencoder").iterdir()) == ["1", "7"]


def test_a_folder_holds_text_and_plain_arrays_only(store: ModelStore, learnt: Learnt) -> None:
    announcement = written(store, learnt)
    folder = store.root / announcement.path
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "weights.npz"]
    json.loads((folder / "manifest.json").read_text())
    np.load(folder / "weights.npz", allow_pickle=False)


@pytest.mark.parametrize("name", ["manifest.json", "weights.npz"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_a_harmed_file_is_refused_by_name(
    store: ModelStore, learnt: Learnt, name: str, harm: str
) -> None:
    announcement = written(store, learnt)
    path = store.root / announcement.path / name
    content = path.read_bytes()
    if harm == "remove":
        path.unlink()
    elif harm == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(ModelRefusedError, match=name):
        store.read(announcement)


def announced_as_is(store: ModelStore, announcement: ModelAnnouncement, weights: bytes) -> object:
    """Somebody who can write to store and topic puts other weights in, checksums and all."""
    folder = store.root / announcement.path
    (folder / "weights.npz").write_bytes(weights)
    document = json.loads((folder / "manifest.json").read_text())
    text = json.dumps(document | {"weights_sha256": _sha256(weights)}).encode()
    (folder / "manifest.json").write_bytes(text)
    return store.read(msgspec.structs.replace(announcement, manifest_sha256=_sha256(text)))


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was executed",))


def test_a_pickle_is_refused_and_not_executed(store: ModelStore, learnt: Learnt) -> None:
    weights = npz(kernel=np.array([Exploit()], dtype=object))
    with pytest.raises(ModelRefusedError, match="does not hold arrays"):
        announced_as_is(store, written(store, learnt), weights)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    store: ModelStore, learnt: Learnt, value: float
) -> None:
    weights = npz(kernel=np.array([1, value], dtype=np.float32))
    with pytest.raises(ModelRefusedError, match="kernel is not an array of finite numbers"):
        announced_as_is(store, written(store, learnt), weights)


def test_what_is_no_archive_is_refused(store: ModelStore, learnt: Learnt) -> None:
    with pytest.raises(ModelRefusedError, match="does not hold arrays"):
        announced_as_is(store, written(store, learnt), b"PK no archive")


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "autoencoder/../../x"])
def test_a_path_out_of_the_store_is_refused(store: ModelStore, path: str) -> None:
    with pytest.raises(ModelRefusedError, match="leads out of the store"):
        store.read(ModelAnnouncement("autoencoder", 1, path, "", 1))


def test_another_models_folder_is_refused(store: ModelStore, learnt: Learnt) -> None:
    announcement = msgspec.structs.replace(written(store, learnt), version=3)
    with pytest.raises(ModelRefusedError, match="is of autoencoder 1, announced was autoencoder 3"):
        store.read(announcement)
