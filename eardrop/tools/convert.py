"""A published checkpoint of LFM2-Audio → the two GGUF files that llama.cpp and eardrop run (spec §2, §3, §3.1).

published_layout.py is the translation: where a tensor comes from, what it is called, which shape it must have. What
config.json says of the shapes is expected of the tensors; what it gets wrong or leaves out (the feed-forward
widths, for one) is measured in them. Nothing is written before everything fits. Tensors stream from file to file in
pieces of some megabytes, and the files appear under their names when both are complete.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eardrop.errors import ModelFileError, OptionError
from eardrop.gguf import F16, F32, BlockFormat, Fact, PlannedTensor, Value, write_gguf
from eardrop.gguf.formats import Floats
from eardrop.gguf.mixes import Mix, by_type, choose
from eardrop.gguf.quantize import quantize
from eardrop.model.shape import MOST_LAYERS, SUBSAMPLING
from eardrop.printable import printable
from eardrop.tools.checkpoint import Checkpoint, Section, open_checkpoint
from eardrop.tools.published_layout import MIXERS, Row, audio_rows, batch_norm_rows, is_dropped, sized, text_rows
from eardrop.tools.safetensors import StoredTensor, refuse
from eardrop.tools.tokenizer_json import tokenizer_facts

ARCHITECTURE = "Lfm2AudioForConditionalGeneration"

_BATCH_NORM_EPSILON = np.float32(1e-5)
_HALF_INFINITY = 65520  # the least number that rounds to it

# What the networks here and in llama.cpp take for granted.
_ENCODER = {
    "subsampling": "dw_striding", "subsampling_factor": SUBSAMPLING, "causal_downsampling": False,
    "self_attention_model": "rel_pos", "att_context_size": [-1, -1], "untie_biases": True, "xscaling": False,
    "conv_norm_type": "batch_norm",
}  # fmt: skip
_PREPROCESSOR = {
    "sample_rate": 16000, "n_fft": 512, "window_size": 0.025, "window_stride": 0.01, "window": "hann", "log": True,
    "normalize": "per_feature", "frame_splicing": 1, "pad_to": 0,
}  # fmt: skip
_PUBLISHED_ROPE_BASE = 1e6  # of a configuration that doesn't say

Facts = dict[str, Value | Fact]
Sizes = Mapping[str, int]


class _Model(NamedTuple):
    """What config.json says, its parts laid open."""

    text: Section
    encoder: Section
    mixers: list[str]
    rope_base: float
    sizes: Sizes


def convert(
    checkpoint: Path,
    folder: Path,
    *,
    form: str = "F16",
    name: str | None = None,
    force: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Path, Path]:
    """Write NAME-FORM.gguf and mmproj-NAME-FORM.gguf into a folder, which is made; gives their paths.

    checkpoint  the folder of a published checkpoint
    form        of most weights, one of gguf/mixes.py's TYPES; which weight gets which format, it says, too
    name        of the model; None is the checkpoint's folder's
    force       replace files that are there
    progress    told the share of the values that are converted, 0 to 1

    Needs some megabytes beside the tokenizer, whatever the size of the model. Raises ModelFileError, before anything
    is written, for a checkpoint that is damaged, incomplete, or another model's; OptionError for files that exist.
    """
    mix, source = by_type(form), open_checkpoint(checkpoint)
    name = _checked_name(checkpoint, name)
    targets = folder / f"{name}-{mix.name}.gguf", folder / f"mmproj-{name}-{mix.name}.gguf"
    existing = next((path for path in targets if path.exists()), None)
    if existing and not force:
        raise OptionError(f"{printable(str(existing))} exists; give another folder or name, or --force to replace it")
    model = _model(source)
    plans = _plans(source, model, mix)
    facts = _text_facts(model, name, mix), _audio_facts(model, name, mix)
    facts[0].update(tokenizer_facts(checkpoint, model.text))
    _write(targets, facts, _watched(plans, progress))
    return targets


def _checked_name(checkpoint: Path, name: str | None) -> str:
    name = checkpoint.resolve().name if name is None else name
    if name in ("", ".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise OptionError(f"a model can't be called {name!r}, as its files bear the name; give another with --name")
    return name


def _write(targets: tuple[Path, Path], facts: tuple[Facts, Facts], plans: tuple[list[PlannedTensor], ...]) -> None:
    """Both files or none: they are made in a folder beside their places."""
    folder = targets[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".convert-", dir=folder) as staging:
        made = [Path(staging) / target.name for target in targets]
        for path, told, planned in zip(made, facts, plans, strict=True):
            write_gguf(path, told, planned)
        for path, target in zip(made, targets, strict=True):
            path.replace(target)


def _model(source: Checkpoint) -> _Model:
    """What config.json says. Raises ModelFileError for another architecture, or keys that are missing or wrong."""
    config = source.config
    found = config.get("architectures", list, [])
    if ARCHITECTURE not in found:
        what = printable(", ".join(map(str, found)) or "nothing", most=80)
        raise config.refusal("architectures", ARCHITECTURE, f"{what}; give a checkpoint of LFM2-Audio")
    text, encoder = config.section("lfm"), config.section("encoder")
    text = replace(text, values={**config.values, **text.values})  # as transformers does: what lfm lacks, the top says
    preprocessor, rope = config.section("preprocessor", {}), text.section("rope_parameters", {})
    encoder.require(_ENCODER)
    preprocessor.require({**_PREPROCESSOR, "features": encoder.size("feat_in")})
    rope.require({"rope_type": "default"})
    base = text.get("rope_theta", float, rope.get("rope_theta", float, _PUBLISHED_ROPE_BASE))
    return _Model(text, encoder, _mixers(text), base, _sizes(source, text, encoder))


def _mixers(text: Section) -> list[str]:
    """The kinds of the text model's layers."""
    mixers, layers = text.get("layer_types", list), text.size("num_hidden_layers")
    if len(mixers) != layers or layers > MOST_LAYERS:
        raise text.refusal("layer_types", f"{layers} kinds, one for each layer", str(len(mixers)))
    for kind in mixers:
        if not isinstance(kind, str) or kind not in MIXERS:
            raise text.refusal("layer_types", " or ".join(MIXERS), printable(repr(kind), most=60))
    return mixers


def _sizes(source: Checkpoint, text: Section, encoder: Section) -> Sizes:
    """The names in the tables' shapes: what the configuration says, and what only tensors tell."""

    def measured(name: str, axis: int, dimensions: int = 2) -> int:
        tensor = _tensor(source, name)
        if len(tensor.shape) != dimensions or 0 in tensor.shape:
            raise refuse(
                tensor.path, f"tensor {name} is {tensor.shape}, expected {dimensions} dimensions, none of them 0"
            )
        return tensor.shape[axis]

    D, heads = text.size("hidden_size"), text.size("num_attention_heads")
    E, H = encoder.size("d_model"), encoder.size("n_heads")
    d, e = _divided(text, "hidden_size", heads), _divided(encoder, "d_model", H)
    C = measured("conformer.pre_encode.conv.0.weight", 0, dimensions=4)
    return {
        "V": text.size("vocab_size"), "D": D, "3D": 3 * D, "d": d, "KV": text.size("num_key_value_heads") * d,
        "K": text.size("conv_L_cache"), "F": measured("lfm.layers.0.feed_forward.w1.weight", 0),
        "E": E, "2E": 2 * E, "H": H, "e": e, "C": C, "CB": C * -(-encoder.size("feat_in") // SUBSAMPLING),
        "G": measured("conformer.layers.0.feed_forward1.linear1.weight", 0),
        "T": measured("conformer.layers.0.conv.depthwise_conv.weight", 2, dimensions=3),
        "A": measured("audio_adapter.model.1.weight", 0), "P": measured("audio_embedding.embedding.weight", 0),
        "L": measured("audio_embedding.to_logits.weight", 0),
    }  # fmt: skip


def _divided(section: Section, key: str, heads: int) -> int:
    if section.size(key) % heads:
        raise section.refusal(key, f"a multiple of its {heads} heads", str(section.size(key)))
    return section.size(key) // heads


def _tensor(source: Checkpoint, name: str) -> StoredTensor:
    if name not in source.tensors:
        raise _missing(source, [name])
    return source.tensors[name]


def _missing(source: Checkpoint, names: list[str]) -> ModelFileError:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return refuse(source.folder, f"tensor {names[0]}{more} is missing; fetch the checkpoint again")


def _plans(source: Checkpoint, model: _Model, mix: Mix) -> tuple[list[PlannedTensor], list[PlannedTensor]]:
    """The tensors of both files, once it is clear that the checkpoint holds them all in their shapes, and no others."""
    layers = _encoder_layers(model)
    text, audio, norms = [*text_rows(model.mixers)], [*audio_rows(layers)], [*map(batch_norm_rows, range(layers))]
    _check(source, [*text, *audio, *(row for rows in norms for row in rows)], model.sizes)
    folded = [plan for layer, rows in enumerate(norms) for plan in _folded(source, layer, rows)]
    return _moved(source, text, model.sizes, mix), _moved(source, audio, model.sizes, mix) + folded


def _encoder_layers(model: _Model) -> int:
    layers = model.encoder.size("n_layers")
    if layers > MOST_LAYERS:
        raise model.encoder.refusal("n_layers", f"at most {MOST_LAYERS}", str(layers))
    return layers


def _check(source: Checkpoint, rows: list[Row], sizes: Sizes) -> None:
    if missing := [row.source for row in rows if row.source not in source.tensors]:
        raise _missing(source, missing)
    known = {row.source for row in rows}
    if strange := [name for name in source.tensors if name not in known and not is_dropped(name)]:
        name = printable(min(strange), most=100)
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise refuse(source.folder, f"tensor {name}{more} belongs to no network that is known here; fetch LFM2-Audio")
    for row in rows:
        tensor, expected = source.tensors[row.source], sized(row.shape, sizes)
        if tensor.shape != expected:
            raise refuse(
                tensor.path,
                f"tensor {row.source} is {tensor.shape}, expected {expected} after {source.config.path.name}",
            )


def _moved(source: Checkpoint, rows: list[Row], sizes: Sizes, mix: Mix) -> list[PlannedTensor]:
    """Tensors as they are, but for names, formats and axes of one. What no quantiser may touch is F32."""
    shapes = {row.target: sized(row.becomes or row.shape, sizes) for row in rows}
    formats = dict.fromkeys(shapes, F32) | {name: choice.format for name, choice in choose(mix, shapes).items()}
    return [
        PlannedTensor(name, shape, form, partial(_pieces, source.tensors[row.source], shape[-1], form))
        for row, (name, shape), form in zip(rows, shapes.items(), formats.values(), strict=True)
    ]


def _pieces(tensor: StoredTensor, width: int, form: BlockFormat) -> Iterator[NDArray[Any]]:
    return (_encoded(tensor, values, form) for values in tensor.slabs(width))


def _encoded(tensor: StoredTensor, values: Floats, form: BlockFormat) -> NDArray[Any]:
    """The blocks of some rows."""
    if form is F16 and (largest := np.abs(values).max(initial=0)) >= _HALF_INFINITY:
        raise OptionError(f"tensor {tensor.name} holds {largest:g}, more than F16 can; convert with --type BF16 or F32")
    return quantize(values, form)


def _folded(source: Checkpoint, layer: int, rows: list[Row]) -> list[PlannedTensor]:
    """(x − μ) / √(σ² + ε) · γ + β as a factor and an offset, in float32."""
    tensors = [source.tensors[row.source] for row in rows]

    def folded(part: int) -> list[Floats]:
        gamma, beta, mean, variance = (tensor.values() for tensor in tensors)
        if (variance < 0).any():
            raise refuse(tensors[3].path, f"tensor {tensors[3].name} holds negative variances; fetch it again")
        factor = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
        return [(factor, beta - mean * factor)[part]]

    names = (f"a.blk.{layer}.conv_norm.weight", f"a.blk.{layer}.conv_norm.bias")
    return [PlannedTensor(name, tensors[0].shape, F32, partial(folded, part)) for part, name in enumerate(names)]


def _watched(
    plans: tuple[list[PlannedTensor], list[PlannedTensor]], progress: Callable[[float], None]
) -> tuple[list[PlannedTensor], ...]:
    """The same tensors, whose making is told as a share of all bytes."""
    total, done = sum(plan.nbytes for file in plans for plan in file), 0

    def told(plan: PlannedTensor) -> Iterator[NDArray[Any]]:
        nonlocal done
        for piece in plan.pieces():
            yield piece
            done += piece.nbytes
            progress(done / total)

    return tuple([replace(plan, pieces=partial(told, plan)) for plan in file] for file in plans)


def _text_facts(model: _Model, name: str, mix: Mix) -> Facts:
    text, sizes = model.text, model.sizes
    kv_heads = [text.size("num_key_value_heads") if kind == "full_attention" else 0 for kind in model.mixers]
    return {
        "general.architecture": "lfm2",
        "general.type": "model",
        "general.name": name,
        "lfm2.block_count": len(model.mixers),
        "lfm2.context_length": text.size("max_position_embeddings"),
        "lfm2.embedding_length": sizes["D"],
        "lfm2.feed_forward_length": sizes["F"],
        "lfm2.attention.head_count": text.size("num_attention_heads"),
        "lfm2.attention.head_count_kv": np.array(kv_heads, np.int32),
        "lfm2.rope.freq_base": model.rope_base,
        "lfm2.attention.layer_norm_rms_epsilon": text.get("norm_eps", float),
        "general.file_type": mix.file_type,
        "lfm2.vocab_size": sizes["V"],
        "lfm2.shortconv.l_cache": sizes["K"],
        "general.quantization_version": 2,
    }


def _audio_facts(model: _Model, name: str, mix: Mix) -> Facts:
    sizes = model.sizes
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": name,
        "general.file_type": mix.file_type,
        "clip.has_audio_encoder": True,
        "clip.audio.projection_dim": sizes["D"],
        "clip.audio.embedding_length": sizes["E"],
        "clip.audio.feed_forward_length": sizes["E"],  # wrong, as in the published files: readers trust the tensors
        "clip.audio.block_count": model.encoder.size("n_layers"),
        "clip.audio.attention.head_count": sizes["H"],
        "clip.projector_type": "lfm2a",
        "clip.audio.num_mel_bins": model.encoder.size("feat_in"),
        "clip.audio.attention.layer_norm_epsilon": 1e-5,
        "general.quantization_version": 2,
    }
