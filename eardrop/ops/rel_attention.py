"""Self-attention with relative positions (Transformer-XL, arXiv 1901.02860 §3.3), as the conformer uses it."""

from collections.abc import Iterator

import numpy as np

from eardrop.ops.record import SUMMED, Arithmetic, Case, Cost, Float32, Int32, Op, Tolerance, normal, ragged, spans


def softmax(scores: Float32) -> Float32:
    """exp(x − max) / Σ over the last axis."""
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def reference(
    q: Float32, k: Float32, v: Float32, p: Float32, bias_u: Float32, bias_v: Float32, offsets: Int32
) -> Float32:
    """Every row attends to every row of its own clip.

    q, k, v          (N, H, d)
    p                (2·R − 1, H, d) projected positions: row m stands for the distance R − 1 − m, R at least the
                     longest clip's rows
    bias_u, bias_v   (H, d) the content and the position bias
    returns          (N, H, d), weights = softmax(((q + u)·k + (q + v)·p[distance i − j]) / √d)
    """
    out = np.empty_like(q)
    for rows in spans(offsets):
        for head in range(q.shape[1]):
            content = (q[rows, head] + bias_u[head]) @ k[rows, head].T
            position = (q[rows, head] + bias_v[head]) @ p[:, head].T
            scores = (content + _shifted(position)) / np.float32(np.sqrt(q.shape[2]))
            out[rows, head] = softmax(scores) @ v[rows, head]
    return out


def _shifted(by_distance: Float32) -> Float32:
    """(n, 2·R − 1) scores by distance → (n, n) scores by key: column j of row i is the one for i − j."""
    n, zero = len(by_distance), by_distance.shape[1] // 2
    i, j = np.ogrid[:n, :n]
    return np.asarray(by_distance[i, zero - i + j])


def cases(rng: "np.random.Generator") -> Iterator[Case]:
    """One row; ragged clips; a table longer than the longest clip."""
    for lengths, heads, d, reach in (((1,), 1, 2, 1), ((2,), 3, 5, 4), ((1, 7, 130), 8, 64, 130), ((33, 5), 2, 48, 40)):
        q, k, v = (normal(rng, sum(lengths), heads, d) for _ in "qkv")
        yield Case(
            f"{lengths} {heads}x{d} reach {reach}",
            {
                "q": q,
                "k": k,
                "v": v,
                "p": normal(rng, 2 * reach - 1, heads, d),
                "bias_u": normal(rng, heads, d),
                "bias_v": normal(rng, heads, d),
                "offsets": ragged(*lengths),
            },
        )


def cost(q: Float32, k: Float32, v: Float32, p: Float32, bias_u: Float32, bias_v: Float32, offsets: Int32) -> Cost:
    """Content, position and value products; no T × T matrix need reach memory."""
    pairs = float(np.square(np.diff(offsets).astype(np.float64)).sum())
    return Cost(6.0 * pairs * q.shape[1] * q.shape[2], 4.0 * (4 * q.size + p.size))


# Operands rounded to 8 bits, 2⁻⁹ rms each, put a score of deviation 2 off by √2 · 2⁻⁸, two keys that share a row by at
# most 2⁻⁸ of the largest value; that value's and its weight's own rounding adds √2 · 2⁻⁹: 2⁻⁷·⁴ rms at the worst.
_tolerance = {
    **dict.fromkeys(Arithmetic, SUMMED),
    Arithmetic.FLOAT16: Tolerance(2.0**-9, "all operands rounded to 11 bits: an eighth of what 8 bits give"),
    Arithmetic.BFLOAT16: Tolerance(2.0**-6, "all operands rounded to 8 bits: nearly three sigma"),
}
REL_ATTENTION = Op("rel_attention", reference, cases, _tolerance, cost, many_rows=True)
