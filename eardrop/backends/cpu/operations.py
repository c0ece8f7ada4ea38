"""The operations of the vector layer: each with what it emits, and beside it what it means.

What isn't one instruction on every processor of the table is made of these in `maths.py`.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from eardrop.backends.cpu.target import Target
from eardrop.backends.cpu.types import BIT, I16, I32, I64, PTR, Type
from eardrop.backends.cpu.vector import Builder, Lanes, Operation, Value, bfloats, const, intrinsic, ir_type, suffix

# Arithmetic. LLVM has an instruction for floats and one for integers, sometimes one for each sign.


def _same(*types: Type, **static: Any) -> Type:
    assert all(type_ == types[0] for type_ in types), f"operands of different types: {types}"
    return types[0]


def _first(first: Type, *others: Type, **static: Any) -> Type:
    return first


def _arithmetic(name: str, float_: str, signed: str, unsigned: str, meaning: Callable[..., Any]) -> Operation:
    def emit(b: Builder, target: Target, type_: Type, x: Value, y: Value) -> Any:
        method = float_ if type_.is_float else signed if type_.is_signed or type_ == PTR else unsigned
        return getattr(b, method)(x.held, y.held)

    return Operation(name, _same, emit, meaning)


def _comparison(name: str, sign: str, meaning: Callable[..., Any]) -> Operation:
    def emit(b: Builder, target: Target, type_: Type, x: Value, y: Value) -> Any:
        kind = b.fcmp_ordered if x.type.is_float else b.icmp_signed if x.type.is_signed else b.icmp_unsigned
        return kind(sign, x.held, y.held)

    return Operation(name, lambda x, y: BIT * _same(x, y).lanes, emit, meaning)


def _towards_zero(x: Lanes, y: Lanes) -> Any:
    return x / y if x.dtype.kind == "f" else (np.sign(x) * np.sign(y)) * (np.abs(x) // np.abs(y))


add = _arithmetic("add", "fadd", "add", "add", np.add)
sub = _arithmetic("sub", "fsub", "sub", "sub", np.subtract)
mul = _arithmetic("mul", "fmul", "mul", "mul", np.multiply)
div = _arithmetic("div", "fdiv", "sdiv", "udiv", _towards_zero)
rem = _arithmetic("rem", "frem", "srem", "urem", np.fmod)
and_ = _arithmetic("and", "", "and_", "and_", np.bitwise_and)
or_ = _arithmetic("or", "", "or_", "or_", np.bitwise_or)
xor = _arithmetic("xor", "", "xor", "xor", np.bitwise_xor)
shl = _arithmetic("shl", "", "shl", "shl", np.left_shift)
shr = _arithmetic("shr", "", "ashr", "lshr", np.right_shift)
less = _comparison("less", "<", np.less)
equal = _comparison("equal", "==", np.equal)


def _select_type(mask: Type, x: Type, y: Type) -> Type:
    assert mask.element == BIT
    return _same(x, y)


select = Operation(
    "select",
    _select_type,
    lambda b, target, type_, mask, x, y: b.select(mask.held, x.held, y.held),
    np.where,
    even=False,
)


def _fused(x: Lanes, y: Lanes, z: Lanes) -> Lanes:
    # the product of two float32 is exact in float64; adding rounds once there and once to float32
    return (x.astype(np.float64) * y + z).astype(np.float32)


fused = Operation(
    "fused",
    _same,
    lambda b, target, type_, x, y, z: intrinsic(b, f"llvm.fma.{suffix(type_)}", ir_type(type_), x.held, y.held, z.held),
    _fused,
)


def _float_function(name: str, llvm_name: str, meaning: Callable[..., Any]) -> Operation:
    def emit(b: Builder, target: Target, type_: Type, x: Value) -> Any:
        return intrinsic(b, f"llvm.{llvm_name}.{suffix(type_)}", ir_type(type_), x.held)

    return Operation(name, _same, emit, meaning)


sqrt = _float_function("sqrt", "sqrt", np.sqrt)
absolute = _float_function("absolute", "fabs", np.abs)


# Other elements, other lanes, the same bits.


def _emit_conversion(b: Builder, target: Target, type_: Type, x: Value, element: Type) -> Any:
    to = ir_type(type_)
    if x.type.is_float and element.is_float:
        return (b.fpext if element.bits > x.type.bits else b.fptrunc)(x.held, to)
    if x.type.is_float:
        return b.fptosi(x.held, to)
    if element.is_float:
        return (b.sitofp if x.type.is_signed else b.uitofp)(x.held, to)
    if element.bits > x.type.bits:
        return (b.sext if x.type.is_signed else b.zext)(x.held, to)
    return b.trunc(x.held, to) if element.bits < x.type.bits else x.held


convert = Operation(
    "convert",
    lambda x, element: element * x.lanes,
    _emit_conversion,
    lambda x, element: x.astype(element.numpy),
)
reinterpret = Operation(
    "reinterpret",
    lambda x, as_: as_,
    lambda b, target, type_, x, **static: b.bitcast(x.held, ir_type(type_)),
    lambda x, as_: np.ascontiguousarray(x).view(as_.numpy),
)


def _emit_splat(b: Builder, x: Value, lanes: int) -> Any:
    type_ = ir_type(x.type * lanes)
    if isinstance(x.held, ir.Constant):
        return ir.Constant(type_, [x.held.constant] * lanes)
    nothing, first = ir.Constant(type_, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    return b.shuffle_vector(b.insert_element(nothing, x.held, first), nothing, _order((0,) * lanes))


splat = Operation(
    "splat",
    lambda x, lanes: x * lanes,
    lambda b, target, type_, x, lanes: _emit_splat(b, x, lanes),
    lambda x, lanes: np.repeat(x, lanes),
    even=False,
)


def _order(order: tuple[int, ...]) -> Any:
    return const(I32 * len(order), order).held


def _emit_shuffle(b: Builder, target: Target, type_: Type, x: Value, y: Value, order: tuple[int, ...]) -> Any:
    if len(order) > 1:
        return b.shuffle_vector(x.held, y.held, _order(tuple(order)))
    source, lane = (x, order[0]) if order[0] < x.type.lanes else (y, order[0] - x.type.lanes)
    return b.extract_element(source.held, ir.Constant(ir.IntType(32), lane))


shuffle = Operation(
    "shuffle",
    lambda x, y, order: _same(x, y) * len(order),
    _emit_shuffle,
    lambda x, y, order: np.concatenate([x, y])[list(order)],
)


# Memory. An address is a number, so kernels and NumPy see the same bytes.


def _at(address: Lanes) -> int:
    return int(address[0])


def _stored(p: Lanes, x: Lanes, align: int = 8) -> Lanes:
    ctypes.memmove(_at(p), np.ascontiguousarray(x).tobytes(), x.nbytes)
    return p


def _emit_store(b: Builder, target: Target, type_: Type, p: Value, x: Value, align: int) -> Any:
    b.store(x.held, p.held, align=align)
    return p.held


def _emit_prefetch(b: Builder, target: Target, type_: Type, p: Value) -> Any:
    read, keep, data = (ir.Constant(ir.IntType(32), number) for number in (0, 3, 1))
    intrinsic(b, "llvm.prefetch.p0", ir.VoidType(), p.held, read, keep, data)
    return p.held


move = Operation(
    "move",
    _first,
    lambda b, target, type_, p, n: b.gep(p.held, [n.held], source_etype=ir.IntType(8)),
    lambda p, n: p + n,
    even=False,
)
load = Operation(
    "load",
    lambda p, as_, align: as_,
    lambda b, target, type_, p, align, **static: b.load(p.held, align=align, typ=ir_type(type_)),
    lambda p, as_, align: np.frombuffer(ctypes.string_at(_at(p), as_.nbytes), as_.numpy),
    even=False,
)
store = Operation("store", _first, _emit_store, _stored, even=False)


# The first lanes of a vector, where an array ends within it. What lies behind is neither read nor written.


def _emit_mask(b: Builder, type_: Type, count: Value) -> Any:
    lanes = ir_type(I64 * type_.lanes)
    return b.icmp_signed("<", ir.Constant(lanes, list(range(type_.lanes))), _emit_splat(b, count, type_.lanes))


def _emit_load_first(b: Builder, target: Target, type_: Type, p: Value, count: Value, beyond: Value) -> Any:
    name, align = f"llvm.masked.load.{suffix(type_)}.p0", ir.Constant(ir.IntType(32), 1)
    return intrinsic(b, name, ir_type(type_), p.held, align, _emit_mask(b, type_, count), beyond.held)


def _emit_store_first(b: Builder, target: Target, type_: Type, p: Value, count: Value, x: Value) -> Any:
    name, align = f"llvm.masked.store.{suffix(x.type)}.p0", ir.Constant(ir.IntType(32), 1)
    intrinsic(b, name, ir.VoidType(), x.held, p.held, align, _emit_mask(b, x.type, count))
    return p.held


def _loaded_first(p: Lanes, count: Lanes, beyond: Lanes) -> Lanes:
    some = min(max(int(count[0]), 0), len(beyond))
    read = np.frombuffer(ctypes.string_at(_at(p), some * beyond.itemsize), beyond.dtype)
    return np.concatenate([read, beyond[some:]])


load_first = Operation("load_first", lambda p, count, beyond: beyond, _emit_load_first, _loaded_first, even=False)
store_first = Operation(
    "store_first", _first, _emit_store_first, lambda p, count, x: _stored(p, x[: max(int(count[0]), 0)]), even=False
)
prefetch = Operation("prefetch", _first, _emit_prefetch, lambda p: p, even=False)


# What threads tell each other: whole 64-bit numbers, read and written at once.


def _read(p: Lanes) -> Lanes:
    return np.frombuffer(ctypes.string_at(_at(p), 8), "<i8").copy()


def _fetched(p: Lanes, x: Lanes) -> Lanes:
    before = _read(p)
    _stored(p, before + x)
    return before


fetch_add = Operation(
    "fetch_add",
    lambda p, x: x,
    lambda b, target, type_, p, x: b.atomic_rmw("add", p.held, x.held, "acq_rel"),
    _fetched,
    even=False,
)
acquired = Operation(
    "acquired",
    lambda p: I64,
    lambda b, target, type_, p: b.load_atomic(p.held, "acquire", 8, typ=ir_type(I64)),
    _read,
    even=False,
)


# Products of bytes, four to a sum.


def _dot(x: Lanes, y: Lanes, acc: Lanes) -> Lanes:
    return np.asarray(acc + (x.astype(np.int32) * y).reshape(-1, 4).sum(axis=1, dtype=np.int32))


def _emit_dot(name: str) -> Callable[..., Any]:
    def emit(b: Builder, target: Target, type_: Type, x: Value, y: Value, acc: Value) -> Any:
        return intrinsic(b, name.format(8 * type_.nbytes), ir_type(type_), acc.held, x.held, y.held)

    return emit


def _sums(x: Type, y: Type, acc: Type) -> Type:
    return acc


dot_u8_i8 = Operation("dot_u8_i8", _sums, _emit_dot("llvm.x86.avx512.vpdpbusd.{}"), _dot, even=False)
dot_i8_i8 = Operation("dot_i8_i8", _sums, _emit_dot("llvm.aarch64.neon.sdot.v4i32.v16i8"), _dot, even=False)


# Products of bytes, two to a word, and words, two to a sum: where no instruction adds four products.


def _by_size(*names: str) -> Callable[..., Any]:
    """An instruction of x86 for registers of 16, 32 and 64 bytes."""

    def emit(b: Builder, target: Target, type_: Type, *operands: Value) -> Any:
        name = dict(zip((16, 32, 64), names, strict=False))[type_.nbytes]
        return intrinsic(b, f"llvm.x86.{name}", ir_type(type_), *(operand.held for operand in operands))

    return emit


def _saturated_pairs(x: Lanes, y: Lanes) -> Lanes:
    sums: Lanes = (x.astype(np.int32) * y).reshape(-1, 2).sum(axis=1).clip(-(2**15), 2**15 - 1)
    return sums


pairs_u8_i8 = Operation(
    "pairs_u8_i8",
    lambda x, y: I16 * (x.lanes // 2),
    _by_size("ssse3.pmadd.ub.sw.128", "avx2.pmadd.ub.sw", "avx512.pmaddubs.w.512"),
    _saturated_pairs,
    even=False,
)


def _emit_add_pairs(b: Builder, target: Target, type_: Type, x: Value) -> Any:
    if target.triple.startswith("aarch64"):
        return intrinsic(b, "llvm.aarch64.neon.saddlp.v4i32.v8i16", ir_type(type_), x.held)
    ones = Value(x.type, ir.Constant(ir_type(x.type), [1] * x.type.lanes))
    return _by_size("sse2.pmadd.wd", "avx2.pmadd.wd", "avx512.pmaddw.d.512")(b, target, type_, x, ones)


add_pairs = Operation(
    "add_pairs",
    lambda x: I32 * (x.lanes // 2),
    _emit_add_pairs,
    lambda x: x.astype(np.int32).reshape(-1, 2).sum(axis=1),
    even=False,
)
signed_by = Operation(  # −y where x < 0, 0 where it is 0; −(−128) is −128
    "signed_by",
    _same,
    _by_size("ssse3.psign.b.128", "avx2.psign.b"),
    lambda y, x: y * np.sign(x),
    even=False,
)


# Products of bfloat16, two to a sum: the odd one is added first, each sum is rounded; what is subnormal counts as 0.


def _flushed(x: Lanes) -> Lanes:
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x).astype(np.float32)


def _dot_bf16(x: Lanes, y: Lanes, acc: Lanes) -> Lanes:
    a, b = (_flushed((lanes.astype(np.uint32) << 16).view(np.float32)).astype(np.float64) for lanes in (x, y))
    acc = _flushed(acc)
    for lane in (1, 0):
        acc = _flushed((acc + a[lane::2] * b[lane::2]).astype(np.float32))
    return acc


def _emit_dot_bf16(b: Builder, target: Target, type_: Type, x: Value, y: Value, acc: Value) -> Any:
    pairs = bfloats(x.type.lanes)
    name = f"llvm.x86.avx512bf16.dpbf16ps.{8 * type_.nbytes}"
    return intrinsic(b, name, ir_type(type_), acc.held, b.bitcast(x.held, pairs), b.bitcast(y.held, pairs))


dot_bf16 = Operation("dot_bf16", _sums, _emit_dot_bf16, _dot_bf16, even=False)


# A table of sixteen bytes, looked up by bytes.


def _emit_lookup(b: Builder, target: Target, type_: Type, table: Value, index: Value) -> Any:
    lanes, to = type_.lanes, ir_type(type_)
    if target.triple.startswith("aarch64"):
        return intrinsic(b, f"llvm.aarch64.neon.tbl1.v{lanes}i8", to, table.held, index.held)
    name = {16: "ssse3.pshuf.b.128", 32: "avx2.pshuf.b", 64: "avx512.pshuf.b.512"}[lanes]
    return intrinsic(b, f"llvm.x86.{name}", to, _emit_repeat(b, table, lanes), index.held)


def _emit_repeat(b: Builder, table: Value, lanes: int) -> Any:
    return b.shuffle_vector(table.held, table.held, _order(tuple(lane % 16 for lane in range(lanes))))


looked_up = Operation(
    "looked_up",
    lambda table, index: table.element * index.lanes,
    _emit_lookup,
    lambda table, index: table[index & 15],
    even=False,
)
