"""What an interrupted training needs to go on: arrays in a file, replaced whole or not at all."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.settings import ProcessSettings

_FILE = "checkpoint.npz"
_EPOCH = "epoch/"


class Progress(NamedTuple):
    """How far a phase is; `detail` is for people."""

    phase: str
    done: int
    total: int
    detail: str = ""


class Checkpoint:
    """The last checkpoint of one training; it is a `Watch` for the architecture that trains.

    Args:
        folder: of this training alone.
        tell: told of all progress.
        named: put before the names of phases, where several models train in one command.
    """

    def __init__(self, folder: Path, tell: Callable[[Progress], None], named: str = "") -> None:
        self._path = folder / _FILE
        self._tell = tell
        self._named = named
        #: Epochs that an interrupted run had done.
        self.resumed = 0

    def progress(self, phase: str, done: int, total: int, detail: str = "") -> None:
        """See `Watch`."""
        self._tell(Progress(f"{self._named} {phase}".strip(), done, total, detail))

    def checkpoint(self, epoch: int, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Watch`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        making = self._path.with_suffix(".making")
        with making.open("wb") as file:
            np.savez(file, **{_EPOCH: np.array(epoch)}, **dict(state))
            file.flush()
            os.fsync(file.fileno())
        making.rename(self._path)

    def resume(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """See `Watch`; a file that is no checkpoint is as good as none."""
        try:
            with np.load(self._path, allow_pickle=False) as archive:
                state = {name: archive[name] for name in archive.files}
            epoch = int(state.pop(_EPOCH))
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None
        self.resumed = epoch
        return epoch, state

    def done(self) -> None:
        """Forget it: what was learnt is stored."""
        shutil.rmtree(self._path.parent, ignore_errors=True)


def folder_of(settings: ProcessSettings, **what: Any) -> Path:
    """The folder of a training, the same for the same data set, model and options.

    Args:
        what: all that decides what comes out; anything that msgspec encodes.
    """
    text = msgspec.json.encode(what, order="deterministic")
    digest = hashlib.blake2b(text, digest_size=12).hexdigest()
    return settings.data_dir / "training" / digest
