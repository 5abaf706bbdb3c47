"""What a retraining has come to, kept after every step: one that is interrupted goes on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.errors import DatasetError
from motorcade.ml.labels.failures import HORIZON_MS

FORMAT = 1


class Plan(msgspec.Struct, frozen=True):
    """What is trained anew, and on what.

    window_ms: of the stream, by ingest time, before the retraining began; None: all that Kafka has.
    test_vehicles: as of a data set. later: as of a training, and the rest likewise.
    """

    models: tuple[str, ...]
    window_ms: int | None = None
    test_vehicles: str = ""
    horizon_ms: int = HORIZON_MS
    life_cap_ms: int | None = None
    later: float = 0.0
    epochs: int | None = None
    seed: int = 0
    minimum_records: int = 1000
    settings: dict[str, float | str] = {}


class Outcome(msgspec.Struct, frozen=True):
    """What became of one model: its new version, who is champion because of it, and why.

    version: 0 where it could not be trained. champion: NAME:VERSION that was promoted; empty: who
    was champion stayed.
    """

    model: str
    version: int
    champion: str
    why: str


class Retraining(msgspec.Struct, frozen=True):
    """One retraining. Times are wall-clock milliseconds since 1970; ended: 0 while it goes on.

    reason: why it began. dataset: recorded for it; empty before that. problem: why it was given up.
    """

    format: int
    name: str
    plan: Plan
    reason: str
    begun: int
    dataset: str = ""
    outcomes: tuple[Outcome, ...] = ()
    ended: int = 0
    problem: str = ""

    @property
    def champion(self) -> str:
        """Who was promoted last in it, NAME:VERSION; empty: nobody, the old champion stayed."""
        return next((one.champion for one in reversed(self.outcomes) if one.champion), "")

    def changed(self, **fields: Any) -> "Retraining":
        """The same with fields changed."""
        return msgspec.structs.replace(self, **fields)


class Journal:
    """The folder of all retrainings, `<data_dir>/retrainings/<name>.json`.

    Args:
        root: created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def of(cls, settings: ProcessSettings) -> "Journal":
        """The journal below a process's data folder."""
        return cls(settings.data_dir / "retrainings")

    def begin(self, plan: Plan, reason: str, now_ms: int) -> Retraining:
        """A new one, written down."""
        moment = datetime.fromtimestamp(now_ms / 1000, UTC)
        name = f"retrain-{moment:%Y%m%d-%H%M%S}-{now_ms % 1000:03}"
        begun = Retraining(FORMAT, name, plan, reason, now_ms)
        self.write(begun)
        return begun

    def write(self, one: Retraining) -> None:
        """Keep how far it is, whole or not at all."""
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._root / f"{one.name}.json"
        making = path.with_suffix(".making")
        making.write_bytes(msgspec.json.format(msgspec.json.encode(one), indent=1))
        making.replace(path)

    def last(self, plan: Plan) -> Retraining | None:
        """The latest one of this plan, ended or not.

        Raises:
            DatasetError: its file is none of this version's.
        """
        for path in sorted(self._root.glob("*.json"), reverse=True):
            try:
                found = msgspec.json.decode(path.read_bytes(), type=Retraining)
            except (OSError, msgspec.DecodeError) as error:
                raise DatasetError(
                    f"{path} does not tell of a retraining: {error}.", "Remove the file."
                ) from error
            if found.format == FORMAT and found.plan == plan:
                return found
        return None
