"""Loops, variables and conditions of kernels, and kernels themselves.

    @kernel(x=PTR, y=PTR, n=I64)
    def double(p, lo, hi):                       items lo … hi of whatever it is called for
        total = Variable(zero(F32 * 8))
        for i in loop(lo, hi):                   under an emitter the body runs once and becomes a loop
            for _ in when(i < p.n):              … and this one a branch
                total.value = total.value + (p.x + i * 32).load(F32 * 8)

A kernel is called as `void kernel(const int64_t *arguments, int64_t lo, int64_t hi)`. It knows nothing of threads:
chunks of its items are handed out by the team.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import ir

from eardrop.backends.cpu.target import Target
from eardrop.backends.cpu.types import F32, I64, PTR, Type
from eardrop.backends.cpu.vector import Emitter, Interpreter, Operand, Value, const, ir_type, machine, under


class Variable:
    """A value that changes while a loop runs; LLVM keeps it in a register."""

    def __init__(self, first: Value) -> None:
        self._type, now = first.type, machine()
        if isinstance(now, Emitter):
            with now.builder.goto_entry_block():
                self._place = now.builder.alloca(ir_type(first.type))
        self.value = first

    @property
    def value(self) -> Value:
        """What it holds now."""
        now = machine()
        if isinstance(now, Emitter):
            return Value(self._type, now.builder.load(self._place, typ=ir_type(self._type)))
        return Value(self._type, self._held)

    @value.setter
    def value(self, new: Value) -> None:
        assert new.type == self._type, f"a variable of {self._type} is given {new.type}"
        now = machine()
        if isinstance(now, Emitter):
            now.builder.store(new.held, self._place)
        else:
            self._held = new.held


def loop(lo: Operand, hi: Operand, step: int = 1) -> Iterator[Value]:
    """lo, lo + step, … below hi, as I64."""
    now = machine()
    first, end = (x if isinstance(x, Value) else const(I64, x) for x in (lo, hi))
    if isinstance(now, Emitter):
        yield from _emitted_loop(now.builder, first, end, step)
    else:
        for i in range(int(first.held[0]), int(end.held[0]), step):
            yield const(I64, i)


def _emitted_loop(b: Any, first: Value, end: Value, step: int) -> Iterator[Value]:
    before = b.block
    head, body, behind = (b.append_basic_block(name) for name in ("head", "body", "behind"))
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(ir_type(I64))
    i.add_incoming(first.held, before)
    b.cbranch(b.icmp_signed("<", i, end.held), body, behind)
    b.position_at_end(body)
    yield Value(I64, i)
    i.add_incoming(b.add(i, ir.Constant(ir_type(I64), step)), b.block)
    b.branch(head)
    b.position_at_end(behind)


def repeat(condition: Callable[[], Value]) -> Iterator[None]:
    """The body as long as the condition holds; it is asked anew each time."""
    now = machine()
    if not isinstance(now, Emitter):
        while bool(condition().held[0]):
            yield
        return
    b = now.builder
    head, body, behind = (b.append_basic_block(name) for name in ("ask", "body", "behind"))
    b.branch(head)
    b.position_at_end(head)
    b.cbranch(condition().held, body, behind)
    b.position_at_end(body)
    yield
    b.branch(head)
    b.position_at_end(behind)


def when(condition: Value) -> Iterator[None]:
    """The body, or not."""
    now = machine()
    if not isinstance(now, Emitter):
        yield from [None] * bool(condition.held[0])
        return
    b = now.builder
    body, behind = b.append_basic_block("then"), b.append_basic_block("behind")
    b.cbranch(condition.held, body, behind)
    b.position_at_end(body)
    yield
    b.branch(behind)
    b.position_at_end(behind)


def scratch(nbytes: int) -> Value:
    """Memory of this call alone, aligned to 64 bytes; what it holds at first is anything."""
    now = machine()
    if isinstance(now, Emitter):
        with now.builder.goto_entry_block():
            place = now.builder.alloca(ir.ArrayType(ir.IntType(8), nbytes))
            place.align, place.type = 64, ir.PointerType()
        return Value(PTR, place)
    room = np.empty(nbytes + 64, np.uint8)
    now.rooms.append(room)  # until the kernel returns
    return const(PTR, -(-room.ctypes.data // 64) * 64)


@dataclass(frozen=True)
class Kernel:
    """A kernel's name, the types of its arguments, and its body: (arguments by name, lo, hi) → None."""

    name: str
    parameters: Mapping[str, Type]
    body: Callable[[Any, Value, Value], None]

    def emit(self, module: ir.Module, target: Target) -> None:
        """Add the kernel's function to a module."""
        pointer, count = ir.PointerType(), ir_type(I64)
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, count, count]), self.name)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        with under(Emitter(builder, target)):
            table, lo, hi = (Value(t, held) for t, held in zip((PTR, I64, I64), function.args, strict=True))
            self.body(self._arguments(table), lo, hi)
            builder.ret_void()

    def interpret(self, arguments: Sequence[int], lo: int, hi: int, target: Target) -> None:
        """Run the kernel in Python, on a table of arguments as the compiled one is given."""
        table = np.array(arguments, np.int64)
        with under(Interpreter(target)):
            self.body(self._arguments(const(PTR, table.ctypes.data)), const(I64, lo), const(I64, hi))

    def _arguments(self, table: Value) -> SimpleNamespace:
        loaded = {name: table.load(t, 8 * i, align=8) for i, (name, t) in enumerate(self.parameters.items())}
        return SimpleNamespace(**loaded)


def kernel(name: str, **parameters: Type) -> Callable[[Callable[[Any, Value, Value], None]], Kernel]:
    """Make a function of (arguments, lo, hi) a kernel. Arguments are PTR, I64, or F32 in eight bytes each."""
    assert all(type_ in (PTR, I64, F32) for type_ in parameters.values())
    return lambda body: Kernel(name, parameters, body)
