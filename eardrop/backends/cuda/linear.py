"""y = f(x · wᵀ + bias), in one of three ways by the number of rows of x:

    1 … FEW          each row by itself, in float32, straight from the blocks: a step of one stream or a few, bound by
                     reading the weight
    … SOME           all rows together on tensor cores, tiles of the weight unpacked on the way; of block formats
    more             torch's product, of a weight that lies in half precision or is unpacked into it first

Operands on tensor cores are halves (float16 or bfloat16), sums are float32. A float32 weight is multiplied in float32,
never in TF32. Bias and activation are part of the product, or of one pass behind torch's.
"""

import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.activations import activated
from eardrop.backends.cuda.device import interpreted
from eardrop.backends.cuda.flash import KINDS, product
from eardrop.backends.cuda.unpack import ROWS, place, unpack
from eardrop.backends.cuda.weight import Copies, Weight
from eardrop.ops import Activation

FEW = 4  # rows of x at most that are multiplied one by one
SOME = 128  # and that are multiplied with tiles unpacked on the way
FEW_OUT, FEW_VALUES = 4, 1024  # a program's rows of w, and values of each that it takes at once
INTERPRETED_OUT = 256  # the interpreter runs program after program: few large ones
DEEP = 64  # values of a row of w that a step on tensor cores takes
WIDE_OUT = 4096  # rows of w from which on there are programs enough to take 64 at a time
BLOCK = 1024  # values of a program that only adds a bias


def linear(
    x: torch.Tensor, w: Weight, bias: torch.Tensor | None, activation: Activation | None, copies: Copies
) -> torch.Tensor:
    """x (N, K) float32 → (N, M)."""
    if not len(x):
        return x.new_empty((0, len(w)))
    if len(x) <= FEW:
        return (_few_blocked if w.blocked else _few_plain)(x, w, bias, activation or "")
    if len(x) <= SOME and w.blocked:
        return _some_blocked(x, w, bias, activation or "")
    return _many(x, copies.of(w), bias, activation or "")


@triton.jit
def finished(total, bias, m, ACTIVATION: tl.constexpr):
    """A sum of output m, its bias added, activated."""
    if bias is not None:
        total += tl.load(bias + m)
    return activated(total, ACTIVATION)


@triton.jit
def few_plain(x, w, bias, y, N, M, K, ACTIVATION: tl.constexpr, OUT: tl.constexpr, VALUES: tl.constexpr):
    """Programs are OUT rows of w and a row of x; neighbours read the same of w."""
    row, out = tl.program_id(0) % N, tl.program_id(0) // N * OUT + tl.arange(0, OUT)
    m = tl.minimum(out, M - 1)
    sums = tl.zeros((OUT, VALUES), tl.float32)
    for start in range(0, K, VALUES):
        k = start + tl.arange(0, VALUES)
        values = tl.load(w + m[:, None].to(tl.int64) * K + k[None, :], mask=k[None, :] < K, other=0.0)
        sums += values.to(tl.float32) * tl.load(x + row * K + k, mask=k < K, other=0.0)[None, :]
    total = finished(tl.sum(sums, axis=1), bias, m, ACTIVATION)
    tl.store(y + row * M + out, total, mask=out < M)


def _few_plain(x: torch.Tensor, w: Weight, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    y = x.new_empty((len(x), len(w)))
    (m, k), out, values = w.shape, _few_out(), min(FEW_VALUES, triton.next_power_of_2(w.shape[1]))
    grid = (triton.cdiv(m, out) * len(x),)
    few_plain[grid](x, w.data, bias, y, len(x), m, k, activation, out, values)
    return y


def _few_out() -> int:
    return INTERPRETED_OUT if interpreted() else FEW_OUT


@triton.jit
def few_blocked(
    x, w, bias, y, N, M, K, n,
    UNPACK: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr, OUT: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """As `few_plain`, UNITS units at a time."""
    row, out = tl.program_id(0) % N, tl.program_id(0) // N * OUT + tl.arange(0, OUT)
    m = tl.minimum(out, M - 1)
    sums = tl.zeros((OUT, UNITS, UNIT), tl.float32)
    for start in range(0, K // UNIT, UNITS):
        unit = (start + tl.arange(0, UNITS))[None, :, None]
        b, s, i = place(m[:, None, None], tl.minimum(unit, K // UNIT - 1), K, UNIT, BLOCK)
        q, scale, minimum = UNPACK(w, tl.cast(n, tl.int64), b, s, i)
        k = unit * UNIT + tl.arange(0, UNIT)[None, None, :]
        sums += (scale * q + minimum) * tl.load(x + row * K + k, mask=k < K, other=0.0)
    total = finished(tl.sum(tl.sum(sums, axis=2), axis=1), bias, m, ACTIVATION)
    tl.store(y + row * M + out, total, mask=out < M)


def _few_blocked(x: torch.Tensor, w: Weight, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    y = x.new_empty((len(x), len(w)))
    (m, k), row, block, out = w.shape, ROWS[w.format.name], w.format.block, _few_out()
    units = min(FEW_VALUES, triton.next_power_of_2(k)) // row.unit
    few_blocked[(triton.cdiv(m, out) * len(x),)](
        *(x, w.data, bias, y, len(x), m, k, m * k // block),
        *(unpack(row.name), row.unit, block, activation, out, units),
    )
    return y


@triton.jit
def some_blocked(
    x, w, bias, y, N, M, K, n,
    UNPACK: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr, ACTIVATION: tl.constexpr,
    IN: tl.constexpr, OUT: tl.constexpr, UNITS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Programs are OUT rows of w, by all rows of x, at most IN."""
    out = tl.program_id(0) * OUT + tl.arange(0, OUT)
    m, row = tl.minimum(out, M - 1), tl.arange(0, IN)[:, None]
    total = tl.zeros((IN, OUT), tl.float32)
    for start in range(0, K // UNIT, UNITS):
        unit = (start + tl.arange(0, UNITS))[None, :, None]
        b, s, i = place(m[:, None, None], tl.minimum(unit, K // UNIT - 1), K, UNIT, BLOCK)
        q, scale, minimum = UNPACK(w, tl.cast(n, tl.int64), b, s, i)
        k = (start * UNIT + tl.arange(0, UNITS * UNIT))[None, :]
        part = tl.load(x + row * K + k, mask=(row < N) & (k < K), other=0.0)
        tile = tl.reshape((scale * q + minimum).to(TYPE), (OUT, UNITS * UNIT))
        total += product(part, tl.trans(tile), TYPE)
    total = finished(total, bias, m[None, :], ACTIVATION)
    tl.store(y + row.to(tl.int64) * M + out[None, :], total, mask=(row < N) & (out[None, :] < M))


def _some_blocked(x: torch.Tensor, w: Weight, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    y = x.new_empty((len(x), len(w)))
    (m, k), row, block = w.shape, ROWS[w.format.name], w.format.block
    out = 64 if m >= WIDE_OUT or interpreted() else 16  # the fewer rows of w there are, the fewer a program takes
    some_blocked[(triton.cdiv(m, out),)](
        *(x, w.data, bias, y, len(x), m, k, m * k // block),
        *(unpack(row.name), row.unit, block, activation),
        *(max(16, triton.next_power_of_2(len(x))), out, max(1, DEEP // row.unit)),
        KINDS[w.many],
    )
    return y


@triton.jit
def finish(y, bias, M, size, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr):
    """Bias and activation of a product that has neither, in its place."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = finished(tl.load(y + at, mask=inside), bias, (at % M), ACTIVATION)
    tl.store(y + at, total, mask=inside)


def _many(x: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    y = _product(x, values)
    if bias is not None or activation:
        finish[(triton.cdiv(y.numel(), BLOCK),)](y, bias, y.shape[1], y.numel(), activation, BLOCK)
    return y


def _product(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """x (N, K) float32 times values (M, K), float32: operands of the values' type, sums in float32."""
    if values.dtype == torch.float32:
        return x @ values.T
    if interpreted():  # the host's product of halves has sums in halves
        return x.to(values.dtype).float() @ values.T.float()
    return torch.mm(x.to(values.dtype), values.T, out_dtype=torch.float32)
