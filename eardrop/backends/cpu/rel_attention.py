"""Self-attention with relative positions, forty-eight rows by sixty-four keys at a time.

Memory is a few tiles, however long a clip. The position's part of a score needs no table of row × row: row i and key j
meet row R − 1 − i + j of the projected positions, so eight neighbouring rows and sixty-four keys meet a window of
seventy-one. The window's products with all eight rows are one small matrix product; each row reads its own sixty-four
of them, one further to the left than the row before.

Blocks of rows begin at a clip's first row: a clip among others has the bits of the clip alone.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, scratch
from eardrop.backends.cpu.maths import exp, fma, folded, larger, smaller, total
from eardrop.backends.cpu.panels import transposed
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run
from eardrop.backends.cpu.strips import LANES, strips
from eardrop.backends.cpu.types import F32, I32, I64, PTR
from eardrop.backends.cpu.vector import Value, const, machine, zero

QUERIES = 48  # rows that share the keys and positions that were turned for them
TOGETHER = 8  # rows in one small product
KEYS = 64
WINDOW = KEYS + QUERIES  # positions that a tile of keys and all rows of a block meet
FLOAT, LINE = 4, 4 * LANES

Place: TypeAlias = Callable[[Value], Value]  # number of a row → its address


@cache
def attend(d: int) -> Kernel:
    """out = Σⱼ softmax(((q + u)·kⱼ + (q + v)·p[R − 1 − i + j]) · scale) · vⱼ over a clip; items are (head, block):
    one head's keys, values and positions stay in the cache while its blocks go by.

    out, q, k, v  (N, H, d), out written;  p (2·R − 1, H, d);  u, v (H, d)
    blocks        (·, 4): a block's first row, the row behind its last, the clip's first row, the row behind its last
    zero          R − 1, the row of p where a row meets itself;  scale 1 / √d
    """
    pointers = ("out", "q", "k", "v", "p", "bias_u", "bias_v", "blocks")

    @kernel(f"rel_attend_{d}", **dict.fromkeys(pointers, PTR), heads=I64, count=I64, zero=I64, scale=F32)
    def head_by_block(p: Any, lo: Value, hi: Value) -> None:
        work = _Block(d)
        for item in loop(lo, hi):
            bounds = p.blocks + item % p.count * 16
            first, end, begin, stop = (bounds.load(I32, 4 * i).to(I64) for i in range(4))
            head, step = item // p.count * (FLOAT * d), p.heads * (FLOAT * d)
            work.start(p, p.q + head + first * step, head, step, end - first)
            for tile in loop(begin, stop, KEYS):
                last, nearest = stop - 1, p.zero - first - (QUERIES - 1) + tile
                keys = _rows(p.k + head, step, tile, const(I64, 0), last)
                far = _rows(p.p + head, step, nearest, const(I64, 0), p.zero * 2)
                work.turn(keys, far)
                work.attend(p.v + head + tile * step, step, smaller(stop - tile, KEYS), end - first)
            work.store(p.out + head + first * step, step, end - first)

    return head_by_block


def _rows(base: Value, step: Value, first: Value, lowest: Value, highest: Value) -> Place:
    """Addresses of rows from `first` on; beyond the bounds, the last row there is: what it gives is never used."""
    return lambda row: base + larger(smaller(first + row, highest), lowest) * step


class _Block:
    """Forty-eight rows of one head: what they ask for, the softmax so far, and tiles turned for them."""

    def __init__(self, d: int) -> None:
        self._d, self._wide = d, -(-d // LANES) * LANES
        self._by_content, self._by_position = (scratch(QUERIES * d * FLOAT) for _ in range(2))
        self._keys, self._far = scratch(d * KEYS * FLOAT), scratch(d * WINDOW * FLOAT)
        self._window = scratch(TOGETHER * (KEYS + LANES) * FLOAT)
        self._scores, self._values = scratch(TOGETHER * KEYS * FLOAT), scratch(KEYS * self._wide * FLOAT)
        self._mixed = scratch(QUERIES * self._wide * FLOAT)
        self._largest, self._sum = scratch(QUERIES * FLOAT), scratch(QUERIES * FLOAT)

    def start(self, p: Any, q: Value, head: Value, step: Value, count: Value) -> None:
        """Rows (q + u) · scale and (q + v) · scale; nothing summed yet. Missing rows repeat the last."""
        for row in loop(0, QUERIES):
            source = q + smaller(row, count - 1) * step
            for strip in strips(0, self._d):
                x = strip.load(source)
                for bias, to in ((p.bias_u, self._by_content), (p.bias_v, self._by_position)):
                    strip.store(to + row * (FLOAT * self._d), (x + strip.load(bias + head)) * p.scale)
            self._largest.store(const(F32, -math.inf), row * FLOAT)
            self._sum.store(const(F32, 0.0), row * FLOAT)
            for at in range(0, FLOAT * self._wide, LINE):
                self._mixed.store(zero(F32 * LANES), row * (FLOAT * self._wide) + at, align=LINE)

    def turn(self, keys: Place, far: Place) -> None:
        """Keys and positions of a tile, a column of them for each of the d values."""
        _turn(keys, KEYS, self._d, self._keys)
        _turn(far, WINDOW, self._d, self._far)

    def attend(self, values: Value, step: Value, keys: Value, count: Value) -> None:
        """Take `keys` keys of a tile into the softmax of all rows."""
        for row in loop(0, keys):
            for strip in strips(0, self._d):
                strip.store(self._values + row * (FLOAT * self._wide), strip.load(values + row * step))
        for first in loop(0, count, TOGETHER):
            self._score(first)
            for row in loop(0, TOGETHER):
                self._weigh(first + row, self._scores + row * (FLOAT * KEYS), keys)
            self._mix(first, keys)

    def _score(self, first: Value) -> None:
        """Scores of TOGETHER rows with all keys of the tile."""
        d, wide = FLOAT * self._d, FLOAT * (KEYS + LANES)
        # row `first + r` meets key j at QUERIES − 1 − (first + r) + j of the window; the leftmost is that of the last r
        left = const(I64, QUERIES - TOGETHER) - first
        _product(
            [self._by_position + (first + row) * d for row in range(TOGETHER)],
            self._far + left * FLOAT, const(I64, FLOAT * WINDOW), const(I64, self._d),
            [self._window + row * wide for row in range(TOGETHER)], KEYS // LANES + 1, None,
        )  # fmt: skip
        _product(
            [self._by_content + (first + row) * d for row in range(TOGETHER)],
            self._keys, const(I64, FLOAT * KEYS), const(I64, self._d),
            [self._scores + row * (FLOAT * KEYS) for row in range(TOGETHER)], KEYS // LANES,
            [self._window + (row * wide + (TOGETHER - 1 - row) * FLOAT) for row in range(TOGETHER)],
        )  # fmt: skip

    def _weigh(self, row: Value, scores: Value, keys: Value) -> None:
        """Turn a row's scores into weights; what was summed before fades where a larger score came.

        The online softmax of Milakov & Gimelshein, arXiv 1805.02867.
        """
        before = (self._largest + row * FLOAT).load(F32)
        tops, sums = Variable(before.spread(LANES)), Variable(zero(F32 * LANES))
        for strip in strips(0, keys):
            tops.value = larger(strip.load(scores, beyond=-math.inf), tops.value)
        largest = folded(tops.value, larger)
        for strip in strips(0, keys):
            weight = exp(strip.load(scores, beyond=-math.inf) - largest)
            strip.store(scores, weight)
            sums.value = sums.value + weight
        fading = exp(before - largest)
        self._largest.store(largest, row * FLOAT)
        self._sum.store((self._sum + row * FLOAT).load(F32) * fading + total(sums.value), row * FLOAT)
        for at in range(0, FLOAT * self._wide, LINE):
            mixed = self._mixed + (row * (FLOAT * self._wide) + at)
            mixed.store(mixed.load(F32 * LANES, align=LINE) * fading, align=LINE)

    def _mix(self, first: Value, keys: Value) -> None:
        """Add the values by their weights."""
        wide = FLOAT * self._wide
        mixed = [self._mixed + (first + row) * wide for row in range(TOGETHER)]
        weights = [self._scores + row * (FLOAT * KEYS) for row in range(TOGETHER)]
        _product(weights, self._values, const(I64, wide), keys, mixed, self._wide // LANES, mixed)

    def store(self, out: Value, step: Value, count: Value) -> None:
        """The quotients of the sums."""
        for row in loop(0, count):
            sum_ = (self._sum + row * FLOAT).load(F32)
            for strip in strips(0, self._d):
                strip.store(out + row * step, strip.load(self._mixed + row * (FLOAT * self._wide)) / sum_)


def _turn(rows: Place, count: int, d: int, out: Value) -> None:
    """out (d, count) from `count` rows of d."""
    if d % LANES:
        for row in loop(0, count):
            for c in loop(0, d):
                out.store((rows(row) + c * FLOAT).load(F32), (c * count + row) * FLOAT)
        return
    for first in loop(0, count, LANES):
        sources = [rows(first + row) for row in range(LANES)]
        for c in loop(0, d, LANES):
            lines = transposed([source.load(F32 * LANES, c * FLOAT) for source in sources])
            for number, line in enumerate(lines):
                out.store(line, ((c + number) * count + first) * FLOAT)


def _product(
    x: list[Value], y: Value, step: Value, depth: Value, out: list[Value], lines: int, onto: list[Value] | None
) -> None:
    """out[r] = onto[r] + Σ_c x[r][c] · y[c], c below `depth`; rows of y lie `step` bytes apart, `lines` lines wide."""
    at_once = 3 if machine().target.registers >= 32 else 1
    for first in range(0, lines, at_once):
        some = range(first, min(first + at_once, lines))
        accs = [
            [Variable(onto[r].load(F32 * LANES, LINE * line) if onto else zero(F32 * LANES)) for line in some]
            for r in range(len(x))
        ]
        for c in loop(0, depth):
            ours = [(y + c * step).load(F32 * LANES, LINE * line) for line in some]
            for row, sums in zip(x, accs, strict=True):
                factor = (row + c * FLOAT).load(F32)
                for acc, line in zip(sums, ours, strict=True):
                    acc.value = fma(line, factor, acc.value)
        for place, sums in zip(out, accs, strict=True):
            for number, acc in zip(some, sums, strict=True):
                place.store(acc.value, LINE * number)


def _blocks(offsets: Ints) -> Ints:
    """The table of blocks: each clip in pieces of QUERIES rows."""
    clips = zip(offsets.tolist(), offsets[1:].tolist(), strict=False)
    rows = [(i, min(i + QUERIES, end), first, end) for first, end in clips for i in range(first, end, QUERIES)]
    return np.array(rows, np.int32).reshape(-1, 4)


def rel_attention(
    run: Run, q: Floats, k: Floats, v: Floats, p: Floats, bias_u: Floats, bias_v: Floats, offsets: Ints
) -> Floats:
    """As the operation of this name."""
    heads, d = q.shape[1:]
    out, blocks = empty(q.shape), _blocks(offsets)
    arguments = [out, q, k, v, p, bias_u, bias_v, blocks, heads, len(blocks), len(p) // 2, d**-0.5]
    run(attend(d), arguments, heads * len(blocks), 1)
    return out
