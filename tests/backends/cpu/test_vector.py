"""The vector layer: what an operation emits computes what it means, on every processor of the table that runs here."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eardrop.backends.cpu import maths, operations
from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import Kernel, Variable, kernel, loop, repeat, scratch, when
from eardrop.backends.cpu.target import TABLE, Target, runnable
from eardrop.backends.cpu.types import BF16, F16, F32, I8, I16, I32, I64, PTR, U8, U16, U32, Type
from eardrop.backends.cpu.vector import Value, const, zero

rng = np.random.default_rng(11)
EDGES = {
    "f": [0.0, -0.0, 1.0, -1.5, 3.4e38, 1e-38, 1e-45, np.inf, -np.inf, np.nan],
    "i": [0, 1, -1, 127, -128],
    "u": [0, 1, 127, 128, 255],
}


def samples(type_: Type) -> np.ndarray:
    """Lanes of a type: edges first, then anything."""
    kind = type_.numpy.kind
    count = type_.lanes
    if kind == "f":
        values = rng.standard_normal(count) * 10.0 ** rng.integers(-3, 4, count)
    else:
        info = np.iinfo(type_.numpy)
        values = rng.integers(info.min, info.max, count, endpoint=True)
    with np.errstate(all="ignore"):
        values = values.astype(type_.numpy)
        edges = np.array(EDGES[kind]).astype(type_.numpy)[:count]
    values[: len(edges)] = edges
    return values


def dot4_to(most: int) -> Callable[..., Value]:
    """Products of x & most, and twice as many as fit a word."""

    def dots(x: Value, y: Value, acc: Value) -> Value:
        sums = maths.Dots(acc, most=most)
        for _ in range(2 * (2**15 // (2 * most * 127))):
            sums.add(x & most, maths.larger(y, -127))
        return sums.total()

    return dots


Case = tuple[str, tuple[Type, ...], Type, Callable[..., Value]]
FLOATS, WORDS, BYTES = F32 * 16, I32 * 16, U8 * 64
CASES: list[Case] = [
    *((f"{name} f32", (FLOATS, FLOATS), FLOATS, op) for name, op in (
        ("add", operations.add), ("sub", operations.sub), ("mul", operations.mul), ("div", operations.div),
        ("smaller", maths.smaller), ("larger", maths.larger),
    )),
    *((f"{name} i32", (WORDS, WORDS), WORDS, op) for name, op in (
        ("add", operations.add), ("sub", operations.sub), ("mul", operations.mul), ("and", operations.and_),
        ("or", operations.or_),
        ("xor", operations.xor), ("smaller", maths.smaller),
    )),
    ("bf16 from f32", (FLOATS,), BF16 * 16, lambda x: maths.narrowed(x, BF16)),
    ("neg f32", (FLOATS,), FLOATS, lambda x: -x),
    ("fma", (FLOATS, FLOATS, FLOATS), FLOATS, maths.fma),
    ("sqrt", (FLOATS,), FLOATS, lambda x: operations.sqrt(operations.absolute(x))),
    ("shift left", (WORDS,), WORDS, lambda x: x << 3),
    ("shift right signed", (WORDS,), WORDS, lambda x: x >> 5),
    ("shift right unsigned", (U32 * 16,), U32 * 16, lambda x: x >> 5),
    ("shift words", (U16 * 32,), U16 * 32, lambda x: x >> 4),
    ("select less f32", (FLOATS, FLOATS), FLOATS, lambda x, y: operations.select(x < y, x, y)),
    ("select less u8", (BYTES, BYTES), BYTES, lambda x, y: operations.select(x < y, x, y)),
    ("select equal i8", (I8 * 64, I8 * 64), I8 * 64, lambda x, y: operations.select(x == y, x, zero(x.type))),
    ("widen u8", (U8 * 16,), WORDS, lambda x: x.to(I32)),
    ("widen i8", (I8 * 16,), WORDS, lambda x: x.to(I32)),
    ("narrow i32", (WORDS,), I8 * 16, lambda x: x.to(I8)),
    ("float of i32", (WORDS,), FLOATS, lambda x: x.to(F32)),
    ("float of u8", (U8 * 16,), FLOATS, lambda x: x.to(F32)),
    ("half", (F16 * 16,), FLOATS, maths.widened),
    ("bfloat16", (BF16 * 16,), FLOATS, maths.widened),
    ("bits", (FLOATS,), BYTES, lambda x: x.bits(BYTES)),
    ("shuffle", (WORDS, WORDS), WORDS, lambda x, y: operations.shuffle(x, y, order=(31, 0, 16, 5) * 4)),
    ("lanes", (BYTES,), U8 * 4, lambda x: x.lanes(63, 0, 17, 5)),
    ("joined", (U8 * 16, U8 * 16, U8 * 16, U8 * 16), BYTES, maths.joined),
    ("spread", (FLOATS,), FLOATS, lambda x: x.lanes(3).spread(16)),
    ("number", (FLOATS,), FLOATS, lambda x: x * 0.5 + 3),
    ("total", (FLOATS,), F32, lambda x: maths.total(operations.select(x < 1e30, x, x))),
    ("lookup", (U8 * 16, BYTES), BYTES, lambda table, x: maths.lookup(table, x & 15)),
    ("lookup signed", (I8 * 16, BYTES), I8 * 64, lambda table, x: maths.lookup(table, x & 15)),
    *((f"dot4 to {most}", (BYTES, I8 * 64, WORDS), WORDS, dot4_to(most)) for most in (3, 63, 127)),
    ("rounded", (FLOATS,), WORDS, lambda x: maths.rounded(maths.smaller(maths.larger(x, -1e6), 1e6))),
]  # fmt: skip


def as_kernel(case: Case) -> Kernel:
    name, operands, result, function = case

    @kernel(f"test {name}".replace(" ", "_"), x=PTR, y=PTR)
    def body(p: Any, lo: Value, hi: Value) -> None:
        at, values = 0, []
        for type_ in operands:
            values.append(p.x.load(type_, at))
            at += type_.nbytes
        found = function(*values)
        assert found.type == result
        p.y.store(found)

    return body


def native(compiler: Compiler, kernel_: Kernel) -> Callable[..., None]:
    address = compiler.address(kernel_)
    code = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)

    def run(arguments: list[int], lo: int, hi: int) -> None:
        words = np.array(arguments, np.int64)
        code(words.ctypes.data, lo, hi)

    return run


@pytest.fixture(scope="module", params=runnable(), ids=lambda row: row.name)
def compiler(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return Compiler(request.param, tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_emitted_code_computes_what_the_operation_means(compiler: Compiler, case: Case) -> None:
    _, operands, result, _ = case
    run = native(compiler, as_kernel(case))
    for _ in range(20):
        given = np.concatenate([samples(type_).view(np.uint8) for type_ in operands])
        got, meant = np.zeros((2, result.nbytes), np.uint8)
        run([given.ctypes.data, got.ctypes.data], 0, 1)
        as_kernel(case).interpret([given.ctypes.data, meant.ctypes.data], 0, 1, compiler.target)
        np.testing.assert_array_equal(got.view(result.numpy), meant.view(result.numpy))


# What only some processors have, and only they are asked for.
RARE: list[Case] = [
    ("pairs_u8_i8", (BYTES, I8 * 64), I16 * 32, operations.pairs_u8_i8),
    ("add_pairs", (I16 * 32,), WORDS, operations.add_pairs),
    ("signed_by", (I8 * 64, I8 * 64), I8 * 64, operations.signed_by),
    ("dot_u8_i8", (BYTES, I8 * 64, WORDS), WORDS, operations.dot_u8_i8),
    ("dot_i8_i8", (I8 * 64, I8 * 64, WORDS), WORDS, operations.dot_i8_i8),
]


def of_a_register(case: Case, target: Target) -> Case:
    name, operands, result, function = case
    times = 64 // target.vector_bytes
    *narrower, result = (type_ * (type_.lanes // times) for type_ in (*operands, result))
    return name, tuple(narrower), result, function


@pytest.mark.parametrize("case", RARE, ids=lambda case: case[0])
def test_rare_instructions_compute_what_they_mean(compiler: Compiler, case: Case) -> None:
    if not compiler.target.has(case[0]):
        pytest.skip("this processor has no such instruction")
    test_emitted_code_computes_what_the_operation_means(compiler, of_a_register(case, compiler.target))


@pytest.mark.parametrize("most", [127, 128])
def test_signed_bytes_are_multiplied_exactly(compiler: Compiler, most: int) -> None:
    if compiler.target.has("dot_u8_i8"):
        pytest.skip("this processor is given unsigned bytes")
    operands, extreme = (I8 * 64, I8 * 64, WORDS), np.full(64, -127, np.int8)

    def dots(x: Value, y: Value, acc: Value) -> Value:
        return maths.dot4(maths.larger(x, -most), maths.larger(y, -127), acc, most=most)

    test_emitted_code_computes_what_the_operation_means(compiler, (f"signed dot4 to {most}", operands, WORDS, dots))
    x, acc = np.full(64, -most, np.int8), np.zeros(16, np.int32)
    run = native(compiler, as_kernel((f"signed dot4 of {most}", operands, WORDS, dots)))
    for y in (extreme, -extreme):
        given, got = np.concatenate([part.view(np.uint8) for part in (x, y, acc)]), np.zeros(16, np.int32)
        run([given.ctypes.data, got.ctypes.data], 0, 1)
        np.testing.assert_array_equal(got, 4 * int(x[0]) * int(y[0]))


def test_products_of_bfloat16_are_what_the_instruction_gives(compiler: Compiler) -> None:
    if not compiler.target.has("dot_bf16"):
        pytest.skip("this processor has no such instruction")

    @kernel("dot_bf16_of", x=PTR, y=PTR, acc=PTR, out=PTR)
    def body(p: Any, lo: Value, hi: Value) -> None:
        x, y = (part.load(BF16 * 32) for part in (p.x, p.y))
        p.out.store(operations.dot_bf16(x, y, p.acc.load(FLOATS)))

    run = native(compiler, body)
    for _ in range(100):
        x, y = (samples(F32 * 32).view(np.uint32) >> 16 for _ in range(2))
        x, y = (part.astype(np.uint16) for part in (x, y))
        acc = samples(FLOATS)
        got, meant = np.zeros((2, 16), np.float32)
        run([part.ctypes.data for part in (x, y, acc, got)], 0, 1)
        body.interpret([part.ctypes.data for part in (x, y, acc, meant)], 0, 1, compiler.target)
        np.testing.assert_array_equal(got, meant)


def test_halves_of_every_kind_are_widened_exactly(compiler: Compiler) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    got = np.zeros(2**16, np.float32)

    @kernel("every_half", x=PTR, y=PTR)
    def body(p: Any, lo: Value, hi: Value) -> None:
        for i in loop(lo, hi):
            p.y.store(maths.widened(p.x.load(F16 * 16, i * 32)), i * 64)

    native(compiler, body)([every.ctypes.data, got.ctypes.data], 0, 2**12)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, every.astype(np.float32))


@pytest.mark.parametrize("type_", [FLOATS, WORDS, U8 * 16, U16 * 16, I64 * 16], ids=repr)
def test_the_first_lanes_alone_are_read_and_written(compiler: Compiler, type_: Type) -> None:
    @kernel(f"test_first_{type_}", x=PTR, y=PTR, n=I64)
    def body(p: Any, lo: Value, hi: Value) -> None:
        found = operations.load_first(p.x, p.n, const(type_, 7))
        (p.y + type_.nbytes).store(found)
        operations.store_first(p.y, p.n, found)

    given, run = samples(type_), native(compiler, body)
    for n in (-1, 0, 1, 5, 15, 16, 17):
        got, meant = np.full((2, 2, type_.lanes), 3, type_.numpy)
        run([given[max(0, type_.lanes - n) :].ctypes.data, got.ctypes.data, n], 0, 1)
        body.interpret([given[max(0, type_.lanes - n) :].ctypes.data, meant.ctypes.data, n], 0, 1, compiler.target)
        np.testing.assert_array_equal(got, meant)
        some = min(max(n, 0), type_.lanes)
        np.testing.assert_array_equal(got[0, some:], 3)
        np.testing.assert_array_equal(got[1, some:], 7)
        np.testing.assert_array_equal(got[:, :some], np.stack([given[max(0, type_.lanes - n) :][:some]] * 2))


@kernel("control", n=I64, y=PTR)
def control(p: Any, lo: Value, hi: Value) -> None:
    """Loops in loops, variables, conditions and scratch memory."""
    odd, room = Variable(const(I64, 0)), scratch(64)
    for i in loop(lo, hi, 2):
        room.store(zero(I64), 0)
        for j in loop(0, i):
            for _ in when(j < p.n):
                room.store(room.load(I64) + j)
        odd.value = odd.value * 3 + room.load(I64)
    count = Variable(const(I64, 0))
    for _ in repeat(lambda: count.value * count.value < odd.value):
        count.value = count.value + 1
    p.y.store(odd.value)
    p.y.store(count.value, 8)


@pytest.mark.parametrize(("lo", "hi", "n"), [(0, 0, 3), (0, 1, 3), (1, 9, 4), (3, 12, 0), (5, 4, 1)])
def test_loops_conditions_and_variables_do_what_they_say(compiler: Compiler, lo: int, hi: int, n: int) -> None:
    got, meant = np.zeros((2, 2), np.int64)
    native(compiler, control)([n, got.ctypes.data], lo, hi)
    control.interpret([n, meant.ctypes.data], lo, hi, compiler.target)
    expected = 0
    for i in range(lo, hi, 2):
        expected = expected * 3 + sum(j for j in range(i) if j < n)
    assert got.tolist() == meant.tolist()
    assert got[0] == expected
    assert got[1] == int(np.ceil(np.sqrt(expected)))


def test_numbers_that_don_t_fit_a_float_are_not_spread_into_addresses(compiler: Compiler) -> None:
    @kernel("moved", x=PTR, y=PTR)
    def body(p: Any, lo: Value, hi: Value) -> None:
        p.y.store((p.x + lo * 4 + 4).load(I32), 0)

    given, got = np.arange(10, dtype=np.int32), np.zeros(1, np.int32)
    native(compiler, body)([given.ctypes.data, got.ctypes.data], 3, 4)
    assert got[0] == 4


def test_table_names_each_processor_once_and_its_needs_include_its_features() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert all(set(row.features) <= set(row.needs) for row in TABLE)


def test_instructions_are_the_ones_meant(compiler: Compiler) -> None:
    from llvmlite import binding as llvm

    from eardrop.backends.cpu.codegen import assembled, optimize, target_machine

    case = next(case for case in CASES if case[0] == "dot4 to 127")
    module = llvm.parse_assembly(assembled([as_kernel(case)], compiler.target))
    optimize(module, target_machine(compiler.target))
    text = target_machine(compiler.target).emit_assembly(module)
    assert ("vpdpbusd" in text) == compiler.target.has("dot_u8_i8")
    assert ("vpmaddubsw" in text) == compiler.target.has("pairs_u8_i8")
    assert ("zmm" in text) == (compiler.target.vector_bytes == 64)
