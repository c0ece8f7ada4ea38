"""Which weight gets which format: the table of llama.cpp's choices for a model of the real layers (spec §3.4)."""

import pytest

from eardrop.errors import OptionError
from eardrop.gguf.mixes import MIXES, TYPES, by_type, choose

LAYERS = "ccaccaccacacacac"  # of the real model; a is attention
ATTENTION = [layer for layer, kind in enumerate(LAYERS) if kind == "a"]
BETTER_DOWN, BETTER_VALUES = [0, 1, 4, 7, 10, 13, 14, 15], [8, 14]


def text(width: int = 2048, feed_forward: int = 8192) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (65536, width), "token_embd_norm.weight": (width,)}
    for layer, kind in enumerate(LAYERS):
        blk = f"blk.{layer}."
        shapes |= {blk + "attn_norm.weight": (width,), blk + "ffn_down.weight": (width, feed_forward)}
        shapes |= {blk + f"ffn_{part}.weight": (feed_forward, width) for part in ("gate", "up")}
        if kind == "a":
            shapes |= {blk + f"attn_{part}.weight": (width, width) for part in ("q", "k", "v", "output")}
            shapes |= {blk + "attn_q_norm.weight": (64,)}
        else:
            shapes |= {blk + f"shortconv.{part}.weight": (width, width) for part in ("in_proj", "out_proj")}
            shapes |= {blk + "shortconv.conv.weight": (width, 3)}
    return shapes


def projector() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "a.position_embd.weight": (16392, 2048), "a.position_embd_norm.weight": (2048,),
        "a.embd_to_logits.weight": (16392, 2048), "a.conv1d.0.weight": (256, 1, 3, 3),
        "a.conv1d.3.weight": (256, 256, 1, 1), "a.pre_encode.out.weight": (512, 4096), "a.pre_encode.out.bias": (512,),
        "mm.a.mlp.0.weight": (512,), "mm.a.mlp.1.weight": (2048, 512),
    }  # fmt: skip
    for layer in range(17):
        blk = f"a.blk.{layer}."
        shapes |= {blk + "ffn_up.weight": (2048, 512), blk + "ffn_up_1.weight": (2048, 512)}
        shapes |= {blk + "ffn_down.weight": (512, 2048), blk + "ffn_down_1.weight": (512, 2048)}
        shapes |= {blk + f"attn_{part}.weight": (512, 512) for part in ("q", "k", "v", "out")}
        shapes |= {blk + "linear_pos.weight": (512, 512), blk + "pos_bias_u": (8, 64), blk + "ln1.weight": (512,)}
        shapes |= {blk + "conv_pw1.weight": (1024, 512), blk + "conv_pw2.weight": (512, 512)}
        shapes |= {blk + "conv_dw.weight": (512, 9), blk + "conv_norm.weight": (512,)}
    return shapes


def formats(mix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    return {name: choice.format.name for name, choice in choose(MIXES[mix], shapes).items()}


@pytest.mark.parametrize(
    ("mix", "most", "embedding", "better", "values", "downs"),
    [
        *((mix, mix, mix, mix, [], []) for mix in ("F32", "F16", "BF16", "Q8_0", "Q6_K")),
        *((mix, mix, "Q6_K", mix, [], []) for mix in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K")),
        ("Q4_K_S", "Q4_K", "Q6_K", "Q5_K", ATTENTION[:4], [0, 1]),
        ("Q4_K_M", "Q4_K", "Q6_K", "Q6_K", BETTER_VALUES, BETTER_DOWN),
        ("Q5_K_S", "Q5_K", "Q6_K", "Q5_K", [], []),
        ("Q5_K_M", "Q5_K", "Q6_K", "Q6_K", BETTER_VALUES, BETTER_DOWN),
        ("IQ4_NL", "IQ4_NL", "Q6_K", "Q5_K", [], [0, 1]),
        ("IQ4_XS", "IQ4_XS", "Q6_K", "Q5_K", [], [0, 1]),
    ],
)
def test_each_weight_of_the_text_model_gets_what_llama_cpp_gives_it(
    mix: str, most: str, embedding: str, better: str, values: list[int], downs: list[int]
) -> None:
    expected = {name: most for name, shape in text().items() if len(shape) == 2 and "shortconv.conv" not in name}
    expected["token_embd.weight"] = embedding
    expected |= {f"blk.{layer}.ffn_down.weight": better for layer in downs}
    expected |= {f"blk.{layer}.attn_v.weight": better for layer in values}
    assert formats(mix, text()) == expected


def test_every_mix_is_one_of_those() -> None:
    types = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K Q4_K_S Q4_K_M Q5_K_S Q5_K_M"
    assert " ".join(TYPES) == types
    assert set(MIXES) - set(TYPES) == {"IQ4_NL", "IQ4_XS"}  # files have them, and nothing is quantised to them


def test_where_there_is_an_output_matrix_it_gets_the_bits_of_one() -> None:
    chosen = formats("Q4_0", text() | {"output.weight": (65536, 2048)})
    assert (chosen["output.weight"], chosen["token_embd.weight"]) == ("Q6_K", "Q4_0")


def test_a_fused_matrix_counts_as_its_values() -> None:
    shapes = {name.replace("attn_v", "attn_qkv"): shape for name, shape in text().items()}
    chosen = formats("Q4_K_M", shapes)
    assert [layer for layer in ATTENTION if chosen[f"blk.{layer}.attn_qkv.weight"] == "Q6_K"] == BETTER_VALUES


def test_of_a_projector_matrices_are_quantized_and_nothing_that_llama_cpp_takes_in_float32_alone() -> None:
    chosen = formats("Q4_0", projector())
    assert set(chosen.values()) == {"Q4_0"}
    left = {name for name in projector() if name not in chosen}
    assert {name for name in left if len(projector()[name]) == 2} == {
        "a.position_embd.weight", *(f"a.blk.{k}.conv_dw.weight" for k in range(17)),
        *(f"a.blk.{k}.pos_bias_u" for k in range(17)),
    }  # fmt: skip
    assert {"a.conv1d.0.weight", "a.conv1d.3.weight", "a.pre_encode.out.bias"} <= left


def test_a_mix_gives_a_projector_more_bits_where_it_gives_them_to_a_text_model() -> None:
    chosen = formats("Q4_K_M", projector())
    better = [k for k in range(17) if chosen[f"a.blk.{k}.ffn_down.weight"] == "Q6_K"]
    assert better == [0, 1, 4, 7, 10, 13, 14, 15, 16]
    assert better == [k for k in range(17) if chosen[f"a.blk.{k}.ffn_down_1.weight"] == "Q6_K"]
    assert better == [k for k in range(17) if chosen[f"a.blk.{k}.attn_v.weight"] == "Q6_K"]


@pytest.mark.parametrize("mix", ["F16", "BF16"])
def test_plain_projectors_have_their_pointwise_convolutions_in_float32(mix: str) -> None:
    chosen = formats(mix, projector())
    assert {chosen[f"a.blk.0.conv_pw{k}.weight"] for k in (1, 2)} == {"F32"}
    assert chosen["a.blk.0.attn_q.weight"] == mix


@pytest.mark.parametrize(
    ("mix", "width", "becomes"),
    [
        ("Q4_K", 96, "Q5_0"), ("Q5_K", 96, "Q5_1"), ("Q6_K", 96, "Q8_0"), ("Q4_0", 96, "Q4_0"),
        ("Q4_K", 100, "F16"), ("Q6_K", 100, "F16"), ("Q4_0", 100, "F16"), ("Q8_0", 100, "F16"), ("BF16", 100, "BF16"),
    ],
)  # fmt: skip
def test_rows_that_are_no_whole_blocks_get_the_next_format_and_a_reason(mix: str, width: int, becomes: str) -> None:
    choice = choose(MIXES[mix], {"blk.0.ffn_up.weight": (8, width)})["blk.0.ffn_up.weight"]
    assert choice.format.name == becomes
    assert bool(choice.why) == (becomes != mix)
    assert not choice.why or choice.why == f"rows of {width} values are no whole blocks of {mix}"


@pytest.mark.parametrize(("width", "becomes"), [(128, "Q8_0"), (48, "F16")])
def test_the_embedding_falls_back_too(width: int, becomes: str) -> None:
    assert formats("Q4_0", {"token_embd.weight": (960, width)}) == {"token_embd.weight": becomes}


def test_names_that_look_like_layers_and_are_none_are_matrices_like_others() -> None:
    names = ["blk.x.ffn_down.weight", "blk.99999999999999999999.ffn_down.weight", "blk.-1.attn_v.weight", "weight"]
    chosen = formats("Q4_K_M", dict.fromkeys(names, (4, 256)))
    assert chosen == {names[0]: "Q4_K", names[1]: "Q6_K", names[2]: "Q4_K", names[3]: "Q4_K"}


def test_a_single_row_is_no_matrix_as_ggml_counts_dimensions() -> None:
    assert formats("Q8_0", {"blk.0.ffn_up.weight": (1, 256), "blk.1.ffn_up.weight": (0, 256)}) == {}


def test_a_type_is_known_in_either_case_and_others_are_answered_with_the_list() -> None:
    assert by_type("q4_k_m") is MIXES["Q4_K_M"]
    for name in ("Q3_K", "IQ4_NL"):
        with pytest.raises(OptionError, match=rf"'{name}'; there are F32.*Q5_K_M"):
            by_type(name)
