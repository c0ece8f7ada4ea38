"""A matrix on the device: in planes of its blocks, or in plain numbers; and its values for products of many rows.

Weights are uploaded once and take as many bytes as in their file. Products of many rows want all values in half
precision. Where a weight isn't kept so, they are made from its blocks each time; `Copies` keeps them as long as
memory was set aside for it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from eardrop.backends.cuda import unpack
from eardrop.gguf import BlockFormat, GgufTensor

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Weight:
    """A matrix (M, K).

    format  of the file
    data    planes of blocks, (bytes,) uint8; or (M, K) of one of PLAIN
    many    the type that products of many rows take it in
    """

    shape: tuple[int, int]
    format: BlockFormat
    data: torch.Tensor
    many: torch.dtype

    @property
    def blocked(self) -> bool:
        """Whether it lies in blocks."""
        return bool(self.data.dtype == torch.uint8)

    @property
    def nbytes(self) -> int:
        """On the device, as on disk."""
        return int(self.data.nbytes)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, ids: torch.Tensor | None = None, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The values of chosen rows, or of all, (rows, K)."""
        if self.blocked:
            return unpack.rows(self.data, self.format, self.shape[1], dtype, ids)
        return (self.data if ids is None else self.data[ids]).to(dtype)


def uploaded(tensor: GgufTensor, device: torch.device, *, in_bf16: bool) -> Weight:
    """A tensor's matrix. A format that no kernel unpacks is expanded to float32 here."""
    rows, columns = tensor.shape
    raw, format_ = tensor.raw, tensor.format
    if format_.name in unpack.ROWS:
        data = unpack.planes(_moved(raw, device), format_)
    elif format_.name in PLAIN:
        data = _moved(raw, device).view(PLAIN[format_.name])
    else:
        data = torch.from_numpy(np.array(tensor.dequantize())).to(device)
    return Weight((rows, columns), format_, data, _many(data.dtype, in_bf16))


def _many(dtype: torch.dtype, in_bf16: bool) -> torch.dtype:
    """What the tensor cores multiply: halves, unless the weight is or the caller wants bfloat16; float32 as it is."""
    if in_bf16 or dtype == torch.bfloat16:
        return torch.bfloat16
    return torch.float32 if dtype == torch.float32 else torch.float16


def _moved(raw: "np.typing.NDArray[np.uint8]", device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.array(raw)).to(device)  # of the mapped file a copy: torch warns of what it can't write


class Copies:
    """Weights' values as products of many rows take them; the first ones asked for are kept, in `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self._left = budget
        self._kept: dict[Weight, torch.Tensor] = {}
        self._lock = threading.Lock()  # engines share a backend
        self._here = threading.local()  # `used`: what this thread's graph is to hold

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, w: Weight) -> torch.Tensor:
        """(M, K) of w.many; the weight itself where it lies so."""
        if w.data.dtype == w.many:
            return w.data
        values = self._kept.get(w)
        if values is None:
            values = w.rows(dtype=w.many)
            with self._lock:
                if values.nbytes <= self._left:
                    self._left -= values.nbytes
                    self._kept[w] = values
        getattr(self._here, "used", []).append(values)
        return values

    @contextmanager
    def used(self) -> Iterator[list[torch.Tensor]]:
        """What this thread is given within the block. A graph reads it where it lay: it must live as long."""
        found: list[torch.Tensor] = []
        self._here.used = found
        try:
            yield found
        finally:
            del self._here.used

    def give_up(self) -> bool:
        """Keep none from here on; whether there were any."""
        with self._lock:
            found, self._kept, self._left = bool(self._kept), {}, 0
        return found
