"""Array types by name: what a column holds."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
#: Fixed-width byte strings, such as vehicle ids (S17).
Ids: TypeAlias = NDArray[np.bytes_]
