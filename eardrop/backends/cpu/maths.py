"""Functions made of the layer's operations: what a kernel may count on, whatever the processor."""

import math
from collections.abc import Callable, Mapping

from eardrop.backends.cpu.operations import (
    absolute,
    add_pairs,
    dot_i8_i8,
    dot_u8_i8,
    equal,
    fused,
    looked_up,
    pairs_u8_i8,
    select,
    shuffle,
    signed_by,
)
from eardrop.backends.cpu.types import BF16, F16, F32, I8, I16, I32, U8, U16, U32, Type
from eardrop.backends.cpu.vector import OPERATIONS, Operand, Value, const, evened, machine, zero


def fma(x: Value, y: Operand, z: Operand) -> Value:
    """x · y + z, rounded once where the target can, else twice."""
    return fused(x, y, z) if machine().target.has("fma") else x * y + z


def smaller(x: Value, y: Operand) -> Value:
    """x where x < y, else y: y too where x is NaN, as the processors' minimum has it."""
    other = evened((x, y))[1]
    return select(x < other, x, other)


def larger(x: Value, y: Operand) -> Value:
    """x where y < x, else y."""
    other = evened((x, y))[1]
    return select(other < x, x, other)


def joined(*parts: Value) -> Value:
    """Vectors end to end; a power of two of them."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = tuple(shuffle(x, y, order=tuple(range(2 * x.type.lanes))) for x, y in pairs)
    return parts[0]


def halves(x: Value) -> tuple[Value, Value]:
    """The lower and the upper lanes."""
    middle, lanes = x.type.lanes // 2, x.type.lanes
    return x.lanes(*range(middle)), x.lanes(*range(middle, lanes))


def folded(x: Value, with_: Callable[[Value, Value], Value]) -> Value:
    """All lanes combined to one, halves first: one order on every machine."""
    while x.type.lanes > 1:
        x = with_(*halves(x))
    return x


def widened(x: Value) -> Value:
    """Halves or bfloat16 as float32, exactly; float32 as it is."""
    if x.type.element == F32:
        return x
    if x.type.element == BF16:
        return (x.to(U32) << 16).bits(F32 * x.type.lanes)
    return x.to(F32) if machine().target.has("half") else _widened_by_bits(x)


def _widened_by_bits(x: Value) -> Value:
    """Without the instruction: move sign, exponent and fraction; one product mends the exponent's bias.

    A half's exponent, moved as it is, is 112 too low; 2¹¹² mends it for normal and subnormal numbers alike. What is
    infinite or no number gets float32's own highest exponent.
    """
    whole = x.bits(U16 * x.type.lanes).to(U32)
    moved = ((whole & 0x7FFF) << 13).bits(F32 * x.type.lanes) * 2.0**112
    special = const(whole.type, 0x7BFF) < (whole & 0x7FFF)
    highest = moved.bits(whole.type) | 0x7F800000
    return (select(special, highest, moved.bits(whole.type)) | ((whole & 0x8000) << 16)).bits(moved.type)


def narrowed(x: Value, element: Type) -> Value:
    """float32 as halves or bfloat16, to the nearest, ties to even; or as it is."""
    if element == F32:
        return x
    if element == BF16:
        return _upper_half(x)
    return x.to(F16) if machine().target.has("half") else _narrowed_by_bits(x)


def _upper_half(x: Value) -> Value:
    """bfloat16 is a float32's upper half: add half of its last place, a little less for even ones; NaN stays one."""
    whole = x.bits(U32 * x.type.lanes)
    nearest = whole + ((whole >> 16) & 1) + 0x7FFF
    number = select(equal(x, x), nearest, whole | 0x400000)
    return (number >> 16).to(U16).bits(BF16 * x.type.lanes)


def _narrowed_by_bits(x: Value) -> Value:
    """Without the instruction: the exponent is moved and half of the last place added, a little less for even ones.

    Below 2⁻¹⁴ adding ½ leaves what rounds to a subnormal half in the lowest bits; from 2¹⁶ on all is infinite.
    """
    whole = x.bits(U32 * x.type.lanes)
    size = whole & 0x7FFFFFFF
    normal = (size + ((size >> 13) & 1) + 0xC8000FFF) >> 13
    small = (size.bits(x.type) + 0.5).bits(whole.type) - const(whole.type, 0x3F000000)
    large = select(const(whole.type, 0x7F800000) < size, const(whole.type, 0x7E00), const(whole.type, 0x7C00))
    half = select(size < 0x38800000, small, select(size < 0x47800000, normal, large))
    return (half | ((whole >> 16) & 0x8000)).to(U16).bits(F16 * x.type.lanes)


def lookup(table: Value, index: Value) -> Value:
    """table[index]: sixteen bytes, by bytes below 16."""
    now = machine().target
    if index.type.nbytes > now.vector_bytes:
        return joined(*(lookup(table, half) for half in halves(index)))
    if now.has("lookup"):
        return looked_up(table, index)
    found = zero(table.type.element * index.type.lanes)
    for place in range(16):
        found = select(index == place, table.lanes(place).spread(index.type.lanes), found)
    return found


_MAGIC = 1.5 * 2.0**23  # added to a small number, its last bit is the ones


def rounded(x: Value) -> Value:
    """float32 to the nearest whole number, halves to even, as I32; |x| < 2²²."""
    bits = (x + _MAGIC).bits(I32 * x.type.lanes)
    return bits - const(bits.type, 0x4B400000)


def total(x: Value) -> Value:
    """The sum of all lanes, halves first."""
    return folded(x, OPERATIONS["add"])


# Dot products of bytes: exact whole numbers on every processor.

MOST_Y = 127  # the largest |y|: activations are ±127
_MOST_WORD = 2**15 - 1


def additions_at_once(most: int) -> int:
    """How many additions of x up to `most` cost `Dots` one widening; 1 where it widens none."""
    return 1 if _direct() else max(1, _MOST_WORD // (2 * MOST_Y * most))


class Dots:
    """Sums of products as they grow: each lane, I32, has a start and the products of four neighbours of what is added.

    x is unsigned bytes up to `most`, or signed ones of that size; y signed bytes, ±127. Where the processor gives the
    products of two neighbours as words, words are added as long as their sums fit, and only then widened.
    """

    def __init__(self, start: Value, *, most: int) -> None:
        self._whole, self._words = start, zero(I16 * (2 * start.type.lanes))
        self._room, self._count = additions_at_once(most), 0

    def add(self, x: Value, y: Value) -> None:
        """Add the products of x and y."""
        assert y.type.element == I8
        if direct := _direct():
            self._whole = _by_registers(direct, x, y, self._whole)
            return
        if self._count == self._room:
            self._widen()
        pairs = _by_registers(_pairs, x, y)
        self._words = self._words + pairs if self._count else pairs
        self._count += 1

    def _widen(self) -> None:
        self._whole, self._count = self._whole + _by_registers(add_pairs, self._words), 0

    def total(self) -> Value:
        """The lanes."""
        if self._count:
            self._widen()
        return self._whole


def dot4(x: Value, y: Value, acc: Value, *, most: int) -> Value:
    """acc + Σ of four neighbours' products, as in `Dots`."""
    dots = Dots(acc, most=most)
    dots.add(x, y)
    return dots.total()


def _by_registers(function: Callable[..., Value], *values: Value) -> Value:
    """The function of vectors that are longer than the processor's, a register at a time."""
    if values[0].type.nbytes <= machine().target.vector_bytes:
        return function(*values)
    lower, upper = zip(*(halves(value) for value in values), strict=True)
    return joined(_by_registers(function, *lower), _by_registers(function, *upper))


def _direct() -> Callable[..., Value] | None:
    """What adds four products to each lane of I32; None where words come between."""
    target = machine().target
    if target.has("dot_u8_i8"):
        return dot_u8_i8
    if target.has("dot_i8_i8"):
        return lambda x, y, acc: dot_i8_i8(x.bits(y.type), y, acc)
    return None if target.has("add_pairs") else lambda x, y, acc: acc + _quads(x, y)


def _quads(x: Value, y: Value) -> Value:
    """Words, their products, and the sums of four: LLVM knows multiply-and-add of pairs when it sees it."""
    return _neighbours(_neighbours(x.to(I16).to(I32) * y.to(I16).to(I32)))


def _pairs(x: Value, y: Value) -> Value:
    """The products of two neighbours, added, as words."""
    if machine().target.has("pairs_u8_i8"):
        return pairs_u8_i8(x, y) if x.type.element == U8 else pairs_u8_i8(_size(x), _with_sign(y, x))
    return _neighbours(x.bits(y.type).to(I16) * y.to(I16))


def _neighbours(x: Value) -> Value:
    """Two neighbours added."""
    evens, odds = (x.lanes(*range(start, x.type.lanes, 2)) for start in (0, 1))
    return evens + odds


def _size(x: Value) -> Value:
    """|x| of signed bytes, unsigned: 128 of −128."""
    return select(x < 0, -x, x).bits(U8 * x.type.lanes)


def _with_sign(y: Value, x: Value) -> Value:
    """−y where x is negative; anything where it is 0."""
    return signed_by(y, x) if machine().target.has("signed_by") else select(x < 0, -y, y)


# Functions of float32, right to about two units of the last place; ±∞ and NaN give what they give in NumPy.
# The coefficients are least-squares fits of our own, refined until the largest relative error was least.

_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # the first has nine bits: its products with exponents are exact


def polynomial(x: Value, *coefficients: float) -> Value:
    """c₀ + c₁·x + c₂·x² + …, by Horner's rule."""
    *lower, acc = (const(x.type, c) for c in coefficients)
    for c in reversed(lower):
        acc = fma(acc, x, c)
    return acc


def within(x: Value, low: float, high: float) -> Value:
    """x, or the bound that it exceeds; NaN stays."""
    x = select(x < low, const(x.type, low), x)
    return select(const(x.type, high) < x, const(x.type, high), x)


def exp(x: Value) -> Value:
    """eˣ = 2ⁿ · eʳ, |r| ≤ ln 2 / 2; the power of two in two factors, for results below the normal ones."""
    x = within(x, -104.5, 89.0)
    n = rounded(x * 1.4426950408889634)
    r = fma(n.to(F32), -_LN2_LOW, fma(n.to(F32), -_LN2_HIGH, x))
    tail = polynomial(r, 0.5, 0.16666667, 0.04166625, 0.008333261, 0.0013947212, 0.0001991992)
    grown = fma(tail, r * r, r) + 1.0
    return grown * _power_of_two(n >> 1) * _power_of_two(n - (n >> 1))


def _power_of_two(n: Value) -> Value:
    return ((n + 127) << 23).bits(F32 * n.type.lanes)


_LOG = (
    *(0.3333331, -0.24999987, 0.20002227, -0.16669251, 0.14218658),
    *(-0.12384343, 0.118729658, -0.11789835, 0.06915425),
)


def log(x: Value) -> Value:
    """ln x = e · ln 2 + ln(1 + f), 1 + f in √½ … √2."""
    tiny = x < 2.0**-126
    bits = select(tiny, x * 2.0**24, x).bits(I32 * x.type.lanes)
    e = (bits - const(bits.type, 0x3F3504F3)) >> 23
    f = (bits - (e << 23)).bits(x.type) - 1.0
    exponent = (e - select(tiny, const(e.type, 24), zero(e.type))).to(F32)
    cubed = polynomial(f, *_LOG)
    small = fma(cubed * f, f * f, fma(exponent, _LN2_LOW, f * f * -0.5))
    y = fma(exponent, _LN2_HIGH, f + small)
    y = select(x < math.inf, y, x)  # ∞ and NaN
    y = select(equal(x, 0.0), const(x.type, -math.inf), y)
    return select(x < 0.0, const(x.type, math.nan), y)


def log1p(x: Value) -> Value:
    """ln(1 + x), x ≥ 0: what rounding 1 + x lost is put back."""
    u = x + 1.0
    return log(u) + select(u < math.inf, (x - (u - 1.0)) / u, zero(x.type))


def sigmoid(x: Value) -> Value:
    """1 / (1 + e⁻ˣ), by the exponential of a negative number only: it never overflows."""
    small = exp(-absolute(x))
    return select(x < 0.0, small, const(x.type, 1.0)) / (small + 1.0)


def silu(x: Value) -> Value:
    """x · σ(x)."""
    return x * sigmoid(x)


def erf(x: Value) -> Value:
    """The error function: a polynomial near 0, else 1 − e^polynomial (Norbert Juffa's coefficients)."""
    size, square = absolute(x), x * x
    near = fma(
        polynomial(square, 0.128379166, -0.376125336, 0.112819925, -0.0267681349, 4.99119423e-3, -5.96761703e-4), x, x
    )
    t = within(size, 0.0, 5.0)
    slope = polynomial(
        t, -0.128717512, -0.634846687, -0.106777877, 2.42546219e-2, -3.88396438e-3, 3.83197126e-4, -1.72853470e-5
    )
    far = -exp(fma(slope, t, -t)) + 1.0
    return select(size < 0.927734375, near, select(x < 0.0, -far, far))


def relu(x: Value) -> Value:
    """max(x, 0); NaN stays."""
    return select(x < 0.0, zero(x.type), x)


def gelu(x: Value) -> Value:
    """x · Φ(x)."""
    return x * 0.5 * (erf(x * 0.5**0.5) + 1.0)


ACTIVATIONS: Mapping[str, Callable[[Value], Value]] = {"relu": relu, "silu": silu, "gelu": gelu}


def sine_and_cosine(turns: Value) -> tuple[Value, Value]:
    """sin and cos of 2π · turns, |turns| ≤ ½: the nearest quarter turn, and what is left, at most an eighth."""
    quarter = rounded(turns * 4.0)
    left = turns * 4.0 - quarter.to(F32)
    square = left * left
    sine = left * polynomial(square, 1.5707964, -0.6459641, 0.07969258, -0.004681266, 0.00015820675)
    cosine = polynomial(square, 1.0, -1.2337005, 0.2536695, -0.02086347, 0.0009191659, -2.4857063e-05)
    odd = equal(quarter & 1, 1)
    sine, cosine = select(odd, cosine, sine), select(odd, sine, cosine)
    return _turned(sine, quarter), _turned(cosine, quarter + 1)


def _turned(x: Value, quarter: Value) -> Value:
    """−x in the two quarters of four where the sine is negative."""
    return (x.bits(quarter.type) ^ ((quarter & 2) << 30)).bits(x.type)
