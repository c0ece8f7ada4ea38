"""The values of quantised weights as kernels take them, sixty-four at a time.

    value = scale · (q − offset)  or  scale · q + minimum        q an unsigned byte

scale and minimum are one float32 for four neighbours, offset a number of the format. Every block format comes to that,
so one product serves them all. The layouts are those of `gguf/formats.py`; what a row here adds is how to cut the
fields out of a block with vector operations. Bytes can't be shifted on every processor: nibbles and bits are cut by
shifting words and masking.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eardrop.backends.cpu.maths import joined, lookup, widened
from eardrop.backends.cpu.operations import equal, select
from eardrop.backends.cpu.types import F16, F32, I8, U8, U16
from eardrop.backends.cpu.vector import Value, const, zero
from eardrop.gguf import BlockFormat, by_name
from eardrop.gguf.formats import IQ4_LEVELS

GROUP = 64  # values: the bytes of one AVX-512 register
QUADS = GROUP // 4


@dataclass(frozen=True)
class Group:
    """Sixty-four neighbouring values of a row."""

    q: Value  # U8 × 64
    scale: Value  # F32 × 16
    minimum: Value | None = None  # F32 × 16


@dataclass(frozen=True)
class Unpacking:
    """How a format is unpacked: `groups(p)` gives the groups of the `values` values that begin at p."""

    format: BlockFormat
    values: int
    groups: Callable[[Value], Iterator[Group]]
    offset: int = 0
    unit: int = 32  # values with one scale

    @property
    def step(self) -> int:
        """Bytes that hold `values` values."""
        return self.format.row_bytes(self.values)


def _cut(x: Value, shift: int, mask: int) -> Value:
    """Fields of bytes: (each byte >> shift) & mask."""
    words = x.bits(U16 * (x.type.lanes // 2)) >> shift
    return words.bits(x.type) & mask


def _nibbles(p: Value) -> Value:
    """Sixteen bytes as thirty-two nibbles: all low ones, then all high ones."""
    packed = p.load(U8 * 16)
    return joined(packed & 15, _cut(packed, 4, 15))


def _scale(p: Value, at: int) -> Value:
    """A half as a float32."""
    return widened(p.load(F16, at))


def _each(values: Value, first: int, count: int) -> Value:
    """`count` of the values from `first`, each as often as it takes to fill the lanes of a group."""
    return values.lanes(*(first + lane * count // QUADS for lane in range(QUADS)))


def _pair(name: str, q: Callable[[Value], Value], offset: int = 0, minimum_at: int | None = None) -> Unpacking:
    """A format with blocks of thirty-two: two of them are a group. The scale comes first."""
    format_ = by_name(name)
    size = format_.block_bytes

    def halves_at(p: Value, at: int) -> Value:
        return joined(*(_scale(p, at + block * size).spread(QUADS // 2) for block in (0, 1)))

    def groups(p: Value) -> Iterator[Group]:
        minimum = None if minimum_at is None else halves_at(p, minimum_at)
        yield Group(joined(q(p), q(p + size)), halves_at(p, 0), minimum)

    return Unpacking(format_, GROUP, groups, offset)


def _with_fifth_bits(p: Value, bits_at: int, nibbles_at: int) -> Value:
    """Nibbles, and the fifth bit of the i-th from the i-th bit of four bytes."""
    spread = p.load(U8 * 4, bits_at).lanes(*(i // 8 for i in range(32)))
    mask = const(U8 * 32, [1 << i % 8 for i in range(32)])
    return _nibbles(p + nibbles_at) | select(equal(spread & mask, mask), const(U8 * 32, 16), zero(U8 * 32))


def _levels(q: Value) -> Value:
    """Nibbles as IQ4's levels, 128 higher."""
    table = const(U8 * 16, [int(level) + 128 for level in IQ4_LEVELS])
    return lookup(table, q)


def _at(name: str, field: str) -> int:
    fields = by_name(name).layout.fields
    assert fields is not None
    return int(fields[field][1])


def _six_bit_pairs(p: Value) -> tuple[Value, Value]:
    """Eight scales and eight minima of six bits each, in the twelve bytes behind the two halves of Q4_K and Q5_K."""
    head = p.load(U8 * 16)
    first, second, third = (head.lanes(*range(start, start + 4)) for start in (4, 8, 12))
    scales = joined(first & 63, (third & 15) | _cut(first & 0xC0, 2, 0x30))
    minima = joined(second & 63, _cut(third, 4, 15) | _cut(second & 0xC0, 2, 0x30))
    return scales.to(F32), minima.to(F32)


def _k_scales(p: Value) -> tuple[Value, Value]:
    scales, minima = _six_bit_pairs(p)
    return scales * _scale(p, 0), minima * -_scale(p, 2)


def _q4_k(p: Value) -> Iterator[Group]:
    scales, minima = _k_scales(p)
    for g in range(4):
        packed = p.load(U8 * 32, _at("Q4_K", "q") + 32 * g)
        yield Group(joined(packed & 15, _cut(packed, 4, 15)), _each(scales, 2 * g, 2), _each(minima, 2 * g, 2))


def _q5_k(p: Value) -> Iterator[Group]:
    scales, minima = _k_scales(p)
    high = p.load(U8 * 32, _at("Q5_K", "high"))
    for g in range(4):
        packed = p.load(U8 * 32, _at("Q5_K", "q") + 32 * g)
        fifths = [_cut(high, 2 * g + b, 1) << 4 for b in (0, 1)]
        q = joined((packed & 15) | fifths[0], _cut(packed, 4, 15) | fifths[1])
        yield Group(q, _each(scales, 2 * g, 2), _each(minima, 2 * g, 2))


def _q6_k(p: Value) -> Iterator[Group]:
    scales = p.load(I8 * 16, _at("Q6_K", "scales")).to(F32) * _scale(p, _at("Q6_K", "scale"))
    for n in (0, 1):
        low, high = p.load(U8 * 64, _at("Q6_K", "q") + 64 * n), p.load(U8 * 32, _at("Q6_K", "high") + 32 * n)
        for h in (0, 1):
            top = joined(_cut(high, 4 * h, 3), _cut(high, 4 * h + 2, 3)) << 4
            yield Group(_cut(low, 4 * h, 15) | top, _each(scales, 8 * n + 4 * h, 4))


def _two_bits(p: Value, n: int, h: int) -> Value:
    packed = p.load(U8 * 32, 32 * n)
    return joined(_cut(packed, 4 * h, 3), _cut(packed, 4 * h + 2, 3))


def _q2_k(p: Value) -> Iterator[Group]:
    both = p.load(U8 * 16, _at("Q2_K", "scales"))
    scales = (both & 15).to(F32) * _scale(p, _at("Q2_K", "scale"))
    minima = _cut(both, 4, 15).to(F32) * -_scale(p, _at("Q2_K", "minimum"))
    for n, h in ((0, 0), (0, 1), (1, 0), (1, 1)):
        first = 8 * n + 4 * h
        yield Group(_two_bits(p + _at("Q2_K", "q"), n, h), _each(scales, first, 4), _each(minima, first, 4))


def _q3_k(p: Value) -> Iterator[Group]:
    """Scales: the low four bits of sixteen fill eight bytes, their high two bits four more; 32 too high."""
    low, high = p.load(U8 * 8, _at("Q3_K", "scales")), p.load(U8 * 4, _at("Q3_K", "scales") + 8)
    tops = joined(*(_cut(high, shift, 3) << 4 for shift in (0, 2, 4, 6)))
    numbers = joined(low & 15, _cut(low, 4, 15)) | tops
    scales = (numbers.to(F32) - 32.0) * _scale(p, _at("Q3_K", "scale"))
    thirds = p.load(U8 * 32, _at("Q3_K", "high"))
    for n, h in ((0, 0), (0, 1), (1, 0), (1, 1)):
        third = joined(*(_cut(thirds, 4 * n + 2 * h + j, 1) << 2 for j in (0, 1)))
        yield Group(_two_bits(p + _at("Q3_K", "q"), n, h) | third, _each(scales, 8 * n + 4 * h, 4))


def _iq4_xs(p: Value) -> Iterator[Group]:
    """Scales: eight of six bits, low nibbles in four bytes, high two bits in two; 32 too high."""
    low, high = p.load(U8 * 4, _at("IQ4_XS", "scales_low")), p.load(U8 * 2, _at("IQ4_XS", "scales_high"))
    lows = joined(low & 15, _cut(low, 4, 15)).lanes(0, 4, 1, 5, 2, 6, 3, 7)
    highs = joined(*(_cut(high, shift, 3) << 4 for shift in (0, 2, 4, 6))).lanes(0, 2, 4, 6, 1, 3, 5, 7)
    scales = ((lows | highs).to(F32) - 32.0) * _scale(p, _at("IQ4_XS", "scale"))
    for g in range(4):
        at = p + _at("IQ4_XS", "q") + 32 * g
        yield Group(joined(_levels(_nibbles(at)), _levels(_nibbles(at + 16))), _each(scales, 2 * g, 2))


def _whole(name: str, groups: Callable[[Value], Iterator[Group]], offset: int = 0, unit: int = 32) -> Unpacking:
    return Unpacking(by_name(name), 256, groups, offset, unit)


# What makes signed bytes unsigned adds 128; what the formats call x − 8 and so on is the offset.
UNPACKINGS = {
    unpacking.format.name: unpacking
    for unpacking in (
        _pair("Q4_0", lambda p: _nibbles(p + 2), offset=8),
        _pair("Q4_1", lambda p: _nibbles(p + 4), minimum_at=2),
        _pair("Q5_0", lambda p: _with_fifth_bits(p, 2, 6), offset=16),
        _pair("Q5_1", lambda p: _with_fifth_bits(p, 4, 8), minimum_at=2),
        _pair("Q8_0", lambda p: p.load(U8 * 32, 2) ^ 128, offset=128),
        _pair("IQ4_NL", lambda p: _levels(_nibbles(p + 2)), offset=128),
        _whole("Q2_K", _q2_k, unit=16),
        _whole("Q3_K", _q3_k, offset=4, unit=16),
        _whole("Q4_K", _q4_k),
        _whole("Q5_K", _q5_k),
        _whole("Q6_K", _q6_k, offset=32, unit=16),
        _whole("IQ4_XS", _iq4_xs, offset=128),
    )
}
