"""Functions made of the layer's operations: what a kernel may count on, whatever the processor."""

from collections.abc import Callable

from eardrop.backends.cpu.operations import dot_i8_i8, dot_u8_i8, fused, looked_up, select, shuffle
from eardrop.backends.cpu.types import BF16, F32, I8, I16, I32, U8, U16, U32
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


def lookup(table: Value, index: Value) -> Value:
    """table[index] for bytes below 16."""
    now = machine().target
    if index.type.nbytes > now.vector_bytes:
        return joined(*(lookup(table, half) for half in halves(index)))
    if now.has("lookup"):
        return looked_up(table, index)
    found = zero(index.type)
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


def dot4(x: Value, y: Value, acc: Value) -> Value:
    """acc + Σ of four neighbours' products: x unsigned bytes, y signed bytes, acc I32 with a quarter of the lanes.

    Where the processor has no such instruction, products of neighbouring words.
    """
    assert x.type.element == U8
    assert y.type.element == I8
    widest = machine().target.vector_bytes
    if x.type.nbytes > widest:
        parts = zip(halves(x), halves(y), halves(acc), strict=True)
        return joined(*(dot4(*part) for part in parts))
    if machine().target.has("dot_u8_i8"):
        return dot_u8_i8(x, y, acc)
    if machine().target.has("dot_i8_i8"):  # x = signed + 128: the product of 128 and y's sum is added again
        sums = dot_i8_i8(const(y.type, 1), y, zero(acc.type))
        return dot_i8_i8((x ^ 128).bits(y.type), y, acc) + (sums << 7)
    return acc + _quads(x, y)


def _quads(x: Value, y: Value) -> Value:
    """Words, their products, and the sums of four: LLVM knows multiply-and-add of pairs when it sees it."""
    lanes = x.type.lanes
    products = x.to(I16).to(I32) * y.to(I16).to(I32)
    evens, odds = (products.lanes(*range(start, lanes, 2)) for start in (0, 1))
    pairs = evens + odds
    evens, odds = (pairs.lanes(*range(start, lanes // 2, 2)) for start in (0, 1))
    return evens + odds
