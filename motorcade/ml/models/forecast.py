"""Scoring by the forecaster: probabilities, remaining life, and what speaks for a failure."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.features import Scale, scale_of
from motorcade.ml.models.base import Scores
from motorcade.ml.models.calibration import Sigmoid, expected_failures
from motorcade.ml.models.gradient import set_weights
from motorcade.ml.models.kinds import any_kind
from motorcade.ml.models.reconstruction import (
    contributions,
    in_chunks,
    probe,
    refuse_unless_finite,
    standardise,
)
from motorcade.ml.models.sequence_network import Shape, build
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, WindowSpec

#: Calibration by kind and, last, of any kind; beside the network's own weights.
SLOPES, OFFSETS = "calibration/slope", "calibration/offset"
_BATCH = 4096
_EXPLAINED = 64


class Forecast:
    """A trained forecaster, ready to score.

    With failures learnt, the score is the number of failures to be expected within the horizon,
    -ln(1 - probability): it grows on where a probability would stick at 1. With remaining life
    alone it is the share of the cap that has gone.

    What contributed is told of windows above the threshold: the signals whose return to the
    training mean would lower the score most, by gradient × deviation. Below it, the signals that
    are furthest from the training mean.

    Raises:
        ModelRefusedError: the features are not the catalogue's, the weights do not fit, or a probe
            does not come out finite.
    """

    def __init__(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> None:
        self.manifest = manifest
        scale = scale_of(manifest)
        scale.columns(catalogue)
        self._shape = _shape_of(manifest)
        network = dict(weights)
        self._scalings = _scalings_of(network, self._shape.kinds)
        self._say, self._explain = _graphs(network, self._shape, scale)
        said = self.score(probe(manifest, scale))
        finite = [said.score, said.coverage, said.share]
        finite += [said.probability] if self._shape.kinds else []
        refuse_unless_finite(manifest, [*finite, said.life] if self._shape.life else finite)

    @property
    def window(self) -> WindowSpec:
        """The windows that it scores."""
        return self.manifest.window

    def score(self, values: Floats32) -> Scores:
        """See `Model`."""
        manifest, shape = self.manifest, self._shape
        outputs, coverage, top, share = in_chunks(self._say, values)
        n = len(values)
        score = probability = np.full(n, np.nan)
        life, kind = np.full(n, np.nan), np.full(n, -1, dtype=np.int64)
        if shape.life:
            remaining = np.clip(outputs[:, -1].astype(np.float64), 0.0, 1.0)
            life = remaining * float(manifest.life_cap_ms or 0)
            score = 1 - remaining
        if shape.kinds:
            logits = any_kind(outputs[:, : shape.kinds].astype(np.float64), self._scalings)
            score = expected_failures(logits[:, -1])
            probability = -np.expm1(-score)
            kind = logits[:, :-1].argmax(axis=1).astype(np.int64)
        where, share = top.astype(np.int64), share.astype(np.float64)
        above = np.flatnonzero(score > manifest.threshold)
        if len(above):
            # Gradients of a convolution depend on the batch's size in their last bit: it is always
            # the same.
            for first in range(0, len(above), _EXPLAINED):
                some = above[first : first + _EXPLAINED]
                where[some], share[some] = in_chunks(self._explain, values[some])
        silent = coverage < manifest.minimum_coverage - 1e-6
        if silent.any():
            score, probability, life = (
                np.where(silent, np.nan, part) for part in (score, probability, life)
            )
            kind[silent] = -1
        return Scores(score, coverage.astype(np.float64), where, share, probability, life, kind)


def outputs_of(weights: Weights, shape: Shape, scale: Scale, windows: Floats32) -> Floats:
    """What a network says of many windows, its members averaged, shape (n, outputs)."""
    say, _ = _graphs(weights, shape, scale)
    parts = [
        in_chunks(say, windows[first : first + _BATCH])[0]
        for first in range(0, len(windows), _BATCH)
    ]
    return np.concatenate([np.empty((0, shape.outputs)), *parts])


def _shape_of(manifest: Manifest) -> Shape:
    """The network's shape, as the manifest tells it."""
    try:
        shape = msgspec.convert(manifest.extra, Shape, strict=False)
    except msgspec.ValidationError as error:
        raise ModelRefusedError(f"The manifest tells no network: {error}.") from error
    told = (shape.rows, shape.features, shape.kinds)
    if told != (manifest.window.rows, len(manifest.features), len(manifest.kinds)):
        raise ModelRefusedError(
            f"The manifest's network takes {shape.rows} rows of {shape.features} features and "
            f"tells {shape.kinds} kinds; its windows, features or kinds are others."
        )
    if not shape.outputs or (shape.life and not manifest.life_cap_ms):
        raise ModelRefusedError("The manifest's network foretells nothing, or lacks the life cap.")
    return shape


def _scalings_of(weights: Weights, kinds: int) -> list[Sigmoid]:
    """Takes the calibration out of the weights."""
    if not kinds:
        return []
    slopes, offsets = weights.pop(SLOPES, None), weights.pop(OFFSETS, None)
    if slopes is None or offsets is None or {slopes.shape, offsets.shape} != {(kinds + 1,)}:
        raise ModelRefusedError(f"The calibration does not fit {kinds} kinds of failure.")
    if not (np.isfinite([slopes, offsets]).all() and (slopes > 0).all()):
        raise ModelRefusedError("The calibration is not finite and rising.")
    return [
        Sigmoid(float(slope), float(offset)) for slope, offset in zip(slopes, offsets, strict=True)
    ]


_Graph = Callable[[Any], Sequence[Any]]


def _graphs(weights: Weights, shape: Shape, scale: Scale) -> tuple[_Graph, _Graph]:
    """From windows to (outputs, coverage, top, share), and to (top, share) explained; each is
    traced once for all batch sizes."""
    tf = tensorflow()
    network = build(shape)
    set_weights(network, weights, "forecaster")
    standardised = standardise(tf, scale, tf.float32)
    known = float(scale.learnt.sum())
    signature = [tf.TensorSpec((None, shape.rows, shape.features), tf.float32)]

    def outputs(inputs: Any, present: Any) -> Any:
        return tf.reduce_mean(network([inputs, present], training=False), axis=1)

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def say(windows: Any) -> Sequence[Any]:
        inputs, present = standardised(windows)
        coverage = tf.reduce_sum(present[:, -1], axis=1) / known
        return outputs(inputs, present), coverage, *contributions(tf, tf.square(inputs[:, -1]))

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def explain(windows: Any) -> Sequence[Any]:
        inputs, present = standardised(windows)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            said = outputs(inputs, present)
            failures = tf.reduce_sum(tf.nn.softplus(said[:, : shape.kinds]), axis=1)
            danger = failures if shape.kinds else -said[:, -1]
        effect = tf.reduce_sum(tape.gradient(danger, inputs) * inputs, axis=1)
        return contributions(tf, tf.nn.relu(effect))

    return say, explain
