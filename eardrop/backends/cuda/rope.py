"""Rotary positions. An angle is a part of a turn in float64, for position 2¹⁵ leaves float32 too few bits; of the
eighth of a turn around the nearest quarter cosine and sine are short series. The library's functions, which take any
angle, keep a table in local memory for large ones.
"""

import math
from functools import cache

import numpy as np
import torch
import triton
import triton.language as tl

VALUES = 1024  # pairs of a program


@triton.jit
def cosine_and_sine(turned):
    """Of an angle in turns, float64, not negative: series to the last bit of float32 within an eighth of a turn."""
    quarter = tl.floor(4 * turned + 0.5)
    r = ((turned - 0.25 * quarter) * 6.283185307179586).to(tl.float32)
    s = r * r
    cos = 1 + s * (-0.5 + s * (1 / 24 + s * (-1 / 720 + s * (1 / 40320))))
    sin = r * (1 + s * (-1 / 6 + s * (1 / 120 + s * (-1 / 5040 + s * (1 / 362880)))))
    turns = quarter.to(tl.int32) & 3  # (cos, sin) → (−sin, cos), as often
    swapped, other = tl.where(turns & 1 != 0, sin, cos), tl.where(turns & 1 != 0, cos, sin)
    return tl.where((turns == 1) | (turns == 2), -swapped, swapped), tl.where(turns >= 2, -other, other)


@triton.jit
def turn(x, positions, turns, out, N, H, HALF_WIDTH, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Programs are ROWS of the N · H heads; turns (d/2,) float64, of one position."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    inside = (row < N * H) & (column < HALF_WIDTH)
    position = tl.load(positions + row // H, mask=row < N * H, other=0).to(tl.float64)
    turned = position * tl.load(turns + column, mask=column < HALF_WIDTH, other=0.0)
    cos, sin = cosine_and_sine(turned)
    at = row * (2 * HALF_WIDTH) + column
    low, high = tl.load(x + at, mask=inside, other=0.0), tl.load(x + at + HALF_WIDTH, mask=inside, other=0.0)
    tl.store(out + at, low * cos - high * sin, mask=inside)
    tl.store(out + at + HALF_WIDTH, low * sin + high * cos, mask=inside)


def rope(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
    """x (N, H, d) turned by positions (N,), in pairs (i, i + d/2)."""
    out, (count, heads, width) = torch.empty_like(x), x.shape
    if x.numel():
        padded = triton.next_power_of_2(width // 2)
        rows = max(1, VALUES // padded)
        grid = (triton.cdiv(count * heads, rows),)
        table = _turns(width // 2, base, x.device)
        turn[grid](x, positions, table, out, count, heads, width // 2, rows, padded)
    return out


@cache
def _turns(half: int, base: float, device: torch.device) -> torch.Tensor:
    """base^(−2i / d) as parts of a turn, (half,) float64."""
    return torch.from_numpy(np.power(base, -np.arange(half) / half) / (2 * math.pi)).to(device)
