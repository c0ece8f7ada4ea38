"""The subsampler's convolutions straight from the packed rows, no padded copy, and the flattening behind them."""

from functools import cache
from typing import Any

import numpy as np

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, when
from eardrop.backends.cpu.maths import ACTIVATIONS, fma
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run, chunk, owners
from eardrop.backends.cpu.strips import LANES, Strip, strips
from eardrop.backends.cpu.types import F32, I32, I64, PTR
from eardrop.backends.cpu.vector import Value, const
from eardrop.ops import halved

SIDE, STRIDE = 3, 2


@cache
def convolution(depthwise: bool, activation: str | None) -> Kernel:
    """Items are output rows.

    y        (N', F', C) written;  x (N, F, C), or (N, F, 1) where not depthwise
    taps     (3, 3, C) over (time, mel), bias (C,);  nothing: a row of x that is zeros
    offsets  (B + 1,) of x, halved of y; owner (N',) the clip of each output row
    """
    pointers = ("y", "x", "taps", "bias", "nothing", "owner", "offsets", "halved")
    name = "_".join(["conv2d", "depthwise" if depthwise else "one", *([activation] if activation else [])])

    @kernel(name, **dict.fromkeys(pointers, PTR), f=I64, f_out=I64, c=I64)
    def convolve(p: Any, lo: Value, hi: Value) -> None:
        for row in loop(lo, hi):
            rows = _rows(p, row, depthwise)
            for strip in strips(0, p.c):
                sums = _Sums(p, strip, rows, depthwise)
                last, y = p.f_out - 1, p.y + row * p.f_out * p.c * 4
                for end in loop(0, 2):  # the first column and the last see beyond the row
                    column = end * last
                    strip.store(y + column * p.c * 4, _behind(sums.at_an_end(column), activation))
                for column in loop(1, last):
                    strip.store(y + column * p.c * 4, _behind(sums.within(column), activation))

    return convolve


def _behind(x: Value, activation: str | None) -> Value:
    return ACTIVATIONS[activation](x) if activation else x


def _rows(p: Any, row: Value, depthwise: bool) -> list[Value]:
    """Where the three rows of x lie that an output row sees; beyond the clip's ends there are zeros."""
    clip = p.owner.load(I32, row * 4).to(I64) * 4
    first, end = (p.offsets.load(I32, clip + at).to(I64) for at in (0, 4))
    top = first + (row - p.halved.load(I32, clip).to(I64)) * STRIDE - 1
    nbytes = p.f * (p.c if depthwise else 1) * 4
    rows = [Variable(p.nothing) for _ in range(SIDE)]
    for i, place in enumerate(rows):
        for _ in when(first - 1 < top + i):
            for _ in when(top + i < end):
                place.value = p.x + (top + i) * nbytes
    return [place.value for place in rows]


class _Sums:
    """The outputs of a row for a strip of channels, whose nine taps stay in registers."""

    def __init__(self, p: Any, strip: Strip, rows: list[Value], depthwise: bool) -> None:
        self._p, self._strip, self._rows, self._depthwise = p, strip, rows, depthwise
        self._bias = strip.load(p.bias)
        self._taps = [[strip.load(p.taps + p.c * (4 * (SIDE * i + j))) for j in range(SIDE)] for i in range(SIDE)]

    def within(self, column: Value) -> Value:
        """An output that sees three columns of x."""
        acc = self._bias
        for row, taps in zip(self._rows, self._taps, strict=True):
            for j, tap in enumerate(taps):
                acc = fma(tap, self._x(row, column * STRIDE + (j - 1)), acc)
        return acc

    def at_an_end(self, column: Value) -> Value:
        """One that may see fewer."""
        acc = Variable(self._bias)
        for row, taps in zip(self._rows, self._taps, strict=True):
            for j, tap in enumerate(taps):
                at = column * STRIDE + (j - 1)
                for _ in when(const(I64, -1) < at):
                    for _ in when(at < self._p.f):
                        acc.value = fma(tap, self._x(row, at), acc.value)
        return acc.value

    def _x(self, row: Value, at: Value) -> Value:
        if self._depthwise:
            return self._strip.load(row + at * self._p.c * 4)
        return row.load(F32, at * 4).spread(LANES)


def conv2d(run: Run, x: Floats, offsets: Ints, weight: Floats, bias: Floats, activation: str | None) -> Floats:
    """As the operation of this name."""
    behind, (f, channels) = halved(offsets), x.shape[1:]
    y = empty((int(behind[-1]), -(-f // STRIDE), len(weight)))
    taps, nothing = np.ascontiguousarray(weight.transpose(1, 2, 0)), np.zeros(f * channels, np.float32)
    arguments = [y, x, taps, bias, nothing, owners(behind), offsets, behind, f, y.shape[1], len(weight)]
    run(convolution(channels > 1, activation), arguments, len(y), chunk(y.shape[1] * len(weight)))
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
