"""Products with a weight as it lies in the file: the exact path.

One weight row after another is unpacked, a span at a time, and multiplied with some rows of x together, until all rows
of x are done and the weight row leaves the cache. For each output the sums run over the spans in their order, in one
register, whose lanes are added halves first. Neither the number of rows nor that of threads changes it, so a row among
others has the bits of the row alone. Many rows are multiplied otherwise, in `panels.py`.
"""

from functools import cache
from typing import Any

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop
from eardrop.backends.cpu.maths import dot4, fma, total, widened
from eardrop.backends.cpu.operations import prefetch
from eardrop.backends.cpu.quantise import Layout, layout
from eardrop.backends.cpu.types import F32, I8, I32, I64, PTR, Type
from eardrop.backends.cpu.unpack import QUAD, Group, Unpacking
from eardrop.backends.cpu.vector import Value, zero

AHEAD = 2048  # bytes that are fetched before they are needed: memory answers in some hundred cycles
LANES = 16
SHAPE = {"bias": PTR, "y": PTR, "k": I64, "m": I64, "rows": I64, "first": I64, "n": I64}


@cache
def blocked(unpacking: Unpacking, together: int) -> Kernel:
    """Weight rows `lo` … `hi` of a block format with rows first … first + n of quantised x, `together` at a time."""
    to = layout(unpacking)

    @kernel(f"linear_{to.name}_{together}", w=PTR, stride=I64, x=PTR, **SHAPE)
    def product(p: Any, lo: Value, hi: Value) -> None:
        for row in loop(lo, hi):
            for first in loop(p.first, p.first + p.n, together):
                sums = [_Sum(unpacking, to) for _ in range(together)]
                for span in loop(0, p.k // to.values):
                    block = p.w + row * p.stride + span * unpacking.step
                    _fetch_ahead(block, unpacking.step)
                    x = p.x + (span * p.rows + first) * to.nbytes
                    lane = 0
                    for group in unpacking.groups(block):
                        for r, each in enumerate(sums):
                            each.add(group, x + r * to.nbytes, lane)
                        lane += group.scale.type.lanes
                    if unpacking.minima:
                        minima = unpacking.minima(block)
                        for r, each in enumerate(sums):
                            each.add_minima(minima, x + r * to.nbytes)
                _finish(p, row, first, [each.total() for each in sums])

    return product


class _Sum:
    """One output as it grows: Σ scale · x_scale · (whole numbers), and Σ minimum · (sum of x)."""

    def __init__(self, unpacking: Unpacking, to: Layout) -> None:
        self._to = to
        lanes = len(unpacking.order[0][0])
        self._products = Variable(zero(F32 * lanes))
        self._minima = Variable(zero(F32 * to.sums)) if to.sums else None

    def add(self, group: Group, x: Value, lane: int) -> None:
        """The products of a group whose first lane is the `lane`-th of its span; x is that span of a row."""
        to, lanes = self._to, group.scale.type.lanes
        place, whole = lane * len(group.parts) * QUAD, zero(I32 * lanes)
        if to.offset:
            whole = x.load(whole.type, to.starts_at + 4 * lane)
        for number, part in enumerate(group.parts):
            whole = dot4(part, x.load(I8 * (QUAD * lanes), place + number * QUAD * lanes), whole)
        scale = group.scale * x.load(F32 * lanes, to.scales_at + 4 * lane)
        self._products.value = fma(whole.to(F32), scale, self._products.value)

    def add_minima(self, minima: Value, x: Value) -> None:
        """The minima of a span, each by the sum of the x that it belongs to."""
        assert self._minima
        self._minima.value = fma(minima, x.load(minima.type, self._to.sums_at), self._minima.value)

    def total(self) -> Value:
        """The output."""
        return total(self._products.value) + total(self._minima.value) if self._minima else total(self._products.value)


@cache
def plain(element: Type, together: int) -> Kernel:
    """Weight rows `lo` … `hi` of float32, float16 or bfloat16 with rows first … first + n of float32."""

    @kernel(f"linear_{element.name}_{together}", w=PTR, stride=I64, x=PTR, **SHAPE)
    def product(p: Any, lo: Value, hi: Value) -> None:
        for row in loop(lo, hi):
            for first in loop(p.first, p.first + p.n, together):
                accs = [Variable(zero(F32 * LANES)) for _ in range(together)]
                w = p.w + row * p.stride
                for at in loop(0, p.k, LANES):
                    here = w + at * (element.bits // 8)
                    prefetch(here + AHEAD)
                    weights = widened(here.load(element * LANES))
                    for r, acc in enumerate(accs):
                        x = p.x.load(F32 * LANES, (at + p.k * (first + r)) * 4)
                        acc.value = fma(weights, x, acc.value)
                _finish(p, row, first, [total(acc.value) for acc in accs])

    return product


def _fetch_ahead(p: Value, nbytes: int) -> None:
    for line in range(0, nbytes, 64):
        prefetch(p + (AHEAD + line))


def _finish(p: Any, row: Value, first: Value, sums: list[Value]) -> None:
    bias = p.bias.load(F32, row * 4)
    for r, each in enumerate(sums):
        p.y.store(each + bias, (row + p.m * (first + r)) * 4)
