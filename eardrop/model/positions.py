"""Relative positions (Dai et al. 2019; spec §5): how far a row is from another, as sines, projected by every layer.

What a layer makes of a distance is the same in every clip, so it is kept for the next: 8 % of the encoder's products.
"""

from dataclasses import dataclass, field

import numpy as np

from eardrop.ops import Array, Float32
from eardrop.ops.backend import Backend, Weight

FEWEST = 16  # rows of a clip whose positions are kept: a backend may multiply fewer with other roundings
MOST = 512  # 41 s, 35 MB in a model of 17 layers


@dataclass
class Positions:
    """Of one encoder, where its backend computes: what it was asked for last, and the most that is worth keeping.

    Threads may ask at once: each puts down only what is complete, and whichever comes last is right.
    """

    width: int
    sines: tuple[int, Array] = (0, None)  # of a clip with so many rows
    projected: dict[int, tuple[int, Array]] = field(default_factory=dict)  # the same, by the identity of the weight

    def of(self, w: Weight, rows: int, ops: Backend) -> Array:
        """(2·rows − 1, D): w's projection of the distances from rows − 1 to 1 − rows."""
        if not FEWEST <= rows <= MOST:
            return ops.linear(self._sines(rows, ops), w)
        kept, p = self.projected.get(id(w), (0, None))
        if kept < rows:
            kept, p = rows, ops.linear(self._sines(rows, ops), w)
            self.projected[id(w)] = kept, p
        return p[kept - rows : kept + rows - 1]

    def _sines(self, rows: int, ops: Backend) -> Array:
        known, table = self.sines
        if known != rows:
            table = ops.upload(relative_positions(rows, self.width))
            self.sines = rows, table
        return table


def relative_positions(rows: int, width: int) -> Float32:
    """(2·rows − 1, width): row m is the distance rows − 1 − m as sines (even columns) and cosines (odd)."""
    distance = np.arange(rows - 1, -rows, -1, dtype=np.float64)[:, None]
    angles = distance * np.exp(np.arange(0, width, 2) * (-np.log(10_000.0) / width))
    table = np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(2 * rows - 1, width)
    return table.astype(np.float32)
