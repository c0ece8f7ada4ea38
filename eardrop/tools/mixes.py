"""Which weight gets which format: llama.cpp's rules for these models (spec §3.4), one row of `MIXES` each.

Matrices are quantised; norms, biases, the kernels of convolutions and tables of positions stay what they are. The
token embedding is the output matrix, too (they are tied), and gets more bits. So do, in the mixes that end in _M,
attn_v and ffn_down of the layers where it pays: the first and last eighth, and every third between.

llama.cpp's own tool can't quantise this projector. Its rules are taken for it as they are, and what the published
projectors do where they say nothing: pointwise convolutions are quantised like matrices, but plain files have them
in F32, as the converter writes them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from eardrop.errors import OptionError
from eardrop.gguf import F16, F32, Q8_0, BlockFormat, by_name
from eardrop.gguf.quantize import QUANTIZERS
from eardrop.printable import printable


@dataclass(frozen=True)
class Mix:
    """One row of the table.

    most       the format of most weights
    output     of the matrix that gives the logits
    better     of attn_v and ffn_down where it pays
    file_type  the number that `general.file_type` tells it by
    """

    name: str
    most: BlockFormat
    output: BlockFormat
    better: BlockFormat
    file_type: int


def _mix(name: str, most: str, file_type: int, *, output: str = "", better: str = "") -> Mix:
    return Mix(name, by_name(most), by_name(output or most), by_name(better or most), file_type)


_TABLE = (
    _mix("F16", "F16", 1),
    _mix("BF16", "BF16", 32),
    _mix("Q8_0", "Q8_0", 7),
    _mix("Q4_0", "Q4_0", 2, output="Q6_K"),
    _mix("Q4_1", "Q4_1", 3, output="Q6_K"),
    _mix("Q5_0", "Q5_0", 8, output="Q6_K"),
    _mix("Q5_1", "Q5_1", 9, output="Q6_K"),
    _mix("Q4_K", "Q4_K", 14, output="Q6_K"),  # by the number of llama.cpp's Q4_K_S, which is nearest
    _mix("Q5_K", "Q5_K", 16, output="Q6_K"),  # llama.cpp's Q5_K_S
    _mix("Q6_K", "Q6_K", 18),
    _mix("Q4_K_M", "Q4_K", 15, output="Q6_K", better="Q6_K"),
    _mix("Q5_K_M", "Q5_K", 17, output="Q6_K", better="Q6_K"),
)
MIXES = {mix.name: mix for mix in _TABLE}


def by_mix_name(name: str) -> Mix:
    """The mix of that name, upper or lower case."""
    if name.upper() not in MIXES:
        raise OptionError(f"no type is called {name!r}; there are {', '.join(MIXES)}")
    return MIXES[name.upper()]


class Keep(NamedTuple):
    """A wish: the weights whose names match the pattern (as in a shell) get this format, whatever the mix says."""

    pattern: str
    format: BlockFormat

    @classmethod
    def parse(cls, text: str) -> "Keep":
        """PATTERN=TYPE."""
        pattern, equals, name = text.rpartition("=")
        if not (pattern and equals):
            raise OptionError(f"--keep {text!r}: expected PATTERN=TYPE, as 'blk.0.*=Q8_0'")
        if name.upper() not in QUANTIZERS:
            raise OptionError(f"--keep {text!r}: no type is called {name!r}; there are {', '.join(QUANTIZERS)}")
        return cls(pattern, by_name(name))

    def matches(self, name: str) -> bool:
        return fnmatchcase(name, self.pattern)


class Choice(NamedTuple):
    """What a weight becomes; `why` where that is not the mix's own choice."""

    format: BlockFormat
    why: str = ""


Shapes = Mapping[str, tuple[int, ...]]

_LEFT = ("_norm.weight", "shortconv.conv.weight", ".position_embd", "conv_dw.weight")  # conv_dw: its op takes F32 alone


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is one that a quantiser may touch."""
    named = name.endswith("weight") and not any(part in name for part in _LEFT)
    return named and len(shape) == 2 and shape[0] > 1 and shape[1] > 0


def choose(mix: Mix, shapes: Shapes, keep: Sequence[Keep] = ()) -> dict[str, Choice]:
    """The format of every matrix among these tensors, by name; what isn't in it stays what it is.

    Of several wishes for one weight the first counts. Raises OptionError for a wish that matches none, or whose
    blocks its rows don't fill.
    """
    matrices = {name: shape[1] for name, shape in shapes.items() if is_matrix(name, shape)}
    for wish in keep:
        if not any(map(wish.matches, matrices)):
            raise OptionError(f"--keep: no matrix is called {wish.pattern!r}; eardrop info FILE --tensors lists them")
    better = _where_more_bits_pay(matrices)
    output = "output.weight" if "output.weight" in matrices else "token_embd.weight"
    choices = {}
    for name, width in matrices.items():
        wished = next((wish for wish in keep if wish.matches(name)), None)
        form = mix.output if name == output else mix.better if name in better else mix.most
        if mix.most.block == 1 and ".conv_pw" in name:
            form = F32
        choices[name] = _wished(wished, name, width) if wished else _fitting(form, width)
    return choices


def _wished(wish: Keep, name: str, width: int) -> Choice:
    if width % wish.format.block:
        raise OptionError(
            f"--keep: {printable(name)} has rows of {width} values, no whole blocks of {wish.format.name}"
            f" ({wish.format.block}); wish for another type"
        )
    return Choice(wish.format, "as wished")


_NARROWER = {"Q4_K": by_name("Q5_0"), "Q5_K": by_name("Q5_1"), "Q6_K": Q8_0}  # 32 values a block


def _fitting(form: BlockFormat, width: int) -> Choice:
    """The format, or the next that rows of this width fill."""
    if width % form.block == 0:
        return Choice(form)
    narrower = _NARROWER.get(form.name, form)
    why = f"rows of {width} values are no whole blocks of {form.name}"
    return Choice(F16 if width % narrower.block else narrower, why)


_LAYERED = re.compile(r"(?:a\.)?blk\.(\d+)\.(?:(attn_v|attn_qkv)|(ffn_down|ffn_down_1))\.weight")


def _where_more_bits_pay(names: Iterable[str]) -> set[str]:
    """The attn_v (or fused attn_qkv) and ffn_down of some layers, counted among those that have one."""
    found = [(match[0], match.lastindex, int(match[1])) for name in names if (match := _LAYERED.fullmatch(name))]
    layers = {kind: {layer for _, other, layer in found if other == kind} for kind in {kind for _, kind, _ in found}}
    places = {kind: {layer: place for place, layer in enumerate(sorted(every))} for kind, every in layers.items()}
    return {name for name, kind, layer in found if _pays(places[kind][layer], len(places[kind]))}


def _pays(index: int, count: int) -> bool:
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2
