"""What an operation is: one record, from which tests, benchmark, EARDROP_CHECK and the roofline are derived.

Names of shapes, here and in every file of this room:

    N  packed rows of all sequences     B  sequences     offsets (B + 1,) int32: sequence b has rows [b] to [b + 1]
    D  width   K  terms of a sum, or taps   M  rows of a weight   V  vocabulary   S  slots of the streams
    H  heads   KV key/value heads   d  width of a head   F  frequencies   C  channels

`offsets` stays on the host: launch shapes follow from it. Everything else an operation is given lives where its
backend computes.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float32: TypeAlias = npt.NDArray[np.float32]
Int32: TypeAlias = npt.NDArray[np.int32]
Array: TypeAlias = Any  # an array of the backend in use: `shape`, `reshape`, rows by slice or index, nothing more


class Arithmetic(StrEnum):
    """How products are taken; the key of a tolerance."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"  # operands rounded to half precision, sums in float32
    BFLOAT16 = "bfloat16"
    INT8 = "int8"  # activations in blocks of 8 bits, as llama.cpp multiplies quantised weights


@dataclass(frozen=True)
class Tolerance:
    """The largest |got − expected| allowed, as a part of the largest |expected|, and where that number is from."""

    of_largest: float
    why: str


EXACT = Tolerance(0.0, "no arithmetic, or the same arithmetic in the same order")
ROUNDED = Tolerance(2.0**-20, "a handful of float32 roundings (2⁻²⁴ each) and functions of 2 ulp")
SUMMED = Tolerance(2.0**-17, "float32 sums of up to 8,192 terms in any order: √8192 · 2⁻²⁴ ≈ 2⁻¹⁷·⁵")


@dataclass(frozen=True)
class Cost:
    """What one call needs at the least: the denominator of a roofline."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Case:
    """One call: arguments by name. Arrays are uploaded, GgufTensors become weights, the rest is passed as it is."""

    label: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Op:
    """One operation of the networks, stated once."""

    name: str
    reference: Callable[..., Any]  # NumPy, obvious: the meaning
    cases: "Callable[[np.random.Generator], Iterator[Case]]"  # odd shapes first
    tolerance: Mapping[Arithmetic, Tolerance]
    cost: Callable[..., Cost]  # of the reference's arguments
    changes: tuple[str, ...] = ()  # arguments that the call writes to
    host: tuple[str, ...] = field(default=("offsets",))  # arguments that stay NumPy arrays
    many_rows: bool = False  # it multiplies many rows without a weight: a backend does that as with F32 weights

    @cached_property
    def signature(self) -> inspect.Signature:
        """The reference's signature: every backend has the same."""
        return inspect.signature(self.reference)

    def arguments(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The arguments of a call by name, defaults included."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)


def outputs(result: Any) -> tuple[Any, ...]:
    """What a call gave, as a tuple: most operations give one array, some several."""
    return result if isinstance(result, tuple) else (result,)


def normal(rng: "np.random.Generator", *shape: int) -> Float32:
    """float32 from N(0, 1): what cases are made of."""
    return rng.standard_normal(shape, dtype=np.float32)


def ragged(*lengths: int) -> Int32:
    """The offsets of sequences of these lengths."""
    return np.cumsum((0, *lengths), dtype=np.int32)


def grouped(lengths: Sequence[int], most: int) -> Iterator[slice]:
    """Sequences of these lengths in their order, as many together as have at most so much; a longer one is alone."""
    first, total = 0, 0
    for number, length in enumerate(lengths):
        if number > first and total + length > most:
            yield slice(first, number)
            first, total = number, 0
        total += length
    if lengths:
        yield slice(first, len(lengths))


def spans(offsets: Int32) -> Iterator[slice]:
    """The rows of each sequence."""
    return (slice(int(a), int(b)) for a, b in itertools.pairwise(offsets))
