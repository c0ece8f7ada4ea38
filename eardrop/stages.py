"""How long each stage of the journey takes: `with stage("encoder"):` does nothing unless somebody listens.

EARDROP_DEBUG=1 shows them on the terminal. Stages may nest; a stage's time includes what runs inside it. Work on an
accelerator may still be under way when its stage ends.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Listener: TypeAlias = Callable[[str, float], None]  # told the stage's name and its seconds
_listeners: list[Listener] = []


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time what runs inside, for whoever listens."""
    if not _listeners:
        yield
        return
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        for listener in _listeners:
            listener(name, seconds)


@contextmanager
def calls(name: str) -> Iterator[Callable[..., Any]]:
    """A stage made of calls with other work between them, told once, when the block ends: `call(function, x)`."""
    spent = 0.0

    def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        nonlocal spent
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent += time.perf_counter() - started

    try:
        yield call
    finally:
        for listener in _listeners if spent else ():
            listener(name, spent)


@contextmanager
def timing(listener: Listener) -> Iterator[None]:
    """Tell `listener` of every stage that ends while the block runs, on whatever thread."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
