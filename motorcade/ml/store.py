"""The model store on disk: a manifest and weights per version, written whole or not at all.

`<data_dir>/models/<name>/<version>/{manifest.json, weights.npz, comparison.json}`. A folder holds
numbers and text only: weights for an architecture that the code knows, never pickle, never code.
"""

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.messages import ModelAnnouncement
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.windows import WindowSpec

MANIFEST = "manifest.json"
WEIGHTS = "weights.npz"
#: Why a model was promoted, or not; written once it has been compared.
COMPARISON = "comparison.json"
FORMAT = 2

#: Arrays by name, float32, float64 or of integers.
Weights = dict[str, NDArray[Any]]


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model was trained on, enough to read the same rows again."""

    #: (topic, partition, first offset, offset after the last).
    ranges: list[tuple[str, int, int, int]]
    schema_ids: list[int]
    #: The data set's name.
    dataset: str
    #: Examples and vehicles by part, and what else was counted while reading.
    records: dict[str, int]
    vehicles: dict[str, int]
    seed: int
    #: Event time up to which anything was known to it, milliseconds; None: all of the data set's.
    event_until: int | None = None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about a model but its weights.

    Lists named by feature stand in the order of `features`.
    """

    format: int
    name: str
    version: int
    architecture: str
    #: Wall-clock milliseconds since 1970.
    created: int
    catalogue: str
    features: list[str]
    mean: list[float]
    std: list[float]
    learnt: list[bool]
    #: Spread of each feature's reconstruction residual on healthy vehicles, standardised.
    residual: list[float]
    #: Score above which a message is anomalous.
    threshold: float
    #: Share of the learnt features below which a message is not scored.
    minimum_coverage: float
    origin: Origin
    metrics: dict[str, float]
    #: Versions of the libraries that trained it.
    libraries: dict[str, str]
    window: WindowSpec = WindowSpec()
    #: Samples that a window must hold to be scored; 0: all of `window.rows`.
    minimum_filled: int = 0
    #: Trouble codes that it tells apart.
    kinds: list[str] = []
    #: Event time within which a failure is to be foretold, and within which a trouble code after a
    #: record makes it unhealthy, milliseconds.
    horizon_ms: int = 0
    #: Remaining life is learnt, and told, up to this; milliseconds of event time.
    life_cap_ms: int | None = None
    #: What else the architecture has to know.
    extra: dict[str, float | str | list[Any]] = {}
    weights_sha256: str = ""

    @property
    def least_filled(self) -> int:
        """Samples that a window must hold to be scored."""
        return self.minimum_filled or self.window.rows


class ModelStore:
    """The folder of all models.

    Args:
        root: created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, settings: ProcessSettings) -> "ModelStore":
        """The store below a process's data folder."""
        return cls(settings.data_dir / "models")

    def next_version(self, name: str) -> int:
        """One more than the highest version on disk, from 1."""
        folder = self.root / name
        found = (
            [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
        )
        return max(found, default=0) + 1

    def newest(self, name: str, wanted: Callable[[Manifest], bool]) -> Manifest | None:
        """The newest stored version that is wanted; what cannot be read is not."""
        for version in range(self.next_version(name) - 1, 0, -1):
            try:
                text = (self.root / name / str(version) / MANIFEST).read_bytes()
                manifest = msgspec.json.decode(text, type=Manifest)
            except (OSError, msgspec.DecodeError):
                continue
            if manifest.format == FORMAT and wanted(manifest):
                return manifest
        return None

    def names(self) -> list[str]:
        """Models that have a folder, sorted."""
        return sorted(one.name for one in self.root.iterdir()) if self.root.is_dir() else []

    def announcement(self, name: str, version: int, announced: int) -> ModelAnnouncement:
        """What to announce of a stored version, as its files are now.

        Raises:
            ModelRefusedError: there is no such version.
        """
        path = f"{name}/{version}"
        try:
            text = (self.root / path / MANIFEST).read_bytes()
        except OSError as error:
            raise ModelRefusedError(
                f"There is no model {name} {version} in {self.root}.",
                "motorcade models list shows what there is.",
            ) from error
        return ModelAnnouncement(name, version, path, _sha256(text), announced)

    def write(self, manifest: Manifest, weights: Weights, announced: int) -> ModelAnnouncement:
        """Store a model: its folder appears complete, by one rename.

        Args:
            manifest: without the weights' checksum, which is added.
            weights: arrays by name.
            announced: wall-clock milliseconds since 1970.

        Returns:
            What to announce.

        Raises:
            ModelRefusedError: this version exists already.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **weights)
        data = buffer.getvalue()
        manifest = msgspec.structs.replace(manifest, weights_sha256=_sha256(data))
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        folder = self.root / manifest.name
        folder.mkdir(parents=True, exist_ok=True)
        making = Path(mkdtemp(prefix=".making-", dir=folder))
        target = folder / str(manifest.version)
        try:
            making.chmod(0o755)
            for name, content in ((WEIGHTS, data), (MANIFEST, text)):
                with (making / name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            making.rename(target)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            raise ModelRefusedError(
                f"The model cannot be stored as {target}: {error.strerror}.",
                "If that version exists already, train again.",
            ) from error
        return self.announcement(manifest.name, manifest.version, announced)

    def write_comparison(self, name: str, version: int, comparison: dict[str, Any]) -> Path:
        """Keep with a stored model what it was compared with; returns the file."""
        path = self.root / name / str(version) / COMPARISON
        making = path.with_suffix(".making")
        making.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=1))
        making.rename(path)
        return path

    def read(self, announcement: ModelAnnouncement) -> tuple[Manifest, Weights]:
        """An announced model, verified against its checksums.

        Raises:
            ModelRefusedError: a file is missing, is not the announced one, or holds anything but
                finite arrays; the message names the file.
        """
        folder = (self.root / announcement.path).resolve()
        if not folder.is_relative_to(self.root.resolve()):
            raise ModelRefusedError(
                f"The model's path {announcement.path!r} leads out of the store {self.root}."
            )
        text = _verified(folder / MANIFEST, announcement.manifest_sha256)
        try:
            manifest = msgspec.json.decode(text, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelRefusedError(f"{folder / MANIFEST} is not a manifest: {error}.") from error
        if manifest.format != FORMAT:
            raise ModelRefusedError(
                f"{folder / MANIFEST} has format {manifest.format}, this code reads {FORMAT}."
            )
        if (manifest.name, manifest.version) != (announcement.name, announcement.version):
            raise ModelRefusedError(
                f"{folder / MANIFEST} is of {manifest.name} {manifest.version}, announced was "
                f"{announcement.name} {announcement.version}."
            )
        data = _verified(folder / WEIGHTS, manifest.weights_sha256)
        return manifest, _arrays(folder / WEIGHTS, data)


def _verified(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelRefusedError(f"{path} cannot be read: {error.strerror}.") from error
    if _sha256(content) != sha256:
        raise ModelRefusedError(
            f"{path} is not the announced file: its SHA-256 is {_sha256(content)}, expected "
            f"{sha256}."
        )
    return content


def _arrays(path: Path, data: bytes) -> Weights:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            weights = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ModelRefusedError(f"{path} does not hold arrays: {error}.") from error
    for name, array in weights.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ModelRefusedError(f"{path}: {name} is not an array of finite numbers.")
    return weights


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
