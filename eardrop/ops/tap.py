"""Named intermediates: `tap(name, x)` does nothing unless somebody listens.

Names are the training framework's (`conformer.layers.0.norm_conv`, `lfm.layers.2.self_attn`), so any two
implementations can be compared step by step. EARDROP_TAP=folder writes each as name.npy; from Python:

    with listening(lambda name, x: seen.__setitem__(name, backend.download(x))):
        ...

Listeners are process-wide, because an engine computes on a thread of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from eardrop.ops.record import Array

Listener: TypeAlias = Callable[[str, Array], None]
_listeners: list[Listener] = []


def tap(name: str, x: Array) -> Array:
    """Show x to whoever listens; returns x."""
    for listener in _listeners:
        listener(name, x)
    return x


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener(name, x)` for every tap while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
