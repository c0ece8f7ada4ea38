"""The short depthwise convolution of any size (docs/short-convolution.md): one read of x, one write of y, nothing else.

A program is one warp: 128 channels, four a lane, so that a row's part is one access of 512 bytes; and one tile of ROWS
rows of one sequence, walked from top to bottom with the last K inputs in registers:

    row                first − left … first − 1   first … first + GROUP − 1   …   first + ROWS − 1
    read               the halo, K − 1 rows       a group at a time, before any of it is used
    window             u[t − left] … u[t + right]: a name moves on, no value does
    written                                       y[t] = f(Σₖ taps[k] · window[k] + bias), gated or not

Taps and bias are read once, rows beyond the sequence are zeros, rows before it the slot's state or zeros. The sum's
order is that of the taps, whatever tile, batch or step a row is in: a prefill has the bits of its steps.

The program of a sequence's first tile also leaves the new state behind. It alone reads the old one, before it writes:
no other program, and so no order among programs, is involved.
"""

import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.activations import activated
from eardrop.backends.cuda.ragged import longest, on_device, one_row_each
from eardrop.ops import Activation, Int32

LANES = 128  # channels of a program: four float32 a lane of its one warp
ROWS = 32  # of a tile: the halo of nine taps is read once more in four, out of the second cache
GROUP = 4  # rows that are under way from memory at once, two kB a warp


@triton.jit
def _within(channel, C, live):
    """The mask of a row: no channel is there in one that isn't live."""
    return channel < tl.where(live, C, 0)


@triton.jit
def _input(x, row, here, channel, C, GATED: tl.constexpr):
    """u of one row: x, or where there are gates B · X; zeros where it isn't here."""
    at = x + row.to(tl.int64) * (C * 3 if GATED else C) + channel
    u = tl.load(at, mask=here, other=0.0).to(tl.float32)
    if GATED:
        u *= tl.load(at + 2 * C, mask=here, other=0.0).to(tl.float32)
    return u


@triton.jit
def _seen(x, held, row, first, length, channel, C, TAPS: tl.constexpr, GATED: tl.constexpr):
    """u of a row of the sequence, counted from its first; of one before it what its slot held, or zeros."""
    u = _input(x, first + row, _within(channel, C, (row >= 0) & (row < length)), channel, C, GATED)
    if held is not None:
        u += tl.load(held + (row + TAPS - 1) * C + channel, mask=_within(channel, C, row < 0), other=0.0)
    return u


@triton.jit
def _leave(x, held, first, length, channel, C, TAPS: tl.constexpr, GATED: tl.constexpr):
    """The last rows' u into the slot; upwards, for a sequence shorter than the state moves its rows down."""
    for k in tl.static_range(TAPS - 1):
        newest = _seen(x, held, length - (TAPS - 1) + k, first, length, channel, C, TAPS, GATED)
        tl.store(held + k * C + channel, newest, mask=channel < C)


@triton.jit
def _beginning(x, taps, held, start, first, length, channel, C, TAPS: tl.constexpr, GATED: tl.constexpr):
    """What is read before the walk: the taps, and the window of a row that starts at `start` but for its newest."""
    weights: tl.tuple = ()
    window: tl.tuple = ()
    for k in tl.static_range(TAPS):
        weights += (tl.load(taps + k * C + channel, mask=channel < C, other=0.0),)
    for k in tl.static_range(TAPS - 1):
        window += (_seen(x, held, start + k, first, length, channel, C, TAPS, GATED),)
    return weights, window


@triton.jit
def convolve(
    y, u, x, taps, bias, offsets, state, slots, C,
    TAPS: tl.constexpr, ACTIVATION: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Programs are (tile and block of channels, sequence). What isn't there is None, and compiled out.

    y              (N, C) written
    u, x           x (N, C) and no u; or gated, x (N, 3·C) and u (N, C) written
    taps, bias     (K, C), (C,)
    offsets        (B + 1,); None in a step, where sequence b is row b
    state, slots   (S, K − 1, C), read and left holding the last rows' u, (B,); None: centred
    """
    GATED: tl.constexpr = u is not None
    LEFT: tl.constexpr = (TAPS - 1) // 2 if state is None else TAPS - 1
    blocks = tl.cdiv(C, LANES)
    stream, begin = tl.program_id(1), tl.program_id(0) // blocks * ROWS
    channel = tl.program_id(0) % blocks * LANES + tl.arange(0, LANES)
    first, length = stream, 1
    if offsets is not None:
        first = tl.load(offsets + stream)
        length = tl.load(offsets + stream + 1) - first
    if begin >= length:
        return
    held = None
    if state is not None:
        held = state + tl.load(slots + stream).to(tl.int64) * (TAPS - 1) * C

    weights, window = _beginning(x, taps, held, begin - LEFT, first, length, channel, C, TAPS, GATED)
    shift = tl.zeros((LANES,), tl.float32)
    if bias is not None:
        shift = tl.load(bias + channel, mask=channel < C, other=0.0)
    if begin == 0 and state is not None:
        _leave(x, held, first, length, channel, C, TAPS, GATED)

    for start in tl.static_range(0, ROWS, GROUP):
        gates: tl.tuple = ()
        for i in tl.static_range(GROUP):
            t = begin + start + i
            ahead = t + TAPS - 1 - LEFT
            window += (_input(x, first + ahead, _within(channel, C, ahead < length), channel, C, GATED),)
            if GATED:
                at = (first + t).to(tl.int64) * 3 * C + C + channel
                gates += (tl.load(x + at, mask=_within(channel, C, t < length), other=0.0).to(tl.float32),)
        for i in tl.static_range(GROUP):
            t = begin + start + i
            at, here = (first + t).to(tl.int64) * C + channel, _within(channel, C, t < length)
            acc = shift
            for k in tl.static_range(TAPS):
                acc += weights[k] * window[i + k]
            acc = activated(acc, ACTIVATION)
            if GATED:
                acc *= gates[i]
                tl.store(u + at, window[i + LEFT], mask=here)
            tl.store(y + at, acc, mask=here)
        window = window[GROUP:]


def short_conv(
    x: torch.Tensor,
    taps: torch.Tensor,
    offsets: Int32,
    bias: torch.Tensor | None = None,
    activation: Activation | None = None,
    state: torch.Tensor | None = None,
    slots: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As the operation of this name; sums in float32, y and u of x's type."""
    assert state is None or state.is_contiguous(), "a state is whole: slots are found by their place"
    (k, c), n, step = taps.shape, len(x), one_row_each(offsets)
    x, y = x.contiguous(), x.new_empty((n, c))
    u = x.new_empty((n, c)) if x.shape[1] == 3 * c else None
    rows, group = (1, 1) if step else (ROWS, GROUP)
    grid = (triton.cdiv(longest(offsets), rows) * triton.cdiv(c, LANES), len(offsets) - 1)
    if n:
        convolve[grid](
            *(y, u, x, taps, bias, None if step else on_device(offsets, x.device), state, slots, c),
            *(k, activation or "", rows, group, LANES),
            num_warps=1,
        )  # fmt: skip
    return y, x if u is None else u
