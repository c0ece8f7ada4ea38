"""Self-attention with relative positions, a row and a head at a time: memory is a tile of scores, however long a clip.

The position's part of a score needs no table of row × row: for row i and key j it is a product with row R − 1 − i + j
of the projected positions, so both walk on together.
"""

from functools import cache
from typing import Any

import numpy as np

from eardrop.backends.cpu.attention import TILE, Softmax, product, vector
from eardrop.backends.cpu.flow import Kernel, kernel, loop, scratch
from eardrop.backends.cpu.maths import smaller
from eardrop.backends.cpu.running import Floats, Ints, Run, owners
from eardrop.backends.cpu.types import F32, I32, I64, PTR
from eardrop.backends.cpu.vector import Value


@cache
def attend(d: int) -> Kernel:
    """out = Σⱼ softmax(((q + u)·kⱼ + (q + v)·p[R − 1 − i + j]) · scale) · vⱼ over a clip; items are (row i, head).

    out, q, k, v  (N, H, d), out written;  p (2·R − 1, H, d), zero = R − 1;  u, v (H, d)
    owner (N,), offsets (B + 1,);  scale 1 / √d
    """
    pointers = ("out", "q", "k", "v", "p", "bias_u", "bias_v", "owner", "offsets")

    @kernel(f"rel_attend_{d}", **dict.fromkeys(pointers, PTR), heads=I64, zero=I64, scale=F32)
    def rows(p: Any, lo: Value, hi: Value) -> None:
        room, step = scratch(TILE * 4), p.heads * (d * 4)
        for item in loop(lo, hi):
            row, head = item // p.heads, item % p.heads * (d * 4)
            clip = p.offsets + p.owner.load(I32, row * 4).to(I64) * 4
            first, end = (clip.load(I32, at).to(I64) for at in (0, 4))
            query = vector(p.q + item * (d * 4), d)
            content, position = (_sum(query, vector(bias + head, d)) for bias in (p.bias_u, p.bias_v))
            far, softmax = p.p + (p.zero - row) * step + head, Softmax(room, d)
            for tile in loop(first, end, TILE):
                count = smaller(end - tile, TILE)
                for j in loop(0, count):
                    at = (tile + j) * step
                    key, place = vector(p.k + head + at, d), vector(far + at, d)
                    softmax.note(j, product([*content, *position], [*key, *place]) * p.scale)
                softmax.weigh(count)
                for j in loop(0, count):
                    softmax.add(j, vector(p.v + head + (tile + j) * step, d))
            softmax.store(p.out + item * (d * 4))

    return rows


def _sum(x: list[Value], y: list[Value]) -> list[Value]:
    return [a + b for a, b in zip(x, y, strict=True)]


def rel_attention(
    run: Run, q: Floats, k: Floats, v: Floats, p: Floats, bias_u: Floats, bias_v: Floats, offsets: Ints
) -> Floats:
    """As the operation of this name."""
    n, heads, d = q.shape
    out, owner = np.empty(q.shape, np.float32), owners(offsets)
    arguments = [out, q, k, v, p, bias_u, bias_v, owner, offsets, heads, len(p) // 2, d**-0.5]
    run(attend(d), arguments, n * heads, heads)
    return out
