"""Products with a weight as it lies in the file.

    quantise    each row of x once: bytes, a scale for 32 of them, and their sums in fours
    product     one weight row after another is unpacked, sixty-four values at a time, and multiplied with some rows of
                x together, until all rows of x are done and the weight row leaves the cache

The exact path, and so far the only one: for each output the sums run over the groups in their order, in one register
of sixteen lanes, which are added halves first. Neither the number of rows nor that of threads changes it, so a row
among others has the bits of the row alone.
"""

from functools import cache
from typing import Any

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop
from eardrop.backends.cpu.maths import dot4, fma, folded, larger, rounded, total, widened
from eardrop.backends.cpu.operations import absolute, prefetch
from eardrop.backends.cpu.types import F32, I8, I32, I64, PTR, U8, Type
from eardrop.backends.cpu.unpack import GROUP, QUADS, UNPACKINGS, Group, Unpacking
from eardrop.backends.cpu.vector import Value, const, zero

AHEAD = 2048  # bytes that are fetched before they are needed: memory answers in some hundred cycles
BLOCK = 32  # values of x with one scale
LANES = 16
SHAPE = {"bias": PTR, "y": PTR, "k": I64, "m": I64, "rows": I64, "first": I64, "n": I64}


@kernel("quantise", x=PTR, q=PTR, scale=PTR, sums=PTR, blocks=I64, rows=I64)
def quantise(p: Any, lo: Value, hi: Value) -> None:
    """Items are the blocks of 32 float32 of `rows` rows: x ≈ scale · q, q in ±127.

    The results lie group by group: the sixty-four values of the first group of all rows, then of the second. scale and
    sums, the sum of q, are given for each quad of four values, four bytes each.
    """
    for i in loop(lo, hi):
        x = p.x.load(F32 * BLOCK, i * (4 * BLOCK))
        most = larger(folded(absolute(x), larger), 1e-30)
        q = rounded(x * (const(F32, 127.0) / most)).to(I8)
        row, block = i // p.blocks, i % p.blocks
        at = ((block // 2 * p.rows + row) * 2 + block % 2) * BLOCK
        p.q.store(q, at)
        p.scale.store((most * (1 / 127)).spread(BLOCK // 4), at)
        p.sums.store(dot4(const(U8 * BLOCK, 1), q, zero(I32 * (BLOCK // 4))), at)


@cache
def blocked(name: str, together: int) -> Kernel:
    """Weight rows `lo` … `hi` of a block format with rows first … first + n of quantised x, `together` at a time."""
    unpacking = UNPACKINGS[name]

    @kernel(f"linear_{name.lower()}_{together}", w=PTR, stride=I64, q=PTR, scale=PTR, sums=PTR, **SHAPE)
    def product(p: Any, lo: Value, hi: Value) -> None:
        for row in loop(lo, hi):
            for first in loop(p.first, p.first + p.n, together):
                accs = [Variable(zero(F32 * LANES)) for _ in range(together)]
                for at in loop(0, p.k, unpacking.values):
                    block = p.w + row * p.stride + at // unpacking.values * unpacking.step
                    _fetch_ahead(block, unpacking.step)
                    for number, group in enumerate(unpacking.groups(block)):
                        here = ((at // GROUP + number) * p.rows + first) * GROUP
                        for r, acc in enumerate(accs):
                            acc.value = _grown(acc.value, group, unpacking, p, here + r * GROUP)
                _finish(p, row, first, [acc.value for acc in accs])

    return product


def _grown(acc: Value, group: Group, unpacking: Unpacking, p: Any, at: Value) -> Value:
    """acc + the products of a group with the sixty-four values of x that lie at `at`."""
    scale, sums = p.scale.load(F32 * QUADS, at), p.sums.load(I32 * QUADS, at)
    start = sums * -unpacking.offset if unpacking.offset else zero(I32 * QUADS)
    products = dot4(group.q, p.q.load(I8 * GROUP, at), start).to(F32)
    acc = fma(products, group.scale * scale, acc)
    return acc if group.minimum is None else fma(sums.to(F32) * scale, group.minimum, acc)


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
                _finish(p, row, first, [acc.value for acc in accs])

    return product


def _fetch_ahead(p: Value, nbytes: int) -> None:
    for line in range(0, nbytes, 64):
        prefetch(p + (AHEAD + line))


def _finish(p: Any, row: Value, first: Value, accs: list[Value]) -> None:
    bias = p.bias.load(F32, row * 4)
    for r, acc in enumerate(accs):
        p.y.store(total(acc) + bias, (row + p.m * (first + r)) * 4)
