"""Products with a weight as it lies in the file: the exact path.

One weight row after another is unpacked, a span at a time, and multiplied with some rows of x together, until all rows
of x are done and the weight row leaves the cache. For each output the sums run over the spans in their order, in one
register, whose lanes are added halves first. Neither the number of rows nor that of threads changes it, so a row among
others has the bits of the row alone. Many rows are multiplied otherwise, in `panels.py`.
"""

from functools import cache
from typing import Any

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop
from eardrop.backends.cpu.maths import Dots, fma, smaller, total, widened
from eardrop.backends.cpu.operations import prefetch
from eardrop.backends.cpu.quantise import Layout, layout
from eardrop.backends.cpu.types import F32, I8, I32, I64, PTR, U8, Type
from eardrop.backends.cpu.unpack import QUAD, Group, Unpacking
from eardrop.backends.cpu.vector import Value, machine, zero

AHEAD = 2048  # bytes that are fetched before they are needed: memory answers in some hundred cycles
LANES = 16
SHAPE = {"bias": PTR, "y": PTR, "k": I64, "m": I64, "rows": I64, "first": I64, "n": I64}


@cache
def blocked(unpacking: Unpacking, together: int) -> Kernel:
    """Weight rows `lo` … `hi` of a block format with rows first … first + n of quantised x, `together` at a time.

    Where several rows of x are multiplied, so are two weight rows, if there are registers for all sums: what is loaded
    of x serves both.
    """
    to = layout(unpacking)

    @kernel(f"linear_{to.name}_{together}", w=PTR, stride=I64, x=PTR, **SHAPE)
    def product(p: Any, lo: Value, hi: Value) -> None:
        height = 2 if together > 2 and machine().target.registers >= 32 else 1
        for row in loop(lo, hi, height):
            rows = [row, *(smaller(row + i, hi - 1) for i in range(1, height))]  # at an odd end the last one, again
            for first in loop(p.first, p.first + p.n, together):
                sums = [[_Sum(unpacking, to) for _ in range(together)] for _ in rows]
                for span in loop(0, p.k // to.values):
                    x = p.x + (span * p.rows + first) * to.nbytes
                    blocks = [p.w + each * p.stride + span * unpacking.step for each in rows]
                    _add_span(unpacking, to, blocks, [x + r * to.nbytes for r in range(together)], sums)
                for each, outputs in zip(rows, sums, strict=True):
                    _finish(p, each, first, [output.total() for output in outputs])

    return product


def _add_span(
    unpacking: Unpacking, to: Layout, blocks: list[Value], spans: list[Value], sums: list[list["_Sum"]]
) -> None:
    """Add the products of a span of each weight row with that of each row of x."""
    for block in blocks:
        _fetch_ahead(block, unpacking.step)
    lane = 0
    for groups in zip(*(unpacking.groups(block) for block in blocks), strict=True):
        for r, span in enumerate(spans):
            part = _Part(to, span, lane, groups[0])
            for group, outputs in zip(groups, sums, strict=True):
                outputs[r].add(group, part)
        lane += groups[0].scale.type.lanes
    if unpacking.minima:
        for block, outputs in zip(blocks, sums, strict=True):
            minima = unpacking.minima(block)
            for span, output in zip(spans, outputs, strict=True):
                output.add_minima(minima, span.load(minima.type, to.sums_at))


class _Part:
    """What a group is multiplied with: bytes of x, their scales, and where the sums start."""

    def __init__(self, to: Layout, span: Value, lane: int, group: Group) -> None:
        lanes, parts = group.scale.type.lanes, len(group.parts)
        size = QUAD * lanes
        starts = to.offset and group.parts[0].type.element == U8
        self.start = span.load(I32 * lanes, to.starts_at + 4 * lane) if starts else zero(I32 * lanes)
        self.q = [span.load(I8 * size, (lane * parts * QUAD) + number * size) for number in range(parts)]
        self.scale = span.load(F32 * lanes, to.scales_at + 4 * lane)


class _Sum:
    """One output as it grows: Σ scale · x_scale · (whole numbers), and Σ minimum · (sum of x)."""

    def __init__(self, unpacking: Unpacking, to: Layout) -> None:
        self._most = unpacking.most
        self._products = Variable(zero(F32 * len(unpacking.order[0][0])))
        self._minima = Variable(zero(F32 * to.sums)) if to.sums else None

    def add(self, group: Group, x: _Part) -> None:
        """The products of a group."""
        dots = Dots(x.start, most=self._most)
        for part, q in zip(group.parts, x.q, strict=True):
            dots.add(part, q)
        self._products.value = fma(dots.total().to(F32), group.scale * x.scale, self._products.value)

    def add_minima(self, minima: Value, sums: Value) -> None:
        """The minima of a span, each by the sum of the x that it belongs to."""
        assert self._minima
        self._minima.value = fma(minima, sums, self._minima.value)

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
