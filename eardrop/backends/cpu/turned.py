"""What relative attention multiplies its rows with, laid out once for all of them.

    panel   sixteen keys or positions, a line of them for each of the d values: a broadcast value of a row times a line
            adds to the row's scores with all sixteen
    piece   sixteen values (rows of v), in lines of sixteen of the d: a broadcast weight times a line adds to outputs

In bfloat16 a line holds pairs: two neighbours of the d values of each key, or two neighbouring rows of v. Heads lie one
behind the other, in each the clips' panels; every clip begins a tile of keys. Behind a clip's end its last row repeats.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.backends.cpu.flow import Kernel, kernel, loop, scratch, when
from eardrop.backends.cpu.maths import fma, larger, narrowed, smaller
from eardrop.backends.cpu.operations import dot_bf16, shuffle
from eardrop.backends.cpu.panels import transposed
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run
from eardrop.backends.cpu.strips import LANES, strips
from eardrop.backends.cpu.types import BF16, F32, I32, I64, PTR, Type
from eardrop.backends.cpu.vector import Value

FLOAT, LINE = 4, 4 * LANES
AT_A_TIME = 16  # panels and pieces that a thread takes

Bytes: TypeAlias = npt.NDArray[np.uint8]
Place: TypeAlias = Callable[[Value], Value]  # number of a row → its address


def wide(d: int) -> int:
    """d, filled up to whole vectors."""
    return -(-d // LANES) * LANES


@dataclass(frozen=True)
class Turning:
    """How products are taken, and how many rows meet how many keys at a time."""

    element: Type
    queries: int  # rows, a multiple of LANES
    keys: int  # a multiple of LANES

    @property
    def name(self) -> str:
        """Of the element."""
        return self.element.name

    @property
    def pair(self) -> int:
        """Numbers that one instruction multiplies in a lane."""
        return FLOAT // self.element.nbytes

    def depth(self, d: int) -> int:
        """Lines of a panel that count."""
        return -(-d // self.pair)

    def row(self, d: int) -> int:
        """Bytes of a row as it is multiplied, filled up to whole vectors."""
        return wide(self.depth(d)) * FLOAT

    def panel(self, d: int) -> int:
        """Bytes of a panel: whole squares of lines."""
        return wide(self.depth(d)) * LINE

    def piece(self, d: int) -> int:
        """Bytes of a piece."""
        return LANES // self.pair * FLOAT * wide(d)

    def narrowed(self, x: Value) -> Value:
        """float32 as the element."""
        return narrowed(x, self.element)

    def multiplied(self, x: Value, number: Value, line: Value, acc: Value) -> Value:
        """acc + line · x, of x the number or pair of this number in every lane."""
        place = x + number * FLOAT
        if self.element == F32:
            return fma(line, place.load(F32), acc)
        pairs = BF16 * (self.pair * LANES)
        return dot_bf16(line.bits(pairs), place.load(I32).spread(LANES).bits(pairs), acc)


IN_FLOAT32, IN_BF16 = Turning(F32, 48, 64), Turning(BF16, 48, 128)

KEYS, FAR, VALUES = range(3)


@cache
def lay_out(turning: Turning, d: int) -> Kernel:
    """Keys (KEYS), positions (FAR) and values (VALUES) in panels and pieces; items are (head, panel or piece).

    keys, far, values  written, so many lines of a head;  k, v (N, H, d), p (2·R − 1, H, d)
    table              (·, 4): which of the three, its line, its first row, the last row there is
    """
    pointers = ("keys", "far", "values", "k", "p", "v", "table")
    numbers = ("heads", "count", "lines", "far_lines")

    @kernel(f"rel_lay_out_{turning.name}_{d}", **dict.fromkeys(pointers, PTR), **dict.fromkeys(numbers, I64))
    def head_by_line(p: Any, lo: Value, hi: Value) -> None:
        rows = scratch(LANES * turning.row(d))
        ways: tuple[tuple[Value, Value, Value, int, Callable[..., None]], ...] = (
            (p.k, p.keys, p.lines, turning.panel(d), partial(_turn, turning, d, rows)),
            (p.p, p.far, p.far_lines, turning.panel(d), partial(_turn, turning, d, rows)),
            (p.v, p.values, p.lines, turning.piece(d), partial(_fill, turning, d)),
        )
        for item in loop(lo, hi):
            which, line, first, last = ((p.table + item % p.count * 16).load(I32, 4 * i).to(I64) for i in range(4))
            head, step = item // p.count, p.heads * (FLOAT * d)
            for number, (source, out, lines, nbytes, lay) in enumerate(ways):
                for _ in when(which == number):
                    base = source + head * (FLOAT * d)
                    places = _places(base, step, first, last)
                    lay(places, out + (head * lines + line) * nbytes)

    return head_by_line


def _places(base: Value, step: Value, first: Value, last: Value) -> Place:
    """Addresses of rows from `first` on; beyond the first and the last, that row: what it gives is never used."""
    return lambda row: base + larger(smaller(first + row, last), 0) * step


def _turn(turning: Turning, d: int, rows: Value, place: Place, out: Value) -> None:
    """A panel: rows as they will be multiplied, then turned, squares of sixteen by sixteen."""
    step = turning.row(d)
    for row in loop(0, LANES):
        for strip in strips(0, d):
            x = turning.narrowed(strip.load(place(row)))
            (rows + row * step).store(x, strip.first * turning.element.nbytes)
    for first in loop(0, turning.depth(d), LANES):
        square = [(rows + first * FLOAT).load(I32 * LANES, row * step) for row in range(LANES)]
        for number, line in enumerate(transposed(square)):
            out.store(line, (first + number) * LINE)


def _fill(turning: Turning, d: int, place: Place, out: Value) -> None:
    """A piece: rows as they will be multiplied, neighbours of a pair side by side."""
    for row in loop(0, LANES, turning.pair):
        to = out + row // turning.pair * (FLOAT * wide(d))
        for strip in strips(0, d):
            parts = [turning.narrowed(strip.load(place(row + i))) for i in range(turning.pair)]
            if turning.pair == 1:
                to.store(parts[0], strip.first * FLOAT)
            else:
                to.store(shuffle(*parts, order=_PAIRED), strip.first * FLOAT)


_PAIRED = tuple(lane for i in range(LANES) for lane in (i, i + LANES))


@dataclass(frozen=True)
class Plan:
    """Where everything comes to lie."""

    lines: int  # panels of a head's keys, and pieces of its values
    far_lines: int
    first: tuple[int, ...]  # line of each clip
    zero: int  # the place in `far`, counted in positions, where a clip's first row meets itself
    table: Ints  # of the kernel, (·, 4)


@lru_cache(maxsize=4)  # all layers ask for the same, which takes as long as to lay it out
def plan(turning: Turning, bounds: tuple[int, ...], reach: int) -> Plan:
    """For clips that begin and end so, and positions from −reach to reach."""
    clips = list(itertools.pairwise(bounds))
    whole = [-(-(end - begin) // turning.keys) * turning.keys for begin, end in clips]
    *first, lines = (rows // LANES for rows in itertools.accumulate(whole, initial=0))
    # windows begin with a line; nobody's begins before the first
    zero = wide(reach) + turning.queries - 1
    far_lines = (wide(reach) + max(whole, default=0) + turning.queries) // LANES
    table = [(FAR, line, LANES * line - zero + reach, 2 * reach) for line in range(far_lines)]
    for (begin, end), line, rows in zip(clips, first, whole, strict=True):
        for row in range(0, rows, LANES):
            table += [(which, line + row // LANES, begin + row, end - 1) for which in (KEYS, VALUES)]
    return Plan(lines, far_lines, tuple(first), zero, np.array(table, np.int32))


@dataclass(frozen=True)
class Turned:
    """Keys, positions and values of all heads, laid out by a plan."""

    keys: Bytes
    far: Bytes
    values: Bytes
    plan: Plan


def turned(run: Run, turning: Turning, k: Floats, v: Floats, p: Floats, offsets: Ints) -> Turned:
    """Lay them out."""
    (_, heads, d), to = k.shape, plan(turning, tuple(offsets.tolist()), len(p) // 2)
    sizes = (to.lines * turning.panel(d), to.far_lines * turning.panel(d), to.lines * turning.piece(d))
    keys, far, values = (empty((heads * size,), np.uint8) for size in sizes)
    count, arrays = len(to.table), [keys, far, values, k, p, v, to.table]
    run(lay_out(turning, d), [*arrays, heads, count, to.lines, to.far_lines], heads * count, AT_A_TIME)
    return Turned(keys, far, values, to)
