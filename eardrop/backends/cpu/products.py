"""One product x · wᵀ + bias, cut into kernels: a few rows exactly, many panel by panel.

What is made of x for one weight is kept for the next, as long as x lives: several weights in a row are multiplied with
the same x.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eardrop.backends.cpu import linear, panels, pointwise
from eardrop.backends.cpu.flow import Kernel
from eardrop.backends.cpu.quantise import layout, quantise
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Run
from eardrop.backends.cpu.target import Target
from eardrop.backends.cpu.types import BF16, F16, F32
from eardrop.backends.cpu.unpack import Unpacking, in_order, unpacking
from eardrop.gguf import BlockFormat, GgufTensor

PLAIN = {"F32": F32, "F16": F16, "BF16": BF16}
CHUNK_BYTES = 1 << 16  # of weights that a thread takes at a time
MOST_EXACT_ROWS = 16  # more are multiplied panel by panel
MOST_TOGETHER, MOST_TOGETHER_IN_FEW_REGISTERS = 10, 4  # rows whose sums are in registers at once


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight (M, K) as it lies in the file."""

    tensor: GgufTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, K)."""
        return self.tensor.shape

    @property
    def format(self) -> BlockFormat:
        """Of its blocks."""
        return self.tensor.format

    @property
    def nbytes(self) -> int:
        """Of its blocks."""
        return self.tensor.nbytes

    @property
    def unpacking(self) -> Unpacking | None:
        """How its blocks are unpacked; None of plain numbers."""
        return unpacking(self.format.name, self.shape[1])

    def __len__(self) -> int:
        return self.tensor.shape[0]


def readable(tensor: GgufTensor) -> bool:
    """Whether there are kernels for the tensor's format and width."""
    name, columns = tensor.format.name, tensor.shape[1]
    return (name in PLAIN and columns % linear.LANES == 0) or unpacking(name, columns) is not None


@dataclass
class Products:
    """Multiplies on one target, in float32 or in bfloat16 where the caller asked for it and the target can."""

    run: Run
    target: Target
    threads: int
    in_bf16: bool = False
    _made: dict[int, "_Made"] = field(default_factory=dict)  # by the identity of x

    def forget(self) -> None:
        """Any x may have changed."""
        self._made = {}

    def linear(self, x: Floats, w: Matrix, bias: Floats | None, activation: str | None) -> Floats:
        """f(x · wᵀ + bias); up to MOST_EXACT_ROWS rows have the bits they would have alone."""
        (m, k), n = w.shape, len(x)
        y = empty((n, m))
        call = _Call(self, w, x, np.zeros(m, np.float32) if bias is None else bias, y)
        many, wide = self._panels(w), 0
        if n > MOST_EXACT_ROWS and k % many.stretch == 0:
            height = many.blocking(self.target).rows
            wide = m // height * height
            call.by_panels(many, wide, activation if wide == m else None)
        call.exactly(wide)  # weight rows that fill no panel
        if activation and wide < m:
            pointwise.each(self.run, pointwise.ACTIVATIONS[activation], y, y=y)
        return y

    def _panels(self, w: Matrix) -> panels.Panels:
        if w.unpacking:
            return panels.blocked(in_order(w.format.name, panels.STRETCH))
        element = PLAIN[w.format.name]
        return panels.in_bf16(element) if self.in_bf16 and w.shape[1] % panels.STRETCH == 0 else panels.plain(element)

    def parts(self, n: int) -> Iterator[tuple[int, int]]:
        """(rows that share an unpacked group, rows that are multiplied so), n in all: evenly, as registers allow."""
        count = -(-n // (MOST_TOGETHER if self.target.registers >= 32 else MOST_TOGETHER_IN_FEW_REGISTERS))
        less, larger = divmod(n, count)
        yield from ((rows, rows * times) for rows, times in ((less + 1, larger), (less, count - larger)) if times)

    def made(self, kernel: Kernel, x: Floats, rows: int, pieces: int, nbytes: int) -> Any:
        """x in pieces of so many bytes, with room for so many rows."""
        known = self._made.get(id(x))
        if known is None or known.x() is not x:
            self._made = {number: made for number, made in self._made.items() if made.x() is not None}
            known = self._made[id(x)] = _Made(weakref.ref(x))
        if kernel.name not in known.by_kernel:
            known.by_kernel[kernel.name] = empty((pieces * rows * nbytes,), np.uint8)
            self.run(kernel, [x, known.by_kernel[kernel.name], rows, pieces], len(x) * pieces, 16)
        return known.by_kernel[kernel.name]


@dataclass
class _Made:
    """What was made of x by each kernel, as long as x lives."""

    x: "weakref.ref[Floats]"
    by_kernel: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Call:
    products: Products
    w: Matrix
    x: Floats
    bias: Floats
    y: Floats

    def exactly(self, low: int) -> None:
        """All rows of x with the weight rows from `low` on."""
        (m, k), n, way = self.w.shape, len(self.x), self.w.unpacking
        if low == m or not n:
            return
        x = self.x
        if way:
            to = layout(way)
            x = self.products.made(quantise(to), self.x, n, k // to.values, to.nbytes)
        first = 0
        for together, count in self.products.parts(n):
            kernel = linear.blocked(way, together) if way else linear.plain(PLAIN[self.w.format.name], together)
            chunk = max(1, CHUNK_BYTES // self.w.tensor.raw.strides[0])
            self._run(kernel, low, [x], [n, first, count], m - low, chunk)
            first += count

    def by_panels(self, many: panels.Panels, wide: int, activation: str | None) -> None:
        """All rows of x with the first weight rows, whole panels."""
        block, (n, k) = many.blocking(self.products.target), self.x.shape
        rows = -(-n // block.columns) * block.columns
        x = self.products.made(many.prepare, self.x, rows, k // many.stretch, many.x_bytes)
        columns = panels.tiled(n, k // many.stretch * many.x_bytes, block)
        count, tiles = wide // block.rows, -(-n // columns)
        group = panels.group(count, tiles, self.products.threads)
        numbers = [rows, 0, n, columns, group, panels.BEHIND.index(activation)]
        self._run(many.product, 0, [x], numbers, -(-count // group) * tiles, 1)

    def _run(self, kernel: Kernel, low: int, x: list[Any], numbers: list[int], items: int, chunk: int) -> None:
        """A kernel on the weight rows from `low` on."""
        raw, (m, k) = self.w.tensor.raw, self.w.shape
        ours = [raw[low:], raw.strides[0], *x, self.bias[low:], self.y[:, low:], k, m, *numbers]
        self.products.run(kernel, ours, items, chunk)
