"""Boosted trees as arrays: what scikit-learn learnt, stored and evaluated without it.

A model file holds numbers only, so the trees are kept as columns of nodes, and NumPy walks all
trees of a batch at once. scikit-learn's predictions are the reference (tests compare the two).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Floats
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.store import Weights
from motorcade.ml.windows import Floats32

#: Rows × trees that are walked together, so that the positions stay in the processor's cache.
_CHUNK = 1 << 16


class _Tables(NamedTuple):
    """What a walk looks up, by node; columns are those of `_doubled` rows."""

    column: NDArray[np.int32]
    threshold: Floats32
    first_child: NDArray[np.int32]


@dataclass(frozen=True)
class Forest:
    """Trees whose leaves add up, for one or several outputs.

    The two children of a node stand side by side. A row goes to the second one where its value is
    greater than the threshold; absent values go where training found that they belong.

    feature: (nodes,) column that a node asks. threshold: (nodes,) float32. child: (nodes,) the
    first child, a leaf names itself. missing_first: (nodes,) 1 where an absent value goes to the
    first child. value: (nodes,) what a leaf adds, 0 elsewhere.
    roots: (trees,), tree t adds to output t modulo outputs. baseline: (outputs,).
    """

    feature: NDArray[np.int32]
    threshold: Floats32
    child: NDArray[np.int32]
    missing_first: NDArray[np.int32]
    value: Floats
    roots: NDArray[np.int32]
    baseline: Floats

    @classmethod
    def of(cls, model: Any) -> "Forest":
        """The trees of a fitted HistGradientBoostingClassifier or -Regressor.

        Thresholds are rounded down to float32, which decides every float32 value as before.
        """
        trees = [tree.nodes for iteration in model._predictors for tree in iteration]
        parts = [_ordered(nodes) for nodes in trees]
        sizes = np.array([len(part[0]) for part in parts])
        roots = np.r_[0, np.cumsum(sizes)[:-1]].astype(np.int32)
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        columns[2] = columns[2] + np.repeat(roots, sizes)
        feature, threshold, child, missing, value = columns
        return cls(
            feature.astype(np.int32),
            _rounded_down(threshold),
            child.astype(np.int32),
            missing.astype(np.int32),
            value.astype(np.float64),
            roots,
            np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1),
        )

    @classmethod
    def from_weights(cls, weights: Weights, prefix: str, features: int) -> "Forest":
        """The trees that `weights` gave.

        Raises:
            ModelRefusedError: arrays are missing, do not fit each other, ask for a column beyond
                `features`, or do not make up trees.
        """
        try:
            arrays = [weights[f"{prefix}/{name}"] for name in cls.__dataclass_fields__]
        except KeyError as error:
            raise ModelRefusedError(f"The weights lack {error.args[0]}.") from error
        forest = cls(*arrays)
        if (flaw := forest._flaw(features)) is not None:
            raise ModelRefusedError(f"The trees {prefix!r} are not whole: {flaw}.")
        return forest

    def weights(self, prefix: str) -> Weights:
        """The arrays by name."""
        return {f"{prefix}/{name}": getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def outputs(self) -> int:
        """Numbers that a row gets."""
        return len(self.baseline)

    @cached_property
    def depth(self) -> int:
        """Questions of the longest way from a root to a leaf."""
        here, depth = self.roots, 0
        while len(here := here[self.child[here] != here]):
            first = self.child[here]
            here, depth = np.concatenate([first, first + 1]), depth + 1
        return depth

    def predict(self, rows: Floats32) -> Floats:
        """Raw predictions, shape (n, outputs), of rows (n, columns), NaN where absent."""
        out = np.empty((len(rows), self.outputs))
        step = max(1, _CHUNK // len(self.roots))
        for first in range(0, len(rows), step):
            leaves = self._walk(rows[first : first + step])
            values = self.value[leaves].reshape(len(leaves), -1, self.outputs)
            out[first : first + step] = values.sum(axis=1)
        return out + self.baseline

    def _walk(self, rows: Floats32) -> NDArray[np.int32]:
        """The leaf of each row in each tree, shape (n, trees)."""
        doubled = _doubled(rows)
        start = (np.arange(len(rows), dtype=np.int32) * doubled.shape[1])[:, None]
        values = doubled.ravel()
        column, threshold, first_child = self._tables
        here = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        for _ in range(self.depth):
            asked = values.take(start + column.take(here))
            here = first_child.take(here) + (asked > threshold.take(here))
        return here

    @cached_property
    def _tables(self) -> _Tables:
        leaf = self.child == np.arange(len(self.child))
        column = 2 * self.feature + (self.missing_first == 0)
        return _Tables(
            np.where(leaf, 0, column).astype(np.int32),
            # Nothing is greater, so a row stays at its leaf.
            np.where(leaf, np.float32(np.inf), self.threshold).astype(np.float32),
            self.child,
        )

    def _flaw(self, features: int) -> str | None:
        """What is wrong with arrays from a file; a walk must neither leave them nor turn round."""
        columns = (self.feature, self.threshold, self.child, self.missing_first, self.value)
        nodes = len(self.child)
        if any(part.shape != (nodes,) for part in columns) or not nodes:
            return "the columns of nodes differ in length"
        if any(part.dtype.kind != "i" for part in (self.feature, self.child, self.roots)):
            return "positions are not whole numbers"
        if self.baseline.ndim != 1 or self.roots.ndim != 1 or not len(self.baseline):
            return "the baseline or the roots are no row"
        if not len(self.roots) or len(self.roots) % len(self.baseline):
            return f"{len(self.roots)} trees for {len(self.baseline)} outputs"
        if self.feature.min() < 0 or self.feature.max() >= features:
            return f"a column is not among the {features}"
        if self.roots.min() < 0 or self.roots.max() >= nodes:
            return "a root is not among the nodes"
        own = np.arange(nodes)
        inner = self.child != own
        # Children stand after their parent, so that every way ends.
        if (self.child[inner] <= own[inner]).any() or (self.child[inner] + 1 >= nodes).any():
            return "a child is not among the nodes after its parent"
        return None


def _doubled(rows: Floats32) -> Floats32:
    """Each column twice, absent values as -inf and as +inf, shape (n, 2 · columns).

    A node that sends absent values to its first child reads the first, the others the second: so
    a walk needs no question whether a value is there.
    """
    doubled = np.repeat(rows, 2, axis=1).reshape(*rows.shape, 2)
    absent = np.isnan(rows)
    doubled[absent] = (-np.inf, np.inf)
    return doubled.reshape(len(rows), -1)


def _ordered(nodes: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """A tree's columns, breadth first, so that siblings stand side by side and after the parent."""
    order, level = [0], [0]
    while level:
        inner = [node for node in level if not nodes["is_leaf"][node]]
        level = [int(nodes[side][node]) for node in inner for side in ("left", "right")]
        order += level
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    tree = nodes[order]
    leaf = tree["is_leaf"] > 0
    child = np.where(leaf, np.arange(len(tree)), place[np.where(leaf, 0, tree["left"])])
    value = np.where(leaf, tree["value"], 0.0)
    return tree["feature_idx"], tree["num_threshold"], child, tree["missing_go_to_left"], value


def _rounded_down(threshold: Floats) -> Floats32:
    """The largest float32 that is not greater; +inf ("all that is present") the largest of all."""
    most = np.finfo(np.float32).max
    near = np.clip(threshold, -most, most).astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    rounded: Floats32 = np.where(near > threshold, below, near).astype(np.float32)
    return rounded
