"""Experiments and models in MLflow, on SQLite and files below the data folder by default.

One experiment per data set, one run per training, one registered version per stored model. MLflow
keeps records; scorers follow the topic `models` and read the model store, never MLflow.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.store import Manifest

#: MLflow's alias of the version that is the champion.
CHAMPION = "champion"


def address_of(settings: ProcessSettings) -> str:
    """The tracking address, for `mlflow ui --backend-store-uri`."""
    return f"sqlite:///{_database(settings).absolute()}"


def mark_champion(settings: ProcessSettings, name: str, version: int) -> str:
    """Let the registry's alias follow what is live as champion now.

    Nothing depends on it: where MLflow fails, the champion is live all the same.

    Args:
        settings: where the data folder is.
        name: of the model.
        version: in the model store.

    Returns:
        One sentence for people where the alias does not stand at it; empty where it does, and
        where nothing was ever tracked.
    """
    if not _database(settings).exists():
        return ""
    _keep_quiet()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if Tracking(settings).promoted(name, version):
            return ""
        reason = "it knows no training of that version"
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"MLflow's alias {CHAMPION} does not stand at {name}:{version}: {reason}."


class Tracking:
    """Writes trainings down; it is made only once something has been learnt, because importing
    MLflow takes seconds."""

    def __init__(self, settings: ProcessSettings) -> None:
        _keep_quiet()
        from mlflow.tracking import MlflowClient

        folder = _database(settings).parent
        folder.mkdir(parents=True, exist_ok=True)
        self._artifacts = (folder / "artifacts").absolute()
        address = address_of(settings)
        self._client = MlflowClient(tracking_uri=address, registry_uri=address)

    def write(
        self,
        manifest: Manifest,
        folder: Path,
        params: dict[str, Any],
        curves: dict[str, list[float]],
        metrics: dict[str, float],
    ) -> None:
        """One training: parameters, curves, figures and the model's files.

        Args:
            manifest: of the stored model.
            folder: the model's files.
            params: what was asked for.
            curves: by epoch or iteration.
            metrics: single figures.
        """
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException

        client = self._client
        dataset = manifest.origin.dataset
        experiment = client.get_experiment_by_name(dataset)
        number = (
            client.create_experiment(dataset, artifact_location=self._artifacts.as_uri())
            if experiment is None
            else experiment.experiment_id
        )
        label = f"{manifest.name} {manifest.version}"
        run = client.create_run(number, run_name=label).info
        now = time.time_ns() // 1_000_000
        points = [Metric(name, value, now, 0) for name, value in metrics.items()]
        for name, values in curves.items():
            points += [Metric(f"curve/{name}", v, now, step) for step, v in enumerate(values, 1)]
        for first in range(0, len(points), 900):  # It takes at most 1,000 a call.
            client.log_batch(run.run_id, metrics=points[first : first + 900])
        client.log_batch(
            run.run_id,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag("model", manifest.name), RunTag("version", str(manifest.version))],
        )
        client.log_artifacts(run.run_id, str(folder), "model")
        with suppress(MlflowException):  # It is there from an earlier training.
            client.create_registered_model(manifest.name)
        client.create_model_version(
            manifest.name,
            source=f"{run.artifact_uri}/model",
            run_id=run.run_id,
            tags={"version": str(manifest.version)},
        )
        client.set_terminated(run.run_id)

    def curves(self, name: str, version: int) -> dict[str, list[float]]:
        """Curves of a stored version, by epoch or iteration; none where it was never tracked."""
        client = self._client
        for found in client.search_model_versions(f"name='{name}'"):
            run = found.run_id
            if run is None or found.tags.get("version") != str(version):
                continue
            known = client.get_run(run).data.metrics
            points = {
                one.removeprefix("curve/"): client.get_metric_history(run, one)
                for one in known
                if one.startswith("curve/")
            }
            return {
                one: [point.value for point in sorted(history, key=lambda point: point.step)]
                for one, history in points.items()
            }
        return {}

    def promoted(self, name: str, version: int) -> bool:
        """Mark a stored version as the champion, and no other.

        Args:
            name: of the model.
            version: in the model store.

        Returns:
            Whether it is marked: one that was never tracked cannot be.
        """
        client = self._client
        for other in client.search_registered_models():
            if CHAMPION in other.aliases:
                client.delete_registered_model_alias(other.name, CHAMPION)
        for found in client.search_model_versions(f"name='{name}'"):
            if found.tags.get("version") == str(version):
                client.set_registered_model_alias(name, CHAMPION, found.version)
                return True
        return False


def _keep_quiet() -> None:
    """MLflow reports its use to its makers, and logs the making of its tables, unless told not to
    before it is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")


def _database(settings: ProcessSettings) -> Path:
    return settings.data_dir / "mlflow" / "mlflow.db"
