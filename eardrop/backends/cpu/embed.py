"""Rows of the embedding, straight from the blocks of the file."""

from functools import cache
from typing import Any

import numpy as np

from eardrop.backends.cpu.flow import Kernel, kernel, loop
from eardrop.backends.cpu.running import Floats, Ints, Run
from eardrop.backends.cpu.strips import strips
from eardrop.backends.cpu.types import F32, I32, I64, PTR, Type
from eardrop.backends.cpu.unpack import GROUP, QUADS, UNPACKINGS, Group
from eardrop.backends.cpu.vector import Value

_SHAPE = {"y": PTR, "ids": PTR, "w": PTR, "stride": I64, "k": I64}
_EACH = tuple(lane * QUADS // GROUP for lane in range(GROUP))  # the quad of each value


@cache
def blocked(name: str) -> Kernel:
    """y[i] = the values of row ids[i] of a block format; items are ids."""
    unpacking = UNPACKINGS[name]

    @kernel(f"embed_{name.lower()}", **_SHAPE)
    def rows(p: Any, lo: Value, hi: Value) -> None:
        for i in loop(lo, hi):
            row, y = p.w + p.ids.load(I32, i * 4).to(I64) * p.stride, p.y + i * p.k * 4
            for at in loop(0, p.k, unpacking.values):
                for number, group in enumerate(unpacking.groups(row + at // unpacking.values * unpacking.step)):
                    y.store(_values(group, unpacking.offset), (at + number * GROUP) * 4)

    return rows


def _values(group: Group, offset: int) -> Value:
    values = (group.q.to(F32) - float(offset)) * group.scale.lanes(*_EACH)
    return values if group.minimum is None else values + group.minimum.lanes(*_EACH)


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
    y = np.empty((len(ids), columns), np.float32)
    run(kernel_, [y, ids, w, w.strides[0], columns], len(ids), 8)
    return y
