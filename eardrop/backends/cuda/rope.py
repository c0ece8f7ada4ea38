"""Rotary positions. An angle is taken as a part of a turn in float64: position 2¹⁵ leaves float32 too few bits."""

import math
from functools import cache

import numpy as np
import torch
import triton
import triton.language as tl

VALUES = 1024  # pairs of a program


@triton.jit
def turn(x, positions, turns, out, N, H, HALF_WIDTH, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Programs are ROWS of the N · H heads; turns (d/2,) float64, of one position."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    inside = (row < N * H) & (column < HALF_WIDTH)
    position = tl.load(positions + row // H, mask=row < N * H, other=0).to(tl.float64)
    turned = position * tl.load(turns + column, mask=column < HALF_WIDTH, other=0.0)
    angle = ((turned - tl.floor(turned)) * 6.283185307179586).to(tl.float32)
    cos, sin = tl.cos(angle), tl.sin(angle)
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
