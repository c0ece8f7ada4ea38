"""What this engine has for each published value: a function of (subject, fact) for each kind of fact.

What they compute is read from the fact's `inputs`. The expected value is asked for names and lengths alone; only
`spoken` looks at more of it, after it has spoken.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from eardrop.model.shape import SUBSAMPLING, AttentionShape, ShortConvShape
from eardrop.ops import Float32
from eardrop.text import TokenKind
from eardrop.tools.published import Fact, published
from eardrop.tools.subject import Subject


def shipped_norms(subject: Subject, fact: Fact) -> dict[str, Float32]:
    """The norms of the arrays that ship with the package: whether they are what their source had."""
    values = {name: published().facts[name].value for name in fact.value}
    return {name: np.linalg.norm(x["rows"] if isinstance(x, dict) else x, axis=1) for name, x in values.items()}


def decoder_shape(subject: Subject, fact: Fact) -> dict[str, Any]:
    """The text model's facts; its layers as a word."""
    shape = subject.decoder_shape
    attends = next((mixer for mixer in shape.mixers if isinstance(mixer, AttentionShape)), None)
    convolves = next((mixer for mixer in shape.mixers if isinstance(mixer, ShortConvShape)), None)
    return {
        "layers": "".join("a" if isinstance(mixer, AttentionShape) else "c" for mixer in shape.mixers),
        "width": shape.width,
        "ffn": shape.ffn,
        "heads": attends and attends.heads,
        "kv_heads": attends and attends.kv_heads,
        "head_width": attends and attends.head_width,
        "taps": convolves and convolves.taps,
        "vocabulary": shape.vocabulary,
        "context": shape.context,
    }


def encoder_shape(subject: Subject, fact: Fact) -> dict[str, int]:
    """The projector's facts."""
    return {name: getattr(subject.encoder_shape, name) for name in fact.value}


def layer_parameters(subject: Subject, fact: Fact) -> dict[str, int]:
    """The values in all tensors of some layers."""
    tensors = subject.text.tensors.values()
    return {layer: sum(t.size for t in tensors if t.name.startswith(f"blk.{layer}.")) for layer in fact.value}


def projector_tensors(subject: Subject, fact: Fact) -> dict[str, list[int] | None]:
    """The shapes of some tensors."""
    tensors = subject.projector.tensors
    return {name: list(tensors[name].shape) if name in tensors else None for name in fact.value}


def file_sizes(subject: Subject, fact: Fact) -> dict[str, int]:
    """The sizes of the model's files, by name."""
    return {file.path.name: file.total_bytes for file in (subject.text, subject.projector)}


def file_digests(subject: Subject, fact: Fact) -> dict[str, str]:
    """Their digests; reads all of them."""
    digests = {}
    for file in (subject.text, subject.projector):
        with file.path.open("rb") as stream:
            digests[file.path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def vocabulary_size(subject: Subject, fact: Fact) -> int:
    """Tokens."""
    return subject.tokenizer.vocabulary_size


def merges(subject: Subject, fact: Fact) -> int:
    """Merges."""
    return len(subject.text.fact("tokenizer.ggml.merges", list))


def bos(subject: Subject, fact: Fact) -> int | None:
    """The token that starts a conversation."""
    return subject.tokenizer.bos


def eos(subject: Subject, fact: Fact) -> int:
    """The end token of the file."""
    return subject.tokenizer.eos


def vocabulary_ends(subject: Subject, fact: Fact) -> list[int]:
    """The tokens that end an answer."""
    return sorted(subject.tokenizer.stop_tokens)


def written_tokens(subject: Subject, fact: Fact) -> dict[str, int | None]:
    """The ids of control tokens."""
    return {text: subject.tokenizer.written(text) for text in fact.value}


def special_tokens(subject: Subject, fact: Fact) -> int:
    """How many tokens are matched as written."""
    as_written = (TokenKind.CONTROL, TokenKind.UNKNOWN, TokenKind.USER_DEFINED)
    kinds = map(subject.tokenizer.kind, range(subject.tokenizer.vocabulary_size))
    return sum(kind in as_written for kind in kinds)


def encodings(subject: Subject, fact: Fact) -> dict[str, list[int]]:
    """The ids of texts."""
    return {text: subject.tokenizer.encode(text, special=True) for text in fact.value}


def decodings(subject: Subject, fact: Fact) -> list[str]:
    """The texts of ids."""
    piece = subject.tokenizer.piece
    return [b"".join(map(piece, ids)).decode("utf-8", "replace") for ids in fact.inputs["ids"]]


def prompt_prefix(subject: Subject, fact: Fact) -> list[int]:
    """The ids before the recording."""
    return subject.prompt(fact.inputs["system"])[0]


def prompt_suffix(subject: Subject, fact: Fact) -> list[int]:
    """The ids behind it."""
    return subject.prompt(fact.inputs["system"])[1]


def transcript_ends(subject: Subject, fact: Fact) -> list[int]:
    """The tokens that end a transcript."""
    return sorted(subject.stop_tokens)


def mel_frames(subject: Subject, fact: Fact) -> int:
    """How many mel frames a recording has."""
    return len(subject.mel(_clip(fact)))


def mel_points(subject: Subject, fact: Fact) -> Float32:
    """Its mel values at [bin, frame]."""
    bins, frames = np.array(fact.inputs["points"]).T
    return np.asarray(subject.mel(_clip(fact))[frames, bins])


def prompt_length(subject: Subject, fact: Fact) -> int:
    """The rows of a whole prompt."""
    before, behind = subject.prompt(fact.inputs["system"])
    return len(before) + -(-len(subject.mel(_clip(fact))) // SUBSAMPLING) + len(behind)


def layer_rows(subject: Subject, fact: Fact) -> dict[str, Float32]:
    """What a layer makes of a ramp with a ripple."""
    rows = subject.layer(fact.inputs["layer"], [ramp(fact.inputs["positions"], subject.decoder_shape.width)]).rows
    return {
        "rows": rows[fact.inputs["rows"]],
        "row_l2": np.linalg.norm(rows, axis=1),
        "row_sum": rows.sum(axis=1, dtype=np.float64).astype(np.float32),
    }


def conv_step(subject: Subject, fact: Fact) -> dict[str, Any]:
    """What a convolving layer makes of one row more, and the last gated inputs it has seen."""
    run = subject.layer(fact.inputs["layer"], _past_and_now(subject, fact))
    assert run.gated is not None, "this layer attends"
    window = run.gated[-3:].T  # (D, 3), as transformers keeps it
    return {"output": run.rows[-1], "window": window[:4], "window_l2": np.linalg.norm(window)}


def attention_step(subject: Subject, fact: Fact) -> dict[str, Any]:
    """What an attending layer makes of one row more, and the keys and values it keeps."""
    run = subject.layer(fact.inputs["layer"], _past_and_now(subject, fact))
    assert run.keys is not None, "this layer convolves"
    assert run.values is not None, "this layer convolves"
    return {
        "output": run.rows[-1],
        "keys_l2": np.linalg.norm(run.keys),
        "values_l2": np.linalg.norm(run.values),
        "first_key": run.keys[0, 0, :8],
        "last_key": run.keys[-1, 0, :8],
        "last_value": run.values[-1, 0, :8],
    }


def _past_and_now(subject: Subject, fact: Fact) -> list[Float32]:
    width = subject.decoder_shape.width
    return [waves(fact.inputs["past"], width, 0.0), waves(1, width, 1.0)]


def ramp(rows: int, width: int) -> Float32:
    """From -1 to 1 over all rows, with a ripple."""
    v = np.linspace(-1.0, 1.0, rows * width)
    return (v + 0.01 * np.sin(37.0 * v)).reshape(rows, width).astype(np.float32)


def waves(rows: int, width: int, phase: float) -> Float32:
    """Two waves that run on from row to row."""
    i = np.arange(rows * width, dtype=np.float64)
    return (0.25 * np.sin(i / 37.0 + phase) + 0.1 * np.cos(i / 101.0)).reshape(rows, width).astype(np.float32)


def first_bias(subject: Subject, fact: Fact) -> dict[str, float]:
    """The bias of the adapter's first linear."""
    sizes = np.abs(subject.projector.tensor("mm.a.mlp.1.bias").dequantize())
    return {"mean": float(sizes.mean()), "largest": float(sizes.max())}


def adapter_norms(subject: Subject, fact: Fact) -> Float32:
    """The norms of a recording's encoded rows."""
    return np.asarray(np.linalg.norm(subject.encoded(subject.mel(_clip(fact))), axis=1), np.float32)


def adapter_head(subject: Subject, fact: Fact) -> Float32:
    """The encoded rows of a recording's first mel frames."""
    return subject.encoded(subject.mel(_clip(fact))[: fact.inputs["frames"]])


def adapter_first(subject: Subject, fact: Fact) -> Float32:
    """The first values of the first encoded row of a recording's beginning."""
    mel = subject.mel(_clip(fact), fact.inputs["samples"])
    return subject.encoded(mel)[0, : len(fact.value)]


def first_logits(subject: Subject, fact: Fact) -> Float32:
    """The logits of the first token of a transcript."""
    return subject.logits(_clip(fact), fact.inputs["system"])


@dataclass(frozen=True)
class Spoken:
    """A transcript's tokens; at the first that differs, how far the published one's logit lay below the best."""

    ids: list[int]
    gap: float = 0.0


def spoken(subject: Subject, fact: Fact) -> Spoken:
    """The tokens of a transcript; one more than published may come, to see that it ends."""
    clip, system, published_ids = _clip(fact), fact.inputs["system"], list(fact.value)
    ids = subject.spoken(clip, system, len(published_ids) + 1)
    if ids == published_ids:
        return Spoken(ids)
    step = first_difference(ids, published_ids)
    logits = subject.logits(clip, system, ids[:step])
    expected = published_ids[step : step + 1] or sorted(subject.stop_tokens)
    return Spoken(ids, float(logits.max() - logits[expected].max()))


def first_difference(ids: Sequence[int], others: Sequence[int]) -> int:
    """The first place where two sequences differ; the end of the shorter, where it begins the other."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, others, strict=False)))


def transcript(subject: Subject, fact: Fact) -> str:
    """The text of a recording."""
    return subject.transcript(_clip(fact))


def _clip(fact: Fact) -> str:
    assert fact.clip is not None, f"{fact.id} names no clip"
    return fact.clip
