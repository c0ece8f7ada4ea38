"""The subsampler's strided convolutions, directly: nine taps are no matrix, and a product would copy each input nine times.

A program makes one row of time: a few frequencies by many channels, which lie side by side in memory. From one channel
it reads nine numbers a frequency, and writes: that convolution makes 64 numbers of one. Depthwise it reads each input
once or twice, the second time from a cache, for neighbours in time run side by side. The pointwise convolutions between
them are `linear`.
"""

import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.activations import activated
from eardrop.backends.cuda.ragged import longest, on_device
from eardrop.ops import Activation, Int32, halved
from eardrop.ops.conv2d import STRIDE

FREQUENCIES, LANES = 8, 128  # of a program: eight values a thread


@triton.jit
def convolve(
    y, x, weight, bias, offsets, halves, F, INTO, C,
    DEPTHWISE: tl.constexpr, STRIDE: tl.constexpr, TIME: tl.constexpr, MEL: tl.constexpr, ACTIVATION: tl.constexpr,
    FREQUENCIES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Programs are (block of channels and of frequencies and row, clip).

    y (N', INTO, C), x (N, F, C) or (N, F, 1), weight (C, TIME, MEL), bias (C,); offsets of x, halves of y, (B + 1,)
    """
    blocks, bands, clip = tl.cdiv(C, LANES), tl.cdiv(INTO, FREQUENCIES), tl.program_id(1)
    row = tl.program_id(0) // (blocks * bands)
    f = tl.program_id(0) // blocks % bands * FREQUENCIES + tl.arange(0, FREQUENCIES)[:, None]
    c = tl.program_id(0) % blocks * LANES + tl.arange(0, LANES)[None, :]
    first = tl.load(halves + clip).to(tl.int64)
    if row >= tl.load(halves + clip + 1) - first:
        return
    begin = tl.load(offsets + clip).to(tl.int64)
    length = (tl.load(offsets + clip + 1) - begin).to(tl.int32)
    acc = tl.zeros((FREQUENCIES, LANES), tl.float32) + tl.load(bias + c, mask=c < C, other=0.0)
    for i in tl.static_range(TIME):
        t = row * STRIDE + i - TIME // 2
        bands_here = tl.where((t >= 0) & (t < length), F, 0)  # none in a row beyond the clip
        for j in tl.static_range(MEL):
            band = f * STRIDE + j - MEL // 2
            here = (band >= 0) & (band < bands_here)
            if DEPTHWISE:
                seen = tl.load(x + (begin + t) * F * C + (band * C + c), mask=here & (c < C), other=0.0)
            else:
                seen = tl.load(x + (begin + t) * F + band, mask=here, other=0.0)
            tap = tl.load(weight + (c * TIME + i) * MEL + j, mask=c < C, other=0.0)
            acc += seen.to(tl.float32) * tap
    acc = activated(acc, ACTIVATION)
    tl.store(y + (first + row) * INTO * C + (f * C + c), acc, mask=(f < INTO) & (c < C))


def conv2d(
    x: torch.Tensor, offsets: Int32, weight: torch.Tensor, bias: torch.Tensor, activation: Activation | None = None
) -> torch.Tensor:
    """As the operation of this name; sums in float32, the result of x's type."""
    x, weight, after = x.contiguous(), weight.contiguous(), halved(offsets)
    (_, f, inputs), (c, time, mel), into = x.shape, weight.shape, -(-x.shape[1] // STRIDE)
    y = x.new_empty((int(after[-1]), into, c))
    if y.numel():
        programs = longest(after) * triton.cdiv(into, FREQUENCIES) * triton.cdiv(c, LANES)
        convolve[programs, len(offsets) - 1](
            *(y, x, weight, bias, on_device(offsets, x.device), on_device(after, x.device), f, into, c),
            *(inputs > 1, STRIDE, time, mel, activation or "", FREQUENCIES, LANES),
            num_warps=4,
        )
    return y


def flatten(x: torch.Tensor) -> torch.Tensor:
    """(N, F, C) → (N, C · F), channel-major."""
    return x.transpose(1, 2).reshape(len(x), -1)
