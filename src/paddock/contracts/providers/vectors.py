"""The type of vectors; numpy is imported by those who compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]  # shape (n, dimension), C-contiguous
else:
    Vectors = Any
