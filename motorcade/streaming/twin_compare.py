"""Whether two twins say the same, such as one that lived and one that was rebuilt."""

from collections.abc import Iterable
from typing import Any

from motorcade.streaming.twin_store import ORDER, Store


def differences(first: Store, second: Store) -> list[str]:
    """What differs between two twins, row by row; empty when they are equal."""
    found: list[str] = []
    for table in ORDER:
        keys = [column.name for column in table.primary_key.columns]
        a, b = _by_key(first.rows(table), keys), _by_key(second.rows(table), keys)
        found += [
            f"{table.name} {key}: {a.get(key)} is not {b.get(key)}"
            for key in sorted(a.keys() | b.keys())
            if a.get(key) != b.get(key)
        ]
    return found


def _by_key(
    rows: Iterable[dict[str, Any]], keys: list[str]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(row[key] for key in keys): row for row in rows}
