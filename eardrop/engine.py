"""One clip in, tokens out: the engine joins audio, text, model and search, and owns the thread they compute on.

    request (prompt with places for recordings, recordings) ─→ log-mel ─→ encoder rows ─→ prompt rows
        ─→ the decode loop of `search/batch.py`, beside other requests ─→ tokens, one by one

Callers on any thread submit requests and iterate their handles. Weights are read only; what changes belongs to the
loop's thread.
"""

import os
import queue
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import TypeAlias

import numpy as np

from eardrop.architecture import LFM2_AUDIO, Architecture, WindowSeconds
from eardrop.audio.log_mel import MelConfig
from eardrop.dialect import REFERENCE, Dialect
from eardrop.errors import AudioError, AudioTooLong, EngineClosed, OptionError
from eardrop.gguf import GgufFile
from eardrop.model.conformer import encode
from eardrop.model.decoder import embed
from eardrop.model.weights import Decoder, Encoder
from eardrop.ops import Array, Float32, Int32, framed, grouped, ragged, spans
from eardrop.ops.backend import Backend
from eardrop.search import Batch, Choice, Finish, Greedy, Look, Mask, Search, Stop, Task
from eardrop.stages import stage
from eardrop.text import Media, Part, Tokenizer

STREAMS = 10  # texts decoded at once unless told otherwise: rows that a CPU's registers have room for, most often
PATIENCE_SECONDS = 0.05  # with what can't be stopped, log-mel and compiling, when an engine is closed


@dataclass(frozen=True)
class Model:
    """Everything that was loaded; shared by all requests, changed by none."""

    name: str
    tokenizer: Tokenizer
    encoder: Encoder
    decoder: Decoder
    backend: Backend
    files: tuple[GgufFile, ...] = ()
    architecture: Architecture = LFM2_AUDIO
    languages: tuple[str, ...] = ("en",)  # it writes, its own first
    windows: WindowSeconds = LFM2_AUDIO.windows  # what it transcribes as one
    demonstration: str = ""  # of the pair that ships: that it only shows how things go, and how to get a real one

    @property
    def encoder_file(self) -> GgufFile:
        """The projector, whose weights only the encoder reads."""
        return self.files[-1]

    @property
    def front_end(self) -> MelConfig:
        """The family's front end with as many mel bins as this encoder hears."""
        return replace(self.architecture.front_end, mels=self.encoder.shape.mels)

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Tokens that end a transcript: the vocabulary's ends, and those with which the model leaves text."""
        written = (self.tokenizer.written(text) for text in self.architecture.ends_text)
        return self.tokenizer.stop_tokens | {token for token in written if token is not None}


@dataclass(frozen=True)
class Token:
    """One token of an answer."""

    id: int
    piece: bytes  # what it spells; part of a character, maybe
    logprob: float
    margin: float  # how far its logit stood above the next


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked: a prompt, and a recording for each of its places, as samples (N,) or encoded rows (R, n_embd)."""

    prompt: Sequence[Part]
    audio: Sequence[Float32] = ()
    search: Search = field(default_factory=Greedy)
    limit: int | None = None  # tokens; None: as many as fit
    stop: frozenset[int] | None = None  # None: the vocabulary's own ends
    allowed: Mask | None = None  # (V,) the tokens that may be said
    draft: Int32 | None = None  # (n,) what the answer may begin with: saves steps where it does, changes nothing
    look: bool = False  # whether `Handle.looked` is wanted; the prompt has one place for a recording then
    dialect: Dialect = REFERENCE


_Said: TypeAlias = "queue.SimpleQueue[Token | Float32 | Finish | BaseException]"


class Handle(Iterator[Token]):
    """An answer as it comes: iterate its tokens; `finish` says why it ended. Errors are raised where one iterates.

    Whoever holds a handle holds its engine: that isn't closed for want of anyone who knows it.
    """

    def __init__(self, engine: "Engine", task: Task, said: _Said) -> None:
        self._engine, self._task, self._said = engine, task, said
        self._end: Finish | BaseException | None = None
        self._looked: Float32 | None = None
        self._process = os.getpid()

    @property
    def finish(self) -> Finish | None:
        """Why the answer ended; None until the last token was read, and after an error."""
        return self._end if isinstance(self._end, Finish) else None

    @property
    def looked(self) -> Float32 | None:
        """Where the model looked for each token of a complete answer, (tokens, heads of all layers, R).

        Parts of a softmax over all rows before, those of the recording's R rows of 80 ms. None unless the request asked
        for it, until the last token was read, and of an answer that was cancelled.
        """
        return self._looked

    def cancel(self) -> None:
        """End the answer now; tokens said so far remain to be read.

        What is computed for it alone ends within a kernel; what others share goes on for them.
        """
        self._said.put(Finish.CANCELLED)  # first: what comes behind the end of an answer is not read
        self._engine._batch.cancel(self._task)

    def __next__(self) -> Token:
        if self._end is None:
            _check_process(self._process)  # nobody would ever say anything
            message = self._said.get()
            if isinstance(message, Token):
                return message
            if isinstance(message, np.ndarray):  # the last before the end
                self._looked = message
                return next(self)
            self._end = message
        if isinstance(self._end, BaseException):
            raise self._end
        raise StopIteration


def _say(tokenizer: Tokenizer, said: _Said, choice: Choice) -> None:
    """A choice becomes a token of an answer. No method of `Handle`: the loop must not keep handles alive."""
    said.put(Token(choice.token, tokenizer.piece(choice.token), choice.logprob, choice.margin))


def _look(prompt: Sequence[Part], said: _Said) -> Look:
    """Where the rows of a prompt's only recording lie."""
    place = next(place for place, part in enumerate(prompt) if isinstance(part, Media))
    before, after = (
        sum(len(part) for part in parts if not isinstance(part, Media)) for parts in (prompt[:place], prompt[place:])
    )
    return Look(before, after, said.put)


class Engine:
    """A loaded model and the thread it computes on. Safe to share between threads; not to carry across a fork."""

    def __init__(self, model: Model, *, streams: int = STREAMS, kv: str | None = None) -> None:
        if streams < 1:
            raise OptionError(f"streams is {streams}, expected at least 1")
        if kv is not None and kv not in model.backend.kv_types:
            kinds = " or ".join(model.backend.kv_types)
            raise OptionError(f"kv is {kv!r}, expected {kinds}, which backend {model.backend.name!r} has")
        self.model, self.streams = model, streams
        self._listener = _Listener(model)
        self._batch = Batch(model.decoder, model.backend, _Preparer(model, self._listener), streams, kv)
        self._thread = threading.Thread(target=self._batch.run, name="eardrop-decode", daemon=True)
        self._process = os.getpid()
        # not a method of ours: the thread must not keep an engine alive that everyone forgot
        self.close = weakref.finalize(self, _close, self._batch, self._thread, os.getpid())
        self._thread.start()

    def submit(self, request: Request) -> Handle:
        """Ask; the request joins the others at the next step. Raises what can be known at once."""
        self._check_alive()
        self._check_prompt(request)
        stop = self.model.tokenizer.stop_tokens if request.stop is None else request.stop
        said: _Said = queue.SimpleQueue()
        task = Task(
            request,
            request.search,
            Stop(stop, request.limit),
            partial(_say, self.model.tokenizer, said),
            said.put,
            request.allowed,
            () if request.draft is None else request.draft.tolist(),
            _look(request.prompt, said) if request.look else None,
        )
        self._batch.submit(task)
        return Handle(self, task, said)

    def _check_prompt(self, request: Request) -> None:
        if request.limit is not None and request.limit < 0:
            raise OptionError(f"the limit is {request.limit} tokens, expected 0 or more, or None for as many as fit")
        places = sum(isinstance(part, Media) for part in request.prompt)
        if places != len(request.audio):
            raise OptionError(f"the prompt has {places} places for recordings, and {len(request.audio)} were given")
        if request.look and places != 1:
            raise OptionError(f"the prompt has {places} places for recordings, expected 1 to see where the model looks")
        for part in (*request.prompt, *(() if request.draft is None else (request.draft,))):
            if not isinstance(part, Media):
                self._check_ids(part)
        for audio in request.audio:
            self._check_audio(audio)

    def encode(self, samples: Float32, *, dialect: Dialect = REFERENCE) -> Float32:
        """Samples (N,), mono, 16 kHz → rows (R, n_embd) as the decoder reads them, one per 80 ms."""
        self._check_alive()
        self._check_audio(samples)
        download, listener = self.model.backend.download, self._listener
        rows = self._batch.call(lambda: download(listener.encoded([samples], dialect)[0]))
        return np.array(rows, np.float32)

    def _check_alive(self) -> None:
        _check_process(self._process)
        if not self._thread.is_alive():
            raise EngineClosed("the engine was closed; load the model again")
        for file in self.model.files:
            file.check_unchanged()

    def _check_ids(self, ids: Int32) -> None:
        if not isinstance(ids, np.ndarray) or ids.dtype != np.int32 or ids.ndim != 1:
            found = f"{ids.dtype} {ids.shape}" if isinstance(ids, np.ndarray) else type(ids).__name__
            raise OptionError(f"a part of the prompt is {found}, expected MEDIA or token ids (n,) of int32")
        size = self.model.tokenizer.vocabulary_size
        foreign = ids[(ids < 0) | (ids >= size)]
        if foreign.size:
            raise OptionError(f"the prompt holds token {foreign[0]}, and the vocabulary has 0 to {size - 1} alone")

    def _check_audio(self, audio: Float32) -> None:
        architecture, shape = self.model.architecture, self.model.encoder.shape
        if not isinstance(audio, np.ndarray) or audio.dtype.kind != "f":
            found = f"an array of {audio.dtype}" if isinstance(audio, np.ndarray) else type(audio).__name__
            raise OptionError(f"a recording is {found}, expected an array of float32; eardrop.read_audio makes one")
        if not np.isfinite(audio).all():
            raise AudioError("a recording holds NaN or infinity, expected numbers in about [-1, 1]; repair or scale it")
        if audio.ndim == 2 and audio.shape[1] == shape.out:
            return
        if audio.ndim != 1:
            expected = f"(N,) samples or (R, {shape.out}) encoded rows"
            raise OptionError(f"a recording has the shape {audio.shape}, expected {expected}")
        seconds = len(audio) / architecture.front_end.rate
        if seconds > architecture.most_seconds:
            most = f"one window holds at most {architecture.most_seconds:g}"
            raise AudioTooLong(f"the recording has {seconds:.2f} seconds, and {most}; cut it into shorter files")

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_process(process: int) -> None:
    """Raise where the thread that computes stayed behind in another process."""
    if os.getpid() != process:
        raise EngineClosed("the model was loaded before this process was forked; load it here")


def _close(batch: Batch, thread: threading.Thread, process: int) -> None:
    if os.getpid() == process:
        batch.close()
        thread.join(PATIENCE_SECONDS)


@dataclass
class _Listener:
    """Clips become rows, as many seconds of them at a time as the backend takes.

    After the first, the encoder's weights are given back: the decoder's are read only then, so a process that
    transcribes once never holds both. Later both are wanted again and again, and reading pages anew would cost time.
    """

    model: Model
    gave_back: bool = False

    def encoded(self, clips: Sequence[Float32], dialect: Dialect) -> list[Array]:
        """The rows of each clip."""
        model, half = self.model, dialect.half_first_convolution
        found: list[Array] = []
        most = model.backend.together_seconds * model.architecture.front_end.rate
        for some in grouped([len(clip) for clip in clips], most):
            with stage("log-mel"):
                mels = self._heard(clips[some])
            with stage("encoder"):
                rows, offsets = encode(model.encoder, mels, model.backend, half_input=half)
            found += [rows[span] for span in spans(offsets)]
        if not self.gave_back:
            model.encoder_file.give_back()
            self.gave_back = True
        return found

    def _heard(self, clips: Sequence[Float32]) -> list[Array]:
        """The log-mel frames of each clip."""
        ops, front_end = self.model.backend, self.model.front_end
        samples, offsets = np.concatenate(clips, dtype=np.float32), ragged(*map(len, clips))
        frames = ops.log_mel(ops.upload(samples), offsets, front_end)
        return [frames[span] for span in spans(framed(offsets, front_end))]


@dataclass(frozen=True)
class _Preparer:
    """Requests become prompt rows: all their clips are encoded in one batch per dialect."""

    model: Model
    listener: _Listener

    def __call__(self, requests: Sequence[Request]) -> list[Array]:
        rows: dict[tuple[int, Dialect], Array] = {}  # one recording may be asked about in both dialects at once
        for dialect in {request.dialect for request in requests}:
            clips = [a for request in requests if request.dialect == dialect for a in request.audio if a.ndim == 1]
            if clips:
                encoded = self.listener.encoded(clips, dialect)
                rows.update(((id(clip), dialect), part) for clip, part in zip(clips, encoded, strict=True))
        return [self._assembled(request, rows) for request in requests]

    def _assembled(self, request: Request, rows: dict[tuple[int, Dialect], Array]) -> Array:
        """The prompt's parts in order, recordings in their places."""
        upload, audio = self.model.backend.upload, iter(request.audio)
        recordings = (rows[id(a), request.dialect] if a.ndim == 1 else upload(a) for a in audio)
        parts = [next(recordings) if isinstance(part, Media) else part for part in request.prompt]
        return embed(self.model.decoder, parts, self.model.backend)
