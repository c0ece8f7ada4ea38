"""Blocks are unpacked on the device to the file's values, bit for bit, whatever rows are asked for."""

import numpy as np
import pytest

from eardrop.gguf import FORMATS, GgufTensor
from eardrop.ops.backend import Backend
from eardrop.ops.linear import BLOCKED, random_weight

COMPUTED = [form for form in FORMATS.values() if form.dequantize and form.block > 1]


@pytest.mark.parametrize("name", [form.name for form in COMPUTED])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of MXFP4 random exponents overflow, as they should
def test_a_weights_values_are_the_files_bit_for_bit(cuda: Backend, name: str) -> None:
    tensor = weight(name)
    w = cuda.weight(tensor)
    np.testing.assert_array_equal(cuda.download(w), tensor.dequantize())
    ids = np.array([6, 0, 6, 3], np.int32)
    np.testing.assert_array_equal(cuda.download(cuda.embed(cuda.upload(ids), w)), tensor.dequantize()[ids])


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", *BLOCKED])
def test_a_weight_takes_as_many_bytes_as_in_its_file(cuda: Backend, name: str) -> None:
    tensor = random_weight(np.random.default_rng(2), name, 7, 512)
    assert cuda.weight(tensor).nbytes == tensor.nbytes


def test_formats_whose_values_a_kernel_makes_are_those_that_files_hold() -> None:
    pytest.importorskip("triton")
    from eardrop.backends.cuda.unpack import ROWS

    assert {form.name for form in COMPUTED} - set(ROWS) == {"Q8_1", "Q8_K", "TQ1_0"}  # expanded when they are loaded
    assert set(BLOCKED) <= set(ROWS)


@pytest.mark.parametrize("scale", [0x0000, 0x8000, 0x0001, 0x7BFF, 0x7C00])
@pytest.mark.parametrize("name", ["Q4_0", "Q6_K", "Q4_K"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # inf · 0 is the NaN that ggml computes, too
def test_odd_scales_give_the_reference_values(cuda: Backend, name: str, scale: int) -> None:
    tensor = weight(name)
    blocks = np.array(tensor.raw).view(tensor.format.layout)
    blocks["scale"] = np.array(scale, np.uint16).view(np.float16)
    odd = GgufTensor("w", tensor.shape, tensor.format, blocks.view(np.uint8).reshape(len(tensor.raw), -1))
    np.testing.assert_array_equal(cuda.download(cuda.weight(odd)), odd.dequantize())


def weight(name: str) -> GgufTensor:
    """Seven rows of one or a few blocks of a format, scales of any size where they aren't halves."""
    form = next(form for form in COMPUTED if form.name == name)
    columns = form.block * (3 if form.block < 256 else 1)
    if name == "Q8_K":  # its scale is a float32, which random bits may make anything
        return GgufTensor("w", (7, columns), form, np.zeros((7, form.row_bytes(columns)), np.uint8))
    return random_weight(np.random.default_rng(1), name, 7, columns)
