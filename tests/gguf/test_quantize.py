"""Quantising against ggml: its bytes for awkward values, its recorded errors, and gguf's arithmetic."""

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eardrop.bench.random_weights import Draws
from eardrop.errors import OptionError
from eardrop.gguf import GgufTensor, by_name
from eardrop.gguf.quantize import QUANTIZERS, quantize

Floats = NDArray[np.float32]

BLOCKS = [name for name in QUANTIZERS if by_name(name).block > 1]
IN_GGUF = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]  # gguf can't make the others


def back(x: Floats, name: str) -> Floats:
    """What is left of values."""
    return GgufTensor.from_array("w", x, by_name(name)).dequantize()


def awkward() -> Floats:
    """(20, 1024) values in which every branch is taken, by exact or correctly rounded operations from random bits."""
    draws = Draws(1, 20 * 1024, 0, 20 * 1024)
    u = draws.uniform().reshape(20, 1024)
    steps = np.repeat(draws.ints(-12, 12, 1).reshape(20, 1024)[:, ::16], 16, axis=1)
    x = u * u * u
    x[6:8] = np.ldexp(u[6:8], steps[6:8])  # neighbours of very different size: scales that round to 0
    x[8] = np.abs(u[8])
    x[9] = -np.abs(u[9]) - np.float32(0.5)
    x[10] = u[10] * np.float32(0.0078125) + np.float32(5)  # far from zero
    x[11] = 0
    x[12] = np.float32(0.3)
    x[13] = np.where(u[13] < 0, -1, 1)  # ties for the farthest
    x[14] = np.where(np.abs(u[14]) > 0.97, u[14], 0)
    x[15] = np.rint(u[15] * 4) / 4 + 0  # halves, rounded to even or away from zero
    x[16:18] = np.ldexp(u[16:18], -40)  # below what a half's scale can tell
    x[18, ::256] = 10000
    x[19, :256] = 0
    x[19, 512:528] = np.ldexp(u[19, 512:528], -60)  # nothing, to the fit, beside something
    return x


# Of the blocks that ggml makes of `awkward()`: quantize_row_*_ref of llama.cpp's ggml-quants.c (ggml 0.25.3), compiled
# by GCC 12 -O3 for x86-64.
DIGESTS = {
    "Q8_0": "b9bc6a9c812b50f185a755d2525649d5",
    "Q4_0": "ec6cb969ed1f0f261c575bb9f4904eed",
    "Q4_1": "d40c5056205e0ca78ec8855d5739978f",
    "Q5_0": "93914939d66988c6e9d8a1d476cab2e5",
    "Q5_1": "6eefc11c621c37c896c3260154dcacd9",
    "Q4_K": "5ba72edaa35f4d4fc6959d4cf97e3c7b",
    "Q5_K": "ed7d51df81de92fb0212539e3da30142",
    "Q6_K": "7eb24bf5dc55bd830c79a91dbf81c1b2",
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_blocks_are_ggmls_bit_for_bit(name: str) -> None:
    raw = quantize(awkward(), by_name(name))
    assert hashlib.sha256(raw.tobytes()).hexdigest()[:32] == DIGESTS[name]


@pytest.mark.parametrize("name", BLOCKS)
def test_the_recorded_row_has_the_recorded_bytes(name: str, golden: Path) -> None:
    with (
        np.load(golden / "expected/quant/tensor.npz") as values,
        np.load(golden / f"expected/quant/{name.lower()}.npz") as record,
    ):
        assert np.array_equal(quantize(values["x"][:1], by_name(name))[0], record["quantised_row0"])


@pytest.mark.parametrize("name", ["F16", *BLOCKS])
def test_the_error_is_at_most_a_hundredth_above_the_recorded_one(name: str, golden: Path) -> None:
    recorded = json.loads((golden / "expected/quant/rmse.json").read_text(encoding="utf-8"))[name]
    with np.load(golden / "expected/quant/tensor.npz") as values:
        error = back(values["x"], name).astype(float) - values["x"]
    assert np.sqrt(np.mean(error**2)) <= 1.01 * recorded["rmse"]
    assert np.abs(error).max() <= 1.01 * recorded["max_abs"]


@pytest.mark.parametrize("name", IN_GGUF)
def test_gguf_makes_the_same_blocks(name: str) -> None:
    x = np.random.default_rng(7).standard_t(3, (50, 256)).astype(np.float32)
    for values in (x, x.astype(np.float16).astype(np.float32), np.abs(x), awkward()):
        theirs = gguf.quants.quantize(values, gguf.GGMLQuantizationType[name])
        assert np.array_equal(quantize(values, by_name(name)), theirs.view(np.uint8))


def test_eight_bits_round_halves_away_from_zero_and_what_is_less_towards_it() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0))
    x = np.zeros((1, 32), np.float32)
    x[0, :8] = [127, below, -below, 0.5, -0.5, 1.5, 2.5, -2.5]
    assert back(x, "Q8_0")[0, :8].tolist() == [127, 0, 0, 1, -1, 2, 3, -3]


# The largest error, as a share of the farthest value of a block: one step where the range ends, half of one within,
# and in the K formats the rounding of the scales to 6 or 8 bits besides.
STEPS = {
    "Q8_0": 0.5 / 127, "Q4_0": 1 / 8, "Q4_1": 1 / 15, "Q5_0": 1 / 16, "Q5_1": 1 / 31,
    "Q4_K": 2 / 15 + 2 / 63, "Q5_K": 2 / 31 + 2 / 63, "Q6_K": 1 / 16,
}  # fmt: skip
HALF = 2.0**-9  # the scale itself is rounded, and so are products of it

VALUES = st.one_of(st.just(0.0), st.floats(2.0**-8, 60000, width=32), st.floats(-60000, -(2.0**-8), width=32))


@given(st.lists(VALUES, min_size=1, max_size=6), st.integers(0, 1 << 16))
@settings(max_examples=40, deadline=None)
def test_no_value_moves_by_more_than_a_step(few: list[float], seed: int) -> None:
    x = np.random.default_rng(seed).choice(np.array(few, np.float32), (1, 256))
    for name in BLOCKS:
        blocks = x.reshape(-1, by_name(name).block)
        error = np.abs(back(x, name).reshape(blocks.shape) - blocks)
        assert (error.max(axis=1) <= np.abs(blocks).max(axis=1) * (STEPS[name] + HALF)).all(), name


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_zeros_stay_zeros(name: str) -> None:
    assert not back(np.zeros((3, 512), np.float32), name).any()


@pytest.mark.parametrize("name", BLOCKS)
def test_values_too_large_for_a_scale_come_out_as_no_numbers_and_nothing_else(name: str) -> None:
    assert not np.isfinite(back(np.full((1, 256), 1e12, np.float32), name)).all()


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_a_block_does_not_depend_on_its_neighbours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = awkward()
    whole = quantize(x, by_name(name))
    monkeypatch.setattr("eardrop.gguf.quantize.STRIP", 2048)
    assert np.array_equal(quantize(x, by_name(name)), whole)
    assert np.array_equal(quantize(x[3:4, 256:512], by_name(name)), quantize(x[3:4], by_name(name))[:, piece(name)])


def piece(name: str) -> slice:
    """The bytes of the values 256 … 512."""
    return slice(by_name(name).row_bytes(256), by_name(name).row_bytes(512))


@pytest.mark.parametrize("name", list(QUANTIZERS))
@pytest.mark.parametrize("shape", [(0, 256), (1, 0), (2, 3, 256)])
def test_empty_arrays_and_arrays_of_many_dimensions_become_tensors(name: str, shape: tuple[int, ...]) -> None:
    assert back(np.ones(shape, np.float32), name).shape == shape


def test_a_format_that_nothing_is_quantized_to_is_refused_with_those_there_are() -> None:
    with pytest.raises(OptionError, match=r"quantized to IQ4_NL.*Q4_K"):
        quantize(np.zeros((1, 32), np.float32), by_name("IQ4_NL"))
