"""The subsampler's strided convolutions, directly: nine taps are no matrix, and a product would copy inputs nine times.

A program is one warp, 128 channels, which lie side by side in memory, and makes BANDS frequencies of one row of time.
It walks along them as the short convolution does along time (short_conv.py): two columns of three inputs come in, one
value goes out, and the third column is still in registers. Depthwise it reads each input once, and every other row once
more, out of a cache, for neighbours in time run side by side. From one channel a column is three numbers for all
channels: that convolution makes 64 numbers of one, and writes. The pointwise convolutions between them are `linear`.
"""

import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.activations import activated
from eardrop.backends.cuda.ragged import longest, on_device
from eardrop.ops import Activation, Int32, halved
from eardrop.ops.conv2d import STRIDE

LANES = 128  # channels of a program: four float32 a lane of its one warp
BANDS, GROUP = 16, 2  # frequencies of a program, and those whose inputs are under way from memory at once


@triton.jit
def _input(x, t, length, band, F, channel, C, DEPTHWISE: tl.constexpr):
    """x of one row and frequency: of each channel, or the one number for all; zeros outside the clip."""
    here = (t >= 0) & (t < length) & (band >= 0) & (band < F)
    at = t.to(tl.int64) * F + band
    if DEPTHWISE:
        seen = tl.load(x + at * C + channel, mask=channel < tl.where(here, C, 0), other=0.0)
    else:
        seen = tl.load(x + at, mask=here, other=0.0)
    return seen.to(tl.float32)


@triton.jit
def convolve(
    y, x, weight, bias, offsets, halves, F, INTO, C,
    DEPTHWISE: tl.constexpr, STRIDE: tl.constexpr, TIME: tl.constexpr, MEL: tl.constexpr, ACTIVATION: tl.constexpr,
    BANDS: tl.constexpr, GROUP: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Programs are (block of channels and of frequencies and row, clip).

    y (N', INTO, C), x (N, F, C) or (N, F, 1), weight (MEL, TIME, C), bias (C,); offsets of x, halves of y, (B + 1,)
    """
    blocks, clip = tl.cdiv(C, LANES), tl.program_id(1)
    row = tl.program_id(0) // (blocks * tl.cdiv(INTO, BANDS))
    begin = tl.program_id(0) // blocks % tl.cdiv(INTO, BANDS) * BANDS
    channel = tl.program_id(0) % blocks * LANES + tl.arange(0, LANES)
    within = channel < C
    into = tl.load(halves + clip).to(tl.int64) + row
    if into >= tl.load(halves + clip + 1):
        return
    first = tl.load(offsets + clip)
    length = tl.load(offsets + clip + 1) - first
    mine = x + first.to(tl.int64) * F * (C if DEPTHWISE else 1)
    top, left = row * STRIDE - TIME // 2, begin * STRIDE - MEL // 2

    taps: tl.tuple = ()
    window: tl.tuple = ()  # a column after the other
    for k in tl.static_range(MEL * TIME):
        taps += (tl.load(weight + k * C + channel, mask=within, other=0.0),)
    shift = tl.load(bias + channel, mask=within, other=0.0)
    for j in tl.static_range(MEL - STRIDE):
        for i in tl.static_range(TIME):
            window += (_input(mine, top + i, length, left + j, F, channel, C, DEPTHWISE),)
    for f in tl.static_range(0, BANDS, GROUP):
        for j in tl.static_range(GROUP * STRIDE):
            for i in tl.static_range(TIME):
                band = left + f * STRIDE + MEL - STRIDE + j
                window += (_input(mine, top + i, length, band, F, channel, C, DEPTHWISE),)
        for g in tl.static_range(GROUP):
            acc = shift
            for k in tl.static_range(MEL * TIME):
                acc += taps[k] * window[g * STRIDE * TIME + k]
            acc = activated(acc, ACTIVATION)
            here = channel < tl.where(begin + f + g < INTO, C, 0)
            tl.store(y + (into * INTO + begin + f + g) * C + channel, acc, mask=here)
        window = window[GROUP * STRIDE * TIME :]


def conv2d(
    x: torch.Tensor, offsets: Int32, weight: torch.Tensor, bias: torch.Tensor, activation: Activation | None = None
) -> torch.Tensor:
    """As the operation of this name; sums in float32, the result of x's type."""
    x, after = x.contiguous(), halved(offsets)
    (_, f, inputs), (c, time, mel), into = x.shape, weight.shape, -(-x.shape[1] // STRIDE)
    weight = weight.permute(2, 1, 0).contiguous()  # a warp reads taps of its channels side by side, as it reads x
    y = x.new_empty((int(after[-1]), into, c))
    if y.numel():
        programs = longest(after) * triton.cdiv(into, BANDS) * triton.cdiv(c, LANES)
        convolve[programs, len(offsets) - 1](
            *(y, x, weight, bias, on_device(offsets, x.device), on_device(after, x.device), f, into, c),
            *(inputs > 1, STRIDE, time, mel, activation or "", BANDS, GROUP, LANES),
            num_warps=1,
        )
    return y


def flatten(x: torch.Tensor) -> torch.Tensor:
    """(N, F, C) → (N, C · F), channel-major."""
    return x.transpose(1, 2).reshape(len(x), -1)
