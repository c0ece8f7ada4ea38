"""The vector layer: typed values, and the operations that kernels are written in.

A kernel is a Python function over these values. Under an `Emitter` it writes LLVM IR, once; under an `Interpreter` it
computes with NumPy on the same memory, line by line, under any debugger. So every operation is stated twice, side by
side: what it emits and what it means. One test holds the two equal, on every target.

    x = p.load(F32 * 8)                      <8 x float>, from an address
    y = fma(x, w.to(F32), acc)               numbers and scalars spread over the lanes of the widest
    (q + 32).store(y)                        pointers move by bytes

The operations themselves are in `operations.py`, functions made of them in `maths.py`, loops, variables and
conditions in `flow.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from eardrop.backends.cpu.target import Target
from eardrop.backends.cpu.types import I64, PTR, Type

Lanes: TypeAlias = npt.NDArray[Any]  # (lanes,) always, of a scalar too
Builder: TypeAlias = Any  # llvmlite's IRBuilder


@dataclass(frozen=True)
class Emitter:
    """Values are LLVM's, operations write instructions."""

    builder: Builder
    target: Target


@dataclass(frozen=True)
class Interpreter:
    """Values are NumPy lanes, operations compute; `rooms` are a kernel's scratch memory."""

    target: Target
    rooms: list[npt.NDArray[np.uint8]] = field(default_factory=list, compare=False)


_machine: ContextVar[Emitter | Interpreter] = ContextVar("machine")


def machine() -> Emitter | Interpreter:
    """Whoever gives operations their effect now."""
    return _machine.get()


@contextmanager
def under(new: Emitter | Interpreter) -> Iterator[None]:
    """Let `new` give operations their effect while the block runs."""
    token = _machine.set(new)
    try:
        yield
    finally:
        _machine.reset(token)


class Value:
    """A scalar or a vector: its type, and what the machine holds for it."""

    __slots__ = ("held", "type")
    __hash__ = None  # type: ignore[assignment]  # == compares lanes

    def __init__(self, type_: Type, held: Any) -> None:
        self.type, self.held = type_, held

    def __add__(self, other: "Operand") -> "Value":
        if isinstance(other, int) and other == 0 and not self.type.is_float:
            return self  # offsets often are 0, and what isn't emitted needn't be optimised away
        return OPERATIONS["move" if self.type is PTR else "add"](self, other)

    def __sub__(self, other: "Operand") -> "Value":
        return OPERATIONS["sub"](self, other)

    def __mul__(self, other: "Operand") -> "Value":
        return OPERATIONS["mul"](self, other)

    def __truediv__(self, other: "Operand") -> "Value":
        return OPERATIONS["div"](self, other)

    def __floordiv__(self, other: "Operand") -> "Value":
        return OPERATIONS["div"](self, other)

    def __mod__(self, other: "Operand") -> "Value":
        return OPERATIONS["rem"](self, other)

    def __and__(self, other: "Operand") -> "Value":
        return OPERATIONS["and"](self, other)

    def __or__(self, other: "Operand") -> "Value":
        return OPERATIONS["or"](self, other)

    def __xor__(self, other: "Operand") -> "Value":
        return OPERATIONS["xor"](self, other)

    def __lshift__(self, other: "Operand") -> "Value":
        return OPERATIONS["shl"](self, other)

    def __rshift__(self, other: "Operand") -> "Value":
        return OPERATIONS["shr"](self, other)

    def __lt__(self, other: "Operand") -> "Value":
        return OPERATIONS["less"](self, other)

    def __eq__(self, other: object) -> "Value":  # type: ignore[override]
        assert isinstance(other, Value | int | float)
        return OPERATIONS["equal"](self, other)

    def __neg__(self) -> "Value":
        return OPERATIONS["sub"](const(self.type, 0), self)

    def to(self, element: Type) -> "Value":
        """The same numbers as another element: widened, narrowed (dropping bits), converted (floats towards 0)."""
        return self if element == self.type.element else OPERATIONS["convert"](self, element=element)

    def bits(self, type_: Type) -> "Value":
        """The same bits under another type of the same size."""
        return OPERATIONS["reinterpret"](self, as_=type_)

    def lanes(self, *order: int) -> "Value":
        """Some of its lanes, in any order; one of them is a scalar."""
        return OPERATIONS["shuffle"](self, self, order=order)

    def spread(self, lanes: int) -> "Value":
        """A scalar in every lane of a vector."""
        return OPERATIONS["splat"](self, lanes=lanes)

    def load(self, type_: Type, offset: "Operand" = 0, *, align: int = 1) -> "Value":
        """What lies at this address, `offset` bytes on."""
        return OPERATIONS["load"](self + offset, as_=type_, align=align)

    def store(self, value: "Value", offset: "Operand" = 0, *, align: int = 1) -> None:
        """Put a value at this address, `offset` bytes on."""
        OPERATIONS["store"](self + offset, value, align=align)


Operand: TypeAlias = Value | int | float


OPERATIONS: "dict[str, Operation]" = {}  # by name; filled by operations.py


@dataclass(frozen=True)
class Operation:
    """One operation, stated twice.

    result   the type of the result, from the operands' types and the static arguments
    emit     (builder, target, result type, operands, **static) → LLVM's value
    meaning  (operands as lanes, **static) → lanes
    even     operands are brought to the lanes of the widest, numbers to its type
    """

    name: str
    result: Callable[..., Type]
    emit: Callable[..., Any]
    meaning: Callable[..., Any]
    even: bool = True

    def __post_init__(self) -> None:
        OPERATIONS[self.name] = self

    def __call__(self, *operands: Operand, **static: Any) -> Value:
        values = evened(operands) if self.even else [_value(I64, operand) for operand in operands]
        type_, now = self.result(*(value.type for value in values), **static), machine()
        if isinstance(now, Emitter):
            return Value(type_, self.emit(now.builder, now.target, type_, *values, **static))
        with np.errstate(all="ignore"):
            held = self.meaning(*(value.held for value in values), **static)
        return Value(type_, np.array(held).astype(type_.numpy, copy=False).reshape(type_.lanes))


def _value(type_: Type, operand: Operand) -> Value:
    return operand if isinstance(operand, Value) else const(type_, operand)


def evened(operands: tuple[Operand, ...]) -> list[Value]:
    widest = max((o for o in operands if isinstance(o, Value)), key=lambda value: value.type.lanes).type
    values = [_value(widest, operand) for operand in operands]
    return [value.spread(widest.lanes) if value.type.lanes < widest.lanes else value for value in values]


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"


_BFLOAT = _BFloat()  # one: types of LLVM are compared


def bfloats(lanes: int) -> Any:
    """LLVM's type of bfloat16, as the instructions that multiply it take it."""
    return ir.VectorType(_BFLOAT, lanes)


@cache
def ir_type(type_: Type) -> Any:
    """LLVM's type. bfloat16 is sixteen bits until it is widened."""
    if type_.element == PTR:
        return ir.PointerType()
    floats = {"f32": ir.FloatType, "f16": ir.HalfType}
    element = floats[type_.name]() if type_.is_float else ir.IntType(type_.bits)
    return element if type_.lanes == 1 else ir.VectorType(element, type_.lanes)


def const(type_: Type, number: Any) -> Value:
    """A number in every lane, or one for each lane."""
    emitting = isinstance(machine(), Emitter)
    if emitting and isinstance(number, int):
        return Value(type_, _written_whole(type_, number))
    numbers = np.broadcast_to(np.asarray(number), type_.lanes).astype(type_.numpy)
    if not emitting:
        return Value(type_, numbers)
    return Value(type_, _written(type_, numbers.tobytes()))


@cache
def _written(type_: Type, numbers: bytes) -> Any:
    """LLVM's constant, which keeps how it is written: kernels hold the same few over and over."""
    listed = [float(x) if type_.is_float else int(x) for x in np.frombuffer(numbers, type_.numpy)]
    return ir.Constant(ir_type(type_), listed if type_.lanes > 1 else listed[0])


@cache
def _written_whole(type_: Type, number: int) -> Any:
    """The same of one whole number in every lane, as most are, without making the lanes to look it up."""
    return _written(type_, np.full(type_.lanes, number).astype(type_.numpy).tobytes())


def zero(type_: Type) -> Value:
    """0 in every lane."""
    return const(type_, 0)


def intrinsic(builder: Builder, name: str, type_: Any, *operands: Any) -> Any:
    """A call of one of LLVM's own functions, by its full name."""
    module = builder.module
    known = module.globals.get(name)
    function = known or ir.Function(module, ir.FunctionType(type_, [operand.type for operand in operands]), name)
    return builder.call(function, operands)


def suffix(type_: Type) -> str:
    """How LLVM's intrinsics name a type."""
    return ("" if type_.lanes == 1 else f"v{type_.lanes}") + ("f" if type_.is_float else "i") + str(type_.bits)
