"""Operations on each value by itself: gates and the residual sum."""

import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.activations import sigmoid

BLOCK = 1024  # values of a program


@triton.jit
def gate_halves(x, out, D, size, BLOCK: tl.constexpr):
    """out (N, D) = first half · σ(second half) of x (N, 2·D)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    first = at // D * (2 * D) + at % D
    value, gate = tl.load(x + first, mask=inside, other=0.0), tl.load(x + first + D, mask=inside, other=0.0)
    tl.store(out + at, value * sigmoid(gate), mask=inside)


@triton.jit
def swish_times(gate, up, out, size, BLOCK: tl.constexpr):
    """out = silu(gate) · up."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    x = tl.load(gate + at, mask=inside, other=0.0)
    tl.store(out + at, x * sigmoid(x) * tl.load(up + at, mask=inside, other=0.0), mask=inside)


def glu(x: torch.Tensor) -> torch.Tensor:
    """First half · σ(second half); x (N, 2·D) → (N, D)."""
    out = torch.empty((len(x), x.shape[1] // 2), dtype=x.dtype, device=x.device)
    if out.numel():
        grid = (triton.cdiv(out.numel(), BLOCK),)
        gate_halves[grid](x, out, out.shape[1], out.numel(), BLOCK)
    return out


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up."""
    out = torch.empty_like(gate)
    if out.numel():
        swish_times[(triton.cdiv(out.numel(), BLOCK),)](gate, up, out, out.numel(), BLOCK)
    return out


def add(x: torch.Tensor, y: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """x + scale · y: torch's, one pass."""
    return torch.add(x, y, alpha=scale)
