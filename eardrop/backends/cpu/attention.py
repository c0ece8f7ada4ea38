"""Grouped-query attention over cached keys and values, two records: append, then attend.

An item of `attend` is a row and a key/value head with the query heads that share it. It walks through the rows of its
stream a tile at a time: scores, their softmax so far (Milakov & Gimelshein, arXiv 1805.02867), weighted values. So
memory is a tile of scores, whatever the length. Tiles begin at a stream's first row and lengths are read from
`starts` when it runs: a row among others has the bits of the row alone.

`look` takes the same walk for chosen heads, without values: what is kept of the scores becomes weights at its end.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, scratch, when
from eardrop.backends.cpu.maths import exp, fma, folded, larger, smaller, total
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run, owners
from eardrop.backends.cpu.strips import LANES, Strip, strips
from eardrop.backends.cpu.types import F16, F32, I32, I64, PTR, Type
from eardrop.backends.cpu.vector import Value, const, zero

TILE = 64  # rows whose scores are held at once
ELEMENTS = {"float32": F32, "float16": F16}
_PLACES = {"owner": PTR, "offsets": PTR, "slots": PTR, "starts": PTR}


def _place(p: Any, n: Value) -> tuple[Value, Value]:
    """The slot of packed row n, and its row there."""
    b = p.owner.load(I32, n * 4).to(I64)
    slot, start, first = (part.load(I32, b * 4).to(I64) for part in (p.slots, p.starts, p.offsets))
    return slot, start + n - first


@cache
def append(element: Type) -> Kernel:
    """Items are rows of k and v (N, width); each goes to its row of its slot in the caches (S, rows, width)."""

    @kernel(f"append_{element.name}", k=PTR, v=PTR, keys=PTR, values=PTR, **_PLACES, rows=I64, width=I64)
    def copy(p: Any, lo: Value, hi: Value) -> None:
        for n in loop(lo, hi):
            slot, row = _place(p, n)
            to, from_ = (slot * p.rows + row) * p.width * (element.bits // 8), n * p.width * 4
            for strip in strips(0, p.width):
                strip.store(p.keys + to, strip.load(p.k + from_), element)
                strip.store(p.values + to, strip.load(p.v + from_), element)

    return copy


@cache
def attend(element: Type, d: int, group: int) -> Kernel:
    """Items are (row, key/value head): `group` query heads of width d.

    out, q        (N, KV · group, d), out written
    keys, values  (S, rows, KV, d) of the element; rows 0 to the query's own are read
    scale         1 / √d
    """

    @kernel(f"attend_{element.name}_{d}_{group}", out=PTR, q=PTR, keys=PTR, values=PTR, **_PLACES,
            rows=I64, kv=I64, scale=F32)  # fmt: skip
    def heads(p: Any, lo: Value, hi: Value) -> None:
        room = scratch(group * TILE * 4)
        step = p.kv * (d * element.bits // 8)  # from one row of a cache to the next
        for item in loop(lo, hi):
            slot, row = _place(p, item // p.kv)
            at = slot * p.rows * step + item % p.kv * (d * element.bits // 8)
            ours = [item * (group * d * 4) + g * d * 4 for g in range(group)]
            softmax = [Softmax(room + g * TILE * 4, d) for g in range(group)]
            for tile in loop(0, row + 1, TILE):
                count = smaller(row + 1 - tile, TILE)
                for j in loop(0, count):
                    key = vector(p.keys + at + (tile + j) * step, d, element)
                    for head, one in zip(ours, softmax, strict=True):
                        one.note(j, product(vector(p.q + head, d), key) * p.scale)
                for one in softmax:
                    one.weigh(count)
                for j in loop(0, count):
                    value = vector(p.values + at + (tile + j) * step, d, element)
                    for one in softmax:
                        one.add(j, value)
            for head, one in zip(ours, softmax, strict=True):
                one.store(p.out + head)

    return heads


@cache
def look(element: Type, d: int) -> Kernel:
    """Items are (row, head that was asked for), of width d.

    out     (N, asked, width) written: weights of the rows [low, high) of the item's sequence, then 0
    q       (N, heads, d); head h reads key/value head h // group
    keys    (S, rows, KV, d) of the element; rows 0 to the query's own are read
    chosen  (asked,) heads; ranges (B, 2) low, high
    """

    @kernel(f"look_{element.name}_{d}", out=PTR, q=PTR, keys=PTR, chosen=PTR, ranges=PTR, **_PLACES,
            rows=I64, kv=I64, heads=I64, group=I64, asked=I64, width=I64, scale=F32)  # fmt: skip
    def weights(p: Any, lo: Value, hi: Value) -> None:
        room = scratch(TILE * 4)
        step = p.kv * (d * element.bits // 8)
        for item in loop(lo, hi):
            n, head = item // p.asked, p.chosen.load(I32, item % p.asked * 4).to(I64)
            slot, row = _place(p, n)
            at = slot * p.rows * step + head // p.group * (d * element.bits // 8)
            low, high = _range(p, n)
            query, softmax = vector(p.q + (n * p.heads + head) * (d * 4), d), Softmax(room, 0)
            out = p.out + item * p.width * 4
            for tile in loop(0, row + 1, TILE):
                count = smaller(row + 1 - tile, TILE)
                for j in loop(0, count):
                    score = product(query, vector(p.keys + at + (tile + j) * step, d, element)) * p.scale
                    softmax.note(j, score)
                    for _ in when((low < tile + j + 1) & (tile + j < high)):
                        out.store(score, (tile + j - low) * 4)
                softmax.weigh(count)
            kept = larger(smaller(high, row + 1) - low, 0)
            for strip in strips(0, kept):
                strip.store(out, softmax.share(strip.load(out)))
            for strip in strips(kept, p.width):
                strip.store(out, zero(F32 * LANES))

    return weights


def _range(p: Any, n: Value) -> tuple[Value, Value]:
    """The first and the last + 1 of the rows asked for, of packed row n."""
    at = p.owner.load(I32, n * 4).to(I64) * 8
    return p.ranges.load(I32, at).to(I64), p.ranges.load(I32, at + 4).to(I64)


class Softmax:
    """Σ softmax(scores) · values of one query, a tile of scores after another; d is 0 where there are no values.

    Holds   the largest score so far, Σ e^(score − largest), Σ e^(score − largest) · value; scores of a tile at `room`
    """

    def __init__(self, room: Value, d: int) -> None:
        self._room, self._d = room, d
        self._largest, self._sum = Variable(const(F32, -math.inf)), Variable(const(F32, 0.0))
        self._mixed = [Variable(zero(F32 * LANES)) for _ in range(0, d, LANES)]

    def note(self, j: Value, score: Value) -> None:
        """The j-th score of the tile."""
        self._room.store(score, j * 4)

    def weigh(self, count: Value) -> None:
        """Turn the tile's scores into weights; what was summed before fades where a larger score came."""
        tops, sums = Variable(self._largest.value.spread(LANES)), Variable(zero(F32 * LANES))
        for strip in strips(0, count):
            tops.value = larger(strip.load(self._room, beyond=-math.inf), tops.value)
        largest = folded(tops.value, larger)
        for strip in strips(0, count):
            weight = exp(strip.load(self._room, beyond=-math.inf) - largest)
            strip.store(self._room, weight)
            sums.value = sums.value + weight
        fading = exp(self._largest.value - largest)
        self._largest.value = largest
        self._sum.value = self._sum.value * fading + total(sums.value)
        for part in self._mixed:
            part.value = part.value * fading

    def add(self, j: Value, value: list[Value]) -> None:
        """The value of the j-th row of the tile, by its weight."""
        weight = self._room.load(F32, j * 4)
        for part, x in zip(self._mixed, value, strict=True):
            part.value = fma(x, weight, part.value)

    def share(self, scores: Value) -> Value:
        """What part of all each of these scores weighs, when all are weighed."""
        return exp(scores - self._largest.value) / self._sum.value

    def store(self, p: Value) -> None:
        """The quotient of the sums."""
        for strip, part in zip(_fixed(self._d), self._mixed, strict=True):
            strip.store(p, part.value / self._sum.value)


def _fixed(d: int) -> list[Strip]:
    """The strips of a width known when a kernel is compiled."""
    return [Strip(const(I64, at), None if at + LANES <= d else const(I64, d - at)) for at in range(0, d, LANES)]


def vector(p: Value, d: int, element: Type = F32) -> list[Value]:
    """d neighbours from p, in strips."""
    return [strip.load(p, element) for strip in _fixed(d)]


def product(x: list[Value], y: list[Value]) -> Value:
    """Σ x · y."""
    acc = x[0] * y[0]
    for a, b in zip(x[1:], y[1:], strict=True):
        acc = fma(a, b, acc)
    return total(acc)


def attention(
    run: Run, q: Floats, k: Floats, v: Floats, keys: Any, values: Any, offsets: Ints, slots: Ints, starts: Ints
) -> Floats:
    """As the operation of this name."""
    assert keys.flags.c_contiguous, "a cache is whole: rows are found by their place"
    assert values.flags.c_contiguous, "a cache is whole: rows are found by their place"
    (n, heads, d), (_, rows, kv, _) = q.shape, keys.shape
    out, element = empty(q.shape), ELEMENTS[keys.dtype.name]
    places = [owners(offsets), offsets, slots, starts]
    run(append(element), [k, v, keys, values, *places, rows, kv * d], n, 4)
    run(attend(element, d, heads // kv), [out, q, keys, values, *places, rows, kv, d**-0.5], n * kv, 1)
    return out


def attention_weights(
    run: Run, q: Floats, keys: Any, offsets: Ints, slots: Ints, starts: Ints, heads: Ints, rows: Ints
) -> Floats:
    """As the operation of this name."""
    assert keys.flags.c_contiguous, "a cache is whole: rows are found by their place"
    (n, of, d), (_, held, kv, _) = q.shape, keys.shape
    asked, width = len(heads), int(np.diff(rows).max(initial=0))
    out, places = empty((n, asked, width)), [owners(offsets), offsets, slots, starts]
    sizes = [held, kv, of, of // kv, asked, width, d**-0.5]
    run(look(ELEMENTS[keys.dtype.name], d), [out, q, keys, heads, rows, *places, *sizes], n * asked, 1)
    return out
