"""A named weight: the blocks of a tensor, from a file or made in memory, and their values.

shape (V, D), NumPy's order     the file has ne = [D, V], fastest first
raw   (V, bytes of a row)       the blocks; a row is whole blocks, and rows lie one after another
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eardrop.errors import ModelFileError
from eardrop.gguf.formats import F32, BlockFormat, Floats
from eardrop.gguf.quantize import quantize
from eardrop.printable import printable

SLAB = 1 << 20  # values dequantized at a time: their scratch stays in cache, and small beside the result


@dataclass(frozen=True, eq=False)
class GgufTensor:
    """The blocks of one weight.

    shape  NumPy's order, slowest first; () is one value
    raw    (rows, bytes of a row) uint8, rows being the product of all dimensions but the last; of a file a
           read-only view of the mapping, which lives as long as the view
    """

    name: str
    shape: tuple[int, ...]
    format: BlockFormat
    raw: NDArray[np.uint8] = field(repr=False)

    def __post_init__(self) -> None:
        rows, width = rows_and_width(self.shape)
        assert self.raw.shape == (rows, self.format.row_bytes(width)), f"{self.name}: {self.shape} in {self.raw.shape}"

    @classmethod
    def from_array(cls, name: str, array: ArrayLike, format: BlockFormat = F32) -> "GgufTensor":  # noqa: A002
        """A tensor made in memory, in any format of `QUANTIZERS`; its rows must be whole blocks."""
        values = np.asarray(array)
        return cls(name, values.shape, format, quantize(values.reshape(rows_and_width(values.shape)), format))

    @property
    def nbytes(self) -> int:
        """The size of the blocks."""
        return self.raw.nbytes

    @property
    def size(self) -> int:
        """How many values there are."""
        return math.prod(self.shape)

    def blocks(self) -> NDArray[Any]:
        """The blocks with their fields: (rows, blocks of a row) of `format.layout`, a view."""
        return self.raw.view(self.format.layout)

    def dequantize(self) -> Floats:
        """All values, float32 of `shape`. Of F32 it is a view of the blocks where alignment permits, else a copy."""
        return self._values(self.raw).reshape(self.shape)

    def dequantize_rows(self, rows: NDArray[Any] | slice) -> Floats:
        """The values of some rows: (rows chosen, width) float32, rows counted over all dimensions but the last."""
        return self._values(self.raw[rows])

    def _values(self, raw: NDArray[np.uint8]) -> Floats:
        dequantize = self.format.dequantize
        if dequantize is None:
            raise ModelFileError(
                f"tensor {printable(self.name)} is {self.format.name}, a format eardrop can list but not compute;"
                " give a file in another format, such as Q8_0 or Q4_K"
            )
        width = rows_and_width(self.shape)[1]
        if raw.size == 0 or self.format is F32:
            return dequantize(raw.reshape(-1).view(self.format.layout)).reshape(len(raw), width)
        values = np.empty((len(raw), width), np.float32)
        step = max(1, SLAB // width)
        for start in range(0, len(raw), step):
            slab = raw[start : start + step]
            values[start : start + step] = dequantize(slab.reshape(-1).view(self.format.layout)).reshape(
                len(slab), width
            )
        return values


def rows_and_width(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many rows a shape has, and how many values each; a scalar is one row of one."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1
