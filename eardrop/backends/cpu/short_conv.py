"""The short depthwise convolution: each strip of channels walks through its sequence with the last inputs in registers.

    before            K − 1 inputs: the slot's where there is a state, else zeros, as many as lie left of the centre
    row by row        the newest input comes in, the sum goes out, the oldest input leaves
    behind the end    zeros come in until the centre has reached the last row

One token and a thousand are the same sums in the same order, so a prefill has the bits of its steps.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, when
from eardrop.backends.cpu.maths import ACTIVATIONS, fma, smaller
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Ints, Run, chunk
from eardrop.backends.cpu.strips import LANES, Strip, strips
from eardrop.backends.cpu.types import F32, I32, I64, PTR
from eardrop.backends.cpu.vector import Value, zero

CHANNELS = 64  # of an item: a row's part of them is a few lines of memory


@dataclass(frozen=True)
class Kind:
    """What is compiled in: the number of taps K, and what comes before, within and behind the sum."""

    taps: int
    gated: bool
    causal: bool
    biased: bool
    activation: str | None

    @property
    def right(self) -> int:
        """Rows that an output looks ahead."""
        return 0 if self.causal else self.taps - 1 - (self.taps - 1) // 2

    @property
    def name(self) -> str:
        """Of the kernel."""
        flags = [flag for flag in ("gated", "causal", "biased") if getattr(self, flag)]
        return "_".join(["short_conv", str(self.taps), *flags, *([self.activation] if self.activation else [])])


@cache
def convolution(kind: Kind) -> Kernel:
    """Items are (sequence, block of channels).

    y, u     (N, C) written, u only where gated;  x (N, C) or (N, 3·C);  taps (K, C);  bias (C,)
    offsets  (B + 1,), slots (B,);  state (S, K − 1, C), read and left holding the inputs of the last rows
    """
    pointers = ("y", "u", "x", "taps", "bias", "offsets", "state", "slots")

    @kernel(kind.name, **dict.fromkeys(pointers, PTR), c=I64, blocks=I64)
    def convolve(p: Any, lo: Value, hi: Value) -> None:
        for item in loop(lo, hi):
            sequence, channel = item // p.blocks, item % p.blocks * CHANNELS
            for strip in strips(channel, smaller(channel + CHANNELS, p.c)):
                _walk(p, kind, sequence, strip)

    return convolve


def _walk(p: Any, kind: Kind, sequence: Value, strip: Strip) -> None:
    """One strip of channels through one sequence."""
    first, end = (p.offsets.load(I32, sequence * 4 + at).to(I64) for at in (0, 4))
    window = [Variable(zero(F32 * LANES)) for _ in range(kind.taps)]
    state = p.state
    if kind.causal:
        state = state + p.slots.load(I32, sequence * 4).to(I64) * (kind.taps - 1) * p.c * 4
        for k in range(1, kind.taps):
            window[k].value = strip.load(state + p.c * (4 * (k - 1)))
    for t in loop(first, end + kind.right):
        newest = Variable(zero(F32 * LANES))
        for _ in when(t < end):
            newest.value = _input(p, kind, strip, t)
        for older, newer in zip(window, [*window[1:], newest], strict=True):
            older.value = newer.value
        for _ in when(first + kind.right - 1 < t):
            _output(p, kind, strip, t - kind.right, [seen.value for seen in window])
    for k in range(1, kind.taps if kind.causal else 0):
        strip.store(state + p.c * (4 * (k - 1)), window[k].value)


def _input(p: Any, kind: Kind, strip: Strip, t: Value) -> Value:
    """x, or where there are gates B · x, which is kept."""
    if not kind.gated:
        return strip.load(p.x + t * p.c * 4)
    row = p.x + t * p.c * 12
    gated = strip.load(row) * strip.load(row + p.c * 8)
    strip.store(p.u + t * p.c * 4, gated)
    return gated


def _output(p: Any, kind: Kind, strip: Strip, t: Value, seen: list[Value]) -> None:
    acc = strip.load(p.bias) if kind.biased else zero(F32 * LANES)
    for k, value in enumerate(seen):
        acc = fma(value, strip.load(p.taps + p.c * (4 * k)), acc)
    acc = ACTIVATIONS[kind.activation](acc) if kind.activation else acc
    acc = acc * strip.load(p.x + t * p.c * 12 + p.c * 4) if kind.gated else acc
    strip.store(p.y + t * p.c * 4, acc)


def short_conv(
    run: Run,
    x: Floats,
    taps: Floats,
    offsets: Ints,
    bias: Floats | None,
    activation: str | None,
    state: Floats | None,
    slots: Ints | None,
) -> tuple[Floats, Floats]:
    """As the operation of this name."""
    assert state is None or state.flags.c_contiguous, "a state is whole: slots are found by their place"
    n, (k, c) = len(x), taps.shape
    kind = Kind(k, x.shape[1] == 3 * c, state is not None and slots is not None, bias is not None, activation)
    y, blocks = empty((n, c)), -(-c // CHANNELS)
    u = empty((n, c)) if kind.gated else x
    given = [0 if part is None else part for part in (bias, offsets, state, slots)]
    items = (len(offsets) - 1) * blocks
    run(convolution(kind), [y, u, x, taps, *given, c, blocks], items, chunk(CHANNELS * (1 + n // len(offsets))))
    return y, u
