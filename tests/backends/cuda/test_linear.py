"""Products on CUDA: three ways by the number of rows, which agree where they meet."""

import numpy as np
import pytest

from eardrop.backends import BACKENDS
from eardrop.gguf import BF16, F16, F32
from eardrop.ops import OPS, Arithmetic
from eardrop.ops.backend import Backend
from eardrop.ops.check import difference
from eardrop.ops.linear import BLOCKED, random_weight

TOLERANCE = OPS["linear"].tolerance
ROWS = (1, 4, 5, 16, 17, 128, 129)  # around FEW and SOME


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", *BLOCKED])
def test_every_number_of_rows_gives_the_reference_product(cuda: Backend, name: str) -> None:
    rng = np.random.default_rng(7)
    tensor = random_weight(rng, name, 37, 512)
    w, bias = cuda.weight(tensor), rng.standard_normal(37, dtype=np.float32)
    x = rng.standard_normal((max(ROWS), 512), dtype=np.float32)
    for rows in ROWS:
        got = cuda.download(cuda.linear(cuda.upload(x[:rows]), w, cuda.upload(bias), "silu"))
        expected = OPS["linear"].reference(x[:rows], tensor.dequantize(), bias, "silu")
        assert difference(got, expected, TOLERANCE[cuda.arithmetic(tensor.format)]) is None, rows


def test_few_rows_are_multiplied_exactly_whatever_the_weight(cuda: Backend) -> None:
    for name in ("F16", "Q4_0"):
        tensor = random_weight(np.random.default_rng(3), name, 33, 256)
        x = np.random.default_rng(4).standard_normal((2, 256), dtype=np.float32)
        got = cuda.download(cuda.linear(cuda.upload(x), cuda.weight(tensor)))
        assert difference(got, x @ tensor.dequantize().T, TOLERANCE[Arithmetic.FLOAT32]) is None


def test_no_rows_give_no_rows(cuda: Backend) -> None:
    w = cuda.weight(random_weight(np.random.default_rng(3), "Q4_0", 33, 256))
    assert cuda.linear(cuda.upload(np.zeros((0, 256), np.float32)), w).shape == (0, 33)


def test_arithmetic_is_that_of_the_weight_or_what_was_asked_for(cuda: Backend) -> None:
    kinds = {F32: Arithmetic.FLOAT32, F16: Arithmetic.FLOAT16, BF16: Arithmetic.BFLOAT16}
    assert {form: cuda.arithmetic(form) for form in kinds} == kinds
    rounded = BACKENDS["cuda"].make(precision="bf16")
    assert {rounded.arithmetic(form) for form in kinds} == {Arithmetic.BFLOAT16}
    x = np.random.default_rng(4).standard_normal((129, 256), dtype=np.float32)
    for name in ("F32", "F16", "Q8_0"):
        tensor = random_weight(np.random.default_rng(3), name, 33, 256)
        got = rounded.download(rounded.linear(rounded.upload(x), rounded.weight(tensor)))
        exact = x @ tensor.dequantize().T
        assert difference(got, exact, TOLERANCE[Arithmetic.BFLOAT16]) is None
        assert difference(got, exact, TOLERANCE[Arithmetic.FLOAT32]) is not None


def test_copies_are_kept_as_long_as_there_is_memory_for_them(cuda: Backend) -> None:
    from eardrop.backends.cuda.weight import Copies

    first, second = (cuda.weight(random_weight(np.random.default_rng(n), "Q4_0", 8, 64)) for n in (1, 2))
    copies = Copies(budget=first.shape[0] * first.shape[1] * 2)
    assert copies.of(first) is copies.of(first)
    assert copies.of(second) is not copies.of(second)
    half = cuda.weight(random_weight(np.random.default_rng(3), "F16", 8, 64))
    assert Copies(0).of(half) is half.data


def test_copies_take_as_much_memory_as_was_said(cuda: Backend) -> None:
    x, w = (
        cuda.upload(np.ones((129, 64), np.float32)),
        cuda.weight(random_weight(np.random.default_rng(1), "Q4_0", 8, 64)),
    )
    for memory, kept in ((0, 0), (8 * 64 * 2 - 1, 0), (8 * 64 * 2, 1)):
        backend = BACKENDS["cuda"].make(gpu_memory=memory)
        backend.linear(x, w)
        assert len(backend.copies) == kept
