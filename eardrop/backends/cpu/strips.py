"""Arrays of any length, a vector at a time: whole vectors, then what is left.

    for strip in strips(0, n):
        strip.store(p.y, strip.load(p.x) * 2)

The body is emitted twice, once for whole vectors and once for the rest, whose missing lanes are neither read nor
written. Which lane a value meets depends on its index alone, so sums over strips have one order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from eardrop.backends.cpu.flow import loop, when
from eardrop.backends.cpu.maths import narrowed, widened
from eardrop.backends.cpu.operations import load_first, store_first
from eardrop.backends.cpu.types import BF16, F16, F32, I32, I64, U16, Type
from eardrop.backends.cpu.vector import Operand, Value, const

LANES = 16


@dataclass(frozen=True)
class Strip:
    """Sixteen neighbours from `first`, or `count` where the array ends."""

    first: Value
    count: Value | None = None

    @property
    def places(self) -> Value:
        """The index of each lane, I32."""
        return const(I32 * LANES, range(LANES)) + self.first.to(I32)

    def load(self, p: Value, element: Type = F32, *, beyond: Operand = 0) -> Value:
        """Of an array at p; halves and bfloat16 are widened. Missing lanes get `beyond`."""
        at, type_ = p + self.first * (element.bits // 8), element * LANES
        if self.count is None:
            return _floats(at.load(type_))
        bits = U16 * LANES if element in (F16, BF16) else type_
        lanes = beyond.spread(LANES) if isinstance(beyond, Value) else const(bits, beyond)
        return _floats(load_first(at, self.count, lanes).bits(type_))

    def store(self, p: Value, x: Value, element: Type = F32) -> None:
        """Into an array at p; float32 becomes the array's element."""
        at = p + self.first * (element.bits // 8)
        values = narrowed(x, element) if element.is_float else x
        if self.count is None:
            at.store(values)
        else:
            store_first(at, self.count, values.bits(U16 * LANES) if element == F16 else values)


def _floats(x: Value) -> Value:
    return widened(x) if x.type.element in (F16, BF16) else x


def strips(lo: Operand, hi: Operand) -> Iterator[Strip]:
    """lo … hi in strips; only the last may be short."""
    first, end = (x if isinstance(x, Value) else const(I64, x) for x in (lo, hi))
    whole = first + (end - first) // LANES * LANES
    for at in loop(first, whole, LANES):
        yield Strip(at)
    for _ in when(whole < end):
        yield Strip(whole, end - whole)
