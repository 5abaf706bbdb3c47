"""Training a network by gradient: seeded, stopping early, going on after an interruption.

The order of the examples follows from seed and epoch alone, and a checkpoint holds the optimizer
too: a training that was interrupted ends with the weights it would have had without.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.models.base import FitOptions, Watch
from motorcade.ml.store import Weights

Array = NDArray[Any]
#: (sum of the examples' losses, what to divide it by), as scalars.
Loss = Callable[..., tuple[Any, Any]]

_VALIDATION_BATCH = 4096


class Descent(NamedTuple):
    """What a training came to: the weights of its best epoch, and the losses of all epochs."""

    weights: Weights
    curves: dict[str, list[float]]
    metrics: dict[str, float]


def descend(
    network: Any,
    loss: Loss,
    train: Sequence[Array],
    validate: Sequence[Array],
    how: FitOptions,
    watch: Watch,
    *,
    phase: str = "training",
    optimizer: Any = None,
    judged_by: Loss | None = None,
) -> Descent:
    """Train a Keras model and keep the weights of its best epoch.

    The network keeps the weights of its last epoch; use those returned.

    Args:
        network: untrained, float32, its initial weights decided by a seed.
        loss: of a batch, one tensor per array of `train`, as a graph function that calls `network`.
        train, validate: arrays of one length each; a batch is the same rows of every one.
        how: epochs, batch, learning rate, patience, seed.
        watch: told after every epoch; keeps a checkpoint of each.
        phase: name for the progress.
        optimizer: a Keras optimizer; Adam where none is given.
        judged_by: the loss on validation, where it differs from that of training.

    Raises:
        TrainingError: the loss stopped being a number, or there is nothing to learn from.
    """
    if not len(train[0]) or not len(validate[0]):
        raise TrainingError(
            f"{len(train[0])} examples to train and {len(validate[0])} to validate on.",
            "Record more vehicles, or a longer time.",
        )
    tf = tensorflow()
    optimizer = optimizer or tf.keras.optimizers.Adam(how.learning_rate)
    optimizer.build(network.trainable_variables)
    signature = [tf.TensorSpec((None, *one.shape[1:]), one.dtype) for one in train]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(*batch: Any) -> Any:
        with tf.GradientTape() as tape:
            total, weight = loss(*batch)
            mean = total / tf.maximum(weight, 1e-9)
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(mean, variables), variables)
        return total, weight

    measure = tf.function(judged_by or loss, input_signature=signature)

    def validation_loss() -> float:
        sums = np.zeros(2)
        for first in range(0, len(validate[0]), _VALIDATION_BATCH):
            rows = slice(first, first + _VALIDATION_BATCH)
            sums += [float(part) for part in measure(*(one[rows] for one in validate))]
        return float(sums[0] / max(sums[1], 1e-9))

    state = _State(network, optimizer)
    watch.progress(phase, state.restore(watch), how.epochs)
    while len(state.losses) < how.epochs and state.since < how.patience:
        epoch = len(state.losses) + 1
        order = np.random.default_rng((how.seed, epoch)).permutation(len(train[0]))
        sums = np.zeros(2)
        for first in range(0, len(order), how.batch):
            rows = order[first : first + how.batch]
            sums += [float(part) for part in step(*(one[rows] for one in train))]
        state.ended(float(sums[0] / max(sums[1], 1e-9)), validation_loss())
        watch.checkpoint(epoch, state.arrays())
        watch.progress(
            phase, epoch, how.epochs, f"validation loss {state.validation_losses[-1]:.4f}"
        )
    watch.progress(phase, how.epochs, how.epochs, f"best of {len(state.losses)} epochs is kept")
    best = int(np.argmin(state.validation_losses))
    return Descent(
        state.best,
        {"loss": state.losses, "validation_loss": state.validation_losses},
        {
            "loss": state.losses[best],
            "validation_loss": state.validation_losses[best],
            "epochs": float(len(state.losses)),
        },
    )


class _State:
    """Where a training stands, as arrays that can be kept and restored."""

    def __init__(self, network: Any, optimizer: Any) -> None:
        self._network = network
        #: Not the weights alone: dropout keeps the state of its random numbers here too.
        self._variables = [*network.variables, *optimizer.variables]
        self.best: Weights = {}
        self.losses: list[float] = []
        self.validation_losses: list[float] = []
        #: Epochs since the best one.
        self.since = 0

    def ended(self, loss: float, validation_loss: float) -> None:
        """Take an epoch's losses in."""
        if not np.isfinite([loss, validation_loss]).all():
            raise TrainingError(
                f"The loss is {loss}, {validation_loss} on validation, after epoch "
                f"{len(self.losses) + 1}.",
                "Lower the learning rate.",
            )
        if validation_loss < min(self.validation_losses, default=np.inf):
            self.since, self.best = 0, weights_of(self._network)
        else:
            self.since += 1
        self.losses.append(loss)
        self.validation_losses.append(validation_loss)

    def arrays(self) -> dict[str, Array]:
        """All of it."""
        return {
            "losses": np.array([self.losses, self.validation_losses]),
            "since": np.array(self.since),
            **{f"best/{name}": value for name, value in self.best.items()},
            **{f"now/{n}": np.asarray(one) for n, one in enumerate(self._variables)},
        }

    def restore(self, watch: Watch) -> int:
        """Go on where an interrupted run stood; returns the epochs that are done."""
        kept = watch.resume()
        if kept is None:
            return 0
        epoch, arrays = kept
        self.losses, self.validation_losses = arrays["losses"].tolist()
        self.since = int(arrays["since"])
        self.best = {
            name.removeprefix("best/"): value
            for name, value in arrays.items()
            if name.startswith("best/")
        }
        for number, one in enumerate(self._variables):
            one.assign(arrays[f"now/{number}"])
        return epoch


def weights_of(network: Any) -> Weights:
    """A network's weights by layer and name, float32."""
    return {
        name: np.asarray(variable, dtype=np.float32) for name, variable in _named(network).items()
    }


def set_weights(network: Any, weights: Weights, architecture: str) -> None:
    """Give a network its weights.

    Raises:
        ModelRefusedError: they are not those of this architecture.
    """
    variables = _named(network)
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: value.shape for name, value in weights.items()}
    if found != expected:
        raise ModelRefusedError(
            f"The weights do not fit {architecture}: expected {expected}, found {found}."
        )
    for name, variable in variables.items():
        variable.assign(weights[name])


def _named(network: Any) -> dict[str, Any]:
    return {variable.path: variable for variable in network.weights}
