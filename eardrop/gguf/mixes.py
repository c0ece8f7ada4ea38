"""Which weight gets which format: llama.cpp's rules for these models (spec §3.4), one row of `MIXES` each.

Matrices are quantised; norms, biases, the kernels of convolutions and tables of positions stay what they are. The
token embedding is the output matrix, too (they are tied), and gets more bits. So do, in some mixes, attn_v and ffn_down
of the layers where it pays: in those that end in _M the first and last eighth, and every third between.

llama.cpp's own tool can't quantise this projector. Its rules are taken for it as they are, and what the published
projectors do where they say nothing: pointwise convolutions are quantised like matrices, but plain files have them
in F32, as the converter writes them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from eardrop.errors import OptionError
from eardrop.gguf.formats import F16, F32, Q8_0, BlockFormat, by_name
from eardrop.gguf.quantize import QUANTIZERS

Which: TypeAlias = Callable[[int, int], bool]  # of so many tensors of a kind, whether the one at this place is meant


def _none(place: int, count: int) -> bool:
    """No tensor."""
    return False


def _first_four(place: int, count: int) -> bool:
    return place < 4


def _first_eighth(place: int, count: int) -> bool:
    return place < count // 8


def _more_bits(place: int, count: int) -> bool:
    """llama.cpp's `use_more_bits`."""
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


@dataclass(frozen=True)
class Mix:
    """One row of the table.

    most       the format of most weights
    output     of the matrix that gives the logits
    file_type  the number that `general.file_type` tells it by
    better     the format of some of attn_v and of ffn_down
    values     which of attn_v, counted among the layers that have one
    downs      which of ffn_down
    """

    name: str
    most: BlockFormat
    output: BlockFormat
    file_type: int
    better: BlockFormat
    values: Which = _none
    downs: Which = _none


def _mix(
    name: str, most: str, output: str, file_type: int, better: str = "", values: Which = _none, downs: Which = _none
) -> Mix:
    return Mix(name, by_name(most), by_name(output), file_type, by_name(better or most), values, downs)


_TABLE = (
    _mix("F32", "F32", "F32", 0),
    _mix("F16", "F16", "F16", 1),
    _mix("BF16", "BF16", "BF16", 32),
    _mix("Q8_0", "Q8_0", "Q8_0", 7),
    _mix("Q4_0", "Q4_0", "Q6_K", 2),
    _mix("Q4_1", "Q4_1", "Q6_K", 3),
    _mix("Q5_0", "Q5_0", "Q6_K", 8),
    _mix("Q5_1", "Q5_1", "Q6_K", 9),
    _mix("Q4_K", "Q4_K", "Q6_K", 14),  # by the number of llama.cpp's Q4_K_S, which is nearest
    _mix("Q5_K", "Q5_K", "Q6_K", 16),  # llama.cpp's Q5_K_S
    _mix("Q6_K", "Q6_K", "Q6_K", 18),
    _mix("Q4_K_S", "Q4_K", "Q6_K", 14, "Q5_K", _first_four, _first_eighth),
    _mix("Q4_K_M", "Q4_K", "Q6_K", 15, "Q6_K", _more_bits, _more_bits),
    _mix("Q5_K_S", "Q5_K", "Q6_K", 16),
    _mix("Q5_K_M", "Q5_K", "Q6_K", 17, "Q6_K", _more_bits, _more_bits),
    _mix("IQ4_NL", "IQ4_NL", "Q6_K", 25, "Q5_K", _none, _first_eighth),
    _mix("IQ4_XS", "IQ4_XS", "Q6_K", 30, "Q5_K", _none, _first_eighth),
)
MIXES = {mix.name: mix for mix in _TABLE}
TYPES = tuple(mix.name for mix in _TABLE if mix.most.name in QUANTIZERS)  # those that values can be quantised to


def by_type(name: str) -> Mix:
    """The mix of that name, upper or lower case; OptionError for what nothing can be quantised to."""
    if name.upper() not in TYPES:
        raise OptionError(f"no type is called {name!r}; there are {', '.join(TYPES)}")
    return MIXES[name.upper()]


class Choice(NamedTuple):
    """What a weight becomes; `why` where that is not the mix's own choice."""

    format: BlockFormat
    why: str = ""


Shapes: TypeAlias = Mapping[str, tuple[int, ...]]  # of tensors, by name

_LEFT = ("_norm.weight", "shortconv.conv.weight", ".position_embd", "conv_dw.weight")  # conv_dw: its op takes F32 alone


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is one that a quantiser may touch."""
    named = name.endswith("weight") and not any(part in name for part in _LEFT)
    return named and len(shape) == 2 and shape[0] > 1 and shape[1] > 0


def choose(mix: Mix, shapes: Shapes) -> dict[str, Choice]:
    """The format of every matrix among these tensors, by name; what isn't in it stays what it is."""
    matrices = {name: shape[1] for name, shape in shapes.items() if is_matrix(name, shape)}
    better = _better(mix, matrices)
    output = "output.weight" if "output.weight" in matrices else "token_embd.weight"
    choices = {}
    for name, width in matrices.items():
        form = mix.output if name == output else mix.better if name in better else mix.most
        if mix.most.block == 1 and ".conv_pw" in name:
            form = F32
        choices[name] = _fitting(form, width)
    return choices


_NARROWER = {"Q4_K": by_name("Q5_0"), "Q5_K": by_name("Q5_1"), "Q6_K": Q8_0}  # 32 values a block


def _fitting(form: BlockFormat, width: int) -> Choice:
    """The format, or the next that rows of this width fill."""
    if width % form.block == 0:
        return Choice(form)
    narrower = _NARROWER.get(form.name, form)
    why = f"rows of {width} values are no whole blocks of {form.name}"
    return Choice(F16 if width % narrower.block else narrower, why)


_LAYERED = re.compile(r"(?:a\.)?blk\.(\d+)\.(?:(attn_v|attn_qkv)|(ffn_down|ffn_down_1))\.weight")


def _better(mix: Mix, names: Iterable[str]) -> set[str]:
    """The attn_v (or fused attn_qkv) and ffn_down of the better format, counted among the layers that have one."""
    found = [(match[0], match.lastindex, int(match[1])) for name in names if (match := _LAYERED.fullmatch(name))]
    layers = {kind: {layer for _, other, layer in found if other == kind} for kind in {kind for _, kind, _ in found}}
    places = {kind: {layer: place for place, layer in enumerate(sorted(every))} for kind, every in layers.items()}
    which = {2: mix.values, 3: mix.downs}  # by the group that matched
    return {name for name, kind, layer in found if which[kind or 0](places[kind][layer], len(places[kind]))}
