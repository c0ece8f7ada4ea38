"""Comparing what a backend gave with what the reference gives: for tests, EARDROP_CHECK and `bench ops`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from eardrop.gguf import F32, GgufTensor
from eardrop.ops.backend import Backend
from eardrop.ops.record import Arithmetic, Case, Op, Tolerance, outputs


def placed(backend: Backend, op: Op, case: Case) -> dict[str, Any]:
    """A case's arguments where the backend computes; always fresh copies."""
    return {name: _placed(backend, value, name in op.host) for name, value in case.arguments.items()}


def _placed(backend: Backend, value: Any, stays: bool) -> Any:
    if isinstance(value, GgufTensor):
        return backend.weight(value)
    return backend.upload(value) if isinstance(value, np.ndarray) and not stays else value


def meant(op: Op, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the reference gives for NumPy arguments: its outputs, then the arguments that it wrote to."""
    own = {
        name: np.array(value) if name in op.changes and value is not None else value
        for name, value in arguments.items()
    }
    return (*outputs(op.reference(**own)), *(own[name] for name in op.changes if own.get(name) is not None))


def on_host(backend: Backend, op: Op, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments as NumPy: copies, so that the call may write to its own."""
    return {
        name: np.array(backend.download(value)) if hasattr(value, "shape") and name not in op.host else value
        for name, value in arguments.items()
    }


def arithmetic_of(backend: Backend, op: Op, arguments: Mapping[str, Any]) -> Arithmetic:
    """How the products of a call are taken: its weight's say, or the backend's for many rows, else in float32."""
    format_ = getattr(arguments.get("w"), "format", None)
    if format_ is not None:
        return backend.arithmetic(format_)
    return backend.arithmetic(F32) if op.many_rows else Arithmetic.FLOAT32


def difference(got: Any, expected: Any, tolerance: Tolerance) -> str | None:
    """What is wrong with `got`, in words, or None: shapes equal, integers equal, floats within the tolerance."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return f"shape {got.shape}, expected {expected.shape}"
    if got.dtype != expected.dtype:
        return f"dtype {got.dtype}, expected {expected.dtype}"
    if not np.issubdtype(expected.dtype, np.floating):
        wrong = np.argwhere(got != expected)
        return _at(wrong[0], got, expected) if len(wrong) else None
    finite = np.isfinite(expected)
    limit = tolerance.of_largest * float(np.abs(expected[finite], dtype=np.float64).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        distance = np.where(finite, np.abs(got.astype(np.float64) - expected), np.where(got == expected, 0.0, np.inf))
    worst = (
        np.unravel_index(int(np.argmax(np.where(np.isnan(distance), np.inf, distance))), got.shape) if got.size else ()
    )
    if got.size == 0 or distance[worst] <= limit:
        return None
    return f"{_at(np.array(worst), got, expected)}: {distance[worst]:.3g} apart, allowed {limit:.3g} ({tolerance.why})"


def _at(index: Any, got: Any, expected: Any) -> str:
    place = tuple(int(i) for i in index)
    return f"{got[place]!r} at {place}, expected {expected[place]!r}"
