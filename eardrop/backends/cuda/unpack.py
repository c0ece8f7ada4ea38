"""The values of quantised weights as kernels take them: a unit of neighbours that share a scale at a time.

    value = scale · q + minimum

`ROWS` says of each block format how its q, scales and minima are cut out of a block: the lines of `gguf/formats.py`
once more, for one value instead of all. From a row and the format's layout comes a Triton function, `unpack(name)`;
`source(name)` shows it. The arithmetic has ggml's order, so values have ggml's bits where products and sums aren't
fused.

On the device a weight lies in planes: of all its blocks first the first field, then the second (`planes`). It takes as
many bytes as in the file, and what neighbours read is aligned and lies together: blocks of 18 or 210 bytes aren't.
A field at byte `at` of a block and `size` bytes long begins for block b of n at n · at + b · size.
"""

import linecache
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from eardrop.gguf import BlockFormat, by_name
from eardrop.gguf.formats import FP4_LEVELS, IQ4_LEVELS


@dataclass(frozen=True)
class Row:
    """How one format is unpacked, in Triton. Names of its fields in braces are where the block's begin.

    unit           neighbours with one scale that are taken at a time, a power of two
    q              of value i of a block, before scaling
    scale          of unit s of a block
    minimum        what is added to the values of unit s; empty where nothing is
    """

    name: str
    unit: int
    q: str
    scale: str = "half({scale})"
    minimum: str = ""


_NIBBLES, _FIFTH = "field({q}, i, 4, 16)", "field({high}, i, 1, 1) << 4"
_PAIR = {
    "scale": "half({scale}) * six_bits({scales}, s, 0)",
    "minimum": "-(half({minimum}) * six_bits({scales}, s, 4))",
}
ROWS = {
    row.name: row
    for row in (
        Row("Q4_0", 32, f"{_NIBBLES} - 8"),
        Row("Q4_1", 32, _NIBBLES, minimum="half({minimum})"),
        Row("Q5_0", 32, f"({_NIBBLES} | {_FIFTH}) - 16"),
        Row("Q5_1", 32, f"{_NIBBLES} | {_FIFTH}", minimum="half({minimum})"),
        Row("Q8_0", 32, "signed({q}, i)"),
        Row(
            "Q2_K",
            16,
            "field({q}, i, 2, 32)",
            "half({scale}) * (byte({scales}, s) & 15)",
            "-(half({minimum}) * (byte({scales}, s) >> 4))",
        ),
        Row(
            "Q3_K",
            16,
            "(field({q}, i, 2, 32) | field({high}, i, 1, 32) << 2) - 4",
            "half({scale}) * ((field({scales}, s, 4, 8) | field({scales} + 8, s, 2, 4) << 4) - 32)",
        ),
        Row("Q4_K", 32, "field({q}, i, 4, 32)", **_PAIR),
        Row("Q5_K", 32, "field({q}, i, 4, 32) | field({high}, i, 1, 32) << 4", **_PAIR),
        Row(
            "Q6_K",
            16,
            "(field({q}, i, 4, 64) | field({high}, i, 2, 32) << 4) - 32",
            "half({scale}) * signed({scales}, s)",
        ),
        Row("IQ4_NL", 32, f"level({_NIBBLES}, IQ4_LOW, IQ4_HIGH)"),
        Row(
            "IQ4_XS",
            32,
            "level(field({q}, i, 4, 16), IQ4_LOW, IQ4_HIGH)",
            "half({scale}) * ((field({scales_low}, s, 4, 1) | field({scales_high}, s, 2, 1) << 4) - 32)",
        ),
        Row("TQ2_0", 32, "field({q}, i, 2, 32) - 1"),
        Row("MXFP4", 32, f"level({_NIBBLES}, FP4_LOW, FP4_HIGH)", "power({exponent})"),
        Row("NVFP4", 16, "level(field({q}, i, 4, 8), FP4_LOW, FP4_HIGH)", "ue4m3({scales}, s)"),
    )
}


def _word(levels: "np.typing.NDArray[np.int8]") -> tl.constexpr:
    return tl.constexpr(int(levels.view("<i8")[0]))


IQ4_LOW, IQ4_HIGH = _word(IQ4_LEVELS[:8]), _word(IQ4_LEVELS[8:])
FP4_LOW, FP4_HIGH = _word(FP4_LEVELS[:8]), _word(FP4_LEVELS[8:])


@triton.jit
def byte(p, i):
    """The unsigned byte i."""
    return tl.load(p + i).to(tl.int32)


@triton.jit
def signed(p, i):
    """The signed byte i."""
    return tl.load(p + i).to(tl.int8, bitcast=True).to(tl.int32)


@triton.jit
def half(p):
    """A half as float32; its address is even."""
    return tl.load(p.to(tl.pointer_type(tl.float16))).to(tl.float32)


@triton.jit
def field(p, i, BITS: tl.constexpr, RUN: tl.constexpr):
    """Field i of bytes that hold several: `_fields` of gguf/formats.py, the other way round."""
    EACH: tl.constexpr = 8 // BITS
    shift = i // RUN % EACH * BITS
    return (byte(p, i // (RUN * EACH) * RUN + i % RUN) >> shift) & (2**BITS - 1)


@triton.jit
def six_bits(p, s, AT: tl.constexpr):
    """The scale (AT = 0) or the minimum (AT = 4) of unit s, of eight each in twelve bytes."""
    first, rest = byte(p, AT + s % 4), byte(p, 8 + s % 4) >> AT & 15
    return tl.where(s < 4, first & 63, rest | first >> 6 << 4)


@triton.jit
def level(q, LOW: tl.constexpr, HIGH: tl.constexpr):
    """The signed byte q of sixteen, in two words of eight."""
    word = tl.where(q < 8, tl.full((), LOW, tl.int64), tl.full((), HIGH, tl.int64))
    return (word >> (q % 8 * 8).to(tl.int64)).to(tl.int8).to(tl.int32)


@triton.jit
def power(p):
    """2 to the byte − 128: of 0 and 1 a subnormal number."""
    exponent = byte(p, 0)
    bits = tl.where(exponent < 2, 0x00200000 << (exponent & 1), (exponent - 1) << 23)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def ue4m3(p, s):
    """Half of the byte s as an unsigned float of four exponent and three fraction bits; 0 of 0 and of 127."""
    bits = byte(p, s)
    exponent, fraction = bits >> 3 & 15, bits & 7
    normal = ((exponent + 119) << 23 | fraction << 20).to(tl.float32, bitcast=True)
    value = tl.where(exponent == 0, fraction.to(tl.float32) * 0.0009765625, normal)
    return tl.where((bits == 0) | (bits == 127), 0.0, value)


def source(name: str) -> str:
    """The function of a format: (p, n, b, s, i) → q and scale as float32, and minimum.

    p the planes, n blocks in all; b the block, s the unit in it, i the value in it, tensors that broadcast
    """
    row = ROWS[name]
    places = {part: f"(p + n * {at} + b * {size})" for part, (at, size) in _parts(by_name(name)).items()}
    minimum = row.minimum.format(**places) or "0.0"
    return (
        f"@triton.jit\ndef unpack_{name.lower()}(p, n, b, s, i):\n"
        f"    q = {row.q.format(**places)}\n"
        f"    scale = {row.scale.format(**places)}\n"
        f"    return q.to(tl.float32), scale, {minimum}\n"
    )


@cache
def unpack(name: str) -> Any:
    """The Triton function that `source` shows."""
    text, file = source(name), f"<unpack {name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # where Triton reads it
    scope = globals() | {"__name__": __name__}
    exec(compile(text, file, "exec"), scope)
    return scope[f"unpack_{name.lower()}"]


def planes(raw: torch.Tensor, format_: BlockFormat) -> torch.Tensor:
    """Blocks as they lie in a file, (rows, bytes of a row) → the same bytes, field by field."""
    blocks = raw.reshape(-1, format_.block_bytes)
    return torch.cat([blocks[:, at : at + size].reshape(-1) for at, size in _parts(format_).values()])


def _parts(format_: BlockFormat) -> dict[str, tuple[int, int]]:
    """Where each field of a block begins and how long it is; without gaps, in order."""
    fields = format_.layout.fields
    assert fields is not None
    return {name: (int(field[1]), field[0].itemsize) for name, field in fields.items()}


@triton.jit
def place(row, unit, K, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """Of unit `unit` of row `row` of a weight of K columns: its block, the unit in it, its values in it."""
    block = row.to(tl.int64) * (K // BLOCK) + unit // (BLOCK // UNIT)
    within = unit % (BLOCK // UNIT)
    return block, within, within * UNIT + tl.arange(0, UNIT)[None, None, :]


@triton.jit
def _rows_unpacked(
    w, ids, out, K, n, UNPACK: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr, UNITS: tl.constexpr
):
    """Programs are (row, UNITS units of it): out[row] = the values of row ids[row], or of the row itself."""
    row = tl.program_id(0)
    unit = (tl.program_id(1) * UNITS + tl.arange(0, UNITS))[None, :, None]
    chosen = row if ids is None else tl.load(ids + row)
    inside = tl.minimum(unit, K // UNIT - 1)
    b, s, i = place(tl.full((1, 1, 1), chosen, tl.int32), inside, K, UNIT, BLOCK)
    q, scale, minimum = UNPACK(w, tl.cast(n, tl.int64), b, s, i)
    at = row.to(tl.int64) * K + unit * UNIT + tl.arange(0, UNIT)[None, None, :]
    tl.store(out + at, (scale * q + minimum).to(out.dtype.element_ty), mask=unit < K // UNIT)


VALUES = 2048  # of a program of `rows`


def rows(
    data: torch.Tensor, format_: BlockFormat, columns: int, dtype: torch.dtype, ids: torch.Tensor | None = None
) -> torch.Tensor:
    """The values of chosen rows of a weight in planes, or of all: (rows, columns) of `dtype`."""
    row, n = ROWS[format_.name], data.numel() // format_.block_bytes
    count = n * format_.block // columns if ids is None else len(ids)
    out = torch.empty((count, columns), dtype=dtype, device=data.device)
    if out.numel():
        units = VALUES // row.unit
        grid = (count, triton.cdiv(columns // row.unit, units))
        # not fused, so that the values are the file's, bit for bit
        _rows_unpacked[grid](
            data, ids, out, columns, n, unpack(row.name), row.unit, format_.block, units, enable_fp_fusion=False
        )
    return out
