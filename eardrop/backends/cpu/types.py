"""The types kernels compute with: an element, and how many lanes of it.

    F32        a float           F32 * 8     a vector of eight
    PTR        an address        I64         what counts and indexes

LLVM's integers have no sign; ours do, because widening, shifting and comparing need to know.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Type:
    """An element type and its lanes; one lane is a scalar."""

    name: str
    bits: int
    dtype: str  # what NumPy calls an element
    lanes: int = 1

    def __mul__(self, lanes: int) -> "Type":
        """This element, so many times."""
        return _of(self, lanes)

    @property
    def element(self) -> "Type":
        """The type of one lane."""
        return self if self.lanes == 1 else _of(self, 1)

    @property
    def is_float(self) -> bool:
        """Whether + means the addition of floats; bfloat16 is bits until it is widened."""
        return self.name in ("f16", "f32")

    @property
    def is_signed(self) -> bool:
        """Whether widening repeats the highest bit."""
        return self.name.startswith("i")

    @property
    def nbytes(self) -> int:
        """The size in memory."""
        return self.bits // 8 * self.lanes

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The element as NumPy has it."""
        return np.dtype(self.dtype)

    def __repr__(self) -> str:
        return self.name if self.lanes == 1 else f"{self.name}x{self.lanes}"


@cache
def _of(type_: Type, lanes: int) -> Type:
    return replace(type_, lanes=lanes)


F32, F16, BF16 = Type("f32", 32, "<f4"), Type("f16", 16, "<f2"), Type("bf16", 16, "<u2")
I8, I16, I32, I64 = Type("i8", 8, "i1"), Type("i16", 16, "<i2"), Type("i32", 32, "<i4"), Type("i64", 64, "<i8")
U8, U16, U32 = Type("u8", 8, "u1"), Type("u16", 16, "<u2"), Type("u32", 32, "<u4")
BIT = Type("bit", 1, "?")  # what a comparison gives
PTR = Type("ptr", 64, "<i8")
