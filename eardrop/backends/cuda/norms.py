"""Layer norm and root-mean-square norm: each row read once, kept in registers, written once."""

import torch
import triton
import triton.language as tl

VALUES = 2048  # of a program that takes several short rows


@triton.jit
def norm(x, weight, bias, out, N, D, epsilon, CENTRED: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Programs are ROWS rows of D values, WIDTH the power of two that holds them."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    inside = (row < N) & (column < D)
    values = tl.load(x + row * D + column, mask=inside, other=0.0)
    if CENTRED:
        values = tl.where(inside, values - tl.sum(values, axis=1, keep_dims=True) / D, 0.0)
    power = tl.sum(values * values, axis=1, keep_dims=True) / D
    values = values / tl.sqrt_rn(power + epsilon) * tl.load(weight + column, mask=column < D, other=0.0)
    if bias is not None:
        values += tl.load(bias + column, mask=column < D, other=0.0)
    tl.store(out + row * D + column, values, mask=inside)


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Each row (of the last axis) by its mean and deviation."""
    return _normed(x, weight, bias, epsilon, centred=True)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Each row by its root mean square."""
    return _normed(x, weight, None, epsilon, centred=False)


def _normed(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, epsilon: float, *, centred: bool
) -> torch.Tensor:
    out, width = torch.empty_like(x), x.shape[-1]
    if x.numel():
        padded = triton.next_power_of_2(width)
        rows, count = max(1, VALUES // padded), x.numel() // width
        grid = (triton.cdiv(count, rows),)
        norm[grid](x, weight, bias, out, count, width, epsilon, centred, rows, padded)
    return out
