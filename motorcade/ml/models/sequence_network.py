"""The network of the forecaster: averaged steps of a window, convolutions, a GRU, two heads.

Averaging first is what makes it good and fast: noise of single samples goes, slow change stays, and
the recurrent layer takes a fifth of the steps. On turbofan validation engines it beat every
network that saw the single samples (docs/decisions.md).
"""

from typing import Annotated, Any, TypeAlias

import msgspec

from motorcade.ml.engine import tensorflow

#: Samples in a step, unless said otherwise.
POOL = 5
_Some: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_None: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
_OneOrNone: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1)]


class Shape(msgspec.Struct, frozen=True):
    """What a network is built from; one with the same shape has the same weights by name."""

    rows: _Some
    features: _Some
    #: Log-odds of a failure within the horizon: how many kinds; 0: no such head.
    kinds: _None
    #: The remaining life: 1, or 0 for no such head.
    life: _OneOrNone
    #: Latest samples that the steps are made of; 0: all of the window.
    recent: _None = 0
    #: Samples of the window's beginning: how far each signal has moved from their mean is told
    #: beside its value, because vehicles differ from the first message on; 0: it is not told.
    early: _None = 0
    #: Whether a step tells how many samples there were before it: 1, or 0 for not.
    age: _OneOrNone = 0
    #: Samples that are averaged into a step; fewer where they are absent.
    pool: _Some = POOL
    #: Convolutions over three steps, one after the other, and channels of each; 0: none.
    convolutions: _None = 1
    filters: _None = 32
    #: Of the GRU; 0: the mean of all steps and the last one take its place.
    units: _None = 32
    #: Of the layer before the heads.
    hidden: _Some = 16
    #: Networks side by side, that differ in their first weights and are averaged.
    members: _Some = 1
    #: Of Gaussian noise on standardised samples while training, against learning by heart.
    noise: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.5

    @property
    def outputs(self) -> int:
        """What a member says of a window."""
        return self.kinds + self.life


def build(shape: Shape) -> Any:
    """An untrained network; its initial weights and its noise follow Keras's global seed.

    Inputs: standardised values, 0 where absent, and the mask, both (n, rows, features). Output:
    (n, members, outputs), the log-odds by kind, then the share of the capped life that remains.
    """
    keras = tensorflow().keras
    layers, ops = keras.layers, keras.ops
    values = keras.Input((shape.rows, shape.features), name="values")
    present = keras.Input((shape.rows, shape.features), name="present")
    noisy = layers.GaussianNoise(shape.noise, name="noise")(values) * present
    recent = min(shape.recent or shape.rows, shape.rows)
    # Windows fill from the end: the first step is the one that may be short.
    short = -recent % shape.pool
    steps = (recent + short) // shape.pool

    def summed(rows: Any) -> Any:
        padded = ops.pad(rows[:, -recent:], [[0, 0], [short, 0], [0, 0]])
        return ops.sum(ops.reshape(padded, (-1, steps, shape.pool, rows.shape[2])), axis=2)

    count = summed(present)
    divisor = ops.maximum(count, 1.0)
    channels = [summed(noisy) / divisor, count / shape.pool]
    # 1, 2, … from the window's first message on.
    begun = ops.minimum(ops.cumsum(ops.max(present, axis=2, keepdims=True), axis=1), 1.0)
    number = ops.cumsum(begun, axis=1)
    if shape.early:
        first = present * ops.cast(number <= shape.early, "float32")
        total = ops.sum(noisy * first, axis=1, keepdims=True)
        beginning = total / ops.maximum(ops.sum(first, axis=1, keepdims=True), 1.0)
        channels.append(summed((noisy - beginning) * present) / divisor)
    if shape.age:
        channels.append(summed(number) / (shape.pool * shape.rows))
    sequence = ops.concatenate(channels, axis=2)
    outputs = [_member(keras, shape, sequence, f"member_{n}") for n in range(shape.members)]
    return keras.Model([values, present], ops.stack(outputs, axis=1))


def _member(keras: Any, shape: Shape, sequence: Any, name: str) -> Any:
    layers = keras.layers
    out = sequence
    for number in range(shape.convolutions if shape.filters else 0):
        out = layers.Conv1D(
            shape.filters,
            3,
            padding="causal",
            activation="relu",
            name=f"{name}_convolution_{number}",
        )(out)
    if shape.units:
        # Unrolled: the steps are few, and a graph without a loop is several times as fast.
        out = layers.GRU(shape.units, unroll=True, name=f"{name}_gru")(out)
    else:
        out = keras.ops.concatenate([keras.ops.mean(out, axis=1), out[:, -1]], axis=1)
    out = layers.Dense(shape.hidden, activation="relu", name=f"{name}_hidden")(out)
    heads = []
    if shape.kinds:
        # Failures are rare: to begin with, all are improbable.
        rare = keras.initializers.Constant(-3.0)
        heads.append(layers.Dense(shape.kinds, bias_initializer=rare, name=f"{name}_failure")(out))
    if shape.life:
        most = keras.initializers.Constant(0.6)
        heads.append(layers.Dense(1, bias_initializer=most, name=f"{name}_life")(out))
    return keras.ops.concatenate(heads, axis=1)
