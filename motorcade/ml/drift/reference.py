"""What a model was trained on, in histograms: taken at training, kept beside the model."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Floats, Ids
from motorcade.ml.drift.histogram import Histogram, edges_of, histogram
from motorcade.ml.drift.sample import Sample
from motorcade.ml.errors import ModelRefusedError

#: In the model's folder.
FILE = "drift.json"
FORMAT = 1


class SignalReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal, or the score: edges of its bins, and how a sample of the training range fills them.

    edges: rising; one bin up to each, one beyond the last, one for absent values.
    """

    name: str
    edges: list[float]
    found: Histogram

    @classmethod
    def of(cls, name: str, values: NDArray[np.float32], vins: Ids) -> "SignalReference":
        """Of a sample: values (n,), NaN where absent, and who sent them (n,)."""
        edges = edges_of(values)
        return cls(name, edges.tolist(), histogram(values, vins, edges))

    def histogram(self, values: NDArray[np.float32], vins: Ids) -> Histogram:
        """Another sample in the same bins."""
        return histogram(values, vins, np.array(self.edges))


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model knows: its signals over the training range, without the vehicles that judge.

    score: by the model itself, of healthy messages of vehicles that did not train it; None where
    there were none. messages: of which the sample was taken.
    """

    format: int
    messages: int
    signals: list[SignalReference]
    score: SignalReference | None


def reference_of(
    features: tuple[str, ...], sample: Sample, scores: Floats, scored: Ids
) -> Reference:
    """What is kept with a model.

    Args:
        features: names, in the sample's order.
        sample: of the training range.
        scores, scored: (n,) of healthy messages of vehicles that did not train the model, and
            whose they are.
    """
    values, vins = sample.values, sample.vins
    return Reference(
        FORMAT,
        sample.seen,
        [SignalReference.of(name, values[:, at], vins) for at, name in enumerate(features)],
        # Predictions carry it as Avro's float.
        SignalReference.of("score", scores.astype(np.float32), scored) if len(scores) else None,
    )


def write_reference(folder: Path, reference: Reference) -> Path:
    """Keep it in a stored model's folder, whole or not at all; returns the file."""
    path = folder / FILE
    making = path.with_suffix(".making")
    making.write_bytes(msgspec.json.encode(reference))
    making.rename(path)
    return path


def read_reference(folder: Path) -> Reference:
    """What was kept with a stored model.

    Raises:
        ModelRefusedError: nothing was, or the file is no reference of this version.
    """
    path = folder / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Reference)
    except FileNotFoundError:
        raise ModelRefusedError(
            f"{path} is missing: nothing was kept of what the model in {folder} was trained on.",
            "Train it again: motorcade train MODEL.",
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise ModelRefusedError(
            f"{path} is not a drift reference: {error}.", "Train the model again."
        ) from error
    if found.format != FORMAT:
        raise ModelRefusedError(
            f"{path} has format {found.format}; this code reads {FORMAT}.", "Train the model again."
        )
    return found
