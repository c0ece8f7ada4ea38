"""`load`: a name or files become a recogniser."""

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from eardrop.architecture import DEMONSTRATION_WINDOWS, LFM2_AUDIO
from eardrop.backends import choose
from eardrop.engine import STREAMS, Engine, Model
from eardrop.errors import ModelFileError
from eardrop.gguf import GgufFile, open_gguf
from eardrop.hub import DEMONSTRATION, fetch, find_projector, is_bundled, locate
from eardrop.model.kinds import Kind, require
from eardrop.model.shape import DecoderShape, EncoderShape, decoder_shape, encoder_shape
from eardrop.model.weights import load_decoder, load_encoder
from eardrop.ops.backend import Backend
from eardrop.printable import printable
from eardrop.stages import stage
from eardrop.text import Tokenizer, check_template

if TYPE_CHECKING:
    from eardrop.transcribe import Recognizer


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    projector: str | os.PathLike[str] | None = None,
    backend: str = "auto",
    threads: int | None = None,
    precision: str = "float32",
    gpu_memory: int | None = None,
    kv: str | None = None,
    streams: int = STREAMS,
    progress: Callable[[float], None] = lambda share: None,
    fetching: Callable[[int, int], None] = lambda here, of: None,
) -> "Recognizer":
    """A recogniser from a pair of GGUF files.

    model      the text model, or a folder that holds the pair; or a name on the hub, USER/REPO[@REVISION][:TYPE],
               which is fetched unless it is in the cache; None: EARDROP_MODEL, else the default set with
               `eardrop models use`, else the pair that ships
    projector  the projector (mmproj); None finds it beside the text model
    backend    "auto" or a name from `eardrop info`
    threads    that compute; None is one for each physical core this process may use
    precision  of products with weights that aren't quantised, where many rows are multiplied, and of the encoder's
               attention: "float32", or "bf16", faster and rounded to eight bits, where the backend has it
    gpu_memory bytes of a GPU's for copies of weights in half precision, which products of many rows take; 0 for none;
               None is a quarter of what is free
    kv         type of the cached keys and values; None is the backend's own
    streams    texts that are decoded at once
    progress   told the share of the tensors that are loaded, 0 to 1
    fetching   told the bytes that are here and those of both files, while a name is fetched

    Raises ModelFileError for files that are missing, damaged, or not what they should be, FetchError for a name that
    can't be fetched.
    """
    from eardrop.transcribe import Recognizer  # not at the start: `load_model` needs none, and `run` wants to be quick

    chosen = choose(backend, threads=threads, precision=precision, gpu_memory=gpu_memory)
    return Recognizer(Engine(load_model(model, projector, chosen, progress, fetching), streams=streams, kv=kv))


def load_model(
    model: str | os.PathLike[str] | None,
    projector: str | os.PathLike[str] | None,
    backend: Backend,
    progress: Callable[[float], None] = lambda share: None,
    fetching: Callable[[int, int], None] = lambda here, of: None,
) -> Model:
    """The weights and tokenizer of a pair, on a backend."""
    with stage("load"):
        return _loaded(*_opened(model, projector, fetching), backend, progress)


def _opened(
    model: str | os.PathLike[str] | None,
    projector: str | os.PathLike[str] | None,
    fetching: Callable[[int, int], None],
) -> tuple[GgufFile, GgufFile]:
    """The pair, each file what it should be; of what is no model at all no projector is looked for."""
    files = locate(model, projector, fetched=partial(fetch, told=fetching))
    text = open_gguf(files.text)
    require(text, Kind.TEXT)
    audio = open_gguf(find_projector(text.path, files.projector))
    require(audio, Kind.PROJECTOR)
    return text, audio


def _loaded(text: GgufFile, audio: GgufFile, backend: Backend, progress: Callable[[float], None]) -> Model:
    check_template(text.facts.get("tokenizer.chat_template"), printable(str(text.path)))
    decoder, encoder = decoder_shape(text), encoder_shape(audio)
    tokenizer = Tokenizer.from_facts(text.facts, printable(str(text.path)))
    bundled = is_bundled(text.path)
    _check_match(text, audio, decoder, encoder, tokenizer)
    told = _counted(progress, len(text.tensors) + len(audio.tensors))
    model = Model(
        name=printable(text.path.name.removesuffix(".gguf")),
        tokenizer=tokenizer,
        encoder=load_encoder(audio, encoder, backend, told),
        decoder=load_decoder(text, decoder, backend, told),
        backend=backend,
        files=(text, audio),
        languages=LFM2_AUDIO.languages(text.facts, text.path.name),
        windows=DEMONSTRATION_WINDOWS if bundled else LFM2_AUDIO.windows,
        demonstration=DEMONSTRATION if bundled else "",
    )
    progress(1.0)  # whatever a file holds besides
    return model


def _check_match(
    text: GgufFile, audio: GgufFile, decoder: DecoderShape, encoder: EncoderShape, tokenizer: Tokenizer
) -> None:
    """The two files belong together, and the vocabulary to the embedding."""
    if encoder.out != decoder.width:
        raise ModelFileError(
            f"{printable(str(audio.path))}: speaks in rows of {encoder.out}, but {printable(text.path.name)} reads rows"
            f" of {decoder.width}; the projector belongs to another model"
        )
    if tokenizer.vocabulary_size != decoder.vocabulary:
        raise ModelFileError(
            f"{printable(str(text.path))}: has {tokenizer.vocabulary_size} tokens, but token_embd.weight has"
            f" {decoder.vocabulary} rows; re-download or re-convert the file"
        )


def _counted(progress: Callable[[float], None], tensors: int) -> Callable[[str], None]:
    """Names of tensors, as they are taken (some more than once), into a share of all."""
    taken = set[str]()

    def told(name: str) -> None:
        taken.add(name)
        progress(min(1.0, len(taken) / tensors))

    return told
