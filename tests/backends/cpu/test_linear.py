"""Products with quantised weights: every format on every processor, bit for bit the same however they are cut."""

from collections.abc import Iterator

import numpy as np
import pytest

from eardrop.backends.cpu.backend import CpuBackend
from eardrop.backends.cpu.products import MOST_EXACT_ROWS
from eardrop.backends.cpu.target import runnable
from eardrop.backends.cpu.unpack import UNPACKINGS
from eardrop.backends.numpy import NumpyBackend
from eardrop.errors import OptionError
from eardrop.gguf import GgufTensor
from eardrop.ops import OPS
from eardrop.ops.check import arithmetic_of, difference, meant, placed
from eardrop.ops.linear import random_weight
from tests.backends.cpu.poison import poison_results

FORMATS = ("F32", "F16", "BF16", *UNPACKINGS)
LINEAR = OPS["linear"]


@pytest.fixture(scope="module", params=runnable(), ids=lambda row: row.name)
def backend(request: pytest.FixtureRequest) -> Iterator[CpuBackend]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARDROP_CPU", request.param.name)
        yield CpuBackend(threads=2)


def weight(name: str, rows: int = 37, columns: int = 512) -> GgufTensor:
    return random_weight(np.random.default_rng(5), name, rows, columns)


def inputs(rows: int, columns: int = 512) -> np.ndarray:
    x = np.random.default_rng(rows).standard_normal((rows, columns), dtype=np.float32)
    x[0, :40] = 0  # a block of nothing, and a part of one
    return x


def test_every_processor_gives_what_the_reference_means(backend: CpuBackend) -> None:
    for case in LINEAR.cases(np.random.default_rng(3)):
        (expected,) = meant(LINEAR, placed(NumpyBackend(), LINEAR, case))
        got = backend.linear(**placed(backend, LINEAR, case))
        tolerance = LINEAR.tolerance[arithmetic_of(backend, LINEAR, case.arguments)]
        assert difference(got, expected, tolerance) is None, case.label


WAYS = [(name, 512) for name in FORMATS] + [(name, 320) for name, ways in UNPACKINGS.items() if ways[-1].values == 64]
LONG = [(name, columns) for name in ("Q4_1", "Q6_K") for columns in (5120, 5120 + 256)]  # stretches of x, and a part


@pytest.mark.parametrize(("name", "columns"), WAYS + LONG)
def test_a_row_among_others_has_the_bits_of_the_row_alone(backend: CpuBackend, name: str, columns: int) -> None:
    w, x = backend.weight(weight(name, 37, columns)), inputs(MOST_EXACT_ROWS, columns)
    alone = np.concatenate([backend.linear(x[i : i + 1], w) for i in range(MOST_EXACT_ROWS)])
    for rows in (2, 3, 5, 8, 10, 11, 15, MOST_EXACT_ROWS):
        np.testing.assert_array_equal(backend.linear(x[:rows], w), alone[:rows])


@pytest.mark.parametrize("rows", [3, 8, 40])
@pytest.mark.parametrize("name", ["F16", "Q4_0", "Q6_K"])
def test_the_number_of_threads_changes_no_bit(name: str, rows: int) -> None:
    x, w = inputs(rows), weight(name, 1001)
    results = []
    for threads in (1, 2, 4):
        backend = CpuBackend(threads)
        results.append(backend.linear(x, backend.weight(w)))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize(("name", "columns"), [(name, columns - 256) for name, columns in WAYS])
def test_compiled_and_interpreted_kernels_agree_bit_for_bit(
    backend: CpuBackend, name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, x = backend.weight(weight(name, 3, columns)), inputs(3, columns)
    compiled = backend.linear(x, w)
    backend.write(np.zeros(1), 0)  # forget what was quantised
    monkeypatch.setenv("EARDROP_JIT", "0")
    np.testing.assert_array_equal(backend.linear(x.copy(), w), compiled)


@pytest.mark.parametrize("rows", [1, 2, 15, 17, 63, 129, 1000])
@pytest.mark.parametrize("count", [2, 25])
def test_every_output_is_written(backend: CpuBackend, rows: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    poison_results(monkeypatch)
    for name in ("F16", "Q8_0"):
        w = weight(name, rows, 256)
        got = backend.linear(inputs(count, 256), backend.weight(w))
        assert np.isfinite(got).all()
        assert got.shape == (count, rows)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("rows", "columns", "out"), [(17, 256, 16), (63, 512, 53), (300, 256, 33)])
def test_panels_give_what_the_exact_path_gives(
    backend: CpuBackend, name: str, rows: int, columns: int, out: int
) -> None:
    w, x = backend.weight(weight(name, out, columns)), inputs(rows, columns)
    bias = np.random.default_rng(1).standard_normal(out, dtype=np.float32)
    exact = np.concatenate([backend.linear(x[i : i + 8], w, bias) for i in range(0, rows, 8)])
    got = backend.linear(x, w, bias)
    np.testing.assert_allclose(got, exact, atol=2e-5 * np.abs(exact).max())


@pytest.mark.parametrize("name", ["F16", "Q4_0", "Q6_K"])
def test_compiled_and_interpreted_panels_agree_bit_for_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = CpuBackend(1)  # of this processor alone: interpreting a panel takes a second
    w, x = backend.weight(weight(name, 16, 256)), inputs(24, 256)
    compiled = backend.linear(x, w)
    monkeypatch.setenv("EARDROP_JIT", "0")
    np.testing.assert_array_equal(backend.linear(x.copy(), w), compiled)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_bfloat16_arithmetic_is_asked_for_and_rounds_to_eight_bits(name: str) -> None:
    w, x, plain = weight(name, 40, 512), inputs(30), CpuBackend(2)
    if not plain.target.has("dot_bf16"):
        with pytest.raises(OptionError, match="precision bf16 needs AVX-512 with BF16"):
            CpuBackend(2, precision="bf16")
        return
    rounding = CpuBackend(2, precision="bf16")
    expected, got = plain.linear(x, plain.weight(w)), rounding.linear(x, rounding.weight(w))
    assert not np.array_equal(got, expected)
    np.testing.assert_allclose(got, expected, atol=2**-8 * np.abs(expected).max())
    np.testing.assert_array_equal(rounding.linear(x[:3], rounding.weight(w)), plain.linear(x[:3], plain.weight(w)))


def test_nothing_is_multiplied_with_no_rows(backend: CpuBackend) -> None:
    assert backend.linear(np.zeros((0, 512), np.float32), backend.weight(weight("Q4_0"))).shape == (0, 37)


def test_widths_without_a_kernel_fall_back_to_the_reference(backend: CpuBackend) -> None:
    w = GgufTensor.from_array("w", np.ones((3, 31), np.float32))
    kept = backend.weight(w)
    assert isinstance(kept, np.ndarray)
    np.testing.assert_allclose(backend.linear(np.ones((2, 31), np.float32), kept), 31)


def test_weights_stay_in_their_file(backend: CpuBackend) -> None:
    for name in FORMATS:
        w = weight(name)
        kept = backend.weight(w)
        assert kept.nbytes == w.nbytes
        assert kept.shape == w.shape
        np.testing.assert_array_equal(backend.download(kept), w.dequantize())
