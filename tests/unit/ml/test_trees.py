"""Trees as arrays say what scikit-learn's own say, and broken files are refused."""

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (  # type: ignore[import-untyped]
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.models.trees import Forest
from motorcade.ml.windows import Floats32

COLUMNS = 12


def rows(n: int = 1500, seed: int = 0) -> Floats32:
    """Columns with gaps; one is either there or not, one holds few values."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(n, COLUMNS)).astype(np.float32)
    found[rng.random(found.shape) < 0.1] = np.nan
    found[:, 3] = np.where(rng.random(n) < 0.5, np.nan, 1.0)
    found[:, 4] = rng.integers(0, 4, n)
    return found


def causes(found: Floats32) -> Any:
    whole = np.nan_to_num(found)
    return whole[:, 0] + whole[:, 1] ** 2 + 2 * np.isnan(found[:, 3]) + (whole[:, 4] == 2)


FOUND = rows()
MODELS = {
    "binary": HistGradientBoostingClassifier(max_iter=12).fit(FOUND, causes(FOUND) > 2),
    "kinds": HistGradientBoostingClassifier(max_iter=6).fit(
        FOUND, np.digitize(causes(FOUND), (0, 1.5, 3))
    ),
    "regression": HistGradientBoostingRegressor(max_iter=12).fit(FOUND, causes(FOUND)),
}


@pytest.mark.parametrize("name", MODELS)
def test_raw_predictions_are_those_of_scikit_learn(name: str) -> None:
    forest = Forest.of(MODELS[name])
    for found in (FOUND, rows(seed=1), np.full((1, COLUMNS), np.nan, np.float32)):
        expected = MODELS[name]._raw_predict(found).reshape(len(found), -1)
        np.testing.assert_allclose(forest.predict(found), expected, rtol=0, atol=1e-12)


def test_a_value_on_a_threshold_goes_the_way_that_it_went_in_training() -> None:
    forest = Forest.of(MODELS["regression"])
    tree = MODELS["regression"]._predictors[0][0].nodes
    threshold = tree["num_threshold"][(tree["feature_idx"] == 0) & (tree["is_leaf"] == 0)][0]
    near = np.float32(threshold)
    found = np.zeros((3, COLUMNS), np.float32)
    found[:, 0] = np.nextafter(near, np.float32(-9)), near, np.nextafter(near, np.float32(9))
    expected = MODELS["regression"].predict(found)
    np.testing.assert_allclose(forest.predict(found)[:, 0], expected, rtol=0, atol=1e-12)


def test_a_question_whether_a_value_is_there_keeps_its_answer() -> None:
    found = np.full((400, 1), np.nan, np.float32)
    found[:200] = 7.0
    model = HistGradientBoostingRegressor(max_iter=1).fit(found, np.isnan(found[:, 0]))
    weights = Forest.of(model).weights("life")
    assert all(np.isfinite(array).all() for array in weights.values())
    forest = Forest.from_weights(weights, "life", 1)
    most = np.array([[np.nan], [7.0], [np.finfo(np.float32).max]], np.float32)
    np.testing.assert_allclose(forest.predict(most)[:, 0], model.predict(most), atol=1e-12)


def test_a_row_gets_the_same_prediction_in_any_batch() -> None:
    forest = Forest.of(MODELS["kinds"])
    whole = forest.predict(FOUND)
    for size in (1, 7, 640):
        parts = [forest.predict(FOUND[i : i + size]) for i in range(0, 700, size)]
        np.testing.assert_array_equal(np.concatenate(parts)[:700], whole[:700])


def test_stored_trees_come_back_whole() -> None:
    forest = Forest.of(MODELS["kinds"])
    again = Forest.from_weights(forest.weights("kind"), "kind", COLUMNS)
    np.testing.assert_array_equal(again.predict(FOUND), forest.predict(FOUND))


BROKEN: dict[str, tuple[str, Any]] = {
    "a child before its parent": ("child", lambda array: array * 0),
    "a child beyond the nodes": ("child", lambda array: array + len(array)),
    "a column that is none": ("feature", lambda array: array + COLUMNS),
    "a root that is no node": ("roots", lambda array: array - 1),
    "fewer values than nodes": ("value", lambda array: array[1:]),
    "positions that are no whole numbers": ("child", lambda array: array.astype(np.float64)),
    "a tree without its output": ("roots", lambda array: array[1:]),
}


@pytest.mark.parametrize("flaw", BROKEN)
def test_arrays_that_are_no_trees_are_refused(flaw: str) -> None:
    name, change = BROKEN[flaw]
    weights = Forest.of(MODELS["kinds"]).weights("kind")
    weights[f"kind/{name}"] = change(weights[f"kind/{name}"])
    with pytest.raises(ModelRefusedError, match="kind"):
        Forest.from_weights(weights, "kind", COLUMNS)


def test_lacking_arrays_are_named() -> None:
    weights = Forest.of(MODELS["binary"]).weights("failure")
    del weights["failure/roots"]
    with pytest.raises(ModelRefusedError, match="failure/roots"):
        Forest.from_weights(weights, "failure", COLUMNS)
