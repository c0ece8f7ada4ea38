"""A backend seen through a glass: every operation passes `around(op, call, arguments)`; the rest is as it was.

Two glasses: `checked` runs each operation beside its reference (EARDROP_CHECK=1), `timed` keeps what each call took
(EARDROP_DEBUG=2 and `eardrop bench ops`).
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from eardrop.ops import OPS, Cost, Op, outputs
from eardrop.ops.backend import Backend
from eardrop.ops.check import arithmetic_of, difference, meant, on_host

Around: TypeAlias = Callable[[Op, Callable[..., Any], dict[str, Any]], Any]


class _Observed:
    def __init__(self, inner: Backend, around: Around) -> None:
        self._inner = inner
        for op in OPS.values():
            setattr(self, op.name, _passing(op, getattr(inner, op.name), around))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def capture(self, step: Callable[..., Any], *slots: Any) -> Callable[[], Any]:
        """The function itself: what is replayed passes no glass."""
        return lambda: step(*slots)


def _passing(op: Op, call: Callable[..., Any], around: Around) -> Callable[..., Any]:
    return lambda *args, **kwargs: around(op, call, op.arguments(*args, **kwargs))


def observed(inner: Backend, around: Around) -> Backend:
    """`inner`, with every operation passing through `around`."""
    return cast(Backend, _Observed(inner, around))


class Divergence(AssertionError):
    """An operation's result is not what its reference gives: a mistake of ours."""


def checked(inner: Backend) -> Backend:
    """`inner` beside the references: the first operation that differs raises Divergence and saves its inputs."""

    def around(op: Op, call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        before = on_host(inner, op, arguments)
        result = call(**arguments)
        expected = meant(op, before)
        changed = (arguments[name] for name in op.changes if arguments.get(name) is not None)
        got = [inner.download(value) for value in (*outputs(result), *changed)]
        tolerance = op.tolerance[arithmetic_of(inner, op, arguments)]
        for place, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
            wrong = difference(mine, theirs, tolerance)
            if wrong:
                raise Divergence(
                    f"{op.name} on {inner.name}: output {place} is {wrong}; inputs in {_saved(op, before)}"
                )
        return result

    return observed(inner, around)


def _saved(op: Op, arguments: Mapping[str, Any]) -> Path:
    path = Path(tempfile.mkdtemp(prefix="eardrop-")) / f"{op.name}.npz"
    np.savez(path, **{name: value for name, value in arguments.items() if value is not None})
    return path


@dataclass
class Spent:
    """What all calls of one operation took together."""

    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0


@dataclass
class Ledger:
    """What each operation took, by name; `clear` before what is to be measured."""

    spent: dict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))

    def clear(self) -> None:
        """Forget."""
        self.spent.clear()


def cost_of(backend: Backend, op: Op, arguments: Mapping[str, Any]) -> Cost:
    """What a call on this backend needs at the least."""
    return op.cost(**{name: _outline(backend, value) for name, value in arguments.items()})


def _outline(backend: Backend, value: Any) -> Any:
    """An array of another library as NumPy: whole numbers as they are, of others shape and type alone."""
    if isinstance(value, np.ndarray) or not hasattr(value, "dtype"):
        return value
    some = backend.download(value[:0])
    if np.issubdtype(some.dtype, np.integer):
        return backend.download(value)
    return np.broadcast_to(np.zeros((), some.dtype), tuple(value.shape))


def awaited(backend: Backend, result: Any) -> Any:
    """A call's result, once it is there: some backends compute while their caller goes on."""
    backend.download(outputs(result)[0][:1])
    return result


def timed(inner: Backend, ledger: Ledger) -> Backend:
    """`inner`, each call's time, flops and bytes entered in the ledger."""

    def around(op: Op, call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        cost, entry = cost_of(inner, op, arguments), ledger.spent[op.name]
        started = time.perf_counter()
        result = awaited(inner, call(**arguments))
        entry.seconds += time.perf_counter() - started
        entry.calls, entry.flops, entry.bytes = entry.calls + 1, entry.flops + cost.flops, entry.bytes + cost.bytes
        return result

    return observed(inner, around)
