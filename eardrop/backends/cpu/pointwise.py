"""Operations on each value by itself. Items are blocks of values; `glu` has rows, for its gates lie in them."""

from collections.abc import Callable
from typing import Any

from eardrop.backends.cpu import maths
from eardrop.backends.cpu.flow import Kernel, kernel, loop
from eardrop.backends.cpu.maths import fma, smaller
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Run, chunk
from eardrop.backends.cpu.strips import Strip, strips
from eardrop.backends.cpu.types import F32, I64, PTR, Type
from eardrop.backends.cpu.vector import Value

BLOCK = 1024  # values of an item


def _pointwise(name: str, value: Callable[[Strip, Any], Value], **inputs: Type) -> Kernel:
    """A kernel that gives y[i] = value of the inputs at i, for n values."""

    @kernel(name, y=PTR, n=I64, **inputs)
    def body(p: Any, lo: Value, hi: Value) -> None:
        for strip in strips(lo * BLOCK, smaller(hi * BLOCK, p.n)):
            strip.store(p.y, value(strip, p))

    return body


def _activation(name: str, function: Callable[[Value], Value]) -> Kernel:
    return _pointwise(name, lambda strip, p: function(strip.load(p.x)), x=PTR)


ACTIVATIONS = {name: _activation(name, function) for name, function in maths.ACTIVATIONS.items()}
SWIGLU = _pointwise("swiglu", lambda strip, p: maths.silu(strip.load(p.gate)) * strip.load(p.up), gate=PTR, up=PTR)
ADD = _pointwise("add", lambda strip, p: fma(strip.load(p.y_), p.scale, strip.load(p.x)), x=PTR, y_=PTR, scale=F32)


@kernel("glu", y=PTR, x=PTR, d=I64)
def glu_rows(p: Any, lo: Value, hi: Value) -> None:
    """y = first half · σ(second half); items are rows of 2·d."""
    for row in loop(lo, hi):
        x = p.x + row * p.d * 8
        for strip in strips(0, p.d):
            strip.store(p.y + row * p.d * 4, strip.load(x) * maths.sigmoid(strip.load(x + p.d * 4)))


def each(run: Run, kernel_: Kernel, x: Floats, *more: Floats | float, y: Floats | None = None) -> Floats:
    """A kernel of this file on all values of its inputs; written into `y`, which may be x, where that is given."""
    y = empty(x.shape) if y is None else y
    run(kernel_, [y, x.size, x, *more], -(-x.size // BLOCK), chunk(BLOCK))
    return y


def glu(run: Run, x: Floats) -> Floats:
    """As the operation of this name."""
    d = x.shape[-1] // 2
    y = empty((*x.shape[:-1], d))
    run(glu_rows, [y, x, d], len(x), chunk(2 * d))
    return y
