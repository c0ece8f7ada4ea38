"""What `eardrop info FILE.gguf` says of a file: what it is, its shape, its tensors, and which of them nobody needs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, cast

from eardrop.cli.sheet import Section
from eardrop.errors import ModelFileError
from eardrop.gguf import GgufFile, GgufTensor
from eardrop.model.kinds import Kind, kind_of
from eardrop.model.shape import AttentionShape, DecoderShape, decoder_shape, encoder_shape
from eardrop.model.weights import ALIASES, load_decoder, load_encoder
from eardrop.ops.backend import Backend
from eardrop.text import Tokenizer, check_template

NAMED = ("general.name", "general.basename", "general.size_label", "general.license", "general.quantized_by")
FEW = 12  # unused tensors that are named without being asked


def describe(file: GgufFile, *, all_tensors: bool = False) -> dict[str, Section]:
    """The sections."""
    shape, taken, problem = _looked_into(file)
    unused = [tensor for name, tensor in file.tensors.items() if name not in taken]
    waste = {"unused tensors": len(unused), "unused bytes": sum(tensor.nbytes for tensor in unused)}
    return {
        "file": {**_file(file), **waste, "problem": problem},
        "shape": shape,
        "types": _types(file),
        "not needed to recognise speech": [_row(tensor) for tensor in unused[: None if all_tensors else FEW]],
        "tensors": [_row(tensor) for tensor in file.tensors.values()] if all_tensors else [],
    }


def _file(file: GgufFile) -> dict[str, Any]:
    architecture = file.facts.get("general.architecture")  # of any kind, in a stranger's file
    values = sum(tensor.size for tensor in file.tensors.values())
    bits = 8 * sum(tensor.nbytes for tensor in file.tensors.values())
    return {
        "name": file.path.name,
        "kind": kind_of(file).value,
        "architecture": None if architecture is None else str(architecture),
        **{key: file.facts[key] for key in NAMED if isinstance(file.facts.get(key), str)},
        "bytes": file.total_bytes,
        "tensors": len(file.tensors),
        "parameters": values,
        "bits per weight": round(bits / values, 2) if values else None,
    }


def _types(file: GgufFile) -> list[dict[str, Any]]:
    """Tensors and bytes of each format, the largest first."""
    rows: dict[str, dict[str, Any]] = {}
    for tensor in file.tensors.values():
        name = tensor.format.name
        row = rows.setdefault(name, {"type": name, "tensors": 0, "parameters": 0, "bytes": 0})
        for column, more in (("tensors", 1), ("parameters", tensor.size), ("bytes", tensor.nbytes)):
            row[column] += more
    return sorted(rows.values(), key=lambda row: -row["bytes"])


def _row(tensor: GgufTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": tensor.shape,
        "type": tensor.format.name,
        "bytes": tensor.nbytes,
    }


def _looked_into(file: GgufFile) -> tuple[dict[str, Any], set[str], str | None]:
    """The shape, the tensors that recognition takes, and why the file can't be used, where it can't."""
    look = _LOOKS.get(kind_of(file))
    if look is None:
        return {}, set(), None
    taken: set[str] = set()

    def take(name: str) -> None:
        alias = ALIASES.get(name, name)
        taken.add(alias if name not in file.tensors else name)

    shape: dict[str, Any] = {}
    try:
        look(file, take, shape)
    except ModelFileError as error:
        return shape, taken, str(error)
    return shape, taken, None


def _decoder(file: GgufFile, take: Callable[[str], None], shape: dict[str, Any]) -> None:
    facts = decoder_shape(file)
    shape.update(_decoder_facts(facts))
    load_decoder(file, facts, _LISTENER, take)
    tokenizer = Tokenizer.from_facts(file.facts, file.path.name)
    shape["stop tokens"] = sorted(tokenizer.stop_tokens)
    check_template(file.facts.get("tokenizer.chat_template"), file.path.name)


def _decoder_facts(shape: DecoderShape) -> dict[str, Any]:
    attention = [mixer for mixer in shape.mixers if isinstance(mixer, AttentionShape)]
    letters = "".join("a" if isinstance(mixer, AttentionShape) else "c" for mixer in shape.mixers)
    return {
        "layers": len(shape.mixers),
        "order": f"{letters} (a attention, c short convolution)",
        "width": shape.width,
        "feed-forward width": shape.ffn,
        **({"attention heads": attention[0].heads, "key/value heads": attention[0].kv_heads} if attention else {}),
        "vocabulary": shape.vocabulary,
        "context": shape.context,
        "rope base": shape.rope_base,
        "norm epsilon": shape.epsilon,
        **{f"note {number}": note for number, note in enumerate(shape.notes, 1)},
    }


def _encoder(file: GgufFile, take: Callable[[str], None], shape: dict[str, Any]) -> None:
    facts = encoder_shape(file)
    shape.update({name.replace("_", " "): value for name, value in asdict(facts).items()})
    load_encoder(file, facts, _LISTENER, take)


_LOOKS: Mapping[Kind, Callable[[GgufFile, Callable[[str], None], dict[str, Any]], None]] = {
    Kind.TEXT: _decoder,
    Kind.PROJECTOR: _encoder,
}

# A backend that computes nothing: loading onto it tells which tensors are taken and whether each has its shape.
_LISTENER = cast(Backend, SimpleNamespace(weight=lambda tensor: tensor, upload=lambda x: x))
