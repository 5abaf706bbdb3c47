"""Chance that depends on (seed, car, counter) alone: counter-based random numbers for arrays.

No generator is shared or carries state, so a car draws the same numbers whatever block or worker
it runs in. The mixer is SplitMix64's finaliser with Stafford's constants "Mix13" (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; D. Stafford, "Better bit
mixing", 2011).
"""

from functools import lru_cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Floats, Ints

Words: TypeAlias = NDArray[np.uint64]

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLY_1 = 0xBF58476D1CE4E5B9
_MULTIPLY_2 = 0x94D049BB133111EB
#: Normal numbers come from a table over 16 bits, so they stay within ±4.2 standard deviations.
_TABLE_BITS = 16


def _mix_one(word: int) -> int:
    word &= _MASK
    word = ((word ^ (word >> 30)) * _MULTIPLY_1) & _MASK
    word = ((word ^ (word >> 27)) * _MULTIPLY_2) & _MASK
    return word ^ (word >> 31)


def _mix(words: Words) -> Words:
    """Mix in place and return; the caller owns the array."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(_MULTIPLY_1)
    words ^= words >> np.uint64(27)
    words *= np.uint64(_MULTIPLY_2)
    words ^= words >> np.uint64(31)
    return words


def _offset(counter: int, stream: int) -> np.uint64:
    return np.uint64(_mix_one(_mix_one(counter * _GOLDEN + 1) + stream * _MULTIPLY_2))


@lru_cache(maxsize=1)
def _normal_table() -> Floats:
    """Quantiles of the standard normal at the middle of each of 2**16 equal steps."""
    coarse = 4096
    at = [(i + 0.5) / coarse for i in range(coarse)]
    ends = 0.5 / 2**_TABLE_BITS
    at = [ends, *at, 1 - ends]
    quantile = NormalDist().inv_cdf
    fine = (np.arange(2**_TABLE_BITS) + 0.5) / 2**_TABLE_BITS
    return np.interp(fine, at, [quantile(p) for p in at])


def car_keys(seed: int, indices: Ints) -> Words:
    """One key for each car of the fleet of `seed`, shape (n,), from which all its chance flows."""
    words = indices.astype(np.uint64) * np.uint64(_GOLDEN)
    words += np.uint64(_mix_one(seed * _GOLDEN + 2))
    return _mix(_mix(words))


def uniforms(keys: Words, counter: int | Ints, stream: int) -> Floats:
    """Uniform numbers in [0, 1), shape (n,); `counter` is one for all cars or one for each."""
    if isinstance(counter, int):
        words = keys + _offset(counter, stream)
    else:
        words = counter.astype(np.uint64) * np.uint64(_GOLDEN)
        words += _offset(0, stream)
        words = keys + _mix(words)
    return (_mix(words) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(keys: Words, counter: int, stream: int, count: int) -> Floats:
    """Standard normal numbers, shape (count, n), each within ±4.2.

    They take the words of `stream`, `stream` + 64 and so on; uniforms of those streams and the same
    counter are not independent of them.
    """
    groups = -(-count // 4)
    offsets = np.array([_offset(counter, stream + 64 * g) for g in range(groups)], np.uint64)
    words = _mix(keys[np.newaxis, :] + offsets[:, np.newaxis])
    sixteenths = words.view(np.uint16).reshape(groups, len(keys), 4)
    drawn = _normal_table().take(sixteenths).transpose(0, 2, 1).reshape(groups * 4, len(keys))
    return drawn[:count]
