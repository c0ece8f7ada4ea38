"""Causal grouped-query attention over cached keys and values, and its weights on a range of rows.

Two ways to the same sums:

    prompts, drafts   `append` writes the new rows; then `attend`: a block of one head's queries meets the cache, block
                      by block, on tensor cores, up to its last row (flash.py)
    a step            `step` alone: one new row of each stream. The heads that share keys read them once; the cache is
                      cut into parts, one program each, where it has room for many rows; `join` puts parts together

A step reads memory and multiplies little, so its products are plain float32. Its parts are of the slot's own rows and
their number hangs on the cache's room alone, never on the other streams: a stream in a batch has the bits it has alone.
The new row is taken from k and v, rounded as the cache rounds; no program reads what another one writes.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.flash import KINDS, LOG2_E, absorb, product
from eardrop.backends.cuda.ragged import longest, on_device, one_row_each
from eardrop.ops import Int32

STAGES = 2  # blocks of keys and values under way at once
FEW, MANY = 16, 64  # queries of a block: of drafts; of prompts
KEYS = {torch.float32: 32, torch.float16: 64, torch.bfloat16: 64}  # of a block, by operands
PART_ROWS, MOST_PARTS = 128, 16  # of a step: rows of cache that are worth a program, and parts that are worth joining
STEP_VALUES = 8192  # heads × keys × width of a step's block: 64 float32 a thread of four warps


@triton.jit
def append(k, v, keys, values, offsets, slots, starts, rows, WIDTH: tl.constexpr, WIDE: tl.constexpr):
    """Programs are (row, sequence): k and v (N, KV · d) into (S, rows, KV · d), behind what the slot holds."""
    stream, row, c = tl.program_id(1), tl.program_id(0), tl.arange(0, WIDE)
    first = tl.load(offsets + stream)
    if row >= tl.load(offsets + stream + 1) - first:
        return
    into = (tl.load(slots + stream).to(tl.int64) * rows + tl.load(starts + stream) + row) * WIDTH + c
    here = (first + row).to(tl.int64) * WIDTH + c
    tl.store(keys + into, tl.load(k + here, mask=c < WIDTH).to(keys.dtype.element_ty), mask=c < WIDTH)
    tl.store(values + into, tl.load(v + here, mask=c < WIDTH).to(values.dtype.element_ty), mask=c < WIDTH)


@triton.jit
def _block(x, start, rows, stride, D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """(BLOCK, d) of one head from row `start` on; zeros behind the last of `rows`."""
    i, d = tl.arange(0, BLOCK)[:, None], tl.arange(0, WIDE)[None, :]
    return tl.load(x + start * stride + (i * stride + d), mask=(start + i < rows) & (d < D), other=0.0)


@triton.jit
def _scores(query, keys, start, seen, stride, scale, D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
            KIND: tl.constexpr):  # fmt: skip
    """(queries, BLOCK) base-two scores with the keys from row `start` on; query i sees those before seen[i]."""
    block = _block(keys, start, tl.max(seen), stride, D, WIDE, BLOCK)
    scores = product(query, block.T, KIND) * scale
    return tl.where(start + tl.arange(0, BLOCK)[None, :] < seen[:, None], scores, float("-inf"))


@triton.jit
def attend(
    out, q, keys, values, offsets, slots, starts, H, GROUP, rows, scale,
    D: tl.constexpr, WIDE: tl.constexpr, QUERIES: tl.constexpr, BLOCK: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Programs are (block of queries, head, sequence); out, q (N, H, d), the caches (S, rows, H / GROUP, d)."""
    head, stream, begin = tl.program_id(1), tl.program_id(2), tl.program_id(0) * QUERIES
    first = tl.load(offsets + stream).to(tl.int64)
    n = (tl.load(offsets + stream + 1) - first).to(tl.int32)
    if begin >= n:
        return
    stride = H // GROUP * D
    at = tl.load(slots + stream).to(tl.int64) * rows * stride + head // GROUP * D
    i, d = tl.arange(0, QUERIES), tl.arange(0, WIDE)[None, :]
    mine = (first + begin) * H * D + head * D
    query = _block(q + mine, 0, n - begin, H * D, D, WIDE, QUERIES)
    seen = tl.load(starts + stream) + tl.minimum(begin + i, n - 1) + 1
    highest, total = tl.full((QUERIES,), float("-inf"), tl.float32), tl.zeros((QUERIES,), tl.float32)
    acc = tl.zeros((QUERIES, WIDE), tl.float32)
    for start in range(0, tl.max(seen), BLOCK):
        scores = _scores(query, keys + at, start, seen, stride, scale, D, WIDE, BLOCK, KIND)
        worth = _block(values + at, start, tl.max(seen), stride, D, WIDE, BLOCK)
        highest, total, acc = absorb(scores, worth, highest, total, acc, KIND)
    here = (begin + i[:, None] < n) & (d < D)
    tl.store(out + mine + (i[:, None] * H * D + d), acc / total[:, None], mask=here)


@triton.jit
def step(
    out, parts, q, k, v, keys, values, slots, starts, H, rows, scale,
    GROUP: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Programs are (key/value head, stream, part); HEADS and WIDE are GROUP and d made powers of two.

    out    (B, H, d), written where there are no parts
    parts  (B, H, parts, d + 2): Σ weights · values, the largest score, Σ weights; or None
    """
    head, stream, part, count = tl.program_id(0), tl.program_id(1), tl.program_id(2), tl.num_programs(2)
    kv_heads = H // GROUP
    g, d = tl.arange(0, HEADS)[:, None], tl.arange(0, WIDE)[None, :]
    mine = (stream * H + head * GROUP + g).to(tl.int64)
    here = (g < GROUP) & (d < D)
    query = tl.load(q + mine * D + d, mask=here, other=0.0).to(tl.float32) * scale
    held = tl.load(starts + stream)
    cache = (tl.load(slots + stream).to(tl.int64) * rows * kv_heads + head) * D

    new = (stream * kv_heads + head).to(tl.int64) * D + d
    key = tl.load(k + new, mask=d < D, other=0.0).to(keys.dtype.element_ty)
    value = tl.load(v + new, mask=d < D, other=0.0).to(values.dtype.element_ty)
    score = tl.sum(query * key.to(tl.float32), 1)
    highest = tl.where(part == 0, score, float("-inf"))
    total = tl.where(part == 0, tl.full((HEADS,), 1.0, tl.float32), 0.0)
    acc = tl.zeros((HEADS, WIDE), tl.float32) + tl.where(part == 0, value.to(tl.float32), 0.0)
    if part == 0:  # the row that no other program reads
        tl.store(keys + cache + held * kv_heads * D + d, key, mask=d < D)
        tl.store(values + cache + held * kv_heads * D + d, value, mask=d < D)

    share = tl.cdiv(tl.cdiv(held, count), BLOCK) * BLOCK
    end = tl.minimum((part + 1) * share, held)
    for start in range(part * share, end, BLOCK):
        block = _block(keys + cache, start, end, kv_heads * D, D, WIDE, BLOCK).to(tl.float32)
        worth = _block(values + cache, start, end, kv_heads * D, D, WIDE, BLOCK).to(tl.float32)
        scores = tl.sum(query[:, None, :] * block[None, :, :], 2)
        scores = tl.where(start + tl.arange(0, BLOCK)[None, :] < end, scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        kept, weights = tl.exp2(highest - higher), tl.exp2(scores - higher[:, None])
        acc = acc * kept[:, None] + tl.sum(weights[:, :, None] * worth[None, :, :], 1)
        highest, total = higher, total * kept + tl.sum(weights, 1)

    if parts is None:
        tl.store(out + mine * D + d, acc / total[:, None], mask=here)
    else:
        into = parts + (mine * count + part) * (D + 2)
        tl.store(into + d, acc, mask=here)
        tl.store(into + D, highest[:, None], mask=g < GROUP)
        tl.store(into + D + 1, total[:, None], mask=g < GROUP)


@triton.jit
def join(out, parts, count, D: tl.constexpr, WIDE: tl.constexpr, MOST: tl.constexpr):
    """Programs are (stream and head): the weighted sum of parts; the first of them holds a key, others may be empty."""
    part, d = tl.arange(0, MOST), tl.arange(0, WIDE)
    mine = parts + tl.program_id(0).to(tl.int64) * count * (D + 2) + part * (D + 2)
    highest = tl.load(mine + D, mask=part < count, other=float("-inf"))
    weight = tl.exp2(highest - tl.max(highest, 0))
    total = tl.sum(weight * tl.load(mine + D + 1, mask=part < count, other=0.0), 0)
    sums = tl.load(mine[:, None] + d[None, :], mask=(part < count)[:, None] & (d < D)[None, :], other=0.0)
    tl.store(out + tl.program_id(0) * D + d, tl.sum(sums * weight[:, None], 0) / total, mask=d < D)


@triton.jit
def weigh(
    out, q, keys, offsets, slots, starts, heads, ranges, H, GROUP, rows, scale, widest,
    D: tl.constexpr, WIDE: tl.constexpr, QUERIES: tl.constexpr, BLOCK: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Programs are (block of queries, place of a head among those asked for, sequence); out (N, h, widest), zeroed.

    Once over all keys for the sum, once more over those asked for.
    """
    place, stream, begin = tl.program_id(1), tl.program_id(2), tl.program_id(0) * QUERIES
    head = tl.load(heads + place)
    first = tl.load(offsets + stream).to(tl.int64)
    n = (tl.load(offsets + stream + 1) - first).to(tl.int32)
    if begin >= n:
        return
    stride = H // GROUP * D
    mine = keys + tl.load(slots + stream).to(tl.int64) * rows * stride + head // GROUP * D
    i, j = tl.arange(0, QUERIES), tl.arange(0, BLOCK)[None, :]
    query = _block(q + (first + begin) * H * D + head * D, 0, n - begin, H * D, D, WIDE, QUERIES)
    seen = tl.load(starts + stream) + tl.minimum(begin + i, n - 1) + 1
    highest, total = tl.full((QUERIES,), float("-inf"), tl.float32), tl.zeros((QUERIES,), tl.float32)
    for start in range(0, tl.max(seen), BLOCK):
        scores = _scores(query, mine, start, seen, stride, scale, D, WIDE, BLOCK, KIND)
        higher = tl.maximum(highest, tl.max(scores, 1))
        total = total * tl.exp2(highest - higher) + tl.sum(tl.exp2(scores - higher[:, None]), 1)
        highest = higher
    low, high = tl.load(ranges + 2 * stream), tl.load(ranges + 2 * stream + 1)
    into = out + ((first + begin + i[:, None]) * tl.num_programs(1) + place) * widest
    for start in range(low, tl.minimum(high, tl.max(seen)), BLOCK):
        scores = _scores(query, mine, start, seen, stride, scale, D, WIDE, BLOCK, KIND)
        weights = tl.exp2(scores - highest[:, None]) / total[:, None]
        tl.store(into + (start - low + j), weights, mask=(begin + i[:, None] < n) & (start + j < high))


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    offsets: Int32,
    slots: torch.Tensor,
    starts: torch.Tensor,
    *,
    products: torch.dtype = torch.float32,
) -> torch.Tensor:
    """As the operation of this name; where there are many rows, operands are rounded to `products`, sums in float32."""
    assert all(cache.is_contiguous() for cache in (keys, values)), "a cache is whole: slots are found by their place"
    q, k, v = (part.contiguous() for part in (q, k, v))
    if not len(q):
        return torch.empty_like(q)
    if one_row_each(offsets):
        return _step(q, k, v, keys, values, slots, starts)
    (_, rows, kv_heads, d), heads, table = keys.shape, q.shape[1], on_device(offsets, q.device)
    out, streams, width = torch.empty_like(q), len(offsets) - 1, kv_heads * d
    append[longest(offsets), streams](
        *(k, v, keys, values, table, slots, starts, rows, width, triton.next_power_of_2(width)),
        num_warps=4,
    )
    queries = FEW if longest(offsets) <= FEW else MANY
    attend[triton.cdiv(longest(offsets), queries), heads, streams](
        *(out, q, keys, values, table, slots, starts, heads, heads // kv_heads, rows, LOG2_E / d**0.5),
        *(d, max(16, triton.next_power_of_2(d)), queries, KEYS[products], KINDS[products]),
        num_warps=4,
        num_stages=STAGES,
    )  # fmt: skip
    return out


def _step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    starts: torch.Tensor,
) -> torch.Tensor:
    """One row of each stream."""
    (streams, heads, d), (_, rows, kv_heads, _) = q.shape, keys.shape
    group, wide = heads // kv_heads, triton.next_power_of_2(d)
    count = min(triton.cdiv(rows, PART_ROWS), MOST_PARTS)
    out = torch.empty_like(q)
    parts = None if count == 1 else torch.empty((streams, heads, count, d + 2), dtype=torch.float32, device=q.device)
    padded = triton.next_power_of_2(group)
    step[kv_heads, streams, count](
        *(out, parts, q, k, v, keys, values, slots, starts, heads, rows, LOG2_E / d**0.5),
        *(group, padded, d, wide, max(1, STEP_VALUES // (padded * wide))),
        num_warps=4,
    )
    if parts is not None:
        join[(streams * heads,)](out, parts, count, d, wide, triton.next_power_of_2(count), num_warps=1)
    return out


def attention_weights(
    q: torch.Tensor,
    keys: torch.Tensor,
    offsets: Int32,
    slots: torch.Tensor,
    starts: torch.Tensor,
    heads: Int32,
    rows: Int32,
) -> torch.Tensor:
    """As the operation of this name, in float32."""
    q, d, all_heads = q.contiguous(), q.shape[2], q.shape[1]
    widest = int(np.diff(rows).max(initial=0))
    out = torch.zeros((len(q), len(heads), widest), dtype=torch.float32, device=q.device)
    if out.numel():
        tables = (on_device(table, q.device) for table in (heads, rows))
        weigh[triton.cdiv(longest(offsets), FEW), len(heads), len(offsets) - 1](
            *(out, q, keys, on_device(offsets, q.device), slots, starts, *tables, all_heads),
            *(all_heads // keys.shape[2], keys.shape[1], LOG2_E / d**0.5, widest),
            *(d, max(16, triton.next_power_of_2(d)), FEW, KEYS[torch.float32], tl.float32),
            num_warps=4,
            num_stages=STAGES,
        )  # fmt: skip
    return out
