"""Archives are trusted by content only, and a second look costs nothing."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from motorcade.stack import archives
from motorcade.stack.archives import Archive, LockedFile
from motorcade.stack.errors import ArchiveError
from motorcade.stack.settings import StackSettings


def archive_of(name: str, *contents: bytes, packaging: str = "jar") -> Archive:
    """An archive whose lock pins the given contents."""
    made = Archive(name)
    made.__dict__["locked"] = tuple(
        LockedFile(
            "org.example",
            f"part{number}",
            "1.0",
            "",
            packaging,
            hashlib.sha256(content).hexdigest(),
            len(content),
        )
        for number, content in enumerate(contents)
    )
    return made


def publish(repository: Path, archive: Archive, *contents: bytes) -> None:
    """Lays files out as a Maven repository does."""
    for one, content in zip(archive.locked, contents, strict=True):
        folder = repository / one.group.replace(".", "/") / one.artifact / one.version
        folder.mkdir(parents=True)
        (folder / one.filename).write_bytes(content)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server over a folder; gives its address and the paths asked of it."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()


def settings(tmp_path: Path, url: str = "http://127.0.0.1:1") -> StackSettings:
    return StackSettings(cache=tmp_path / "cache", maven_url=url)


def test_a_second_run_asks_the_network_for_nothing(tmp_path: Path) -> None:
    archive = archive_of("set", b"first", b"second")
    publish(tmp_path / "maven", archive, b"first", b"second")
    with served(tmp_path / "maven") as (url, asked):
        folder = archives.ensure([archive], settings(tmp_path, url))["set"]
        assert (folder / "part1-1.0.jar").read_bytes() == b"second"
        asked.clear()
        archives.ensure([archive], settings(tmp_path, url))
        assert asked == []
    assert archives.missing([archive], settings(tmp_path)) == []


def test_progress_adds_up_to_the_locked_size(tmp_path: Path) -> None:
    archive = archive_of("set", b"x" * 100_000)
    publish(tmp_path / "maven", archive, b"x" * 100_000)
    arrived: list[int] = []
    with served(tmp_path / "maven") as (url, _):
        archives.ensure([archive], settings(tmp_path, url), lambda _, count: arrived.append(count))
    assert sum(arrived) == archive.size


def test_other_content_than_the_lock_pins_is_refused(tmp_path: Path) -> None:
    archive = archive_of("set", b"pinned")
    publish(tmp_path / "maven", archive, b"forged")
    with (
        served(tmp_path / "maven") as (url, _),
        pytest.raises(ArchiveError, match=r"part0-1.0.jar.*sha256 differs"),
    ):
        archives.ensure([archive], settings(tmp_path, url))
    assert archives.missing([archive], settings(tmp_path)) == [archive]


def test_an_unreachable_repository_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"cannot fetch part0-1.0.jar.*MOTORCADE_MAVEN_URL"):
        archives.ensure([archive_of("set", b"never")], settings(tmp_path))


def test_a_damaged_cached_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    archive = archive_of("set", b"pinned")
    path = settings(tmp_path).cache_folder / "set" / "part0-1.0.jar"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"pinned")
    archives.ensure([archive], settings(tmp_path))
    path.write_bytes(b"rotten")
    with pytest.raises(ArchiveError, match=r"part0-1.0.jar is damaged.*rm .*run again"):
        archives.ensure([archive], settings(tmp_path))


def test_a_touched_file_is_hashed_again_and_kept(tmp_path: Path) -> None:
    archive = archive_of("set", b"pinned")
    path = settings(tmp_path).cache_folder / "set" / "part0-1.0.jar"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"pinned")
    archives.ensure([archive], settings(tmp_path))
    path.touch()
    archives.ensure([archive], settings(tmp_path))
    assert path.read_bytes() == b"pinned"


def packed(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"server/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_a_damaged_unpacked_tree_is_made_anew_from_the_verified_archive(tmp_path: Path) -> None:
    content = packed(jar=b"program")
    archive = archive_of("packed", content, packaging="tar.gz")
    path = settings(tmp_path).cache_folder / "packed" / archive.locked[0].filename
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    home = archives.ensure([archive], settings(tmp_path))["packed"]
    assert home.name == "server"
    (home / "jar").write_bytes(b"rotten")
    home = archives.ensure([archive], settings(tmp_path))["packed"]
    assert (home / "jar").read_bytes() == b"program"


@pytest.mark.parametrize("archive", [archives.KAFKA, archives.REGISTRY, archives.ARTEMIS])
def test_every_lock_pins_version_content_and_size(archive: Archive) -> None:
    assert archive.locked
    for one in archive.locked:
        assert len(bytes.fromhex(one.sha256)) == 32
        assert one.size > 0
        assert one.version
    assert len({one.filename for one in archive.locked}) == len(archive.locked)
