"""The values of quantised weights as kernels take them, a span at a time.

    value = scale · (q − offset)  or  scale · q + minimum        q an unsigned byte

Where an offset would only make signed bytes unsigned, they stay signed on processors that can multiply them so.

A span is what is unpacked together: a block of 256, or two to sixteen blocks of thirty-two. Its bytes come in groups of
registers that share their scales, so that one sum of whole numbers is kept for all of a group. They come in the order
that is cheapest to unpack, which is seldom the order of the values: a row says which quad (four neighbours, one lane of
a sum) lies where, and x is laid out the same way. Every block format comes to that, so one product serves them all.

The layouts are those of `gguf/formats.py`; what a row here adds is how to cut the fields out of a block with vector
operations. Bytes can't be shifted on every processor: nibbles and bits are cut by shifting words and masking.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeAlias

from eardrop.backends.cpu.maths import joined, lookup, widened
from eardrop.backends.cpu.operations import equal, select, shuffle
from eardrop.backends.cpu.types import F16, F32, I8, I32, U8, U16, Type
from eardrop.backends.cpu.vector import Value, const, machine, zero
from eardrop.gguf import BlockFormat, by_name
from eardrop.gguf.formats import IQ4_LEVELS

QUAD = 4  # neighbours whose products are added in one lane
LANES = 16  # quads in a register of 64 bytes
BLOCK = 32  # values with one scale in the formats of small blocks
SIGN = 128  # what makes signed bytes unsigned

Quads: TypeAlias = tuple[int, ...]  # numbers of quads in a span, as the values lie in a row


@dataclass(frozen=True)
class Group:
    """Bytes that share scales: lane i of each part has the scale i."""

    parts: tuple[Value, ...]  # U8 × 4 · lanes, or I8 whose offset is 0
    scale: Value  # F32 × lanes


@dataclass(frozen=True)
class Unpacking:
    """How a format is unpacked.

    values  of a span
    groups  the groups of the span that begins at an address
    order   the quads of each part of each group, lane by lane
    most    the largest size of q
    offset  of unsigned q
    minima  F32 × n of a span: each belongs to values ÷ n neighbours
    unit    neighbours with one scale
    turned  whether neighbours lie in other registers, so that few lanes share a scale
    """

    format: BlockFormat
    values: int
    groups: Callable[[Value], Iterator[Group]]
    order: tuple[tuple[Quads, ...], ...]
    most: int
    offset: int = 0
    minima: Callable[[Value], Value] | None = None
    unit: int = BLOCK
    turned: bool = False

    @property
    def name(self) -> str:
        """Of this way, in the names of kernels."""
        return f"{self.format.name.lower()}_{self.values}{'_turned' if self.turned else ''}"

    @property
    def element(self) -> Type:
        """Of q on the processor at hand."""
        return _signed() if self.offset == SIGN else U8

    @property
    def step(self) -> int:
        """Bytes of a span."""
        return self.format.row_bytes(self.values)

    @property
    def sums(self) -> int:
        """The minima of a span, in number."""
        return self.values // self.unit if self.minima else 0


def _cut(x: Value, shift: int | Sequence[int], mask: int) -> Value:
    """Fields of bytes: (each byte >> shift) & mask, or << −shift; a shift for all or for each part of equal size."""
    words = x.bits(U16 * (x.type.lanes // 2))
    shifts = [shift] if isinstance(shift, int) else list(shift)
    each = words.type.lanes // len(shifts)
    left = any(amount < 0 for amount in shifts)
    amounts = const(words.type, [abs(amount) for amount in shifts for _ in range(each)])
    return (words << amounts if left else words >> amounts).bits(x.type) & mask


def _nibbles(packed: Value) -> tuple[Value, Value]:
    """Of each byte the low one, and the high one."""
    return packed & 15, _cut(packed, 4, 15)


def _signed() -> Type:
    """What signed bytes become: unsigned ones where those alone are multiplied with signed ones."""
    return U8 if machine().target.has("dot_u8_i8") else I8


def _half(p: Value, at: int) -> Value:
    """A half as a float32."""
    return widened(p.load(F16, at))


def _each(values: Value, first: int, count: int) -> Value:
    """`count` of the values from `first`, each as often as it takes to fill the lanes of a group."""
    return values.lanes(*(first + lane * count // LANES for lane in range(LANES)))


# Blocks of thirty-two, two to sixteen together. Their halves lie `size` bytes apart.


def _halves(p: Value, size: int, blocks: int, at: int, each: int) -> Value:
    """The half at byte `at` of every block, `each` times, as float32.

    Who turns the lanes once more takes each half once: LLVM 22 loses lanes of AVX-512 where halves that were spread
    before they were widened are chosen from again.
    """
    places = [(block * size + at) // 2 for block in range(blocks)]
    if machine().target.vector_bytes < 64 or places[-1] >= 32 or blocks * size < 64:  # behind them the file may end
        pieces, few = [p.load(F16, 2 * place).spread(max(each, 2)) for place in places], 8 // max(each, 2)
        spread = joined(*(widened(joined(*pieces[i : i + few])) for i in range(0, blocks, few)))  # eight by eight
        return spread if each > 1 else spread.lanes(*range(0, 2 * blocks, 2))
    words = p.load(U16 * 32).lanes(*(place for place in places for _ in range(each)))
    return widened(words.bits(F16 * words.type.lanes))


def _joined_at(p: Value, size: int, blocks: int, at: int, nbytes: int) -> Value:
    """`nbytes` bytes of every block, end to end."""
    return joined(*(p.load(U8 * nbytes, block * size + at) for block in range(blocks)))


def _lows_and_highs(blocks: int) -> tuple[Quads, Quads]:
    """Low nibbles of sixteen bytes are the first half of a block of thirty-two, high ones the second."""
    first = tuple(block * 8 + quad for block in range(blocks) for quad in range(4))
    return first, tuple(quad + 4 for quad in first)


Parts: TypeAlias = Callable[[Value, int, int], tuple[Value, ...]]  # (address, bytes of a block, blocks) → parts


def _small(name: str, parts: Parts, most: int, offset: int = 0, minimum_at: int | None = None) -> tuple[Unpacking, ...]:
    """A format of small blocks whose scale comes first: sixteen together, or as few as a row's width asks for.

    Of sixteen each has a lane to itself: half as much is done with scales as where a block has four lanes.
    """
    format_ = by_name(name)
    size = format_.block_bytes

    def together(blocks: int) -> Unpacking:
        def groups(p: Value) -> Iterator[Group]:
            yield Group(parts(p, size, blocks), _halves(p, size, blocks, 0, 4))

        def minima(p: Value) -> Value:
            assert minimum_at is not None
            return _halves(p, size, blocks, minimum_at, 1)

        order = (_lows_and_highs(blocks),)
        return Unpacking(format_, BLOCK * blocks, groups, order, most, offset, minima if minimum_at else None)

    def sixteen() -> Unpacking:
        def groups(p: Value) -> Iterator[Group]:
            fours = [parts(p + 4 * size * four, size, 4) for four in range(4)]
            turned = [quad for each in zip(*fours, strict=True) for quad in _turned(each)]
            yield Group(tuple(turned), scales(p, 0).lanes(*blocks))

        def minima(p: Value) -> Value:
            assert minimum_at is not None
            return scales(p, minimum_at)

        def scales(p: Value, at: int) -> Value:
            return joined(*(_halves(p + 4 * size * four, size, 4, at, 1) for four in range(4)))

        blocks = [lane % 4 * 4 + lane // 4 for lane in range(LANES)]  # of each lane
        order = (tuple(tuple(8 * block + quad for block in blocks) for quad in range(8)),)
        return Unpacking(
            format_, BLOCK * LANES, groups, order, most, offset, minima if minimum_at else None, turned=True
        )

    return sixteen(), together(4), together(2)


def _turned(four: Sequence[Value]) -> list[Value]:
    """Four vectors of four blocks of four quads: quad j of block L of vector g becomes lane 4·L + g of vector j."""
    n = four[0].type.nbytes // QUAD
    a, b, c, d = (each.bits(I32 * n) for each in four)
    singles, pairs = (0, n, 1, n + 1), (0, 1, n, n + 1)  # of two vectors, one by one or two by two

    def mixed(x: Value, y: Value, order: tuple[int, ...], first: int) -> Value:
        return shuffle(x, y, order=tuple(part + first + lane for part in range(0, n, 4) for lane in order))

    halves_ = [(mixed(a, b, singles, first), mixed(c, d, singles, first)) for first in (0, 2)]
    return [mixed(x, y, pairs, first).bits(four[0].type) for x, y in halves_ for first in (0, 2)]


def _nibbles_at(at: int) -> Parts:
    return lambda p, size, blocks: _nibbles(_joined_at(p, size, blocks, at, 16))


def _with_fifth_bits(bits_at: int, nibbles_at: int) -> Parts:
    """Nibbles, and the fifth bit of the i-th from the i-th bit of four bytes."""

    def parts(p: Value, size: int, blocks: int) -> tuple[Value, ...]:
        words = joined(*(p.load(I32, block * size + bits_at).spread(4) for block in range(blocks)))
        fields = words.bits(U8 * (16 * blocks))
        mask = const(fields.type, [1 << i % 8 for i in range(16)] * blocks)
        both = []
        for half, nibble in enumerate(_nibbles(_joined_at(p, size, blocks, nibbles_at, 16))):
            bits = fields.lanes(*(16 * block + 2 * half + i // 8 for block in range(blocks) for i in range(16)))
            both.append(nibble | select(equal(bits & mask, mask), const(mask.type, 16), zero(mask.type)))
        return tuple(both)

    return parts


def _levels(q: Value) -> Value:
    """Nibbles as IQ4's levels."""
    higher = SIGN if _signed() == U8 else 0
    table = const(_signed() * 16, [int(level) + higher for level in IQ4_LEVELS])
    return lookup(table, q)


def _level_parts(p: Value, size: int, blocks: int) -> tuple[Value, ...]:
    return tuple(_levels(q) for q in _nibbles_at(2)(p, size, blocks))


def _q8_0(p: Value) -> Iterator[Group]:
    """Signed bytes."""
    size = by_name("Q8_0").block_bytes
    q, scales = _joined_at(p, size, 2, 2, BLOCK), _halves(p, size, 2, 0, 1)
    yield Group((q ^ SIGN if _signed() == U8 else q.bits(I8 * q.type.lanes),), _each(scales, 0, 2))


def _eight_q8_0(p: Value) -> Iterator[Group]:
    for pair in range(4):
        yield from _q8_0(p + pair * by_name("Q8_0").row_bytes(64))


# Blocks of 256.


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


def _k_scales(p: Value) -> Value:
    return _six_bit_pairs(p)[0] * _half(p, 0)


def _k_minima(p: Value) -> Value:
    return _six_bit_pairs(p)[1] * -_half(p, 2)


def _q4_k(p: Value) -> Iterator[Group]:
    scales = _k_scales(p)
    for n in (0, 1):
        packed = p.load(U8 * 64, _at("Q4_K", "q") + 64 * n)
        for half, q in enumerate(_nibbles(packed)):
            yield Group((q,), _alternate(scales, 4 * n + half))


def _alternate(scales: Value, first: int) -> Value:
    """One scale for the first eight lanes, the one after the next for the others."""
    return scales.lanes(*(first + lane // 8 * 2 for lane in range(LANES)))


def _q5_k(p: Value) -> Iterator[Group]:
    scales = _k_scales(p)
    high = joined(*[p.load(U8 * 32, _at("Q5_K", "high"))] * 2)
    for n in (0, 1):
        packed = p.load(U8 * 64, _at("Q5_K", "q") + 64 * n)
        for half, q in enumerate(_nibbles(packed)):
            bits = (4 * n + half, 4 * n + half + 2)  # of the thirty-two bytes, for either half of the part
            yield Group((q | _cut(high, [bit - 4 for bit in bits], 16),), _alternate(scales, 4 * n + half))


_ALTERNATING = tuple(  # low nibbles of 32 bytes, then of the next 32; the high ones stand 32 values behind
    (tuple(32 * n + 8 * half + lane + lane // 8 * 8 for lane in range(LANES)),) for n in (0, 1) for half in (0, 1)
)


def _q6_k(p: Value) -> Iterator[Group]:
    scales = p.load(I8 * 16, _at("Q6_K", "scales")).to(F32) * _half(p, _at("Q6_K", "scale"))
    for n in (0, 1):
        low = _nibbles(p.load(U8 * 64, _at("Q6_K", "q") + 64 * n))
        high = joined(*[p.load(U8 * 32, _at("Q6_K", "high") + 32 * n)] * 2)
        tops = _cut(high, (-4, -2), 0x30), _cut(high, (0, 2), 0x30)
        for h in (0, 1):
            yield Group((low[h] | tops[h],), _each(scales, 8 * n + 4 * h, 4))


def _two_bits(p: Value, n: int, h: int) -> Value:
    return _cut(joined(*[p.load(U8 * 32, 32 * n)] * 2), (4 * h, 4 * h + 2), 3)


_QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # which 32 bytes, which two pairs of bits


def _q2_k(p: Value) -> Iterator[Group]:
    scales = (p.load(U8 * 16, _at("Q2_K", "scales")) & 15).to(F32) * _half(p, _at("Q2_K", "scale"))
    for n, h in _QUARTERS:
        yield Group((_two_bits(p + _at("Q2_K", "q"), n, h),), _each(scales, 8 * n + 4 * h, 4))


def _q2_k_minima(p: Value) -> Value:
    return _cut(p.load(U8 * 16, _at("Q2_K", "scales")), 4, 15).to(F32) * -_half(p, _at("Q2_K", "minimum"))


def _q3_k(p: Value) -> Iterator[Group]:
    """Scales: the low four bits of sixteen fill eight bytes, their high two bits four more; 32 too high."""
    low, high = p.load(U8 * 8, _at("Q3_K", "scales")), p.load(U8 * 4, _at("Q3_K", "scales") + 8)
    tops = joined(*(_cut(high, shift, 3) << 4 for shift in (0, 2, 4, 6)))
    numbers = joined(low & 15, _cut(low, 4, 15)) | tops
    scales = (numbers.to(F32) - 32.0) * _half(p, _at("Q3_K", "scale"))
    thirds = joined(*[p.load(U8 * 32, _at("Q3_K", "high"))] * 2)
    for n, h in _QUARTERS:
        third = _cut(thirds, (4 * n + 2 * h, 4 * n + 2 * h + 1), 1) << 2
        yield Group((_two_bits(p + _at("Q3_K", "q"), n, h) | third,), _each(scales, 8 * n + 4 * h, 4))


def _iq4_xs(p: Value) -> Iterator[Group]:
    """Scales: eight of six bits, low nibbles in four bytes, high two bits in two; 32 too high."""
    low, high = p.load(U8 * 4, _at("IQ4_XS", "scales_low")), p.load(U8 * 2, _at("IQ4_XS", "scales_high"))
    lows = joined(*_nibbles(low)).lanes(0, 4, 1, 5, 2, 6, 3, 7)
    highs = joined(*(_cut(high, shift, 3) << 4 for shift in (0, 2, 4, 6))).lanes(0, 2, 4, 6, 1, 3, 5, 7)
    scales = ((lows | highs).to(F32) - 32.0) * _half(p, _at("IQ4_XS", "scale"))
    for n in (0, 1):
        packed = p.load(U8 * 64, _at("IQ4_XS", "q") + 64 * n)
        yield Group(tuple(_levels(q) for q in _nibbles(packed)), scales.lanes(*(4 * n + i // 4 for i in range(LANES))))


def _natural(groups: int) -> tuple[tuple[Quads, ...], ...]:
    return tuple((tuple(range(LANES * group, LANES * (group + 1))),) for group in range(groups))


def _whole(
    name: str,
    groups: Callable[[Value], Iterator[Group]],
    most: int,
    order: tuple[tuple[Quads, ...], ...] = _natural(4),
    offset: int = 0,
    minima: Callable[[Value], Value] | None = None,
    unit: int = BLOCK,
) -> tuple[Unpacking, ...]:
    way = Unpacking(by_name(name), 256, groups, order, most, offset, minima, unit)
    return _turned_way(way), way


def _turned_way(way: Unpacking) -> Unpacking:
    """The same with four parts of sixteen lanes turned into four that share their scales: one sum instead of four."""

    def groups(p: Value) -> Iterator[Group]:
        given = list(way.groups(p))
        scales = joined(*(group.scale for group in given for _ in group.parts))
        lanes = (LANES * vector + first for first in range(0, LANES, 4) for vector in range(4))
        yield Group(tuple(_turned([part for group in given for part in group.parts])), scales.lanes(*lanes))

    parts = [quads for group in way.order for quads in group]
    order = tuple(tuple(quads[first + j] for first in range(0, LANES, 4) for quads in parts) for j in range(4))
    return replace(way, groups=groups, order=(order,), turned=True)


_FOUR_PAIRS = tuple(tuple(tuple(32 * n + quad for quad in part) for part in _lows_and_highs(4)) for n in (0, 1))

# Every way to unpack a format, the best first. What the formats call x − 8 and so on is the offset.
UNPACKINGS = {
    ways[0].format.name: ways
    for ways in (
        _small("Q4_0", _nibbles_at(2), 15, offset=8),
        _small("Q4_1", _nibbles_at(4), 15, minimum_at=2),
        _small("Q5_0", _with_fifth_bits(2, 6), 31, offset=16),
        _small("Q5_1", _with_fifth_bits(4, 8), 31, minimum_at=2),
        (
            *_whole("Q8_0", _eight_q8_0, SIGN, offset=SIGN),
            Unpacking(by_name("Q8_0"), 64, _q8_0, _natural(1), SIGN, offset=SIGN),
        ),
        _small("IQ4_NL", _level_parts, 127, offset=SIGN),
        _whole("Q2_K", _q2_k, 3, minima=_q2_k_minima, unit=16),
        _whole("Q3_K", _q3_k, 7, offset=4, unit=16),
        _whole("Q4_K", _q4_k, 15, _ALTERNATING, minima=_k_minima),
        _whole("Q5_K", _q5_k, 31, _ALTERNATING, minima=_k_minima),
        _whole("Q6_K", _q6_k, 63, offset=32, unit=16),
        _whole("IQ4_XS", _iq4_xs, 127, _FOUR_PAIRS, offset=SIGN),
    )
}


def unpacking(name: str, columns: int) -> Unpacking | None:
    """The best way to unpack rows of this width as they are multiplied; None where there is none."""
    return next((way for way in UNPACKINGS.get(name, ()) if columns % way.values == 0), None)


def in_order(name: str, columns: int) -> Unpacking:
    """The best way to unpack rows of this width, a multiple of 64, into memory: neighbours are stored together."""
    return next(way for way in UNPACKINGS[name] if columns % way.values == 0 and not way.turned)


def scatter(out: Value, x: Value, places: Sequence[int]) -> None:
    """Store each quad of x at its place, which counts quads too; neighbours that stay neighbours by one store."""
    size = QUAD * x.type.element.nbytes
    for _, run in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
        quads = [quad for quad, _ in run]
        out.store(x.lanes(*range(QUAD * quads[0], QUAD * (quads[-1] + 1))), size * places[quads[0]])
