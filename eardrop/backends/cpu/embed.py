"""Rows of the embedding, straight from the blocks of the file."""

from functools import cache
from typing import Any

from eardrop.backends.cpu.flow import Kernel, kernel, loop
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run
from eardrop.backends.cpu.strips import strips
from eardrop.backends.cpu.types import F32, I32, I64, PTR, U8, Type
from eardrop.backends.cpu.unpack import QUAD, Unpacking, scatter
from eardrop.backends.cpu.vector import Value

_SHAPE = {"y": PTR, "ids": PTR, "w": PTR, "stride": I64, "k": I64}


@cache
def blocked(unpacking: Unpacking) -> Kernel:
    """y[i] = the values of row ids[i] of a block format; items are ids."""

    @kernel(f"embed_{unpacking.name}", **_SHAPE)
    def rows(p: Any, lo: Value, hi: Value) -> None:
        for i in loop(lo, hi):
            row, y = p.w + p.ids.load(I32, i * 4).to(I64) * p.stride, p.y + i * p.k * 4
            for span in loop(0, p.k // unpacking.values):
                _expand(unpacking, row + span * unpacking.step, y + span * (4 * unpacking.values))

    return rows


def _expand(unpacking: Unpacking, span: Value, y: Value) -> None:
    """The values of a span, a quad at a time to its place."""
    minima = unpacking.minima(span) if unpacking.minima else None
    offset = float(unpacking.offset if unpacking.element == U8 else 0)
    for group, order in zip(unpacking.groups(span), unpacking.order, strict=True):
        for part, quads in zip(group.parts, order, strict=True):
            each = tuple(lane for lane in range(len(quads)) for _ in range(QUAD))
            values = (part.to(F32) - offset) * group.scale.lanes(*each)
            if minima is not None:
                values = values + minima.lanes(*(quads[lane] * QUAD // unpacking.unit for lane in each))
            scatter(y, values, quads)


@cache
def plain(element: Type) -> Kernel:
    """y[i] = row ids[i] of a matrix of float32, float16 or bfloat16; items are ids."""

    @kernel(f"embed_{element.name}", **_SHAPE)
    def rows(p: Any, lo: Value, hi: Value) -> None:
        for i in loop(lo, hi):
            row = p.w + p.ids.load(I32, i * 4).to(I64) * p.stride
            for strip in strips(0, p.k):
                strip.store(p.y + i * p.k * 4, strip.load(row, element))

    return rows


def embed(run: Run, kernel_: Kernel, ids: Ints, w: Any, columns: int) -> Floats:
    """As the operation of this name, of rows that lie `w.strides[0]` bytes apart."""
    assert not len(ids) or 0 <= ids.min() <= ids.max() < len(w), "an id beyond the vocabulary"
    y = empty((len(ids), columns))
    run(kernel_, [y, ids, w, w.strides[0], columns], len(ids), 8)
    return y
