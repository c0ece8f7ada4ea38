"""Products with many rows of x: weights are unpacked once, stretch by stretch, into a panel that the first cache holds.

    panel   weight rows, one or two for each lane of a register, by a stretch of their values; neighbours that one
            instruction multiplies lie side by side, so that a register times a broadcast value of x adds to sixteen
            outputs, and a broadcast value of x is used once or twice
    tile    a panel's sums of up to COLUMNS rows of x, kept between stretches

x lies stretch by stretch, too, all rows of the first, then all of the second, with rows added until they are a multiple
of those whose sums are in registers at once. Some panels are multiplied with a tile's rows of x stretch by stretch, so
that these stay in the second cache.

This is the fast path of prefill and the encoder. Its sums run in an order of their own; the exact path is `linear.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, scratch, when
from eardrop.backends.cpu.linear import SHAPE
from eardrop.backends.cpu.maths import (
    ACTIVATIONS,
    Dots,
    additions_at_once,
    fma,
    halves,
    joined,
    narrowed,
    smaller,
    widened,
)
from eardrop.backends.cpu.operations import dot_bf16, prefetch, select, shuffle
from eardrop.backends.cpu.quantise import Layout, quantise
from eardrop.backends.cpu.target import Target
from eardrop.backends.cpu.types import BF16, F32, I8, I32, I64, PTR, U8, Type
from eardrop.backends.cpu.unpack import QUAD, Unpacking, scatter
from eardrop.backends.cpu.vector import Value, const, machine, zero

LANES = 16
LINE = 64  # bytes: sixteen float32, or four bytes of sixteen rows
STRETCH = 256  # values of a block-format row in a panel: a block of the K formats
PLAIN_STRETCH = 128  # of float32
PAIR = 2  # bfloat16 that one instruction multiplies in a lane
COLUMNS = 408  # rows of x in a tile: a window of thirty seconds and its prompt have 404
BEHIND = (None, *ACTIVATIONS)  # what may stand behind a product, by the number that a kernel is given
X_BYTES = 8 << 20  # of x in a tile, which every group of panels reads anew: the third cache should hold it
MOST_PANELS = 4  # that share rows of x: their tiles lie in the second cache


@dataclass(frozen=True)
class Blocking:
    """What is in registers at once: so many lines of a panel, and the sums of so many rows of x with them."""

    lines: int
    columns: int

    @property
    def rows(self) -> int:
        """Of the weights in a panel."""
        return LANES * self.lines

    @property
    def tile(self) -> int:
        """Bytes of a panel's sums, with room for the rows that are added."""
        return (COLUMNS + self.columns) * self.lines * LINE


# By bytes of all vector registers. COLUMNS is a multiple of each row's columns.
_OF_FLOATS = {2048: Blocking(2, 12), 512: Blocking(1, 6), 256: Blocking(1, 2)}
# Every 32 values whole numbers become floats. Of 24 sums at once that fills the schedulers, and the next products wait
# outside: 16 of them keep the multipliers 74 % busy instead of 67 %.
_OF_BYTES = _OF_FLOATS | {2048: Blocking(4, 4)}
_OF_WORDS = {2048: Blocking(1, 12), 512: Blocking(1, 4)}  # words between bytes and sums need registers: 6 to 14 %


def blocking(target: Target, whole: bool) -> Blocking:
    """The best use of this target's registers for products of whole numbers, or of floats."""
    size = target.registers * target.vector_bytes
    if not whole:
        return _OF_FLOATS[size]
    return _OF_WORDS.get(size, _OF_BYTES[size]) if target.has("pairs_u8_i8") else _OF_BYTES[size]


def tiled(n: int, x_bytes: int, block: Blocking) -> int:
    """Rows of x in a tile, of n with so many bytes each: as many as may be, about the same in all tiles."""
    most = max(block.columns, min(COLUMNS, X_BYTES // x_bytes // block.columns * block.columns))
    tiles = -(-n // most)
    return -(-n // (tiles * block.columns)) * block.columns


def group(panels: int, tiles: int, threads: int) -> int:
    """Panels to multiply together: as many as leave some groups for every thread."""
    return max(1, min(MOST_PANELS, panels * tiles // (8 * threads)))


def transposed(rows: list[Value]) -> list[Value]:
    """Sixteen vectors of sixteen lanes, lanes and vectors exchanged, in four rounds of interleaving."""
    low = tuple(lane for i in range(LANES // 2) for lane in (i, i + LANES))
    high = tuple(lane + LANES // 2 for lane in low)
    for _ in range(4):
        pairs = list(zip(rows[:8], rows[8:], strict=True))
        rows = [shuffle(x, y, order=order) for x, y in pairs for order in (low, high)]
    return rows


@dataclass(frozen=True)
class Panels:
    """The kernels of a product with many rows: one lays x out, in pieces of `stretch` values, one multiplies.

    Only rows whose width is a multiple of `stretch` can be multiplied so.
    """

    prepare: Kernel
    product: Kernel
    stretch: int
    x_bytes: int
    whole: bool  # whether x is whole numbers

    def blocking(self, target: Target) -> Blocking:
        """Which of the weights and of x are multiplied together."""
        return blocking(target, self.whole)


class Panel(Protocol):
    """Weight rows by a stretch.

    stretch  values of a row
    x_bytes  of a stretch of a row of x
    w_bytes  of a stretch of a weight row
    """

    stretch: int
    x_bytes: int
    w_bytes: int

    def unpack(self, w: Value, stride: Value, line: Value) -> None:
        """Fill a line of the panel from the sixteen rows whose stretch begins at w."""

    def multiply(self, x: Value, tile: Value) -> None:
        """Add the products with the next rows of x, whose stretch begins at `x`, to their lines of the tile."""


def _product(name: str, make: Callable[[Blocking], Panel], *, whole: bool) -> Kernel:
    """Items are (tile, group of panels) of n rows of x and all panels of m; `rows` rows of x lie there.

    A tile has `columns` rows of x, at most COLUMNS.

    Stretch by stretch, a group's panels meet the same rows of x.
    """

    @kernel(name, w=PTR, stride=I64, x=PTR, **SHAPE, columns=I64, group=I64, activation=I64)
    def product(p: Any, lo: Value, hi: Value) -> None:
        block = blocking(machine().target, whole)
        panel, tiles = make(block), scratch(MOST_PANELS * block.tile)
        panels = p.m // block.rows
        groups = (panels + p.group - 1) // p.group
        for item in loop(lo, hi):
            low, start = item % groups * p.group, item // groups * p.columns
            count, end = smaller(p.group, panels - low), smaller(start + p.columns, p.n)
            for number in loop(0, count):
                _fill(tiles + number * block.tile, p.bias + (low + number) * (4 * block.rows), end - start, block)
            last = p.k // panel.stretch - 1
            for stretch in loop(0, last + 1):
                next_group = p.group * block.rows * p.stride - stretch * panel.w_bytes  # most often the next item
                ahead = select(stretch < last, const(I64, panel.w_bytes), next_group)
                for number in loop(0, count):
                    w = p.w + (low + number) * block.rows * p.stride + stretch * panel.w_bytes
                    _fetch(w + ahead, p.stride, block.rows, panel.w_bytes)
                    for line in loop(0, block.lines):
                        panel.unpack(w + p.stride * (line * LANES), p.stride, line)
                    for first in loop(start, end, block.columns):
                        x = p.x + (stretch * p.rows + first) * panel.x_bytes
                        tile = tiles + (number * block.tile + (first - start) * (block.lines * LINE))
                        panel.multiply(x, tile)
                        for _ in when(stretch == last):
                            _write_out(p, tile, block, low + number, first, smaller(first + block.columns, end))

    return product


def _as_it_is(x: Value) -> Value:
    return x


def _write_out(p: Any, sums: Value, block: Blocking, number: Value, start: Value, end: Value) -> None:
    """The sums of a panel, rows start … end of x, into y, through the function that stands behind."""
    for place, name in enumerate(BEHIND):
        function = ACTIVATIONS[name] if name else _as_it_is
        for _ in when(p.activation == place):
            for line in loop(0, block.lines):
                for column in loop(start, end):
                    at = (column - start) * (block.lines * LINE) + line * LINE
                    y = p.y + (column * p.m + number * block.rows) * 4 + line * LINE
                    y.store(function(sums.load(F32 * LANES, at, align=LINE)))


def _fetch(w: Value, stride: Value, rows: int, nbytes: int) -> None:
    """Call for the rows' next stretch: they lie too far apart for the processor to guess it."""
    for row in loop(0, rows):
        for at in range(0, nbytes, LINE):
            prefetch(w + row * stride + at)


def _fill(tile: Value, bias: Value, rows: Value, block: Blocking) -> None:
    """Start the sums of so many rows of x, and of those added to them."""
    for i in loop(0, rows + (block.columns - 1)):
        for line in range(block.lines):
            tile.store(bias.load(F32 * LANES, line * LINE), (i * block.lines + line) * LINE, align=LINE)


@cache
def layout(unpacking: Unpacking) -> Layout:
    """How x lies for panels of a format: bytes as they are, a lane for each unit."""
    quads, unit = tuple(range(STRETCH // QUAD)), unpacking.unit // QUAD
    units = tuple(quads[i : i + unit] for i in range(0, len(quads), unit))
    sums = len(units) if unpacking.minima else 0
    return Layout(f"panel_{unpacking.format.name.lower()}", STRETCH, quads, units, unpacking.offset, sums)


@cache
def blocked(unpacking: Unpacking) -> Panels:
    """Panels of a block format with quantised x."""
    to = layout(unpacking)
    product = _product(to.name, lambda block: _Blocks(unpacking, block), whole=True)
    return Panels(quantise(to), product, STRETCH, to.nbytes, whole=True)


class _Blocks:
    """Quads of all rows side by side, a scale and a minimum for each unit."""

    stretch = STRETCH

    def __init__(self, unpacking: Unpacking, block: Blocking) -> None:
        self._unpacking, self._to, self._block = unpacking, layout(unpacking), block
        self._spans = STRETCH // unpacking.values
        self.x_bytes, self.w_bytes = self._to.nbytes, self._spans * unpacking.step
        self._step = block.lines * LINE
        self._rows, self._quads = scratch(LANES * STRETCH), scratch(STRETCH // QUAD * self._step)
        self._scales, self._minima = scratch(len(self._to.lanes) * self._step), scratch(self._to.sums * self._step)

    def unpack(self, w: Value, stride: Value, line: Value) -> None:
        """Row by row, then turned."""
        for row in loop(0, LANES):
            for span in range(self._spans):
                self._unpack_row(w + row * stride + span * self._unpacking.step, row * 4 + line * LINE, row, span)
        for at in loop(0, STRETCH, LINE):
            lines = [self._rows.load(I32 * LANES, at + row * STRETCH, align=LINE) for row in range(LANES)]
            for quad, turned in enumerate(transposed(lines)):
                self._quads.store(turned, (at // QUAD + quad) * self._step + line * LINE, align=LINE)

    def _unpack_row(self, block: Value, column: Value, row: Value, span: int) -> None:
        """One span of a row, its values in their order; its scales and minima into the columns of theirs."""
        unpacking = self._unpacking
        bytes_at, unit_at = span * unpacking.values, span * (unpacking.values // unpacking.unit)
        for group, order in zip(unpacking.groups(block), unpacking.order, strict=True):
            for part, quads in zip(group.parts, order, strict=True):
                scatter(self._rows + (row * STRETCH + bytes_at), part, quads)
            units = [quad * QUAD // unpacking.unit for quad in order[0]]
            for unit in sorted(set(units)):
                self._scales.store(group.scale.lanes(units.index(unit)), column + (unit_at + unit) * self._step)
        if unpacking.minima:
            minima = unpacking.minima(block)
            for unit in range(minima.type.lanes):
                self._minima.store(minima.lanes(unit), column + (unit_at + unit) * self._step)

    def multiply(self, x: Value, tile: Value) -> None:
        """Unit by unit: whole numbers, then scales and minima."""
        to, lines = self._to, range(self._block.lines)
        for unit in loop(0, len(to.lanes)):
            scales, minima = self._of_unit(self._scales, unit), self._of_unit(self._minima, unit) if to.sums else None
            for column, products in enumerate(self._products(x, unit)):
                here = x + (unit * 4 + column * to.nbytes)
                x_scale, x_sum = here.load(F32, to.scales_at), here.load(F32, to.sums_at) if to.sums else None
                for line in lines:
                    place = tile + (column * self._step + line * LINE)
                    acc = fma(products[line].to(F32), scales[line] * x_scale, place.load(F32 * LANES, align=LINE))
                    if minima and x_sum is not None:
                        acc = fma(minima[line], x_sum, acc)
                    place.store(acc, align=LINE)

    def _of_unit(self, room: Value, unit: Value) -> list[Value]:
        return [
            room.load(F32 * LANES, unit * self._step + line * LINE, align=LINE) for line in range(self._block.lines)
        ]

    def _products(self, x: Value, unit: Value) -> list[list[Value]]:
        """The whole-number products of a unit with each of the next rows, line by line."""
        to, unpacking, size = self._to, self._unpacking, self._unpacking.unit
        columns, lines = range(self._block.columns), range(self._block.lines)
        sums = []
        for column in columns:
            start = zero(I32 * LANES)
            if to.offset and unpacking.element == U8:
                start = x.load(I32, unit * 4 + (to.starts_at + column * to.nbytes)).spread(LANES)
            sums.append([Variable(start) for _ in lines])
        run = min(size // QUAD, additions_at_once(unpacking.most))
        for first in loop(unit * (size // QUAD), (unit + 1) * (size // QUAD), run):
            dots = [[Dots(acc.value, most=unpacking.most) for acc in each] for each in sums]
            for quad in range(run):
                at = (first + quad) * self._step
                weights = [self._quads.load(unpacking.element * LINE, at + line * LINE, align=LINE) for line in lines]
                for column in columns:
                    four = x.load(I32, (first + quad) * QUAD + column * to.nbytes).spread(LANES).bits(I8 * LINE)
                    for w, each in zip(weights, dots[column], strict=True):
                        each.add(w, four)
            for accs, grown in zip(sums, dots, strict=True):
                for acc, each in zip(accs, grown, strict=True):
                    acc.value = each.total()
        return [[acc.value for acc in each] for each in sums]


@cache
def plain(element: Type) -> Panels:
    """Panels of float32, float16 or bfloat16 with float32."""
    product = _product(f"panel_{element.name}", lambda block: _Floats(element, block), whole=False)
    return Panels(pack(F32), product, PLAIN_STRETCH, _Floats.x_bytes, whole=False)


class _Floats:
    """Value by value side by side, as float32."""

    stretch, x_bytes = PLAIN_STRETCH, 4 * PLAIN_STRETCH

    def __init__(self, element: Type, block: Blocking) -> None:
        self._element, self._block, self._step = element, block, block.lines * LINE
        self.w_bytes = PLAIN_STRETCH * element.nbytes
        self._panel = scratch(PLAIN_STRETCH * self._step)

    def unpack(self, w: Value, stride: Value, line: Value) -> None:
        """Sixteen rows by sixteen values at a time."""
        for at in loop(0, PLAIN_STRETCH, LANES):
            place = w + at * self._element.nbytes
            rows = [widened((place + stride * row).load(self._element * LANES)) for row in range(LANES)]
            for value, turned in enumerate(transposed(rows)):
                self._panel.store(turned, (at + value) * self._step + line * LINE, align=LINE)

    def multiply(self, x: Value, tile: Value) -> None:
        """Value by value."""

        def add(at: Value, weights: list[Value], sums: list[Variable], column: int) -> None:
            value = (x + (at * 4 + column * self.x_bytes)).load(F32).spread(LANES)
            for acc, w in zip(sums, weights, strict=True):
                acc.value = fma(w, value, acc.value)

        _multiply(self._block, tile, self._panel, PLAIN_STRETCH, add)


@cache
def in_bf16(element: Type) -> Panels:
    """Panels of float32, float16 or bfloat16, rounded to bfloat16 as x is: eight bits of precision, twice the speed."""
    product = _product(f"panel_{element.name}_in_bf16", lambda block: _BFloats(element, block), whole=False)
    return Panels(pack(BF16), product, STRETCH, _BFloats.x_bytes, whole=False)


class _BFloats:
    """Pairs of values side by side."""

    stretch, x_bytes = STRETCH, 2 * STRETCH

    def __init__(self, element: Type, block: Blocking) -> None:
        self._element, self._block, self._step = element, block, block.lines * LINE
        self.w_bytes = STRETCH * element.nbytes
        self._panel = scratch(STRETCH // PAIR * self._step)

    def unpack(self, w: Value, stride: Value, line: Value) -> None:
        """Sixteen rows by thirty-two values at a time."""
        for at in loop(0, STRETCH, PAIR * LANES):
            rows = [self._pairs(w + stride * row + at * self._element.nbytes) for row in range(LANES)]
            for pair, turned in enumerate(transposed(rows)):
                self._panel.store(turned, (at // PAIR + pair) * self._step + line * LINE, align=LINE)

    def _pairs(self, w: Value) -> Value:
        values = w.load(self._element * (PAIR * LANES))
        if self._element != BF16:
            values = joined(*(narrowed(widened(half), BF16) for half in halves(values)))
        return values.bits(I32 * LANES)

    def multiply(self, x: Value, tile: Value) -> None:
        """Pair by pair."""

        def add(at: Value, weights: list[Value], sums: list[Variable], column: int) -> None:
            pair = (x + (at * (2 * PAIR) + column * self.x_bytes)).load(I32).spread(LANES).bits(BF16 * (PAIR * LANES))
            for acc, w in zip(sums, weights, strict=True):
                acc.value = dot_bf16(w.bits(pair.type), pair, acc.value)

        _multiply(self._block, tile, self._panel, STRETCH // PAIR, add)


def _multiply(
    block: Blocking,
    tile: Value,
    panel: Value,
    depth: int,
    add: Callable[[Value, list[Value], list[Variable], int], None],
) -> None:
    """Keep the tile's next sums in registers while `add` (place, lines of weights, sums, column) goes down a panel."""
    columns, lines, step = range(block.columns), range(block.lines), block.lines * LINE
    places = [[tile + (column * step + line * LINE) for line in lines] for column in columns]
    sums = [[Variable(place.load(F32 * LANES, align=LINE)) for place in each] for each in places]
    for at in loop(0, depth):
        weights = [panel.load(F32 * LANES, at * step + line * LINE, align=LINE) for line in lines]
        for column in columns:
            add(at, weights, sums[column], column)
    for each, accs in zip(places, sums, strict=True):
        for place, acc in zip(each, accs, strict=True):
            place.store(acc.value, align=LINE)


@cache
def pack(element: Type) -> Kernel:
    """x (n, pieces · s) float32 → out (pieces, rows, s) of float32 or bfloat16; items are pieces of rows."""
    stretch = {F32: PLAIN_STRETCH, BF16: STRETCH}[element]

    @kernel(f"pack_{element.name}", x=PTR, out=PTR, rows=I64, pieces=I64)
    def copy(p: Any, lo: Value, hi: Value) -> None:
        for item in loop(lo, hi):
            out = p.out + (item % p.pieces * p.rows + item // p.pieces) * (element.nbytes * stretch)
            for at in loop(0, stretch, LANES):
                x = (p.x + (item * stretch + at) * 4).load(F32 * LANES)
                out.store(narrowed(x, element), at * element.nbytes)

    return copy
