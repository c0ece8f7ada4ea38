"""What operations are given to run their kernels with."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.backends.cpu.flow import Kernel

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int32]

CHUNK_VALUES = 4096  # that a thread takes at a time: below that, handing out costs more than computing


class Run(Protocol):
    """Runs a kernel over items now, or records it while a step is captured."""

    def __call__(self, kernel: Kernel, arguments: Sequence[Any], items: int, chunk: int) -> None: ...


def chunk(values: int) -> int:
    """Items of so many values that a thread takes at a time."""
    return max(1, CHUNK_VALUES // max(1, values))


def owners(offsets: Ints) -> Ints:
    """(N,) the sequence of each packed row."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
