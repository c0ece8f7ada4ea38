"""Products with a weight as it lies in the file: the exact path.

One weight row after another is unpacked, a span at a time, and multiplied with some rows of x together. Where these
rows are too long for the first cache, a few weight rows are multiplied with one stretch of them, then with the next.
For each output of a block format the sums run over the spans in their order, lane by lane, and lanes are added halves
first; of plain numbers even and odd vectors are added apart. Neither the number of rows nor that of threads changes
that, so a row among others has the bits of the row alone. Many rows are multiplied otherwise, in `panels.py`.
"""

from functools import cache
from typing import Any

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, scratch
from eardrop.backends.cpu.maths import Dots, fma, smaller, total, widened
from eardrop.backends.cpu.operations import prefetch
from eardrop.backends.cpu.quantise import Layout, layout
from eardrop.backends.cpu.types import F32, I8, I32, I64, PTR, U8, Type
from eardrop.backends.cpu.unpack import QUAD, Group, Unpacking
from eardrop.backends.cpu.vector import Value, const, machine, zero

AHEAD = 16384  # bytes that are fetched before they are needed: memory that others use, too, answers late
NEAR = 24 << 10  # bytes of x that stay in the first cache
TALL = 16  # weight rows that meet a stretch of x before the next stretch comes
LANES = 16
SHAPE = {"bias": PTR, "y": PTR, "k": I64, "m": I64, "rows": I64, "first": I64, "n": I64}


@cache
def blocked(unpacking: Unpacking, together: int) -> Kernel:
    """Weight rows `lo` … `hi` of a block format with rows first … first + n of quantised x, `together` at a time.

    Where several rows of x are multiplied, so are two weight rows, if there are registers for all sums: what is loaded
    of x serves both.
    """
    to = layout(unpacking)
    stretch = max(1, NEAR // (together * to.nbytes))  # spans

    @kernel(f"linear_{to.name}_{together}", w=PTR, stride=I64, x=PTR, **SHAPE)
    def product(p: Any, lo: Value, hi: Value) -> None:
        height = 2 if together > 2 and machine().target.registers >= 32 else 1
        spans, sums = p.k // to.values, _Sums(unpacking, to, together)
        ahead = (const(I64, AHEAD) // smaller(p.stride, stretch * unpacking.step) + 1) * p.stride
        for low in loop(lo, hi, TALL):
            high = smaller(low + TALL, hi)
            for first in loop(p.first, p.first + p.n, together):
                sums.clear(high - low)
                for begin in loop(0, spans, stretch):
                    for row in loop(low, high, height):
                        rows = [row, *(smaller(row + i, high - 1) for i in range(1, height))]  # at an odd end: again
                        here = [sums.of(each - low) for each in rows]
                        for span in loop(begin, smaller(begin + stretch, spans)):
                            x = p.x + (span * p.rows + first) * to.nbytes
                            blocks = [p.w + each * p.stride + span * unpacking.step for each in rows]
                            for block in blocks:
                                _fetch(block + ahead, unpacking.step)
                            _add_span(unpacking, to, blocks, [x + r * to.nbytes for r in range(together)], here)
                        for outputs in here:
                            for output in outputs:
                                output.keep()
                for row in loop(low, high):
                    _finish(p, row, first, [output.total() for output in sums.of(row - low)])

    return product


def _add_span(
    unpacking: Unpacking, to: Layout, blocks: list[Value], spans: list[Value], sums: list[list["_Sum"]]
) -> None:
    """Add the products of a span of each weight row with that of each row of x."""
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


class _Sums:
    """The outputs of TALL weight rows and some rows of x as they grow, in memory between one stretch and the next."""

    def __init__(self, unpacking: Unpacking, to: Layout, together: int) -> None:
        self._unpacking, self._to, self._together = unpacking, to, together
        self._size = 4 * (len(unpacking.order[0][0]) + to.sums)
        self._room = scratch(TALL * together * self._size)

    def clear(self, rows: Value) -> None:
        """Begin with so many weight rows."""
        for output in loop(0, rows * self._together):
            for at in range(0, self._size, 4 * LANES):
                lanes = min(LANES, (self._size - at) // 4)
                (self._room + output * self._size).store(zero(F32 * lanes), at)

    def of(self, row: Value) -> list["_Sum"]:
        """Those of a weight row, in registers."""
        first = self._room + row * (self._together * self._size)
        return [_Sum(self._unpacking, self._to, first + r * self._size) for r in range(self._together)]


class _Sum:
    """One output: Σ scale · x_scale · (whole numbers), and Σ minimum · (sum of x)."""

    def __init__(self, unpacking: Unpacking, to: Layout, place: Value) -> None:
        lanes = len(unpacking.order[0][0])
        self._most, self._place, self._minima_at = unpacking.most, place, 4 * lanes
        self._products = Variable(place.load(F32 * lanes))
        self._minima = Variable(place.load(F32 * to.sums, 4 * lanes)) if to.sums else None

    def keep(self) -> None:
        """Put it back where it was."""
        self._place.store(self._products.value)
        if self._minima:
            self._place.store(self._minima.value, self._minima_at)

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
        pair = p.k // (2 * LANES) * (2 * LANES)
        for row in loop(lo, hi):
            for first in loop(p.first, p.first + p.n, together):
                w, x = p.w + row * p.stride, p.x + p.k * first * 4
                sums = [[Variable(zero(F32 * LANES)) for _ in range(together)] for _ in range(2)]
                for at in loop(0, pair, 2 * LANES):  # one sum alone would wait for itself
                    prefetch(w + at * element.nbytes + AHEAD)
                    for part, accs in enumerate(sums):
                        _add_lanes(p, element, w, x, at + part * LANES, accs)
                for at in loop(pair, p.k, LANES):
                    _add_lanes(p, element, w, x, at, sums[0])
                _finish(p, row, first, [total(even.value + odd.value) for even, odd in zip(*sums, strict=True)])

    return product


def _add_lanes(p: Any, element: Type, w: Value, x: Value, at: Value, accs: list[Variable]) -> None:
    """Add sixteen products for each row of x."""
    weights = widened((w + at * element.nbytes).load(element * LANES))
    for r, acc in enumerate(accs):
        acc.value = fma(weights, x.load(F32 * LANES, (at + p.k * r) * 4), acc.value)


def _fetch(p: Value, nbytes: int) -> None:
    for line in range(0, nbytes, 64):
        prefetch(p + line)


def _finish(p: Any, row: Value, first: Value, sums: list[Value]) -> None:
    bias = p.bias.load(F32, row * 4)
    for r, each in enumerate(sums):
        p.y.store(each + bias, (row + p.m * (first + r)) * 4)
