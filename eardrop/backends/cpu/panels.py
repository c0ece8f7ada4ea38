"""Products with many rows of x: weights are unpacked once, tile by tile, into a panel that the first cache holds.

    panel   sixteen weight rows (as many as a register has lanes) by STRETCH values, four neighbours of all rows side by
            side, so that one register times four broadcast values of x adds to sixteen outputs
    tile    sums of up to COLUMNS rows of x, kept between stretches

This is the fast path of prefill and the encoder. Its sums run in an order of their own; the exact path is `linear.py`.
"""

from functools import cache
from typing import Any

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, scratch
from eardrop.backends.cpu.linear import SHAPE
from eardrop.backends.cpu.maths import dot4, fma, smaller, total, widened
from eardrop.backends.cpu.operations import shuffle
from eardrop.backends.cpu.types import F32, I8, I32, I64, PTR, U8, Type
from eardrop.backends.cpu.unpack import GROUP, UNPACKINGS, Unpacking
from eardrop.backends.cpu.vector import Value, zero

ROWS = 16  # of weights in a panel
STRETCH = 256  # values of a weight row in a panel: a block of the K formats
COLUMNS = 256  # rows of x in a pass
TOGETHER = 8  # rows of x whose sums are in registers at once
LINE = 64  # bytes: sixteen float32, or four bytes of sixteen rows


def transposed(rows: list[Value]) -> list[Value]:
    """Sixteen vectors of sixteen lanes, lanes and vectors exchanged, in four rounds of interleaving."""
    low = tuple(lane for i in range(ROWS // 2) for lane in (i, i + ROWS))
    high = tuple(lane + ROWS // 2 for lane in low)
    for _ in range(4):
        pairs = list(zip(rows[:8], rows[8:], strict=True))
        rows = [shuffle(x, y, order=order) for x, y in pairs for order in (low, high)]
    return rows


@cache
def blocked(name: str) -> Kernel:
    """Panels `lo` … `hi` of a block format with rows first … first + n of quantised x; n a multiple of TOGETHER."""
    unpacking = UNPACKINGS[name]

    @kernel(f"panel_{name.lower()}", w=PTR, stride=I64, q=PTR, scale=PTR, sums=PTR, **SHAPE)
    def product(p: Any, lo: Value, hi: Value) -> None:
        panel = _Panel(unpacking)
        tile = scratch(COLUMNS * LINE)
        for number in loop(lo, hi):
            for start in loop(p.first, p.first + p.n, COLUMNS):
                end = smaller(start + COLUMNS, p.first + p.n)
                _fill(tile, p.bias.load(F32 * ROWS, number * LINE), end - start)
                for at in loop(0, p.k, STRETCH):
                    panel.unpack(p.w + number * ROWS * p.stride + at // unpacking.values * unpacking.step, p.stride)
                    for first in loop(start, end, TOGETHER):
                        panel.multiply(p, at, first, tile + (first - start) * LINE)
                _give(p, number, start, end, tile)

    return product


def _fill(tile: Value, line: Value, lines: Value) -> None:
    for i in loop(0, lines):
        tile.store(line, i * LINE, align=LINE)


def _give(p: Any, number: Value, start: Value, end: Value, tile: Value) -> None:
    """The sums of a panel, as columns of y."""
    for column in loop(start, end):
        p.y.store(tile.load(F32 * ROWS, (column - start) * LINE, align=LINE), (column * p.m + number * ROWS) * 4)


class _Panel:
    """Sixteen rows by a stretch, unpacked: quads of all rows side by side, a scale and a minimum for each unit."""

    def __init__(self, unpacking: Unpacking) -> None:
        self.unpacking, self.units = unpacking, STRETCH // unpacking.unit
        self.rows, self.quads = scratch(ROWS * STRETCH), scratch(ROWS * STRETCH)
        self.scales, self.minima = scratch(self.units * LINE), scratch(self.units * LINE)

    def unpack(self, w: Value, stride: Value) -> None:
        """Fill the panel from sixteen rows whose stretch begins at w."""
        for row in loop(0, ROWS):
            for part in range(STRETCH // self.unpacking.values):
                self._row(w + row * stride + part * self.unpacking.step, row, part * self.unpacking.values)
        for group in loop(0, STRETCH // GROUP):
            lines = [self.rows.load(I32 * ROWS, group * GROUP + row * STRETCH, align=LINE) for row in range(ROWS)]
            for quad, line in enumerate(transposed(lines)):
                self.quads.store(line, group * (ROWS * GROUP) + quad * LINE, align=LINE)

    def _row(self, block: Value, row: Value, at: int) -> None:
        """One row's groups, as they lie; its scales and minima into the columns of theirs."""
        step = self.unpacking.unit // 4  # lanes of a group that share a scale
        for number, group in enumerate(self.unpacking.groups(block)):
            self.rows.store(group.q, row * STRETCH + (at + number * GROUP), align=LINE)
            for lane in range(0, ROWS, step):
                unit = (at + number * GROUP) // self.unpacking.unit + lane // step
                self.scales.store(group.scale.lanes(lane), row * 4 + unit * LINE)
                if group.minimum is not None:
                    self.minima.store(group.minimum.lanes(lane), row * 4 + unit * LINE)

    def multiply(self, p: Any, at: Value, first: Value, tile: Value) -> None:
        """Add the products with TOGETHER rows of x, from `first` on, to their lines of the tile."""
        accs = [Variable(tile.load(F32 * ROWS, column * LINE, align=LINE)) for column in range(TOGETHER)]
        unit = self.unpacking.unit
        for u in loop(0, self.units):
            here = at + u * unit  # the values of x that meet this unit
            base = ((here // GROUP) * p.rows + first) * GROUP + here % GROUP
            products = self._products(p, u, base)
            scale = self.scales.load(F32 * ROWS, u * LINE, align=LINE)
            for column, (acc, product) in enumerate(zip(accs, products, strict=True)):
                x_scale = p.scale.load(F32, base + column * GROUP)
                acc.value = fma(product.to(F32), scale * x_scale, acc.value)
                if self._has_minima:
                    sums = total(p.sums.load(I32 * (unit // 4), base + column * GROUP)).to(F32)
                    acc.value = fma(self.minima.load(F32 * ROWS, u * LINE, align=LINE), sums * x_scale, acc.value)
        for column, acc in enumerate(accs):
            tile.store(acc.value, column * LINE, align=LINE)

    def _products(self, p: Any, u: Value, base: Value) -> list[Value]:
        """The whole-number products of a unit with each of TOGETHER rows."""
        unit, offset = self.unpacking.unit, self.unpacking.offset
        sums = []
        for column in range(TOGETHER):
            start = zero(I32)
            if offset:
                start = total(p.sums.load(I32 * (unit // 4), base + column * GROUP)) * -offset
            sums.append(start.spread(ROWS))
        for quad in range(unit // 4):
            weights = self.quads.load(U8 * LINE, u * (unit * ROWS) + quad * LINE, align=LINE)
            for column in range(TOGETHER):
                x = p.q.load(I32, base + (column * GROUP + quad * 4)).spread(ROWS).bits(I8 * LINE)
                sums[column] = dot4(weights, x, sums[column])
        return sums

    @property
    def _has_minima(self) -> bool:
        return self.unpacking.format.name in ("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K")


@cache
def plain(element: Type) -> Kernel:
    """Panels `lo` … `hi` of float32, float16 or bfloat16 with rows first … first + n of float32."""

    @kernel(f"panel_{element.name}", w=PTR, stride=I64, x=PTR, **SHAPE)
    def product(p: Any, lo: Value, hi: Value) -> None:
        panel, tile = scratch(STRETCH * LINE), scratch(COLUMNS * LINE)
        for number in loop(lo, hi):
            for start in loop(p.first, p.first + p.n, COLUMNS):
                end = smaller(start + COLUMNS, p.first + p.n)
                _fill(tile, p.bias.load(F32 * ROWS, number * LINE), end - start)
                for at in loop(0, p.k, STRETCH):
                    _widen(panel, p.w + number * ROWS * p.stride + at * (element.bits // 8), p.stride, element)
                    for first in loop(start, end, TOGETHER):
                        _multiply(panel, p.x + (first * p.k + at) * 4, p.k, tile + (first - start) * LINE)
                _give(p, number, start, end, tile)

    return product


def _widen(panel: Value, w: Value, stride: Value, element: Type) -> None:
    """Sixteen rows as float32, value by value side by side."""
    for at in loop(0, STRETCH, ROWS):
        place = w + at * (element.bits // 8)
        rows = [widened((place + stride * row).load(element * ROWS)) for row in range(ROWS)]
        for value, line in enumerate(transposed(rows)):
            panel.store(line, at * LINE + value * LINE, align=LINE)


def _multiply(panel: Value, x: Value, k: Value, tile: Value) -> None:
    """Add the products of a panel with TOGETHER rows of x to their lines of the tile."""
    accs = [Variable(tile.load(F32 * ROWS, column * LINE, align=LINE)) for column in range(TOGETHER)]
    for at in loop(0, STRETCH):
        weights = panel.load(F32 * ROWS, at * LINE, align=LINE)
        for column, acc in enumerate(accs):
            acc.value = fma(weights, (x + (k * column + at) * 4).load(F32), acc.value)
    for column, acc in enumerate(accs):
        tile.store(acc.value, column * LINE, align=LINE)
