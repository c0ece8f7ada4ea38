"""Attention with relative positions, a block of queries against a block of keys at a time; no T × T matrix anywhere.

The score of row i and key j has a part that depends on i − j alone for a given row: (q + v) · p[R − 1 − (i − j)]. For
a block of n queries and one of n keys that is 2·n − 1 rows of p, one further for each query down and each key to the
left. They are taken as products of the queries with two blocks of n rows of p, and shifted:

    products, by row of p          where from           rotated: by key
    · · · a │ b c d ·              row 0   · · · a      row 0   b c d·  …
    · · a b │ c d · ·    before │ after  →  for row i the last i + 1 columns of `before` and the first n − 1 − i of
    · a b c │ d · · ·              `after`: n in all, in columns that never collide, so one array holds both
    a b c d │ · · · ·

and key j of row i lies in its column j − i − 1 modulo n: the shift of Transformer-XL's table is one rotation of each
row. The next block of keys meets the next block of p: `after` becomes `before`, so each product is taken once.
"""

import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.flash import KINDS, LOG2_E, absorb, product
from eardrop.backends.cuda.ragged import longest, on_device
from eardrop.ops import Int32

BLOCKS = {torch.float32: 32, torch.float16: 64, torch.bfloat16: 64}  # queries, and keys, of a block, by operands


@triton.jit
def _columns(x, row, rows, head, stride, d, D: tl.constexpr):
    """(d, rows) of one head: a block of keys or positions as it stands in a product; zeros outside 0 … rows."""
    at = x + row[None, :].to(tl.int64) * stride + head * D + d[:, None]
    return tl.load(at, mask=(row >= 0)[None, :] & (row < rows)[None, :] & (d < D)[:, None], other=0.0)


@triton.jit
def attend(
    out, q, k, v, p, bias_u, bias_v, offsets, H, reach, scale,
    D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Programs are (block of queries, head, clip). Shapes as the operation's; reach is R, WIDE is d made a power of 2."""
    head, clip, begin = tl.program_id(1), tl.program_id(2), tl.program_id(0) * BLOCK
    first = tl.load(offsets + clip)
    n = tl.load(offsets + clip + 1) - first
    if begin >= n:
        return
    stride = H * D
    i, d = tl.arange(0, BLOCK), tl.arange(0, WIDE)
    i2, j2 = i[:, None], tl.arange(0, BLOCK)[None, :]
    q += first.to(tl.int64) * stride
    k += first.to(tl.int64) * stride
    v += first.to(tl.int64) * stride
    mine = (begin + i2).to(tl.int64) * stride + head * D + d[None, :]
    here = (begin + i2 < n) & (d < D)[None, :]
    query = tl.load(q + mine, mask=here, other=0.0).to(tl.float32)
    content = query + tl.load(bias_u + head * D + d, mask=d < D, other=0.0)[None, :]
    place = query + tl.load(bias_v + head * D + d, mask=d < D, other=0.0)[None, :]

    highest, total = tl.full((BLOCK,), float("-inf"), tl.float32), tl.zeros((BLOCK,), tl.float32)
    acc = tl.zeros((BLOCK, WIDE), tl.float32)
    distances = 2 * reach - 1
    nearest = reach - begin + i  # rows of p behind those of the first block of keys
    before = product(place, _columns(p, nearest - BLOCK, distances, head, stride, d, D), KIND)
    for start in range(0, n, BLOCK):
        after = product(place, _columns(p, nearest + start, distances, head, stride, d, D), KIND)
        both = tl.where(i2 + j2 >= BLOCK - 1, before, after)
        position = tl.gather(both, (j2 - i2 + BLOCK - 1) % BLOCK, 1)
        before = after
        scores = product(content, _columns(k, start + i, n, head, stride, d, D), KIND) + position
        scores = tl.where(start + j2 < n, scores * scale, float("-inf"))
        at = (start + i2).to(tl.int64) * stride + head * D + d[None, :]
        values = tl.load(v + at, mask=(start + i2 < n) & (d < D)[None, :], other=0.0)
        highest, total, acc = absorb(scores, values, highest, total, acc, KIND)
    tl.store(out + first.to(tl.int64) * stride + mine, acc / total[:, None], mask=here)


def rel_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    p: torch.Tensor,
    bias_u: torch.Tensor,
    bias_v: torch.Tensor,
    offsets: Int32,
    *,
    products: torch.dtype = torch.float32,
) -> torch.Tensor:
    """As the operation of this name, its operands rounded to `products`; sums and softmax in float32."""
    q, k, v, p = (part.contiguous() for part in (q, k, v, p))
    (n, heads, d), block = q.shape, BLOCKS[products]
    out = torch.empty_like(q)
    if n:
        attend[triton.cdiv(longest(offsets), block), heads, len(offsets) - 1](
            *(out, q, k, v, p, bias_u, bias_v, on_device(offsets, q.device), heads, (len(p) + 1) // 2),
            *(LOG2_E / d**0.5, d, max(16, triton.next_power_of_2(d)), block, KINDS[products]),
            num_warps=4,
        )  # fmt: skip
    return out
