"""What a GGUF file says about itself: named facts of thirteen kinds.

In Python a fact is an int, float, bool or str, a list of str, or an array of numbers or booleans. The file is
stricter, it tells u16 from i32; `Fact` is a value together with its kind, and `u32(5)` makes one. The kind of an array
is its dtype.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eardrop.errors import OptionError

Value: TypeAlias = str | int | float | bool | list[str] | NDArray[Any]


class Kind(NamedTuple):
    """One kind of value: its number and its name in the format, and how NumPy calls it."""

    id: int
    name: str
    dtype: str | None = None


U8, I8, U16, I16 = Kind(0, "u8", "<u1"), Kind(1, "i8", "<i1"), Kind(2, "u16", "<u2"), Kind(3, "i16", "<i2")
U32, I32, F32, BOOL = Kind(4, "u32", "<u4"), Kind(5, "i32", "<i4"), Kind(6, "f32", "<f4"), Kind(7, "bool", "|b1")
STRING, ARRAY = Kind(8, "string"), Kind(9, "array")
U64, I64, F64 = Kind(10, "u64", "<u8"), Kind(11, "i64", "<i8"), Kind(12, "f64", "<f8")

KINDS = {kind.id: kind for kind in (U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64)}
_BY_DTYPE = {np.dtype(kind.dtype): kind for kind in KINDS.values() if kind.dtype}


@dataclass(frozen=True)
class Fact:
    """A value and its kind; for a list or an array the kind of its elements."""

    kind: Kind
    value: Value

    def __post_init__(self) -> None:
        if isinstance(self.value, int) and not _holds(self.kind, self.value):
            raise OptionError(f"a {self.kind.name} can't hold {self.value}; choose another kind")

    @classmethod
    def of(cls, value: "Value | Fact") -> "Fact":
        """A plain value in its usual kind: an int is u32 where that holds it, else i32, i64 or u64; a float is f32."""
        if isinstance(value, Fact):
            return value
        for python_type, kind_of in _USUAL:
            if isinstance(value, python_type):
                return cls(kind_of(value), value)
        raise OptionError(f"a GGUF file can't hold a {type(value).__name__}; give a number, bool, str, list or array")


def _holds(kind: Kind, value: int) -> bool:
    if kind.dtype is None or np.dtype(kind.dtype).kind not in "iu":
        return True
    limits = np.iinfo(kind.dtype)
    return int(limits.min) <= value <= int(limits.max)


def _kind_of_int(value: int) -> Kind:
    return next((kind for kind in (U32, I32, I64) if _holds(kind, value)), U64)


def _kind_of_array(value: NDArray[Any]) -> Kind:
    kind = _BY_DTYPE.get(value.dtype)
    if kind is None or value.ndim != 1:
        raise OptionError(f"a GGUF file can't hold a {value.ndim}-d array of {value.dtype}; give one row of numbers")
    return kind


# In this order: a bool is an int, too.
_USUAL: tuple[tuple[type, Callable[[Any], Kind]], ...] = (
    (bool, lambda _: BOOL),
    (int, _kind_of_int),
    (float, lambda _: F32),
    (str, lambda _: STRING),
    (list, lambda _: STRING),
    (np.ndarray, _kind_of_array),
)


def u8(value: int) -> Fact:
    return Fact(U8, value)


def u16(value: int) -> Fact:
    return Fact(U16, value)


def u32(value: int) -> Fact:
    return Fact(U32, value)


def u64(value: int) -> Fact:
    return Fact(U64, value)


def i8(value: int) -> Fact:
    return Fact(I8, value)


def i16(value: int) -> Fact:
    return Fact(I16, value)


def i32(value: int) -> Fact:
    return Fact(I32, value)


def i64(value: int) -> Fact:
    return Fact(I64, value)


def f32(value: float) -> Fact:
    return Fact(F32, value)


def f64(value: float) -> Fact:
    return Fact(F64, value)
