"""The likeliest token of each row, in two records: blocks of the vocabulary, then the blocks of a row.

A `Best` is the largest of some scores, the first place it has, and the second largest. Two of them merge into one:
lanes, halves of vectors and blocks all do so. What the others weigh, Σ e^(score − best) without the best itself, is
taken against each block's own best: a sure pick's log-probability, −ln(1 + others), would drown in the 1. Blocks are
cut by place alone, so the number of threads changes no bit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop
from eardrop.backends.cpu.maths import exp, halves, larger, log1p, smaller, total
from eardrop.backends.cpu.operations import equal, select
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run
from eardrop.backends.cpu.strips import LANES, Strip, strips
from eardrop.backends.cpu.types import F32, I32, I64, PTR, U8
from eardrop.backends.cpu.vector import Value, const, zero

BLOCK = 4096
NOTHING = -math.inf


@dataclass(frozen=True)
class Best:
    """The largest, its first place, the second largest: of each lane, or of all."""

    score: Value
    place: Value
    second: Value

    def merged(self, other: "Best") -> "Best":
        """Of both; of equals the lower place."""
        takes = select(equal(self.score, other.score), other.place < self.place, self.score < other.score)
        second = larger(larger(self.second, other.second), smaller(self.score, other.score))
        score, place = select(takes, other.score, self.score), select(takes, other.place, self.place)
        return Best(score, place, second)

    def folded(self) -> "Best":
        """Of all lanes."""
        best = self
        while best.score.type.lanes > 1:
            parts = zip(halves(best.score), halves(best.place), halves(best.second), strict=True)
            low, high = (Best(*part) for part in parts)
            best = low.merged(high)
        return best


class Running:
    """A `Best` that grows in a loop."""

    def __init__(self, lanes: int) -> None:
        worst = const(F32 * lanes, NOTHING)
        self._parts = Variable(worst), Variable(const(I32 * lanes, 2**31 - 1)), Variable(worst)

    def add(self, other: Best) -> None:
        """Merge another into it."""
        merged = self.now().merged(other)
        for part, value in zip(self._parts, (merged.score, merged.place, merged.second), strict=True):
            part.value = value

    def now(self) -> Best:
        """What it is by now."""
        return Best(*(part.value for part in self._parts))


@cache
def blocks(masked: bool) -> Kernel:
    """Items are (row, block): logits (B, V), allowed (B, V) bytes → score, place, second, others (B, blocks) each."""
    parts = ("score", "place", "second", "others", "logits", "allowed")

    @kernel("pick_blocks_allowed" if masked else "pick_blocks", **dict.fromkeys(parts, PTR), v=I64, count=I64)
    def best_of_blocks(p: Any, lo: Value, hi: Value) -> None:
        for item in loop(lo, hi):
            row, first = item // p.count * p.v, item % p.count * BLOCK
            end, read = smaller(first + BLOCK, p.v), _reader(p, row, masked)
            running, others = Running(LANES), Variable(zero(F32 * LANES))
            for strip in strips(first, end):
                running.add(Best(read(strip), strip.places, const(F32 * LANES, NOTHING)))
            best = running.now().folded()
            base = select(equal(best.score, NOTHING), const(F32, 0.0), best.score)  # −∞ − −∞ is no number
            for strip in strips(first, end):
                weight = exp(read(strip) - base)
                others.value = others.value + select(equal(strip.places, best.place), zero(weight.type), weight)
            found = (best.score, best.place, best.second, total(others.value))
            for to, value in zip((p.score, p.place, p.second, p.others), found, strict=True):
                to.store(value, item * 4)

    return best_of_blocks


def _reader(p: Any, row: Value, masked: bool) -> Callable[[Strip], Value]:
    def read(strip: Strip) -> Value:
        scores = strip.load(p.logits + row * 4, beyond=NOTHING)
        if not masked:
            return scores
        return select(equal(strip.load(p.allowed + row, U8), 0), const(F32 * LANES, NOTHING), scores)

    return read


_RESULTS = {"ids": PTR, "likely": PTR, "margins": PTR}


@kernel("pick_rows", **_RESULTS, score=PTR, place=PTR, second=PTR, others=PTR, count=I64)
def best_of_rows(p: Any, lo: Value, hi: Value) -> None:
    """Items are rows of `count` blocks: the id, −ln(1 + others), and best − second."""
    for row in loop(lo, hi):
        running, others = Running(1), Variable(const(F32, 0.0))
        for at in loop(row * p.count, (row + 1) * p.count):
            running.add(Best(p.score.load(F32, at * 4), p.place.load(I32, at * 4), p.second.load(F32, at * 4)))
        best = running.now()
        for at in loop(row * p.count, (row + 1) * p.count):
            mine = equal(p.place.load(I32, at * 4), best.place)
            weight = p.others.load(F32, at * 4) + select(mine, const(F32, 0.0), const(F32, 1.0))
            others.value = others.value + weight * exp(p.score.load(F32, at * 4) - best.score)
        p.ids.store(best.place, row * 4)
        p.likely.store(-log1p(others.value), row * 4)
        p.margins.store(best.score - best.second, row * 4)


def pick(run: Run, logits: Floats, allowed: npt.NDArray[np.bool_] | None) -> tuple[Ints, Floats, Floats]:
    """As the operation of this name."""
    rows, v = logits.shape
    count = -(-v // BLOCK)
    score, second, others = (empty((rows, count)) for _ in range(3))
    parts = score, empty((rows, count), np.int32), second, others
    mask = 0 if allowed is None else allowed
    run(blocks(allowed is not None), [*parts, logits, mask, v, count], rows * count, 1)
    ids, likely, margins = np.empty(rows, np.int32), np.empty(rows, np.float32), np.empty(rows, np.float32)
    run(best_of_rows, [ids, likely, margins, *parts, count], rows, 1)
    return ids, likely, margins
