"""Block formats against ggml: its published sizes, its own values of many blocks, and gguf's arithmetic."""

import itertools
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from eardrop.errors import ModelFileError, OptionError
from eardrop.gguf import FORMATS, BlockFormat, GgufTensor, by_name, from_bf16, to_bf16

COMPUTED = [form for form in FORMATS.values() if form.dequantize is not None]
OURS_ALONE = {"F64", "I8", "I16", "Q8_1", "Q8_K"}  # gguf computes no values of these

# gguf still has an old Q8_1 with two floats; which of the newest formats it knows depends on its version
IN_GGUF = [f for f in FORMATS.values() if f.ggml_id in set(gguf.GGMLQuantizationType) and f.name != "Q8_1"]
RECORDED = [form.name.lower() for form in COMPUTED if form.block > 1 and form.name not in {"Q8_1", "Q8_K", "NVFP4"}]


def values(form: BlockFormat, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    assert form.dequantize is not None
    return form.dequantize(raw.reshape(-1).view(form.layout))


def same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Equal to the sign of zero; of NaN only that it is one."""
    assert a.dtype == b.dtype == np.float32
    a, b = a.reshape(-1), b.reshape(-1)
    return bool(((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))).all())


@pytest.mark.parametrize("form", IN_GGUF, ids=str)
def test_block_sizes_are_the_published_ones(form: BlockFormat) -> None:
    kind = gguf.GGMLQuantizationType(form.ggml_id)
    assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (form.name, (form.block, form.block_bytes))


@pytest.mark.parametrize(
    ("name", "size"), [("Q8_1", (32, 36)), ("Q2_0", (64, 18)), ("MXFP4", (32, 17)), ("NVFP4", (64, 36))]
)
def test_block_sizes_that_gguf_gets_wrong_or_lacks_are_those_of_ggml(name: str, size: tuple[int, int]) -> None:
    assert (by_name(name).block, by_name(name).block_bytes) == size


def test_no_published_format_is_missing() -> None:
    assert {int(kind) for kind in gguf.GGMLQuantizationType} <= FORMATS.keys()


@pytest.mark.parametrize("form", [f for f in COMPUTED if f in IN_GGUF and f.name not in OURS_ALONE], ids=str)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")  # gguf's own
def test_random_bits_have_the_values_that_gguf_computes(form: BlockFormat) -> None:
    raw = np.random.default_rng(form.ggml_id).integers(0, 256, (400, form.block_bytes), np.uint8)
    theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(form.ggml_id))
    assert same_bits(values(form, raw), theirs)


@pytest.mark.parametrize("name", RECORDED)
def test_ggml_computes_the_same_bits(name: str, golden: Path) -> None:
    with np.load(golden / "expected" / "quant" / f"{name}.npz") as record:
        assert same_bits(values(by_name(name), record["raw"]), record["y"])


# Byte i is (73 i + 41) mod 256, then the scales are overwritten: y[0], y[1], y[16], y[last], sum, sum of magnitudes.
VECTORS = {
    "Q4_0": (1.5, -2, 1.5, -4, -16.5, 65.5),
    "Q4_1": (5.25, 1.75, 0.75, 3.25, 72.5, 83),
    "Q5_0": (7.5, 4, 6.5, 1, -22.5, 157.5),
    "Q5_1": (7.25, 3.75, 10.25, 4.25, 210.5, 215.5),
    "Q8_0": (-34.5, 2, 37.5, -55, -24, 1009),
    "Q2_K": (4, 8.5, -0.75, -1.75, 1021.5, 1290.5),
    "Q3_K": (-3.5, 7, 1, -12, 117, 3754),
    "Q4_K": (46.25, 0.75, 46.25, -5.75, 26676, 27233),
    "Q5_K": (150.25, 0.75, 150.25, -5.75, 55036, 55470.5),
    "Q6_K": (80.5, -23, -175, 144, -7422, 130016),
    "IQ4_NL": (19, -24.5, 19, -63.5, -240.5, 919.5),
    "IQ4_XS": (-1508, 362.5, -145, -375, -3225, 122132),
    "TQ1_0": (-0.5, 0, 0.5, 0.5, -7.5, 87.5),
    "TQ2_0": (0, 0.5, 0, -0.5, 62.5, 125.5),
    "MXFP4": (1, -1.5, 6, -1.5, 12.5, 71.5),
    "NVFP4": (-3, 4, 6, 0.013671875, 15.623046875, 115.923828125),
}


@pytest.mark.parametrize("name", VECTORS)
def test_one_known_block_has_its_known_values(name: str) -> None:
    form = by_name(name)
    block = ((73 * np.arange(form.block_bytes) + 41) % 256).astype(np.uint8).view(form.layout)
    fixed = {"scale": 0.5, "minimum": 0.25 if name.endswith("_K") else -1.25, "exponent": 127}
    for field in fixed.keys() & set(form.layout.names or ()):
        block[field] = fixed[field]
    if name == "NVFP4":
        block["scales"] = [0x38, 0x40, 0x30, 0x07]
    y = values(form, block.view(np.uint8))[0]
    assert (y[0], y[1], y[16], y[-1], y.sum(dtype=float), np.abs(y).sum(dtype=float)) == VECTORS[name]


@pytest.mark.parametrize("form", COMPUTED, ids=str)
def test_no_blocks_have_no_values(form: BlockFormat) -> None:
    assert values(form, np.empty(0, np.uint8)).shape == (0, form.block)


def test_a_listed_format_is_refused_by_name_when_its_values_are_wanted() -> None:
    form = by_name("IQ2_S")
    tensor = GgufTensor("blk.0.ffn_up.weight", (1, 256), form, np.zeros((1, form.block_bytes), np.uint8))
    with pytest.raises(ModelFileError, match=r"blk\.0\.ffn_up\.weight is IQ2_S"):
        tensor.dequantize()


def test_names_are_found_in_either_case_and_unknown_ones_are_answered_with_the_list() -> None:
    assert by_name("q4_k") is by_name("Q4_K") is FORMATS[12]
    with pytest.raises(OptionError, match=r"'q4_9'.*Q4_K"):
        by_name("q4_9")


def test_bf16_rounds_to_nearest_even_and_keeps_nan() -> None:
    bits = np.array(
        [0x3F80_8000, 0x3F81_8000, 0x3F80_8001, 0x7F7F_FFFF, 0x7F80_0001, 0xFF80_0000, 0x8000_0000], np.uint32
    )
    rounded = to_bf16(bits.view(np.float32))
    assert [hex(x) for x in rounded] == ["0x3f80", "0x3f82", "0x3f81", "0x7f80", "0x7fc0", "0xff80", "0x8000"]


def test_bf16_agrees_with_gguf_on_random_bits() -> None:
    x = np.random.default_rng(5).integers(0, 1 << 32, 4096, np.uint32).view(np.float32)
    theirs = gguf.quants.quantize(x, gguf.GGMLQuantizationType.BF16).view(np.uint16)
    assert np.array_equal(to_bf16(x), theirs)
    assert same_bits(from_bf16(theirs), (theirs.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 5), (2, 1, 3, 4), (0,), (0, 5), (5, 0)])
@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_an_array_becomes_a_tensor_of_its_shape(shape: tuple[int, ...], name: str) -> None:
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape) / 4
    tensor = GgufTensor.from_array("w", x, by_name(name))
    assert tensor.shape == shape
    assert tensor.nbytes == x.size * by_name(name).block_bytes
    assert np.array_equal(tensor.dequantize(), x)


def test_an_array_becomes_a_tensor_in_blocks() -> None:
    tensor = GgufTensor.from_array("w", np.full((2, 3, 64), -8.0), by_name("Q4_0"))
    assert (tensor.shape, tensor.raw.shape) == ((2, 3, 64), (6, 36))
    assert (tensor.dequantize() == -8).all()


def test_rows_are_the_rows_of_the_whole_however_they_are_chosen() -> None:
    form = by_name("Q6_K")
    raw = np.random.default_rng(3).integers(0, 100, (6, 2 * form.block_bytes), np.uint8)
    tensor = GgufTensor("w", (2, 3, 512), form, raw)
    whole = tensor.dequantize().reshape(6, 512)
    choices = [slice(1, 4), slice(0, 6, 2), slice(3, 3), np.array([5, 0, 5]), np.array([], int)]
    for rows in choices:
        assert same_bits(tensor.dequantize_rows(rows), np.ascontiguousarray(whole[rows]))


def test_a_tensor_larger_than_a_slab_is_the_same_as_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    form = by_name("Q4_K")
    raw = np.random.default_rng(4).integers(0, 100, (9, form.block_bytes), np.uint8)
    whole = GgufTensor("w", (9, 256), form, raw).dequantize()
    for slab in (1, 256, 700):
        monkeypatch.setattr("eardrop.gguf.tensor.SLAB", slab)
        assert same_bits(GgufTensor("w", (9, 256), form, raw).dequantize(), whole)


def test_float32_is_a_view_where_alignment_permits_and_right_where_not() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    aligned = GgufTensor.from_array("w", x)
    assert np.shares_memory(aligned.dequantize(), aligned.raw)
    shifted = np.concatenate([np.zeros(1, np.uint8), x.view(np.uint8).reshape(-1)])[1:].reshape(3, 16)
    unaligned = GgufTensor("w", (3, 4), by_name("F32"), shifted).dequantize()
    assert unaligned.flags.aligned
    assert np.array_equal(unaligned, x)


def test_the_fields_of_every_layout_fill_its_block_without_overlap() -> None:
    for form in FORMATS.values():
        ends = sorted((offset, offset + dtype.itemsize) for dtype, offset in (form.layout.fields or {}).values())
        assert ends[0][0] == 0
        assert ends[-1][1] == form.block_bytes
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ends)), form


@pytest.mark.parametrize(("name", "bits"), [("F16", 10), ("BF16", 7)])
def test_arrays_are_rounded_to_nearest_even(name: str, bits: int) -> None:
    step = 2.0**-bits  # between the numbers just above 1
    values = np.float32([1 + step / 2, 1 + 3 * step / 2, 1 + 0.51 * step, -1 - 0.51 * step, 1 + 0.49 * step])
    found = GgufTensor.from_array("w", values, by_name(name)).dequantize()
    assert found.tolist() == [1, 1 + 2 * step, 1 + step, -1 - step, 1]
