"""Attention with relative positions, a block of queries against a block of keys at a time; no T × T matrix anywhere.

The score of row i and key j has a part that hangs on i − j for a given row: (q + v) · p[R − 1 − (i − j)]. A block of n
queries and one of n keys need 2·n − 1 rows of p: each query begins one row before the one above it. They are taken as
products with two blocks of n rows of p, where column c of row i belongs to key c − (n − 1 − i), or n keys later:

    before   · · · a     after   b c d ·     each row rotated    a│· · ·     ·│b c d     by key    a b c d
             · · f g             h i · ·     to the left by      f g│· ·     · ·│h i               f g h i
             · k l m             n · · ·     n − 1 − i           k l m│·     · · ·│n               k l m n
             p q r s             · · · ·                         p q r s│    · · · ·│              p q r s

So the shift of Transformer-XL's table is one rotation of each row, and a choice along the diagonal. The next block of
keys meets the next block of p: `after` becomes `before`, and each product is taken once.
"""

import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.flash import KINDS, LOG2_E, absorb, product
from eardrop.backends.cuda.ragged import longest, on_device
from eardrop.ops import Int32

# queries, and keys, of a block, by operands: the largest that sm_90 is compiled for without spilling; sm_80 spills 64
# bytes of halves (benchmarks/gpu_compile.py)
BLOCKS = {torch.float32: 32, torch.float16: 64, torch.bfloat16: 64}
STAGES = 2  # blocks of keys, positions and values under way at once: two programs of a multiprocessor have the room


@triton.jit
def _block(x, start, rows, head, stride, D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """(BLOCK, d) of one head from row `start` on; zeros outside 0 … rows."""
    i, d = tl.arange(0, BLOCK)[:, None], tl.arange(0, WIDE)[None, :]
    here = (start + i >= 0) & (start + i < rows) & (d < D)
    return tl.load(x + start * stride + head * D + (i * stride + d), mask=here, other=0.0)


@triton.jit
def attend(
    out, q, k, v, p, bias_u, bias_v, offsets, H, reach, scale,
    D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Programs are (block of queries, head, clip). Shapes as the operation's; reach is R, WIDE d made a power of 2."""
    head, clip, begin = tl.program_id(1), tl.program_id(2), tl.program_id(0) * BLOCK
    first = tl.load(offsets + clip).to(tl.int64)
    n = (tl.load(offsets + clip + 1) - first).to(tl.int32)
    if begin >= n:
        return
    stride = H * D
    i, j, d = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :], tl.arange(0, WIDE)[None, :]
    clip_at = first * stride
    query = _block(q + clip_at, begin, n, head, stride, D, WIDE, BLOCK).to(tl.float32)
    content = query + tl.load(bias_u + head * D + d, mask=d < D, other=0.0)
    place = query + tl.load(bias_v + head * D + d, mask=d < D, other=0.0)
    highest, total = tl.full((BLOCK,), float("-inf"), tl.float32), tl.zeros((BLOCK,), tl.float32)
    acc = tl.zeros((BLOCK, WIDE), tl.float32)
    distances, behind = 2 * reach - 1, reach - begin  # behind: the row of p after those that the first keys begin with
    ahead = _block(p, behind - BLOCK, distances, head, stride, D, WIDE, BLOCK)
    by_key = (j - i + BLOCK - 1) % BLOCK  # what a row rotated to the left by BLOCK − 1 − i has in column j
    before = tl.gather(product(place, ahead.T, KIND), by_key, 1)
    for start in range(0, n, BLOCK):
        ahead = _block(p, behind + start, distances, head, stride, D, WIDE, BLOCK)
        after = tl.gather(product(place, ahead.T, KIND), by_key, 1)
        position = tl.where(j <= i, before, after)
        before = after
        keys = _block(k + clip_at, start, n, head, stride, D, WIDE, BLOCK)
        scores = product(content, keys.T, KIND) + position
        scores = tl.where(start + j < n, scores * scale, float("-inf"))
        values = _block(v + clip_at, start, n, head, stride, D, WIDE, BLOCK)
        highest, total, acc = absorb(scores, values, highest, total, acc, KIND)
    here = (begin + i < n) & (d < D)
    tl.store(out + clip_at + begin * stride + head * D + (i * stride + d), acc / total[:, None], mask=here)


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
            num_stages=STAGES,
        )  # fmt: skip
    return out
