"""Values → blocks: how the scales of each format are chosen and its integers rounded, as ggml does it without an
importance matrix, bit for bit but for the sign of a minimum that is zero (ggml-quants.c: `quantize_row_*_ref`).

    Q4_0   the farthest value from zero becomes −8, exactly; the others are rounded to multiples of an eighth of it
    Q4_K   each 32 values get the scale and minimum that lose least of 22 tried, then those become 6-bit multiples
           of one scale and one minimum for 256 values, and the values are rounded again

Inside, an array is (values of a block, blocks): NumPy then works on one value of many blocks at a time, and a sum
over a block adds its values one after another, which is ggml's order and so gives ggml's bits.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eardrop.errors import OptionError
from eardrop.gguf.formats import (
    BF16,
    F16,
    F32,
    Q6_K,
    Q8_0,
    BlockFormat,
    Blocks,
    Floats,
    by_name,
    packed,
    six_bit_bytes,
    to_bf16,
)

Bytes: TypeAlias = NDArray[np.uint8]

STRIP = 1 << 17  # values quantised at a time: some megabytes of scratch; much fewer, and Python's share shows


def quantize(values: NDArray[Any], form: BlockFormat) -> NDArray[np.uint8]:
    """The blocks of values: (rows, width) → (rows, bytes of a row); `width` must be whole blocks.

    Promises nothing of blocks with NaN or infinities in them; values whose scale exceeds a half's 65,504 come out
    infinite or NaN. Raises OptionError for a format that nothing is quantised to.
    """
    encode = QUANTIZERS.get(form.name)
    if encode is None:
        raise OptionError(f"nothing is quantized to {form.name}; there are {', '.join(QUANTIZERS)}")
    rows, width = values.shape
    row_bytes = form.row_bytes(width)
    x = values.reshape(rows * width // form.block, form.block)
    blocks, step = np.empty(len(x), form.layout), STRIP // form.block
    with np.errstate(all="ignore"):
        for start in range(0, len(x), step):
            blocks[start : start + step] = encode(x[start : start + step])
    return blocks.view(np.uint8).reshape(rows, row_bytes)


def _across(x: NDArray[Any], runs: int = 1) -> Floats:
    """(n, block) → (block / runs, runs · n): each value of all blocks together, of all first runs first."""
    n, block = x.shape
    turned = x.reshape(n, runs, block // runs).transpose(2, 1, 0)
    return np.ascontiguousarray(turned, np.float32).reshape(block // runs, runs * n)


def _back(q: Bytes, runs: int) -> Bytes:
    """The other way, blocks still last: (block / runs, runs · n) → (block, n)."""
    run, columns = q.shape
    return q.reshape(run, runs, columns // runs).transpose(1, 0, 2).reshape(runs * run, columns // runs)


def _inverse(x: Floats, of: float = 1.0) -> Floats:
    """of / x; 0 where that is no number (of nothing, and of numbers too small to matter)."""
    inverse = np.float32(of) / x
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _farthest(x: Floats) -> Floats:
    """The value farthest from zero in each column, of two the first; +0 where there is none."""
    high, low = x.max(axis=0), x.min(axis=0)
    farthest = np.where(high > -low, high, low)
    (ties,) = np.nonzero(high == -low)
    if len(ties):
        tied = x[:, ties]
        farthest[ties] = tied[np.abs(tied).argmax(axis=0), np.arange(len(ties))] + np.float32(0)  # −0 + 0 is +0
    return np.asarray(farthest, np.float32)


_LOW, _HIGH = np.uint8(15), np.uint8(4)  # the mask and the shift that part a nibble from what is above it


def _split(blocks: Blocks, q: Bytes, bits: int) -> None:
    """Integers of 4 or 5 bits (block, n) into the block's nibbles, and their fifth bits where they have one."""
    run = min(len(q) // 2, 32)
    blocks["q"] = packed(q & _LOW, 4, run)
    if bits == 5:
        blocks["high"] = packed(q >> _HIGH, 1, 1 if len(q) == 32 else 32)


def _symmetric(form: BlockFormat, bits: int) -> Callable[[NDArray[Any]], Blocks]:
    """Q4_0, Q5_0: value = scale · (q − half of the range)."""
    middle = 1 << (bits - 1)

    def encode(x: NDArray[Any]) -> Blocks:
        blocks, x = np.empty(len(x), form.layout), _across(x)
        scale = _farthest(x) / np.float32(-middle)
        levels = x * _inverse(scale) + np.float32(middle + 0.5)
        blocks["scale"] = scale
        _split(blocks, np.minimum(levels, 2 * middle - 1).astype(np.uint8), bits)  # astype cuts the fraction off
        return blocks

    return encode


def _affine(form: BlockFormat, bits: int) -> Callable[[NDArray[Any]], Blocks]:
    """Q4_1, Q5_1: value = scale · q + minimum."""
    top = (1 << bits) - 1

    def encode(x: NDArray[Any]) -> Blocks:
        blocks, x = np.empty(len(x), form.layout), _across(x)
        minimum = x.min(axis=0)
        scale = (x.max(axis=0) - minimum) / np.float32(top)
        levels = (x - minimum) * _inverse(scale) + np.float32(0.5)
        blocks["scale"], blocks["minimum"] = scale, minimum
        _split(blocks, np.minimum(levels, top).astype(np.uint8), bits)
        return blocks

    return encode


# The number before 0.5: added to a number and cut off, it rounds halves away from zero and nothing else up.
_BEFORE_HALF = np.nextafter(np.float32(0.5), np.float32(0))


def _q8_0(x: NDArray[Any]) -> Blocks:
    blocks, x = np.empty(len(x), Q8_0.layout), _across(x)
    scale: Floats = np.divide(np.abs(_farthest(x)), np.float32(127))
    levels: Floats = x * _inverse(scale)
    levels += np.copysign(_BEFORE_HALF, levels)
    blocks["scale"], blocks["q"] = scale, levels.astype(np.int8).T
    return blocks


def _levels(x: Floats, slope: Floats, origin: Floats, top: int, out: Floats) -> Floats:
    """The integers that values fall on: slope · (x − origin), to the nearest even, 0 … top."""
    np.subtract(x, origin, out=out)
    out *= slope
    np.rint(out, out=out)
    return np.clip(out, 0, top, out=out)


def _loss(x: Floats, w: Floats, levels: Floats, scale: Floats, minimum: Floats, out: Floats) -> Floats:
    """Σ w (scale · level + minimum − x)², column by column."""
    np.multiply(levels, scale, out=out)
    out += minimum
    out -= x
    np.square(out, out=out)
    out *= w
    return np.asarray(out.sum(axis=0), np.float32)


def _fit_lines(x: Floats, *, top: int, first: float, steps: int) -> tuple[Floats, Floats, Bytes]:
    """The scale and the minimum, at most 0, of each column that lose least, and the integers they were fitted to.

    Tried are `steps` + 1 slopes, from `first` + top over the range of the values on in steps of 0.1: each gives
    integers, and these a line by weighted least squares. Far values weigh more (ggml: make_qkx2_quants).
    """
    w = np.abs(x) + np.sqrt((x * x).sum(axis=0) / np.float32(len(x)))
    high, minimum = x.max(axis=0), np.minimum(x.min(axis=0), 0)
    flat = high == minimum
    slope, origin = np.float32(top) / (high - minimum), minimum.copy()
    scale = np.float32(1) / slope
    q, wq, scratch = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    least = _loss(x, w, _levels(x, slope, origin, top, q), scale, minimum, scratch)
    sum_w, sum_x = w.sum(axis=0), np.multiply(w, x, out=scratch).sum(axis=0)
    for step in range(steps + 1):
        tried = (np.float32(first) + np.float32(0.1) * np.float32(step) + np.float32(top)) / (high - minimum)
        _levels(x, tried, minimum, top, q)
        sum_q = np.multiply(w, q, out=wq).sum(axis=0)
        sum_qq = np.multiply(wq, q, out=scratch).sum(axis=0)
        sum_qx = np.multiply(wq, x, out=scratch).sum(axis=0)
        D = sum_w * sum_qq - sum_q * sum_q
        a, b = (sum_w * sum_qx - sum_x * sum_q) / D, (sum_qq * sum_x - sum_q * sum_qx) / D
        a, b = np.where(b > 0, sum_qx / sum_qq, a), np.minimum(b, 0)
        loss = _loss(x, w, q, a, b, scratch)
        better = (D > 0) & (loss < least)
        for kept, new in ((least, loss), (scale, a), (slope, tried), (origin, minimum), (minimum, b)):
            np.copyto(kept, new, where=better)
    levels = _levels(x, slope, origin, top, q).astype(np.uint8)
    levels[:, flat], scale[flat] = 0, 0
    return scale, minimum, levels


def _six_bits(sizes: Floats) -> tuple[NDArray[np.float16], Bytes]:
    """Sizes (8, n), none negative, as multiples, up to 63, of one half for each column."""
    largest = np.maximum(sizes.max(axis=0), 0)
    multiples = np.rint(_inverse(largest, 63) * sizes)
    return (largest / np.float32(63)).astype(np.float16), np.clip(multiples, 0, 63).astype(np.uint8)


def _pairs(form: BlockFormat, bits: int, *, first: float, steps: int) -> Callable[[NDArray[Any]], Blocks]:
    """Q4_K, Q5_K: value = scale · s · q − minimum · m, a pair of six bits s, m for each 32 values."""
    top = (1 << bits) - 1

    def encode(x: NDArray[Any]) -> Blocks:
        n, x = len(x), _across(x, 8)
        scales, minima, levels = _fit_lines(x, top=top, first=first, steps=steps)
        blocks = np.empty(n, form.layout)
        blocks["scale"], s = _six_bits(scales.reshape(8, n))
        blocks["minimum"], m = _six_bits(-minima.reshape(8, n))
        blocks["scales"] = six_bit_bytes(s.T, m.T)
        scale = (blocks["scale"].astype(np.float32) * s).reshape(-1)
        x += (blocks["minimum"].astype(np.float32) * m).reshape(-1)
        x /= scale
        again = np.clip(np.rint(x, out=x), 0, top, out=x).astype(np.uint8)
        _split(blocks, _back(np.where(scale == 0, levels, again), 8), bits)
        return blocks

    return encode


_NOTHING = np.float32(1e-15)  # ggml's limit: what is smaller is zero


def _signed_levels(x: Floats, slope: Floats, top: int, out: Floats) -> Floats:
    """slope · x, to the nearest even, −top … top − 1."""
    np.multiply(x, slope, out=out)
    np.rint(out, out=out)
    return np.clip(out, -top, top - 1, out=out)


def _fit_multiples(x: Floats, *, top: int) -> tuple[Floats, Bytes]:
    """The scale of each column, of either sign, that loses least, and the integers it was fitted to, 0 … 2 top − 1.

    Tried are 19 slopes, the first of which makes the farthest value −top, the others −top ± 0.1 to ± 0.9; each gives
    integers, and these a scale by least squares, weighted by x². 0 where there is nothing (ggml: make_qx_quants).
    """
    farthest, w = _farthest(x), x * x
    wx, q, scratch = w * x, np.empty_like(x), np.empty_like(x)
    scale, best, slope = np.zeros_like(farthest), np.zeros_like(farthest), np.float32(-top) / farthest
    for step in (0, *range(-9, 0), *range(1, 10)):
        tried = -(np.float32(top) + np.float32(0.1) * np.float32(step)) / farthest
        _signed_levels(x, tried, top, q)
        sum_qx = np.multiply(wx, q, out=scratch).sum(axis=0)
        np.multiply(w, q, out=scratch)
        sum_qq = np.multiply(scratch, q, out=scratch).sum(axis=0)
        better = (sum_qq > 0) & ((step == 0) | (sum_qx * sum_qx > best * sum_qq))
        found = sum_qx / sum_qq
        for kept, new in ((scale, found), (best, found * sum_qx), (slope, tried)):
            np.copyto(kept, new, where=better)
    nothing = np.abs(farthest) < _NOTHING
    levels = (_signed_levels(x, slope, top, q) + np.float32(top)).astype(np.uint8)
    levels[:, nothing], scale[nothing] = 0, 0
    return scale, levels


def _q6_k(x: NDArray[Any]) -> Blocks:
    """value = scale · s · (q − 32), s of eight bits for each 16 values."""
    n, x = len(x), _across(x, 16)
    scales, levels = _fit_multiples(x, top=32)
    farthest = _farthest(scales.reshape(16, n))
    unit = np.float32(-128) / farthest
    s = np.minimum(np.rint(unit * scales.reshape(16, n)), 127)
    blocks = np.empty(n, Q6_K.layout)
    blocks["scale"], blocks["scales"] = np.float32(1) / unit, s.astype(np.int8).T
    scale = (blocks["scale"].astype(np.float32) * s).reshape(-1)
    again = (np.clip(np.rint(x / scale), -32, 31) + np.float32(32)).astype(np.uint8)
    q = _back(np.where(scale == 0, levels, again), 16)
    blocks["q"], blocks["high"] = packed(q & _LOW, 4, 64), packed(q >> _HIGH, 2, 32)
    blocks[np.abs(farthest) < _NOTHING] = np.zeros((), Q6_K.layout)
    return blocks


def _plain(form: BlockFormat, convert: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[NDArray[Any]], Blocks]:
    return lambda x: np.ascontiguousarray(convert(x)).view(form.layout).reshape(-1)


_Q4_0, _Q4_1, _Q5_0, _Q5_1, _Q4_K, _Q5_K = map(by_name, ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K"))

# The formats that values are quantised to: (n, block) → (n,) blocks. The plain ones round to nearest even.
QUANTIZERS: dict[str, Callable[[NDArray[Any]], Blocks]] = {
    F32.name: _plain(F32, lambda x: x.astype("<f4")),
    F16.name: _plain(F16, lambda x: x.astype("<f2")),
    BF16.name: _plain(BF16, lambda x: to_bf16(x).astype("<u2")),
    "Q8_0": _q8_0,
    "Q4_0": _symmetric(_Q4_0, 4),
    "Q4_1": _affine(_Q4_1, 4),
    "Q5_0": _symmetric(_Q5_0, 5),
    "Q5_1": _affine(_Q5_1, 5),
    "Q4_K": _pairs(_Q4_K, 4, first=-1.0, steps=20),
    "Q5_K": _pairs(_Q5_K, 5, first=-0.5, steps=15),
    "Q6_K": _q6_k,
}
