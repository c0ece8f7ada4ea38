"""Named intermediates: `tap(name, x)` does nothing unless somebody listens.

Names are the training framework's (`conformer.layers.0.norm_conv`, `lfm.layers.2.self_attn`), so any two
implementations can be compared step by step. EARDROP_TAP=folder writes each as name.npy; from Python:

    with listening(lambda name, x: seen.__setitem__(name, backend.download(x))):
        ...

Listeners are process-wide, because an engine computes on a thread of its own.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.ops.record import Array

Listener: TypeAlias = Callable[[str, Array], None]
_listeners: list[Listener] = []


def tap(name: str, x: Array) -> Array:
    """Show x to whoever listens; returns x."""
    for listener in _listeners:
        listener(name, x)
    return x


def heard() -> bool:
    """Whether anybody listens."""
    return bool(_listeners)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener(name, x)` for every tap while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def write_taps(folder: str, download: Callable[[Array], npt.NDArray[Any]]) -> None:
    """From now on write every tap to the folder: NAME.npy the first time, NAME.1.npy the second, and so on."""
    target, counts = Path(folder), defaultdict[str, "itertools.count[int]"](itertools.count)
    target.mkdir(parents=True, exist_ok=True)

    def write(name: str, x: Array) -> None:
        index = next(counts[name])
        np.save(target / f"{name}.{index}.npy" if index else target / f"{name}.npy", download(x))

    _listeners.append(write)
