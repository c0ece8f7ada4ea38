"""Causal grouped-query attention over cached keys and values (arXiv 2305.13245), and its weights for word times."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from eardrop.ops.record import SUMMED, Arithmetic, Case, Cost, Float32, Int32, Op, Tolerance, normal, ragged, spans
from eardrop.ops.rel_attention import softmax

Cache = npt.NDArray[Any]  # float32 or float16


def attention(
    q: Float32, k: Float32, v: Float32, keys: Cache, values: Cache, offsets: Int32, slots: Int32, starts: Int32
) -> Float32:
    """Append k and v to the caches, then let every row attend to all rows of its stream up to itself.

    q             (N, H, d); head h reads key/value head h // (H / KV)
    k, v          (N, KV, d), of this call's rows
    keys, values  (S, rows, KV, d) the caches; rows [start, start + length) of each stream's slot are written
    slots         (B,) the slot of each sequence, all different; starts (B,) how many rows it held before
    returns       (N, H, d), softmax(q·keyᵀ / √d) · value
    """
    out, group = np.empty_like(q), q.shape[1] // k.shape[1]
    for rows, slot, start in zip(spans(offsets), slots, starts, strict=True):
        end = start + rows.stop - rows.start
        keys[slot, start:end], values[slot, start:end] = k[rows], v[rows]
        for head in range(q.shape[1]):
            seen, worth = (cache[slot, :end, head // group].astype(np.float32) for cache in (keys, values))
            out[rows, head] = _weights(q[rows, head], seen, start) @ worth
    return out


def _weights(q: Float32, keys: Float32, start: int) -> Float32:
    """(n, d) queries at rows start …, (end, d) keys → (n, end): row i sees keys 0 to start + i."""
    scores = q @ keys.T / np.float32(np.sqrt(q.shape[1]))
    later = np.arange(len(keys)) > start + np.arange(len(q))[:, None]
    return softmax(np.where(later, np.float32(-np.inf), scores))


def attention_weights(
    q: Float32, keys: Cache, offsets: Int32, slots: Int32, starts: Int32, heads: Int32, rows: Int32
) -> Float32:
    """What chosen heads looked at: attention's weights on a range of each stream's rows (the audio's, say).

    q       (N, H, d), as `attention` had it, with this call's keys already in the cache
    heads   (h,) the query heads asked for; rows (B, 2) first and last + 1 of the rows asked for, per sequence
    returns (N, h, W), W the widest range; a part of a softmax over all rows seen; 0 beyond a narrower range
    """
    out = np.zeros((len(q), len(heads), int(np.diff(rows).max(initial=0))), np.float32)
    group = q.shape[1] // keys.shape[2]
    for span, slot, start, (low, high) in zip(spans(offsets), slots, starts, rows, strict=True):
        end = start + span.stop - span.start
        for place, head in enumerate(heads):
            seen = keys[slot, :end, head // group].astype(np.float32)
            part = _weights(q[span, head], seen, start)[:, low:high]
            out[span, place, : part.shape[1]] = part
    return out


# lengths, starts, slots, H, KV, d
_SIZES = (
    ((1,), (0,), (0,), 1, 1, 2),
    ((1, 1, 1), (0, 5, 130), (2, 0, 1), 8, 2, 64),
    ((1, 7, 130), (3, 0, 1), (1, 2, 0), 4, 2, 32),
    ((33,), (0,), (1,), 6, 3, 10),
)


def _streams(rng: "np.random.Generator", dtype: type[np.floating[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for lengths, starts, slots, heads, kv_heads, d in _SIZES:
        caches = (normal(rng, 3, 140, kv_heads, d).astype(dtype) for _ in range(2))
        yield (
            f"{lengths} at {starts} {heads}/{kv_heads}x{d} {np.dtype(dtype)}",
            {
                "q": normal(rng, sum(lengths), heads, d),
                "k": normal(rng, sum(lengths), kv_heads, d),
                "v": normal(rng, sum(lengths), kv_heads, d),
                **dict(zip(("keys", "values"), caches, strict=True)),
                "offsets": ragged(*lengths),
                "slots": np.array(slots, np.int32),
                "starts": np.array(starts, np.int32),
            },
        )


def attention_cases(rng: "np.random.Generator") -> Iterator[Case]:
    """A first token; steps of three streams; prompts of several lengths; caches of both widths."""
    for dtype in (np.float32, np.float16):
        for label, arguments in _streams(rng, dtype):
            yield Case(label, arguments)


def attention_weights_cases(rng: "np.random.Generator") -> Iterator[Case]:
    """As `attention`; ranges that are empty, inside, and past what a stream holds."""
    for dtype in (np.float32, np.float16):
        for label, arguments in _streams(rng, dtype):
            kept = {name: arguments[name] for name in ("q", "keys", "offsets", "slots", "starts")}
            heads = np.array(sorted({0, arguments["q"].shape[1] - 1}), np.int32)
            rows = np.array([(0, 1), (2, 90), (4, 4)][: len(arguments["slots"])], np.int32)
            yield Case(label, {**kept, "heads": heads, "rows": rows})


def attention_cost(
    q: Float32, k: Float32, v: Float32, keys: Cache, values: Cache, offsets: Int32, slots: Int32, starts: Int32
) -> Cost:
    """Pairs of rows that see each other; the caches read once."""
    lengths, before = np.diff(offsets).astype(np.float64), np.asarray(starts, np.float64)
    pairs = float((lengths * before + lengths * (lengths + 1) / 2).sum())
    read = float((before + lengths).sum()) * k.shape[1] * k.shape[2] * 2 * keys.itemsize
    return Cost(4.0 * pairs * q.shape[1] * q.shape[2], read + 8.0 * q.size)


def attention_weights_cost(
    q: Float32, keys: Cache, offsets: Int32, slots: Int32, starts: Int32, heads: Int32, rows: Int32
) -> Cost:
    """Products of the chosen heads; the keys read once."""
    seen = float((np.asarray(starts) + np.diff(offsets)).sum())
    return Cost(2.0 * seen * len(heads) * q.shape[2], seen * keys.shape[2] * keys.shape[3] * keys.itemsize)


_tolerance = {
    **dict.fromkeys(Arithmetic, SUMMED),
    Arithmetic.FLOAT16: Tolerance(2.0**-9, "queries and weights rounded to 11 bits before their products"),
    Arithmetic.BFLOAT16: Tolerance(2.0**-6, "queries and weights rounded to 8 bits before their products"),
}
ATTENTION = Op("attention", attention, attention_cases, _tolerance, attention_cost, changes=("keys", "values"))
ATTENTION_WEIGHTS = Op(
    "attention_weights",
    attention_weights,
    attention_weights_cases,
    _tolerance,
    attention_weights_cost,
    host=("offsets", "heads", "rows"),
)
