"""Avro samples back to back in one payload, found in columns over many payloads at once.

A frame is one record in Confluent's wire format. Nothing in it tells its length, so the end of one
is found by walking over its fields: a front of constant width, then the longs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Ints
from motorcade.fleet.columns import HEADER, MAGIC, MAX_VARINT, VIN_LENGTH_BYTE, RecordLayout

#: The layout of a writer's schema id; None where it is not known.
LayoutOf = Callable[[int], RecordLayout | None]


class Frames(NamedTuple):
    """The frames of n payloads.

    payload: (m,) position of the payload each frame is of. frames: m frames' own bytes, those of a
    payload in their order. broken: payloads that are not whole frames, and why; they have none.
    """

    payload: Ints
    frames: list[bytes]
    broken: dict[int, str]


def split(payloads: Sequence[bytes], layout_of: LayoutOf) -> Frames:
    """The frames of payloads, each of which is to hold one or more and nothing else."""
    n = len(payloads)
    lengths = np.fromiter(map(len, payloads), dtype=np.int64, count=n)
    data = b"".join(payloads)
    flat = np.frombuffer(data + bytes(HEADER + 1), dtype=np.uint8)
    ends = np.cumsum(lengths)
    position = ends - lengths
    broken: dict[int, str] = {}
    rounds: list[tuple[Ints, Ints, Ints]] = []
    walking = np.arange(n)
    while len(walking):
        at, end = position[walking], ends[walking]
        after, problems = _ends(flat, at, end, layout_of)
        broken |= {int(walking[row]): problem for row, problem in problems.items()}
        fine = np.ones(len(walking), dtype=bool)
        fine[list(problems)] = False
        walking, at, after, end = walking[fine], at[fine], after[fine], end[fine]
        rounds.append((walking, at, after))
        position[walking] = after
        walking = walking[after < end]
    payload, starts, stops = (np.concatenate(part) for part in zip(*rounds, strict=True))
    order = np.argsort(payload, kind="stable")
    if broken:
        order = order[~np.isin(payload[order], list(broken))]
    bounds = zip(starts[order].tolist(), stops[order].tolist(), strict=True)
    return Frames(payload[order], [data[a:b] for a, b in bounds], broken)


def _ends(
    flat: NDArray[np.uint8], at: Ints, end: Ints, layout_of: LayoutOf
) -> tuple[Ints, dict[int, str]]:
    """Where the frames that begin at `at` end, and what is wrong with some."""
    problems: dict[int, str] = {}

    def note(bad: Bools, problem: str) -> None:
        for row in np.flatnonzero(bad).tolist():
            problems.setdefault(row, problem)

    head = flat[np.minimum(at[:, None] + np.arange(HEADER + 1), len(flat) - 1)]
    note(at + HEADER >= end, "it is cut short")
    note(head[:, 0] != MAGIC, "a sample does not begin with a zero byte and a schema id")
    numbers = head[:, 1:HEADER].copy().view(">u4").reshape(len(at)).astype(np.int64)
    widths, longs = np.zeros(len(at), dtype=np.int64), np.zeros(len(at), dtype=np.int64)
    for number in np.unique(numbers).tolist():
        layout = layout_of(number)
        mine = numbers == number
        if layout is None:
            note(mine, f"the schema {number} is not one of telemetry")
        else:
            widths[mine], longs[mine] = layout.width, len(layout.longs)
    note(head[:, HEADER] != VIN_LENGTH_BYTE, "vin is not 17 characters")
    after = at + widths
    for column in range(int(longs.max(initial=0))):
        after, whole = _skip(flat, after, end, longs > column)
        note(~whole, "it is cut short")
    note(after > end, "it is cut short")
    return after, problems


def _skip(flat: NDArray[np.uint8], at: Ints, end: Ints, take: Bools) -> tuple[Ints, Bools]:
    """The position after a varint at each of `at` where it is to be taken, and whether it ends."""
    at = at.copy()
    open_ = take & (at < end)
    whole = ~take | open_
    for _ in range(MAX_VARINT):
        more = open_ & (flat[np.minimum(at, len(flat) - 1)] >= 0x80)
        at += open_
        open_ = more
        if not open_.any():
            return at, whole & (at <= end)
    return at, whole & ~open_ & (at <= end)
