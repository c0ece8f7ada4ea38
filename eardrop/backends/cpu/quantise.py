"""Rows of x as bytes, laid out span by span as a product reads them.

    x ≈ scale · q        q in ±127, one scale for thirty-two neighbours

What a product needs of a span lies together: first the bytes in the product's order, then for each of its lanes the
scale and where its sum of whole numbers starts, and for each minimum of the weights the sum of x that it meets.
"""

from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

from eardrop.backends.cpu.flow import Kernel, kernel, loop, scratch
from eardrop.backends.cpu.maths import dot4, folded, larger, rounded
from eardrop.backends.cpu.operations import absolute, add
from eardrop.backends.cpu.types import F32, I8, I32, I64, PTR, U8
from eardrop.backends.cpu.unpack import BLOCK, QUAD, Quads, Unpacking, scatter
from eardrop.backends.cpu.vector import Value, const, zero

_ALIGN = 64


@dataclass(frozen=True)
class Layout:
    """Where things lie in a span of a row of x.

    values  of a span
    order   its quads as their bytes follow each other
    lanes   the quads whose products are added in each lane of the product; all in one block of thirty-two
    offset  of the weights' format: a lane starts at −offset · Σ q
    sums    how many sums of x, of values ÷ sums neighbours each; 0 where the format has no minima
    """

    name: str
    values: int
    order: Quads
    lanes: tuple[Quads, ...]
    offset: int
    sums: int

    @property
    def scales_at(self) -> int:
        """Byte of the first lane's scale, float32."""
        return self.values

    @property
    def starts_at(self) -> int:
        """Byte of the first lane's start, I32."""
        return self.scales_at + 4 * len(self.lanes)

    @property
    def sums_at(self) -> int:
        """Byte of the first sum, float32."""
        return self.starts_at + (4 * len(self.lanes) if self.offset else 0)

    @property
    def nbytes(self) -> int:
        """Of a span."""
        return -(-(self.sums_at + 4 * self.sums) // _ALIGN) * _ALIGN


@cache
def layout(unpacking: Unpacking) -> Layout:
    """For the product with rows that are unpacked so."""
    order = tuple(quad for group in unpacking.order for part in group for quad in part)
    lanes = tuple(lane for group in unpacking.order for lane in zip(*group, strict=True))
    return Layout(unpacking.name, unpacking.values, order, lanes, unpacking.offset, unpacking.sums)


@cache
def quantise(to: Layout) -> Kernel:
    """Items are the spans of `rows` rows: x (rows, spans · values) float32 → out (spans, rows) spans of this layout."""

    @kernel(f"quantise_{to.name}", x=PTR, out=PTR, rows=I64, spans=I64)
    def spans(p: Any, lo: Value, hi: Value) -> None:
        values, sums, scales = scratch(to.values), scratch(to.values), scratch(4 * (to.values // BLOCK))
        for item in loop(lo, hi):
            out = p.out + (item % p.spans * p.rows + item // p.spans) * to.nbytes
            for block in loop(0, to.values // BLOCK):
                x = p.x.load(F32 * BLOCK, item * (4 * to.values) + block * (4 * BLOCK))
                most = larger(folded(absolute(x), larger), 1e-30)
                q = rounded(x * (const(F32, 127.0) / most)).to(I8)
                values.store(q, block * BLOCK)
                scales.store(most * (1 / 127), block * 4)
                sums.store(dot4(const(U8 * BLOCK, 1), q, zero(I32 * (BLOCK // QUAD)), most=1), block * BLOCK)
            for first in range(0, len(to.order), BLOCK // QUAD):
                places = [to.order.index(quad) for quad in range(first, first + BLOCK // QUAD)]
                scatter(out, values.load(I8 * BLOCK, first * QUAD), places)
            _store_lanes(out, to, sums.load(I32 * (to.values // QUAD)), scales.load(F32 * (to.values // BLOCK)))

    return spans


def _store_lanes(out: Value, to: Layout, sums: Value, scales: Value) -> None:
    """Scale and start of every lane, and the sums of x."""
    out.store(scales.lanes(*(lane[0] * QUAD // BLOCK for lane in to.lanes)), to.scales_at)
    if to.offset:
        lanes = (sums.lanes(*quads) for quads in zip(*to.lanes, strict=True))
        out.store(reduce(add, lanes) * -to.offset, to.starts_at)
    if to.sums:
        each = to.values // QUAD // to.sums
        totals = reduce(add, (sums.lanes(*range(quad, to.values // QUAD, each)) for quad in range(each)))
        first = scales.lanes(*(number * each * QUAD // BLOCK for number in range(to.sums)))
        out.store(totals.to(F32) * first, to.sums_at)
