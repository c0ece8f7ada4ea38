"""Rotary positions. An angle is a part of a turn in 64-bit whole numbers: whole turns fall off at the top.

The reference takes angles in float64 too; float32 angles would lose 2⁻⁹ at position 2¹⁵.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from eardrop.backends.cpu.flow import kernel, loop
from eardrop.backends.cpu.maths import fma, sine_and_cosine
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run, chunk
from eardrop.backends.cpu.strips import strips
from eardrop.backends.cpu.types import F32, I32, I64, PTR
from eardrop.backends.cpu.vector import Value


@kernel("rope", y=PTR, x=PTR, positions=PTR, steps=PTR, heads=I64, half=I64)
def rope_heads(p: Any, lo: Value, hi: Value) -> None:
    """Turn (x[i], x[i + half]) by position · steps[i]; items are heads of rows, `heads` of them to a position."""
    for item in loop(lo, hi):
        position = p.positions.load(I32, item // p.heads * 4).to(I64)
        x, y, other = p.x + item * p.half * 8, p.y + item * p.half * 8, p.half * 4
        for strip in strips(0, p.half):
            turns = (strip.load(p.steps, I64) * position >> 32).to(I32).to(F32) * 2.0**-32
            sine, cosine = sine_and_cosine(turns)
            low, high = strip.load(x), strip.load(x + other)
            strip.store(y, fma(low, cosine, -(high * sine)))
            strip.store(y + other, fma(low, sine, high * cosine))


@lru_cache(maxsize=8)
def _steps(base: float, half: int) -> npt.NDArray[np.int64]:
    """Turns from one position to the next, in 2⁻⁶⁴."""
    turns = np.power(base, -np.arange(half) / half) / (2 * np.pi)
    return np.round(turns * 2.0**64).astype(np.int64)


def rope(run: Run, x: Floats, positions: Ints, base: float) -> Floats:
    """As the operation of this name."""
    rows, heads, d = x.shape
    y = empty(x.shape)
    run(rope_heads, [y, x, positions, _steps(base, d // 2), heads, d // 2], rows * heads, chunk(d))
    return y
