"""The block formats of GGUF tensors, as one table: how many values share how many bytes, and what they mean.

A row of a tensor is a sequence of blocks. A block holds `block` values in `layout.itemsize` bytes: small integers q,
one or two halves, and in the K formats small integer scales for each sub-block. Everything is little-endian.

    Q4_0   scale q[16]                            scale · (q − 8)
    Q4_K   scale minimum scales[12] q[128]        scale · s · q − minimum · m       s, m: one pair for 32 values

The integers of one block are cut from its bytes in one way only, `_fields`; the formats differ in its arguments.
The arithmetic is float32 in ggml's order, so the values are ggml's, bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eardrop.errors import OptionError

Blocks: TypeAlias = NDArray[Any]  # (n,) of a format's layout
Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class BlockFormat:
    """One row of the table.

    layout      the bytes of a block; its item size is the block's size
    dequantize  (n,) blocks → (n, block) float32; None where eardrop knows the size of a format and not its values
    """

    ggml_id: int
    name: str
    block: int
    layout: np.dtype[Any]
    dequantize: Callable[[Blocks], Floats] | None = None

    @property
    def block_bytes(self) -> int:
        """The size of one block."""
        return self.layout.itemsize

    def row_bytes(self, values: int) -> int:
        """The size of a row; `values` must be whole blocks."""
        assert values % self.block == 0, f"{self.name}: {values} values are no whole blocks of {self.block}"
        return values // self.block * self.block_bytes

    def __repr__(self) -> str:
        return f"<{self.name}>"


def to_bf16(x: NDArray[Any]) -> NDArray[np.uint16]:
    """float32 → the bits of bfloat16, rounded to nearest even; NaN stays NaN, made quiet."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    rounded = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(nan, (bits >> 16) | 0x40, rounded).astype(np.uint16).reshape(np.shape(x))


def from_bf16(bits: NDArray[np.uint16]) -> Floats:
    """The bits of bfloat16 → float32; exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _fields(packed: NDArray[np.uint8], bits: int, run: int) -> NDArray[np.int8]:
    """Cut bytes into fields: (n, bytes) → (n, bytes · 8 / bits), each 0 … 2**bits − 1.

    In a run of `run` bytes come first the lowest fields of all bytes, then the next lowest of all bytes, and so on.
    With run=1 the fields of one byte are neighbours.
    """
    n, size = packed.shape
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    fields = packed.reshape(n, size // run, 1, run) >> shifts & np.uint8(2**bits - 1)
    return fields.reshape(n, size * 8 // bits).view(np.int8)


def packed(fields: NDArray[np.uint8], bits: int, run: int) -> NDArray[np.uint8]:
    """The other way, for quantize.py: (fields of a block, n) → (n, bytes). Higher bits than `bits` must be clear."""
    parts = fields.reshape(-1, 8 // bits, run, fields.shape[1])
    joined = parts[:, 0].copy()
    for place in range(1, 8 // bits):
        joined |= parts[:, place] << np.uint8(place * bits)
    return joined.reshape(len(fields) * bits // 8, fields.shape[1]).T


def _half(b: Blocks, name: str) -> Floats:
    return b[name].astype(np.float32)[:, None]


def _times(scales: NDArray[Any], q: NDArray[Any]) -> Floats:
    """The scales (n, k) × q (n, block): each scale serves block / k neighbours."""
    n, k = scales.shape
    products: Floats = scales[:, :, None] * q.reshape(n, k, q.shape[1] // k)
    return products.reshape(q.shape)


def _times_minus(scales: NDArray[Any], q: NDArray[Any], minima: NDArray[Any]) -> Floats:
    values: Floats = _times(scales, q) - np.repeat(minima, q.shape[1] // minima.shape[1], axis=1)
    return values


def _q4_0(b: Blocks) -> Floats:
    return _times(_half(b, "scale"), _fields(b["q"], 4, 16) - 8)


def _q4_1(b: Blocks) -> Floats:
    return _times(_half(b, "scale"), _fields(b["q"], 4, 16)) + _half(b, "minimum")


def _five_bits(b: Blocks) -> NDArray[np.int8]:
    return _fields(b["q"], 4, 16) | _fields(b["high"], 1, 1) << 4


def _q5_0(b: Blocks) -> Floats:
    return _times(_half(b, "scale"), _five_bits(b) - 16)


def _q5_1(b: Blocks) -> Floats:
    return _times(_half(b, "scale"), _five_bits(b)) + _half(b, "minimum")


def _q8(b: Blocks) -> Floats:
    return _times(_half(b, "scale"), b["q"])


def _q2_k(b: Blocks) -> Floats:
    scales, minima = _half(b, "scale") * (b["scales"] & 15), _half(b, "minimum") * (b["scales"] >> 4)
    return _times_minus(scales, _fields(b["q"], 2, 32), minima)


def _q3_k(b: Blocks) -> Floats:
    # the low four bits of the sixteen scales fill eight bytes, their high two bits the other four
    scales = (_fields(b["scales"][:, :8], 4, 8) | _fields(b["scales"][:, 8:], 2, 4) << 4) - 32
    q = _fields(b["q"], 2, 32) - ((1 - _fields(b["high"], 1, 32)) << 2)  # a clear high bit subtracts 4
    return _times(_half(b, "scale") * scales, q)


def _six_bit_pairs(packed: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Eight scales and eight minima of six bits in twelve bytes: the first four of each whole, the rest in pieces."""
    s, m, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([s & 63, rest & 15 | s >> 6 << 4], axis=1)
    minima = np.concatenate([m & 63, rest >> 4 | m >> 6 << 4], axis=1)
    return scales, minima


def six_bit_bytes(scales: NDArray[np.uint8], minima: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The other way: (n, 8) scales and minima, each 0 … 63 → (n, 12)."""
    s, m = (x[:, :4] | x[:, 4:] >> 4 << 6 for x in (scales, minima))
    return np.concatenate([s, m, scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4], axis=1)


def _four_or_five_k(b: Blocks, q: NDArray[np.int8]) -> Floats:
    scales, minima = _six_bit_pairs(b["scales"])
    return _times_minus(_half(b, "scale") * scales, q, _half(b, "minimum") * minima)


def _q4_k(b: Blocks) -> Floats:
    return _four_or_five_k(b, _fields(b["q"], 4, 32))


def _q5_k(b: Blocks) -> Floats:
    return _four_or_five_k(b, _fields(b["q"], 4, 32) | _fields(b["high"], 1, 32) << 4)


def _q6_k(b: Blocks) -> Floats:
    q = (_fields(b["q"], 4, 64) | _fields(b["high"], 2, 32) << 4) - 32
    return _times(_half(b, "scale") * b["scales"], q)


# The sixteen levels of IQ4: closer together near zero, where weights are.
IQ4_LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


def _iq4_nl(b: Blocks) -> Floats:
    return _times(_half(b, "scale"), IQ4_LEVELS[_fields(b["q"], 4, 16)])


def _iq4_xs(b: Blocks) -> Floats:
    scales = (_fields(b["scales_low"], 4, 1) | _fields(b["scales_high"], 2, 1) << 4) - 32
    return _times(_half(b, "scale") * scales, IQ4_LEVELS[_fields(b["q"], 4, 16)])


def _trits(packed: NDArray[np.uint8], count: int, run: int) -> NDArray[np.int8]:
    """`count` base-3 digits of each byte, read as a fraction: (n, bytes) → (n, bytes · count), each −1, 0 or 1."""
    n, size = packed.shape
    powers = np.array([3**k for k in range(count)], np.uint8)[:, None]
    shifted = packed.reshape(n, size // run, 1, run) * powers  # modulo 256: the digits before the k-th fall out
    return ((shifted.astype(np.uint16) * 3 >> 8).astype(np.int8) - 1).reshape(n, size * count)


def _tq1_0(b: Blocks) -> Floats:
    parts = [_trits(b["q"][:, :32], 5, 32), _trits(b["q"][:, 32:], 5, 16), _trits(b["high"], 4, 4)]
    return _times(_half(b, "scale"), np.concatenate(parts, axis=1))


def _tq2_0(b: Blocks) -> Floats:
    return _times(_half(b, "scale"), _fields(b["q"], 2, 32) - 1)


# The values of a four-bit float (E2M1), doubled to be integers; the scales below are halved for it.
FP4_LEVELS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)


def _ue4m3() -> Floats:
    """Half the value of each byte read as an unsigned float of four exponent and three fraction bits."""
    byte = np.arange(256)
    exponent, fraction = byte >> 3 & 15, byte & 7
    values = np.where(exponent == 0, np.ldexp(fraction, -9), np.ldexp(1 + fraction / 8, exponent - 7)) / 2
    values[[0, 0x7F]] = 0
    return np.asarray(values, np.float32)


HALVED_UE4M3 = _ue4m3()


def _mxfp4(b: Blocks) -> Floats:
    scale = np.ldexp(np.float32(1), b["exponent"].astype(np.int32) - 128)  # a power of two, halved; 0 and 1: subnormal
    return _times(scale[:, None], FP4_LEVELS[_fields(b["q"], 4, 16)])


def _nvfp4(b: Blocks) -> Floats:
    return _times(HALVED_UE4M3[b["scales"]], FP4_LEVELS[_fields(b["q"], 4, 8)])


def _plain(b: Blocks) -> Floats:
    return np.require(b["x"], np.float32, ["ALIGNED"])  # of aligned float32 a view, of everything else a copy


def _quiet(dequantize: Callable[[Blocks], Floats]) -> Callable[[Blocks], Floats]:
    """A file may hold infinite scales; inf · 0 is the NaN that ggml computes, too, and no reason to warn."""

    @wraps(dequantize)
    def quiet(blocks: Blocks) -> Floats:
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            return dequantize(blocks)

    return quiet


def _format(
    ggml_id: int,
    name: str,
    block: int,
    published_bytes: int,
    layout: list[Any],
    dequantize: Callable[[Blocks], Floats] | None = None,
) -> BlockFormat:
    form = BlockFormat(ggml_id, name, block, np.dtype(layout), dequantize and _quiet(dequantize))
    assert form.block_bytes == published_bytes, name  # a check of the layout, not its source
    return form


def _listed(ggml_id: int, name: str, block: int, published_bytes: int) -> BlockFormat:
    """A format built on code books: a file that has it can be listed, its values aren't computed."""
    return _format(ggml_id, name, block, published_bytes, [("bytes", "u1", published_bytes)])


_SCALE, _MINIMUM, _Q, _SCALES = ("scale", "<f2"), ("minimum", "<f2"), ("q", "u1", 128), ("scales", "u1", 12)

F32 = _format(0, "F32", 1, 4, [("x", "<f4", (1,))], _plain)
F16 = _format(1, "F16", 1, 2, [("x", "<f2", (1,))], _plain)
BF16 = _format(30, "BF16", 1, 2, [("x", "<u2", (1,))], lambda b: from_bf16(b["x"]))
Q8_0 = _format(8, "Q8_0", 32, 34, [_SCALE, ("q", "i1", 32)], _q8)
Q4_0 = _format(2, "Q4_0", 32, 18, [_SCALE, ("q", "u1", 16)], _q4_0)
Q6_K = _format(14, "Q6_K", 256, 210, [_Q, ("high", "u1", 64), ("scales", "i1", 16), _SCALE], _q6_k)
# fmt: off
_TABLE = (
    F32, F16, BF16, Q8_0, Q4_0, Q6_K,
    _format(3,  "Q4_1",   32,  20,  [_SCALE, _MINIMUM, ("q", "u1", 16)], _q4_1),
    _format(6,  "Q5_0",   32,  22,  [_SCALE, ("high", "u1", 4), ("q", "u1", 16)], _q5_0),
    _format(7,  "Q5_1",   32,  24,  [_SCALE, _MINIMUM, ("high", "u1", 4), ("q", "u1", 16)], _q5_1),
    _format(9,  "Q8_1",   32,  36,  [_SCALE, ("sum", "<f2"), ("q", "i1", 32)], _q8),
    _format(10, "Q2_K",   256, 84,  [("scales", "u1", 16), ("q", "u1", 64), _SCALE, _MINIMUM], _q2_k),
    _format(11, "Q3_K",   256, 110, [("high", "u1", 32), ("q", "u1", 64), _SCALES, _SCALE], _q3_k),
    _format(12, "Q4_K",   256, 144, [_SCALE, _MINIMUM, _SCALES, _Q], _q4_k),
    _format(13, "Q5_K",   256, 176, [_SCALE, _MINIMUM, _SCALES, ("high", "u1", 32), _Q], _q5_k),
    _format(15, "Q8_K",   256, 292, [("scale", "<f4"), ("q", "i1", 256), ("sums", "<i2", 16)], _q8),
    _format(20, "IQ4_NL", 32,  18,  [_SCALE, ("q", "u1", 16)], _iq4_nl),
    _format(23, "IQ4_XS", 256, 136, [_SCALE, ("scales_high", "u1", 2), ("scales_low", "u1", 4), _Q], _iq4_xs),
    _format(34, "TQ1_0",  256, 54,  [("q", "u1", 48), ("high", "u1", 4), _SCALE], _tq1_0),
    _format(35, "TQ2_0",  256, 66,  [("q", "u1", 64), _SCALE], _tq2_0),
    _format(39, "MXFP4",  32,  17,  [("exponent", "u1"), ("q", "u1", 16)], _mxfp4),
    _format(40, "NVFP4",  64,  36,  [("scales", "u1", 4), ("q", "u1", 32)], _nvfp4),
    _format(28, "F64",    1,   8,   [("x", "<f8", (1,))], _plain),
    _format(24, "I8",     1,   1,   [("x", "i1", (1,))], _plain),
    _format(25, "I16",    1,   2,   [("x", "<i2", (1,))], _plain),
    _format(26, "I32",    1,   4,   [("x", "<i4", (1,))]),  # float32 can't hold every value of these two
    _format(27, "I64",    1,   8,   [("x", "<i8", (1,))]),
    _listed(16, "IQ2_XXS", 256, 66), _listed(17, "IQ2_XS", 256, 74), _listed(22, "IQ2_S", 256, 82),
    _listed(18, "IQ3_XXS", 256, 98), _listed(21, "IQ3_S", 256, 110), _listed(19, "IQ1_S", 256, 50),
    _listed(29, "IQ1_M", 256, 56),   _listed(41, "Q1_0", 128, 18),   _listed(42, "Q2_0", 64, 18),
)

# Ids that once meant a format and were given up.
REMOVED = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8",
    36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
}
# fmt: on

FORMATS: dict[int, BlockFormat] = {form.ggml_id: form for form in _TABLE}


def by_name(name: str) -> BlockFormat:
    """The format of that name, upper or lower case: `by_name("q4_0")`."""
    for form in FORMATS.values():
        if form.name == name.upper():
            return form
    raise OptionError(f"no block format is called {name!r}; there are {', '.join(f.name for f in FORMATS.values())}")
