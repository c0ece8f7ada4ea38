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
from eardrop.backends.cpu.maths import dot4, fma, smaller, widened
from eardrop.backends.cpu.operations import shuffle
from eardrop.backends.cpu.quantise import Layout
from eardrop.backends.cpu.types import F32, I8, I32, I64, PTR, U8, Type
from eardrop.backends.cpu.unpack import QUAD, Unpacking, scatter
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
def layout(unpacking: Unpacking) -> Layout:
    """How x lies for panels of a format: bytes as they are, a lane for each unit."""
    quads, unit = tuple(range(STRETCH // QUAD)), unpacking.unit // QUAD
    units = tuple(quads[i : i + unit] for i in range(0, len(quads), unit))
    sums = len(units) if unpacking.minima else 0
    return Layout(f"panel_{unpacking.format.name.lower()}", STRETCH, quads, units, unpacking.offset, sums)


@cache
def blocked(unpacking: Unpacking) -> Kernel:
    """Panels `lo` … `hi` of a block format with rows first … first + n of quantised x; n a multiple of TOGETHER."""
    to = layout(unpacking)

    @kernel(to.name, w=PTR, stride=I64, x=PTR, **SHAPE)
    def product(p: Any, lo: Value, hi: Value) -> None:
        panel = _Panel(unpacking)
        tile = scratch(COLUMNS * LINE)
        for number in loop(lo, hi):
            for start in loop(p.first, p.first + p.n, COLUMNS):
                end = smaller(start + COLUMNS, p.first + p.n)
                _fill(tile, p.bias.load(F32 * ROWS, number * LINE), end - start)
                for stretch in loop(0, p.k // STRETCH):
                    spans = stretch * (STRETCH // unpacking.values * unpacking.step)
                    panel.unpack(p.w + number * ROWS * p.stride + spans, p.stride)
                    for first in loop(start, end, TOGETHER):
                        x = p.x + (stretch * p.rows + first) * to.nbytes
                        panel.multiply(x, tile + (first - start) * LINE)
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
        self._unpacking, self._to = unpacking, layout(unpacking)
        self._rows, self._quads = scratch(ROWS * STRETCH), scratch(ROWS * STRETCH)
        self._scales, self._minima = scratch(len(self._to.lanes) * LINE), scratch(self._to.sums * LINE)

    def unpack(self, w: Value, stride: Value) -> None:
        """Fill the panel from sixteen rows whose stretch begins at w."""
        spans = STRETCH // self._unpacking.values
        for row in loop(0, ROWS):
            for span in range(spans):
                self._unpack_row(w + row * stride + span * self._unpacking.step, row, span)
        for at in loop(0, STRETCH, LINE):
            lines = [self._rows.load(I32 * ROWS, at + row * STRETCH, align=LINE) for row in range(ROWS)]
            for quad, line in enumerate(transposed(lines)):
                self._quads.store(line, at * ROWS + quad * LINE, align=LINE)

    def _unpack_row(self, block: Value, row: Value, span: int) -> None:
        """One span of a row, its values in their order; its scales and minima into the columns of theirs."""
        unpacking = self._unpacking
        bytes_at, unit_at = span * unpacking.values, span * (unpacking.values // unpacking.unit)
        for group, order in zip(unpacking.groups(block), unpacking.order, strict=True):
            for part, quads in zip(group.parts, order, strict=True):
                scatter(self._rows + (row * STRETCH + bytes_at), part, quads)
            units = [quad * QUAD // unpacking.unit for quad in order[0]]
            for unit in sorted(set(units)):
                scale = group.scale.lanes(units.index(unit))
                self._scales.store(scale, row * 4 + (unit_at + unit) * LINE)
        if unpacking.minima:
            minima = unpacking.minima(block)
            for unit in range(minima.type.lanes):
                self._minima.store(minima.lanes(unit), row * 4 + (unit_at + unit) * LINE)

    def multiply(self, x: Value, tile: Value) -> None:
        """Add the products with TOGETHER rows of x, whose stretch begins at `x`, to their lines of the tile."""
        to = self._to
        accs = [Variable(tile.load(F32 * ROWS, column * LINE, align=LINE)) for column in range(TOGETHER)]
        for unit in loop(0, len(to.lanes)):
            products = self._products(x, unit)
            scale = self._scales.load(F32 * ROWS, unit * LINE, align=LINE)
            minimum = self._minima.load(F32 * ROWS, unit * LINE, align=LINE) if to.sums else None
            for column, (acc, product) in enumerate(zip(accs, products, strict=True)):
                here = x + (unit * 4 + column * to.nbytes)
                acc.value = fma(product.to(F32), scale * here.load(F32, to.scales_at), acc.value)
                if minimum is not None:
                    acc.value = fma(minimum, here.load(F32, to.sums_at), acc.value)
        for column, acc in enumerate(accs):
            tile.store(acc.value, column * LINE, align=LINE)

    def _products(self, x: Value, unit: Value) -> list[Value]:
        """The whole-number products of a unit with each of TOGETHER rows."""
        to, size = self._to, self._unpacking.unit
        sums = [zero(I32 * ROWS)] * TOGETHER
        if to.offset:
            starts = (x.load(I32, unit * 4 + (to.starts_at + column * to.nbytes)) for column in range(TOGETHER))
            sums = [start.spread(ROWS) for start in starts]
        for quad in range(0, size, QUAD):
            weights = self._quads.load(U8 * LINE, unit * (size * ROWS) + quad * ROWS, align=LINE)
            for column in range(TOGETHER):
                four = x.load(I32, unit * size + (column * to.nbytes + quad)).spread(ROWS).bits(I8 * LINE)
                sums[column] = dot4(weights, four, sums[column])
        return sums


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
