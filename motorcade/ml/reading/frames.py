"""Recorded telemetry as a pandas frame, for looking at it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from motorcade.fleet.arrays import Bools
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]


def frame(
    batches: Iterable[TelemetryColumns],
    catalogue: Catalogue,
    keep: Callable[[TelemetryColumns], Bools] | None = None,
) -> "pd.DataFrame":
    """All rows, or those that are wanted, in their order.

    Args:
        batches: what to read, such as a reader.
        catalogue: the signals that the batches are laid out by.
        keep: the rows of a batch that are wanted, shape (n,); None: all.

    Returns:
        A row per record: `vin` (category), `boot`, `seq`, `time` (event time, UTC), `due`, then
        the signals in catalogue order, NaN where absent. Some 250 bytes a row.
    """
    import pandas as pd

    parts = [batch if keep is None else batch.take(keep(batch)) for batch in batches]
    rows = TelemetryColumns.joined(parts) if parts else _nothing(catalogue)
    vins, code = np.unique(rows.vin, return_inverse=True)
    identity = {
        "vin": pd.Categorical.from_codes(code, vins.astype(str)),
        "boot": rows.boot,
        "seq": rows.seq,
        "time": pd.to_datetime(rows.time, unit="ms", utc=True),
        "due": rows.due,
    }
    signals = {name: rows.values[:, n] for n, name in enumerate(catalogue.names)}
    return pd.DataFrame({**identity, **signals})


def _nothing(catalogue: Catalogue) -> TelemetryColumns:
    none = np.empty(0, dtype=np.int64)
    return TelemetryColumns(
        np.empty(0, dtype="S17"), np.empty((0, len(catalogue.names))), none, none, none, none
    )
