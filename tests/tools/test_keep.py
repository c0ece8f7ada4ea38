"""Wishes for single weights: who is meant, what comes first, and what is refused."""

import pytest

from eardrop.errors import OptionError
from eardrop.gguf import F16
from eardrop.gguf.mixes import Choice
from eardrop.tools.keep import Keep, wished

SHAPES = {
    "token_embd.weight": (960, 96), "blk.0.attn_norm.weight": (96,), "blk.0.shortconv.conv.weight": (96, 3),
    "blk.0.ffn_up.weight": (192, 96), "blk.14.attn_v.weight": (96, 96), "blk.14.attn_output.weight": (96, 96),
}  # fmt: skip


def formats(*keep: str) -> dict[str, str]:
    chosen = wished([Keep.parse(text) for text in keep], SHAPES)
    return {name: choice.format.name for name, choice in chosen.items()}


def test_of_several_wishes_the_first_counts() -> None:
    assert formats("blk.1?.attn_?.weight=q8_0", "token_embd.weight=F32", "blk.14.*=Q5_0") == {
        "blk.14.attn_v.weight": "Q8_0", "token_embd.weight": "F32", "blk.14.attn_output.weight": "Q5_0",
    }  # fmt: skip
    assert wished([Keep.parse("token_embd.weight=F16")], SHAPES) == {"token_embd.weight": Choice(F16, "as wished")}
    assert formats() == {}


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("Q8_0", "expected PATTERN=TYPE"),
        ("=Q8_0", "expected PATTERN=TYPE"),
        ("blk.0.*=Q9_9", "no type is called 'Q9_9'; there are F32"),
        ("blk.0.*=Q4_K_M", "no type is called 'Q4_K_M'"),
        ("blk.0.*=IQ4_NL", "no type is called 'IQ4_NL'"),
        ("blk.99.*=Q8_0", "no matrix is called 'blk.99.*'"),
        ("blk.0.attn_norm.weight=Q8_0", "no matrix is called"),
        ("blk.0.shortconv.conv.weight=F16", "no matrix is called"),
        ("*=Q6_K", "rows of 96 values, no whole blocks of Q6_K"),
    ],
)
def test_wishes_that_can_not_be_met_are_refused(wish: str, message: str) -> None:
    with pytest.raises(OptionError) as refused:
        formats(wish)
    assert message in str(refused.value)
