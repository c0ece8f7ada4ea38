"""Self-attention with relative positions, some rows by some keys at a time, in float32 or with products in bfloat16.

Memory is linear in the clips' rows: keys, values and positions laid out anew, and a few tiles. The position's part of a
score needs no table of row × row: row i and key j meet row R − 1 − i + j of the projected positions, so sixteen
neighbouring rows and sixty-four keys meet a window of seventy-nine. The window's products with all sixteen rows are one
small matrix product; each row reads its own sixty-four of them, one further to the left than the row before.

Blocks of rows begin at a clip's first row: a clip among others has the bits of the clip alone.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, scratch
from eardrop.backends.cpu.maths import exp, folded, larger, smaller, total, widened
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run
from eardrop.backends.cpu.strips import LANES, strips
from eardrop.backends.cpu.turned import LINE, Turning, turned, wide
from eardrop.backends.cpu.types import F32, I32, I64, PTR
from eardrop.backends.cpu.vector import Value, const, machine, zero

TOGETHER = LANES  # rows whose softmax takes a step at once
AT_ONCE = 8  # rows in one small product
FLOAT = 4


@cache
def attend(turning: Turning, d: int) -> Kernel:
    """out = Σⱼ softmax(((q + u)·kⱼ + (q + v)·p[R − 1 − i + j]) · scale) · vⱼ over a clip; items are (head, block):
    one head's keys, values and positions stay in the cache while its blocks go by.

    out, q        (N, H, d), out written;  bias_u, bias_v (H, d)
    keys, values  of all clips, and far, positions, as `turned.py` lays them out: so many lines of a head
    blocks        (·, 5): a block's first row, the row behind its last, the clip's first row, the row behind its last,
                  the clip's first line
    zero          the place in `far` where a clip's first row meets itself;  scale 1 / √d
    """
    pointers = ("out", "q", "keys", "values", "far", "bias_u", "bias_v", "blocks")
    numbers = ("heads", "count", "lines", "far_lines", "zero")

    @kernel(f"rel_attend_{turning.name}_{d}", **dict.fromkeys(pointers, PTR), **dict.fromkeys(numbers, I64), scale=F32)
    def head_by_block(p: Any, lo: Value, hi: Value) -> None:
        work, panel, piece = _Block(turning, d), turning.panel(d), turning.piece(d)
        for item in loop(lo, hi):
            bounds = p.blocks + item % p.count * 20
            first, end, begin, stop, line = (bounds.load(I32, 4 * i).to(I64) for i in range(5))
            number, step = item // p.count, p.heads * (FLOAT * d)
            head = number * (FLOAT * d)
            keys, values = p.keys + (number * p.lines + line) * panel, p.values + (number * p.lines + line) * piece
            far = p.far + number * p.far_lines * panel
            work.start(p, p.q + head + first * step, head, step, end - first)
            nearest = p.zero - (first - begin) - (turning.queries - 1)
            for tile in loop(0, stop - begin, turning.keys):
                at = tile // LANES
                window = far + (nearest + tile) // LANES * panel
                count = smaller(stop - begin - tile, turning.keys)
                work.attend(keys + at * panel, window, values + at * piece, count, end - first)
            work.store(p.out + head + first * step, step, end - first)

    return head_by_block


class _Block:
    """Some rows of one head: what they ask for, and the softmax so far."""

    def __init__(self, turning: Turning, d: int) -> None:
        self._t, self._d, self._wide = turning, d, wide(d)
        self._row = turning.row(d)
        rows = turning.queries
        self._by_content, self._by_position = (scratch(rows * self._row) for _ in range(2))
        self._window, self._scores = scratch(TOGETHER * self._far), scratch(TOGETHER * self._near)
        self._weights = scratch(TOGETHER * turning.keys * turning.element.nbytes)
        self._mixed = scratch(rows * self._wide * FLOAT)
        self._largest, self._sum = scratch(rows * FLOAT), scratch(rows * FLOAT)
        self._tops, self._fading = scratch(TOGETHER * FLOAT), scratch(TOGETHER * FLOAT)

    @property
    def _near(self) -> int:
        """Bytes of a row's scores with the keys of a tile."""
        return FLOAT * self._t.keys

    @property
    def _far(self) -> int:
        """Bytes of a row's scores with a window of positions."""
        return FLOAT * (self._t.keys + LANES)

    def start(self, p: Any, q: Value, head: Value, step: Value, count: Value) -> None:
        """Rows (q + u) · scale and (q + v) · scale; nothing summed yet. Missing rows repeat the last."""
        for row in loop(0, self._t.queries):
            source = q + smaller(row, count - 1) * step
            for strip in strips(0, self._d):
                x = strip.load(source)
                for bias, to in ((p.bias_u, self._by_content), (p.bias_v, self._by_position)):
                    asked = (x + strip.load(bias + head)) * p.scale
                    place = to + row * self._row + strip.first * self._t.element.nbytes
                    place.store(self._t.narrowed(asked))
            self._largest.store(const(F32, -math.inf), row * FLOAT)
            self._sum.store(const(F32, 0.0), row * FLOAT)
            for at in range(0, FLOAT * self._wide, LINE):
                self._mixed.store(zero(F32 * LANES), row * (FLOAT * self._wide) + at, align=LINE)

    def attend(self, keys: Value, window: Value, values: Value, count: Value, rows: Value) -> None:
        """Take `count` keys of a tile into the softmax of all rows."""
        for first in loop(0, rows, TOGETHER):
            # row `first + r` meets key j at queries − 1 − (first + r) + j of the window; the leftmost is the last r's
            left = (const(I64, self._t.queries - TOGETHER) - first) // LANES
            self._score(first, keys, window + left * self._t.panel(self._d))
            self._weigh(first, count)
            self._mix(first, values, count)

    def _score(self, first: Value, keys: Value, window: Value) -> None:
        """Scores of TOGETHER rows with all keys of the tile."""
        depth, panel, lines = self._t.depth(self._d), self._t.panel(self._d), self._t.keys // LANES
        for low in loop(0, TOGETHER, AT_ONCE):
            rows = [low + row for row in range(AT_ONCE)]
            position, content = (
                [asked + (first + row) * self._row for row in rows] for asked in (self._by_position, self._by_content)
            )
            far = [self._window + row * self._far for row in rows]
            near = [self._scores + row * self._near for row in rows]
            own = [place + (-row + (TOGETHER - 1)) * FLOAT for place, row in zip(far, rows, strict=True)]
            _product(self._t, position, window, LINE, panel, depth, far, lines + 1, _nothing)
            _product(self._t, content, keys, LINE, panel, depth, near, lines, _lines(own))

    def _weigh(self, first: Value, keys: Value) -> None:
        """Turn rows' scores into weights; what was summed before fades where a larger score came.

        The online softmax of Milakov & Gimelshein, arXiv 1805.02867.
        """
        for row in loop(0, TOGETHER):
            before = (self._largest + (first + row) * FLOAT).load(F32)
            tops = Variable(before.spread(LANES))
            for strip in strips(0, keys):
                tops.value = larger(strip.load(self._scores + row * self._near, beyond=-math.inf), tops.value)
            self._tops.store(folded(tops.value, larger), row * FLOAT)
        largest, sum_ = self._largest + first * FLOAT, self._sum + first * FLOAT
        tops_ = self._tops.load(F32 * TOGETHER)
        fading = exp(largest.load(F32 * TOGETHER) - tops_)
        largest.store(tops_)
        self._fading.store(fading)
        for row in loop(0, TOGETHER):
            self._tops.store(self._weigh_row(row, keys), row * FLOAT)
        sum_.store(sum_.load(F32 * TOGETHER) * fading + self._tops.load(F32 * TOGETHER))

    def _weigh_row(self, row: Value, keys: Value) -> Value:
        """A row's weights, as they will be multiplied, and their sum. Behind the last key there are zeros."""
        largest, sums = (self._tops + row * FLOAT).load(F32), Variable(zero(F32 * LANES))
        weights = self._weights + row * (self._t.keys * self._t.element.nbytes)
        for strip in strips(0, keys):
            score = strip.load(self._scores + row * self._near, beyond=-math.inf)
            weight = self._t.narrowed(exp(score - largest))
            weights.store(weight, strip.first * self._t.element.nbytes)
            sums.value = sums.value + widened(weight)
        return total(sums.value)

    def _mix(self, first: Value, values: Value, keys: Value) -> None:
        """Add the values by their weights to what has faded."""
        size, step = FLOAT * self._wide, self._t.keys * self._t.element.nbytes
        for low in loop(0, TOGETHER, AT_ONCE):
            mixed = [self._mixed + (first + low + row) * size for row in range(AT_ONCE)]
            weights = [self._weights + (low + row) * step for row in range(AT_ONCE)]
            fading = [(self._fading + (low + row) * FLOAT).load(F32) for row in range(AT_ONCE)]
            depth = (keys + (self._t.pair - 1)) // self._t.pair
            _product(self._t, weights, values, size, LINE, depth, mixed, self._wide // LANES, _lines(mixed, fading))

    def store(self, out: Value, step: Value, count: Value) -> None:
        """The quotients of the sums."""
        for row in loop(0, count):
            sum_ = (self._sum + row * FLOAT).load(F32)
            for strip in strips(0, self._d):
                strip.store(out + row * step, strip.load(self._mixed + row * (FLOAT * self._wide)) / sum_)


def _nothing(row: int, at: int) -> Value:
    return zero(F32 * LANES)


def _lines(places: list[Value], factors: list[Value] | None = None) -> Callable[[int, int], Value]:
    """What lies there, by a factor for each row."""

    def first(row: int, at: int) -> Value:
        line = places[row].load(F32 * LANES, at)
        return line * factors[row] if factors else line

    return first


def _product(
    turning: Turning, x: list[Value], y: Value, step: int, apart: int, depth: Value | int, out: list[Value], lines: int,
    first: Callable[[int, int], Value],
) -> None:  # fmt: skip
    """out[r] = first(r, …) + Σ_c x[r][c] · y[c], c below `depth`, line by line.

    The next c lies `step` bytes on, the next line `apart`; `first` is asked for a row's line by its place in bytes.
    """
    for some in _shares(lines, 3 if machine().target.registers >= 32 else 1):
        sums = [[Variable(first(r, LINE * line)) for line in some] for r in range(len(x))]
        for c in loop(0, depth):
            ours = [(y + c * step).load(F32 * LANES, apart * line) for line in some]
            for row, accs in zip(x, sums, strict=True):
                for acc, line in zip(accs, ours, strict=True):
                    acc.value = turning.multiplied(row, c, line, acc.value)
        for place, accs in zip(out, sums, strict=True):
            for number, acc in zip(some, accs, strict=True):
                place.store(acc.value, LINE * number)


def _shares(lines: int, most: int) -> Iterator[range]:
    """All lines, at most so many at once and about as many each time."""
    count = -(-lines // most)
    bounds = [lines * i // count for i in range(count + 1)]
    return (range(*pair) for pair in itertools.pairwise(bounds))


@lru_cache(maxsize=4)
def _blocks(bounds: tuple[int, ...], first: tuple[int, ...], queries: int) -> Ints:
    """The table of blocks: each clip in pieces of so many rows."""
    clips = zip(bounds, bounds[1:], first, strict=False)
    rows = [(i, min(i + queries, end), begin, end, at) for begin, end, at in clips for i in range(begin, end, queries)]
    return np.array(rows, np.int32).reshape(-1, 5)


def rel_attention(
    run: Run, turning: Turning, q: Floats, k: Floats, v: Floats, p: Floats, bias_u: Floats, bias_v: Floats,
    offsets: Ints,
) -> Floats:  # fmt: skip
    """As the operation of this name, its products taken as `turning` says."""
    heads, d = q.shape[1:]
    out, laid = empty(q.shape), turned(run, turning, k, v, p, offsets)
    blocks = _blocks(tuple(offsets.tolist()), laid.plan.first, turning.queries)
    arrays = [out, q, laid.keys, laid.values, laid.far, bias_u, bias_v, blocks]
    numbers = [heads, len(blocks), laid.plan.lines, laid.plan.far_lines, laid.plan.zero, d**-0.5]
    run(attend(turning, d), [*arrays, *numbers], heads * len(blocks), 1)
    return out
