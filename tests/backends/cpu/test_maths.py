"""Functions of float32 against float64: over the whole range, on every processor, two units of the last place."""

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eardrop.backends.cpu import maths
from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import Kernel, kernel, loop
from eardrop.backends.cpu.target import Target, runnable
from eardrop.backends.cpu.types import F16, F32, PTR
from eardrop.backends.cpu.vector import Value

LANES = 16


@pytest.fixture(scope="module", params=runnable(), ids=lambda row: row.name)
def compiler(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return Compiler(request.param, tmp_path_factory.mktemp("kernels"))


def lanewise(name: str, function: Callable[[Value], Value]) -> Kernel:
    @kernel(f"test_{name}", x=PTR, y=PTR)
    def body(p: Any, lo: Value, hi: Value) -> None:
        for i in loop(lo, hi):
            y = function(p.x.load(F32 * LANES, i * LANES * 4))
            p.y.store(y, i * y.type.nbytes)

    return body


def compiled(compiler: Compiler, kernel_: Kernel, x: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    y = np.empty(len(x), dtype)
    words = np.array([x.ctypes.data, y.ctypes.data], np.int64)
    code = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(compiler.address(kernel_))
    code(words.ctypes.data, 0, len(x) // LANES)
    return y


def interpreted(target: Target, kernel_: Kernel, x: np.ndarray) -> np.ndarray:
    y = np.empty(len(x), np.float32)
    kernel_.interpret([x.ctypes.data, y.ctypes.data], 0, len(x) // LANES, target)
    return y


def every(step: int = 16_411) -> np.ndarray:
    """float32 of all sizes and both signs: each `step`-th of their bits, and what is special."""
    bits = np.arange(0, 2**32, step, dtype=np.uint32)
    special = [0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 88.722839, 88.72284, -103.97, -104.0, 5.0]
    x = np.concatenate([np.array(special, np.float32), bits.view(np.float32)])
    return np.ascontiguousarray(x[: len(x) // LANES * LANES])


def ulps(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """How far apart, in units of the exact value's last place; 0 where both are the same infinity or no number."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        unit = np.spacing(np.minimum(np.abs(rounded), np.finfo(np.float32).max)).astype(np.float64)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        return np.where(same, 0.0, np.abs(got.astype(np.float64) - exact) / unit)


def exact_sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, np.where(np.isnan(x), np.nan, 1.0)) / (1 + small)


def exact_erf(x: np.ndarray) -> np.ndarray:
    return np.frompyfunc(math.erf, 1, 1)(x).astype(np.float64)


FUNCTIONS: dict[str, tuple[Callable[[Value], Value], Callable[[np.ndarray], Any], float]] = {
    "exp": (maths.exp, np.exp, 1.0),
    "log": (maths.log, np.log, 1.5),
    "sigmoid": (maths.sigmoid, exact_sigmoid, 2.1),  # exp's, a sum's and a quotient's
    "erf": (maths.erf, exact_erf, 1.5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_to_about_two_units_of_the_last_place(compiler: Compiler, name: str) -> None:
    function, exact, bound = FUNCTIONS[name]
    x = every()
    with np.errstate(all="ignore"):
        apart = ulps(compiled(compiler, lanewise(name, function), x), exact(x.astype(np.float64)))
    worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
    assert apart[worst] <= bound, (float(x[worst]), apart[worst])


def test_log1p_keeps_what_is_next_to_nothing(compiler: Compiler) -> None:
    x = np.geomspace(1e-30, 1e6, 1600).astype(np.float32)
    apart = ulps(compiled(compiler, lanewise("log1p", maths.log1p), x), np.log1p(x.astype(np.float64)))
    assert apart.max() <= 3.0


def test_sines_and_cosines_of_parts_of_a_turn(compiler: Compiler) -> None:
    turns = np.linspace(-0.5, 0.5, 16_000).astype(np.float32)
    for name, which, exact in (("sine", 0, np.sin), ("cosine", 1, np.cos)):
        found = compiled(compiler, lanewise(name, lambda x, which=which: maths.sine_and_cosine(x)[which]), turns)
        np.testing.assert_allclose(found, exact(2 * np.pi * turns.astype(np.float64)), atol=1.5e-7)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_interpreted_functions_have_the_same_bits(compiler: Compiler, name: str) -> None:
    body, x = lanewise(name, FUNCTIONS[name][0]), every(4_000_037)
    np.testing.assert_array_equal(interpreted(compiler.target, body, x), compiled(compiler, body, x))


def test_floats_are_narrowed_as_numpy_narrows_them(compiler: Compiler) -> None:
    body = lanewise("narrowed", lambda x: maths.narrowed(x, F16))
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(all="ignore"):
        between = np.nextafter(halves, np.float32(0)), (halves[:-1] + halves[1:]) / 2
        x = np.concatenate([halves, *between, every(65_537)])
        x = np.ascontiguousarray(x[: len(x) // LANES * LANES])
        np.testing.assert_array_equal(compiled(compiler, body, x, np.float16), x.astype(np.float16))
