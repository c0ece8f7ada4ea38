"""Where sequences begin and end, for kernels: what the host knows, copied to the device once.

A kernel's grid covers the longest sequence for every one of them; programs behind a sequence's end leave at once.
"""

from functools import lru_cache

import numpy as np
import torch

from eardrop.ops import Int32


def longest(offsets: Int32) -> int:
    """Rows of the longest sequence."""
    return int(np.diff(offsets).max(initial=0))


def one_row_each(offsets: Int32) -> bool:
    """Whether this is a step: sequence b is row b, and no kernel needs a table to know it."""
    return len(offsets) - 1 == int(offsets[-1]) and longest(offsets) <= 1


def on_device(values: Int32, device: torch.device) -> torch.Tensor:
    """Small int32 tables that the host made, where the kernels are; nobody may write to them.

    All layers of a pass ask for the same few. A captured step must not ask: a copy from the host can't be captured.
    """
    values = np.ascontiguousarray(values, np.int32)
    return _copied(values.tobytes(), values.shape, device)


@lru_cache(maxsize=64)
def _copied(values: bytes, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    table = np.frombuffer(bytearray(values), np.int32).reshape(shape)
    return torch.from_numpy(table).to(device)
