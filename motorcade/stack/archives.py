"""Server archives: fetched once by lock file, verified by sha256, kept outside the checkout."""

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from motorcade.stack.errors import ArchiveError
from motorcade.stack.settings import StackSettings

#: Told of every piece that arrives: the archive's name and how many bytes came.
OnBytes = Callable[[str, int], None]

_PARALLEL = 8
_TIMEOUT_S = 60
_ATTEMPTS = 3


@dataclass(frozen=True)
class LockedFile:
    """One file of a Maven repository, pinned by content."""

    group: str
    artifact: str
    version: str
    classifier: str
    packaging: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """Name in the repository and in the cache."""
        tail = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{tail}.{self.packaging}"


@dataclass(frozen=True)
class Archive:
    """A server as it is delivered: a set of jars, or one packed folder that is unpacked."""

    name: str

    @cached_property
    def locked(self) -> tuple[LockedFile, ...]:
        """What the lock pins, a line each.

        A line is `group:artifact:version[:classifier:packaging] sha256 size`.
        """
        text = files("motorcade.stack").joinpath("locks", f"{self.name}.lock").read_text()
        return tuple(_locked(line) for line in text.splitlines() if line.strip())

    @property
    def size(self) -> int:
        """Bytes to download when nothing is cached."""
        return sum(one.size for one in self.locked)

    @property
    def packed(self) -> bool:
        """Whether it is one tar file to unpack, rather than a set of jars."""
        return self.locked[0].packaging == "tar.gz"


def _locked(line: str) -> LockedFile:
    coordinate, sha256, size = line.split()
    group, artifact, version, *rest = coordinate.split(":")
    classifier, packaging = rest or ("", "jar")
    return LockedFile(group, artifact, version, classifier, packaging, sha256, int(size))


#: 3.9.2 and not newer: TensorFlow I/O's reader, which training sets are compared with, cannot read
#: from Kafka 4.
KAFKA = Archive("kafka-3.9.2")
REGISTRY = Archive("apicurio-registry-3.3.3")
ARTEMIS = Archive("apache-artemis-2.44.0")


def missing(archives: Iterable[Archive], settings: StackSettings) -> list[Archive]:
    """Archives of which at least one file has to be downloaded."""
    return [
        archive
        for archive in archives
        if any(
            not (settings.cache_folder / archive.name / one.filename).exists()
            for one in archive.locked
        )
    ]


def ensure(
    archives: Iterable[Archive],
    settings: StackSettings,
    on_bytes: OnBytes = lambda _name, _count: None,
) -> dict[str, Path]:
    """Makes the archives usable: fetched where missing, verified, unpacked.

    With everything cached it asks the network for nothing and costs milliseconds: a file whose
    size and modification time are those of its last verification is not hashed again.

    Returns:
        For each archive's name the folder to run from: of jars, or of the unpacked tree.

    Raises:
        ArchiveError: a cached file is damaged, or a file cannot be fetched.
    """
    usable: dict[str, Path] = {}
    with _locked_cache(settings.cache_folder):
        for archive in archives:
            folder = settings.cache_folder / archive.name
            folder.mkdir(parents=True, exist_ok=True)
            _fetch(archive, folder, settings, on_bytes)
            _verify(archive, folder)
            usable[archive.name] = _unpacked(archive, folder) if archive.packed else folder
    return usable


@contextmanager
def _locked_cache(cache: Path) -> Iterator[None]:
    """One run at a time changes the cache."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        raise ArchiveError(
            f"the cache folder {cache} cannot be written: {error.strerror}.",
            "Set MOTORCADE_CACHE to a folder of yours.",
        ) from error


def _fetch(archive: Archive, folder: Path, settings: StackSettings, on_bytes: OnBytes) -> None:
    absent = [one for one in archive.locked if not (folder / one.filename).exists()]
    if not absent:
        return
    if settings.ca_bundle:
        # The HTTP client underneath takes its certificates from this variable only.
        os.environ.setdefault("REQUESTS_CA_BUNDLE", str(settings.ca_bundle))
    with (
        TemporaryDirectory(prefix=".partial-", dir=settings.cache_folder) as scratch,
        ThreadPoolExecutor(_PARALLEL) as pool,
    ):
        waiting = [
            pool.submit(_download, one, Path(scratch), settings.maven_url, archive.name, on_bytes)
            for one in absent
        ]
        for one, arrival in zip(absent, waiting, strict=True):
            try:
                arrival.result().replace(folder / one.filename)
            except ArchiveError:
                for other in waiting:
                    other.cancel()
                raise


def _download(
    one: LockedFile, scratch: Path, maven_url: str | None, name: str, on_bytes: OnBytes
) -> Path:
    """Brings one file into the scratch folder and returns its path, verified."""
    # Imported here: only a run that really fetches pays for the HTTP stack.
    import requests
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def progress(_filename: str, _total: int) -> Iterator[Callable[[int], None]]:
        yield lambda count: on_bytes(name, count)

    reason: Exception | None = None
    for attempt in range(_ATTEMPTS):
        context = MavenContext(
            resolver=PythonResolver(progress_callback=progress),
            repo_cache=scratch / str(attempt),
            remote_repos={"mirror": maven_url.rstrip("/")} if maven_url else None,
            timeout=_TIMEOUT_S,
        )
        component = context.project(one.group, one.artifact).at_version(one.version)
        artifact = component.artifact(classifier=one.classifier, packaging=one.packaging)
        try:
            path: Path = artifact.resolve()
        except (requests.RequestException, RuntimeError, OSError) as error:
            reason = error
            continue
        if _sha256(path) == one.sha256:
            return path
        reason = ValueError("what arrived is not what the lock file pins (sha256 differs)")
    raise ArchiveError(
        f"cannot fetch {one.filename}: {reason}.",
        "Check the network; MOTORCADE_MAVEN_URL names another Maven repository, and behind a "
        "TLS-intercepting proxy REQUESTS_CA_BUNDLE names its certificates. Run again: what has "
        "arrived is kept.",
    ) from reason


def _verify(archive: Archive, folder: Path) -> None:
    stamp_path = folder / "verified.json"
    stamp = _read_stamp(stamp_path)
    verified: dict[str, list[int]] = {}
    for one in archive.locked:
        path = folder / one.filename
        identity = _identity(path)
        if stamp.get(one.filename) != identity and _sha256(path) != one.sha256:
            raise ArchiveError(
                f"the cached archive {path} is damaged: its sha256 is not the one that "
                f"{archive.name}.lock pins.",
                f"Delete it (rm {path}) and run again: it is fetched anew.",
            )
        verified[one.filename] = identity
    if verified != stamp:
        _write_stamp(stamp_path, verified)


def _unpacked(archive: Archive, folder: Path) -> Path:
    """The unpacked tree; unpacked again from the verified archive if anything in it changed."""
    tree, stamp_path = folder / "tree", folder / "unpacked.json"
    stamp = _read_stamp(stamp_path)
    if not stamp or stamp != _tree_identity(tree):
        stamp_path.unlink(missing_ok=True)
        shutil.rmtree(tree, ignore_errors=True)
        fresh = folder / "tree.partial"
        shutil.rmtree(fresh, ignore_errors=True)
        with tarfile.open(folder / archive.locked[0].filename) as tar:
            tar.extractall(fresh, filter="data")
        fresh.rename(tree)
        _write_stamp(stamp_path, _tree_identity(tree))
    return unpacked_home(folder)


def unpacked_home(folder: Path) -> Path:
    """Where to run an unpacked archive from: its tree, or the one folder at the top of it."""
    inside = list((folder / "tree").iterdir())
    return inside[0] if len(inside) == 1 else folder / "tree"


def _identity(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _tree_identity(tree: Path) -> dict[str, list[int]]:
    return {
        str(path.relative_to(tree)): _identity(path)
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }


def _read_stamp(path: Path) -> dict[str, list[int]]:
    try:
        stamp: dict[str, list[int]] = json.loads(path.read_text())
    except (OSError, ValueError):  # never stamped, or cut short: verify again
        return {}
    return stamp


def _write_stamp(path: Path, stamp: dict[str, list[int]]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(stamp))
    partial.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
