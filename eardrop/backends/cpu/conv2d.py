"""The subsampler's convolutions straight from the packed rows, no padded copy, and the flattening behind them."""

from typing import Any

import numpy as np

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, when
from eardrop.backends.cpu.maths import fma
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run, chunk, owners
from eardrop.backends.cpu.strips import strips
from eardrop.backends.cpu.types import F32, I32, I64, PTR
from eardrop.backends.cpu.vector import Value
from eardrop.ops import halved

SIDE, STRIDE = 3, 2


def _convolution(depthwise: bool) -> Kernel:
    """Items are output rows.

    y        (N', F', C) written;  x (N, F, C), or (N, F, 1) where not depthwise
    taps     (3, 3, C) over (time, mel), bias (C,)
    offsets  (B + 1,) of x, halved of y; owner (N',) the clip of each output row
    """
    pointers = ("y", "x", "taps", "bias", "owner", "offsets", "halved")

    @kernel("conv2d_depthwise" if depthwise else "conv2d_one", **dict.fromkeys(pointers, PTR), f=I64, f_out=I64, c=I64)
    def convolve(p: Any, lo: Value, hi: Value) -> None:
        for row in loop(lo, hi):
            clip = p.owner.load(I32, row * 4).to(I64) * 4
            first, end = (p.offsets.load(I32, clip + at).to(I64) for at in (0, 4))
            top = first + (row - p.halved.load(I32, clip).to(I64)) * STRIDE - 1
            for column in loop(0, p.f_out):
                for strip in strips(0, p.c):
                    acc = Variable(strip.load(p.bias))
                    for i in range(SIDE):
                        for _ in when(first - 1 < top + i):
                            for _ in when(top + i < end):
                                _add_row(p, acc, strip, top + i, column * STRIDE - 1, i, depthwise)
                    strip.store(p.y + (row * p.f_out + column) * p.c * 4, acc.value)

    return convolve


def _add_row(p: Any, acc: Variable, strip: Any, t: Value, left: Value, i: int, depthwise: bool) -> None:
    """The three products of one row of x."""
    for j in range(SIDE):
        for _ in when(-left - 1 < j):
            for _ in when(left + j < p.f):
                at = t * p.f + left + j
                x = strip.load(p.x + at * p.c * 4) if depthwise else p.x.load(F32, at * 4)
                acc.value = fma(strip.load(p.taps + p.c * (4 * (SIDE * i + j))), x, acc.value)


DEPTHWISE, FROM_ONE = _convolution(True), _convolution(False)


def conv2d(run: Run, x: Floats, offsets: Ints, weight: Floats, bias: Floats) -> Floats:
    """As the operation of this name."""
    behind, (f, channels) = halved(offsets), x.shape[1:]
    y = empty((int(behind[-1]), -(-f // STRIDE), len(weight)))
    taps = np.ascontiguousarray(weight.transpose(1, 2, 0))
    places = [owners(behind), offsets, behind]
    arguments = [y, x, taps, bias, *places, f, y.shape[1], len(weight)]
    run(FROM_ONE if channels == 1 else DEPTHWISE, arguments, len(y), chunk(y.shape[1] * len(weight)))
    return y


@kernel("flatten", y=PTR, x=PTR, f=I64, c=I64)
def flatten_rows(p: Any, lo: Value, hi: Value) -> None:
    """y (N, C · F) = x (N, F, C) turned; items are rows."""
    for row in loop(lo, hi):
        at = row * p.f * p.c
        for c in loop(0, p.c):
            for f in loop(0, p.f):
                p.y.store(p.x.load(F32, (at + f * p.c + c) * 4), (at + c * p.f + f) * 4)


def flatten(run: Run, x: Floats) -> Floats:
    """As the operation of this name."""
    n, f, c = x.shape
    y = empty((n, c * f))
    run(flatten_rows, [y, x, f, c], n, chunk(f * c))
    return y
