"""What is verified: files and recordings, and the parts of the engine, each loaded when it is first needed.

The tokenizer needs metadata alone, a layer its own tensors, the encoder the projector; only what listens or speaks
needs everything.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from eardrop.audio import log_mel, read
from eardrop.dialect import REFERENCE
from eardrop.engine import Engine, Model
from eardrop.gguf import GgufFile, GgufTensor
from eardrop.loading import load_model
from eardrop.model.conformer import encode
from eardrop.model.decoder import decoder_layer, embed, prefill
from eardrop.model.shape import DecoderShape, EncoderShape, decoder_shape, encoder_shape
from eardrop.model.state import ConvState, KVCache, Streams
from eardrop.model.weights import Decoder, DecoderLayer, Encoder, load_encoder, load_layer
from eardrop.ops import Arithmetic, Float32
from eardrop.ops.backend import Backend
from eardrop.printable import printable
from eardrop.text import MEDIA, Media, Tokenizer, prompt
from eardrop.transcribe import Recognizer


class Precision(Enum):
    """How exactly a model computes, by its weights and its backend; the coarser of the two."""

    FLOAT32 = "float32"
    HALF = "16-bit"
    BLOCKS = "quantised"


# What a format's values are, and how products are taken.
_FORMATS = {"F32": Precision.FLOAT32, "F16": Precision.HALF, "BF16": Precision.HALF}
_PRODUCTS = {
    Arithmetic.FLOAT32: Precision.FLOAT32,
    Arithmetic.FLOAT16: Precision.HALF,
    Arithmetic.BFLOAT16: Precision.HALF,
    Arithmetic.INT8: Precision.BLOCKS,
}
_COARSER = list(Precision)

# Names as converters write them: "LFM2.5 Audio 1.5B", "lfm2-audio-1.5b"; the first that fits, for they hold each other.
# Of the Japanese model nothing but its tokenizer was published: no value of the other two is its own.
_FAMILIES = (
    ("LFM2.5-JP", re.compile(r"lfm2[._]5.*[-_ ]jp(?![a-z])", re.I)),
    ("LFM2.5", re.compile(r"lfm2[._]5", re.I)),
    ("LFM2", re.compile(r"lfm2[-_ .]*audio", re.I)),
)


@dataclass(frozen=True)
class LayerRun:
    """What one decoder layer made of the rows it was given."""

    rows: Float32  # (n, D) of the last part
    gated: Float32 | None  # (N, D) gated inputs of all parts, where it convolves
    keys: Float32 | None  # (N, KV, d) where it attends
    values: Float32 | None


class Subject:
    """The thing that is verified.

    text, projector  the model's files, where they were given
    clips            recordings by the ids of reference.json
    family           the published model it is; None where it can't be told
    hashing          whether whole files may be read for their digests
    """

    def __init__(
        self,
        backend: Backend,
        *,
        text: GgufFile | None = None,
        projector: GgufFile | None = None,
        clips: Mapping[str, Path] | None = None,
        family: str | None = None,
        hashing: bool = False,
    ) -> None:
        self.backend, self.clips, self.hashing = backend, dict(clips or {}), hashing
        self.files = {"text": text, "projector": projector}
        self.family = family or family_of([file for file in (text, projector) if file])

    @property
    def text(self) -> GgufFile:
        """The text model."""
        return self._file("text")

    @property
    def projector(self) -> GgufFile:
        """The projector."""
        return self._file("projector")

    def _file(self, name: str) -> GgufFile:
        file = self.files[name]
        assert file is not None, "ask `files` first"
        return file

    def precision(self, tensors: Sequence[GgufTensor]) -> Precision:
        """How exactly a network with these weights computes here."""
        # norms, biases and kernels are float32 in every file; matrices say how a network was quantised
        formats = {tensor.format.name: tensor.format for tensor in tensors if len(tensor.shape) == 2}
        known = [_FORMATS.get(name, Precision.BLOCKS) for name in formats]
        products = [_PRODUCTS[self.backend.arithmetic(format_)] for format_ in formats.values()]
        return max([*known, *products], key=_COARSER.index, default=Precision.FLOAT32)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """From metadata alone."""
        return Tokenizer.from_facts(self.text.facts, printable(self.text.path.name))

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Those of the engine, asked of a model that has nothing but a tokenizer."""
        nothing: Any = None
        return Model("", self.tokenizer, nothing, nothing, self.backend).stop_tokens

    def prompt(self, system: str) -> tuple[list[int], list[int]]:
        """The ids before and behind the place of a recording."""
        parts = prompt(self.tokenizer, system=system, user=[MEDIA], dialect=REFERENCE)
        before, behind = (part.tolist() for part in parts if not isinstance(part, Media))
        return before, behind

    @cached_property
    def decoder_shape(self) -> DecoderShape:
        """The text model's facts."""
        return decoder_shape(self.text)

    @cached_property
    def encoder_shape(self) -> EncoderShape:
        """The projector's facts."""
        return encoder_shape(self.projector)

    def samples(self, clip: str) -> Float32:
        """A recording as the engine hears it: mono, 16 kHz."""
        return read(self.clips[clip])

    def mel(self, clip: str, samples: int | None = None) -> Float32:
        """The mel frames (T, M) of a recording, or of its first so many samples."""
        return log_mel(self.samples(clip)[:samples])

    def layer(self, index: int, parts: Sequence[Float32]) -> LayerRun:
        """One layer alone, given parts of a sequence, one after another; only its tensors are loaded."""
        ops, whole = self.backend, self.decoder_shape
        weights = load_layer(self.text, whole, ops, index)
        shape = replace(whole, mixers=(whole.mixers[index],))
        streams = Streams(shape, ops, slots=1, rows=sum(map(len, parts)), kv=self._exact_cache)
        slot, gated, rows = streams.join(), [], parts[0]
        for part in parts:
            places = streams.places([slot], [len(part)])
            w, state = _decoder_of(shape, weights), streams.layers[0]
            out, u = decoder_layer(w, weights, ops.upload(part), state, places, ops, f"lfm.layers.{index}")
            streams.advance([slot], [len(part)])
            rows = ops.download(out)
            gated += [] if u is None else [np.array(ops.download(u))]
        return _run_of(rows, gated, streams.layers[0], slot, int(streams.position[slot]), ops)

    @property
    def _exact_cache(self) -> str:
        """Keys and values are kept as exactly as the backend can."""
        types = self.backend.kv_types
        return "float32" if "float32" in types else types[0]

    @cached_property
    def encoder(self) -> Encoder:
        """The projector's weights; those of the recogniser, once there is one."""
        if "recognizer" in self.__dict__:
            return self.recognizer.model.encoder
        return load_encoder(self.projector, self.encoder_shape, self.backend)

    def encoded(self, mel: Float32) -> Float32:
        """Mel frames → rows (R, n_embd)."""
        rows, _ = encode(self.encoder, [self.backend.upload(mel)], self.backend)
        return np.array(self.backend.download(rows), np.float32)

    @cached_property
    def recognizer(self) -> Recognizer:
        """Everything."""
        self.__dict__.pop("encoder", None)  # not twice in memory
        model = load_model(self.text.path, self.projector.path, self.backend)
        return Recognizer(Engine(model, streams=1, kv=self._exact_cache))

    def transcript(self, clip: str) -> str:
        """What a user gets."""
        return self.recognizer.transcribe(self.clips[clip]).text

    def spoken(self, clip: str, system: str, most: int) -> list[int]:
        """The tokens of a transcript, greedily, without the one that ends it; at most so many."""
        said = [
            token.id for token in self.recognizer.generate(system=system, audio=self.samples(clip), max_tokens=most)
        ]
        return list(takewhile(lambda token: token not in self.stop_tokens, said))

    def logits(self, clip: str, system: str, ids: Sequence[int] = ()) -> Float32:
        """(V,) the logits of the next token, when a transcript has begun with these."""
        w, ops = self.recognizer.model.decoder, self.backend
        before, behind = self.prompt(system)
        parts = [np.array(before, np.int32), self.encoded(self.mel(clip)), np.array([*behind, *ids], np.int32)]
        rows = embed(w, [ops.upload(part) for part in parts], ops)
        streams = Streams(w.shape, ops, slots=1, rows=len(rows), kv=self._exact_cache)
        return np.array(ops.download(prefill(w, [rows], streams, [streams.join()], ops)[0]), np.float32)

    def close(self) -> None:
        """Stop what was started."""
        if "recognizer" in self.__dict__:
            self.recognizer.close()


def family_of(files: Sequence[GgufFile]) -> str | None:
    """The published model that these files are, by what they call themselves and how they are called."""
    named = [file.facts.get(key) for key in ("general.name", "general.basename") for file in files]
    for name in (*named, *(file.path.name for file in files)):
        for family, pattern in _FAMILIES:
            if isinstance(name, str) and pattern.search(name):
                return family
    return None


def _decoder_of(shape: DecoderShape, layer: DecoderLayer) -> Decoder:
    """A decoder of which nothing but one layer will be asked."""
    nothing: Any = None
    return Decoder(shape, nothing, (layer,), nothing, nothing)


def _run_of(
    rows: Float32, gated: list[Float32], state: KVCache | ConvState, slot: int, filled: int, ops: Backend
) -> LayerRun:
    if isinstance(state, ConvState):
        return LayerRun(rows, np.concatenate(gated), None, None)
    keys, values = (np.asarray(ops.download(x[slot]), np.float32)[:filled] for x in (state.keys, state.values))
    return LayerRun(rows, None, keys, values)
