"""The architectures that this code knows, by name; a module is imported when it is asked for."""

from importlib import import_module
from typing import cast

from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.models.base import Architecture, Model, Objective
from motorcade.ml.store import Manifest, Weights

#: "module:ATTRIBUTE" below this package.
ARCHITECTURES: dict[str, str] = {
    "autoencoder": "autoencoder:ARCHITECTURE",
    "pca": "pca:ARCHITECTURE",
    "mahalanobis": "mahalanobis:ARCHITECTURE",
    "boosted": "boosted:ARCHITECTURE",
    "lstm-autoencoder": "lstm_autoencoder:ARCHITECTURE",
    "forecaster": "forecaster:ARCHITECTURE",
    "demo-autoencoder": "demo_autoencoder:ARCHITECTURE",
    "demo-lstm": "demo_lstm:ARCHITECTURE",
    "life-ridge": "remaining_life:RIDGE",
    "life-trees": "remaining_life:TREES",
    "life-kernel": "remaining_life:KERNEL",
    "life-ensemble": "remaining_life:ENSEMBLE",
}
#: Trained beside every other model of an objective, because it has to beat them.
_ANOMALY_BASELINES = ("pca", "mahalanobis", "boosted")
_LIFE_BASELINES = ("life-ridge", "life-trees")


def architecture(name: str) -> Architecture:
    """The architecture of a name.

    Raises:
        TrainingError: there is none.
    """
    if name not in ARCHITECTURES:
        raise TrainingError(
            f"There is no model {name!r}.", f"There are: {', '.join(sorted(ARCHITECTURES))}."
        )
    module, attribute = ARCHITECTURES[name].split(":")
    return cast(Architecture, getattr(import_module(f"{__package__}.{module}"), attribute))


def baselines_of(objective: Objective, *, life: bool) -> tuple[str, ...]:
    """The baselines that a model has to beat.

    Anomalies and failures are judged alike, by what they announce.

    Args:
        objective: of the model.
        life: whether remaining life is asked for.
    """
    if objective == "life":
        return _LIFE_BASELINES
    return _ANOMALY_BASELINES + (_LIFE_BASELINES if life and objective == "failure" else ())


def load_model(manifest: Manifest, weights: Weights, catalogue: Catalogue) -> Model:
    """A stored model, ready to score.

    Raises:
        ModelRefusedError: this code does not know its architecture, or see `Model`.
    """
    if manifest.architecture not in ARCHITECTURES:
        raise ModelRefusedError(
            f"The model {manifest.name} {manifest.version} has architecture "
            f"{manifest.architecture!r}; this code knows {', '.join(sorted(ARCHITECTURES))}."
        )
    return architecture(manifest.architecture).load(manifest, weights, catalogue)
