"""The performance review of one journey, recording to text: where the time goes, and how much of the machine is used.

    start     a new process, until it could run: interpreter and imports
    load      files to a model, the pages of the files being in the system's cache
    whole     one recording to text with a model that has been used before, and within it
              audio and in it resample, log-mel, encoder, prefill, token, detokenise

A stage is listed with the time inside itself and with the stages it holds. The engine computes on a thread of its
own: what `whole` has to itself is the time in which no stage was under way on any thread.
"""

import dataclasses
import datetime
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eardrop.audio import log_mel, read
from eardrop.backends import BACKENDS, choose
from eardrop.bench import gpu, machine
from eardrop.bench.noise import figure
from eardrop.bench.ops import of_model
from eardrop.cores import usable_cores
from eardrop.engine import Model
from eardrop.errors import OptionError
from eardrop.loading import load, load_model
from eardrop.stages import timing
from eardrop.transcribe import Recognizer

SCHEMA = 1  # of the JSON; another number where the meaning of a key changes
RUNS = 9
LOAD_SECONDS = 20.0  # loads are repeated until there are as many as runs, or this much time is spent

# a process that did nothing else: the one that measures loaded the model several times
_PEAK = """
import sys
from eardrop.bench.machine import peak_memory
from eardrop.loading import load
model, projector, audio, tokens, threads, backend, precision, gpu_memory = sys.argv[1:]
how = {"threads": int(threads), "precision": precision, "gpu_memory": int(gpu_memory) if gpu_memory else None}
with load(model, projector=projector or None, backend=backend, **how) as asr:
    asr.transcribe(audio, max_tokens=int(tokens))
print(peak_memory() or "")
"""
_START = "import time, eardrop.cli.transcribe; print(time.monotonic_ns())"  # the clock is the machine's, not ours


@dataclass(frozen=True)
class Question:
    """What is measured."""

    model: Path
    projector: Path | None
    audio: Path
    tokens: int = 20
    runs: int = RUNS
    threads: int | None = None
    backend: str = "auto"
    precision: str = "float32"
    gpu_memory: int | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "runs"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}, expected at least 1")

    @property
    def computing(self) -> int:
        """Threads that compute."""
        return self.threads or usable_cores()


@dataclass(frozen=True)
class Span:
    """One stage, once: from when to when, on which thread."""

    name: str
    start: float
    end: float
    thread: int

    @property
    def seconds(self) -> float:
        """How long it took, with all it holds."""
        return self.end - self.start


def own_seconds(span: Span, spans: Sequence[Span], *, any_thread: bool = False) -> float:
    """The time of a span in which none of the others within it was under way: on its thread, or on any."""
    spent, reached = 0.0, span.start
    for other in sorted(spans, key=lambda other: other.start):
        within = other is not span and span.start <= other.start and other.end <= span.end
        if within and (any_thread or other.thread == span.thread):
            spent += max(0.0, other.end - max(reached, other.start))
            reached = max(reached, other.end)
    return span.seconds - spent


@dataclass(frozen=True)
class Run:
    """One recording to text."""

    whole: Span
    spans: Sequence[Span]
    first_text: float | None  # seconds until the first of it was told
    text: str
    audio_seconds: float
    joules: float | None

    def each(self, stage: str) -> list[float]:
        """The seconds of each time the stage was gone through."""
        return [span.seconds for span in self.spans if span.name == stage]

    def own(self, stage: str) -> float:
        """Seconds of the stage in all, without the stages it holds."""
        return sum(own_seconds(span, self.spans) for span in self.spans if span.name == stage)


def review(question: Question, *, told: Callable[[str], None] = lambda text: None, operations: bool = False) -> Any:
    """Measure; returns what is written as JSON (benchmarks/README.md says what the keys mean).

    told        given a line before each part, for people who wait
    operations  also time every operation below the stages, in a run of its own
    """
    told("starting processes")
    starts = [start_seconds() for _ in range(question.runs + 1)][1:]
    told("loading")
    asr, loads = _loaded(question)
    with asr:
        told("transcribing")
        runs = [transcribed(asr, question) for _ in range(question.runs + 1)][1:]
        report = _described(question, asr.model, runs[0])
        report["stages"] = [_alone("start", starts), _alone("load", loads), *_stages(runs)]
        model = asr.model
    told("reading memory")
    roof = gpu.roof(model) if BACKENDS[model.backend.name].on_gpu else None
    bandwidth = machine.read_bandwidth(question.computing) if roof is None else list(roof.bandwidth)
    report["figures"] = _figures(runs, peak_memory(question), weight_bytes(model), bandwidth)
    if roof is not None:
        told("measuring the GPU")
        mel = log_mel(read(question.audio), model.front_end)
        report["gpu"] = gpu.measured(model, mel, roof, tokens=question.tokens, runs=question.runs)
    if operations:
        told("timing operations")
        report["operations"] = _operations(question)
        report["product_peak"] = machine.product_peak() if roof is None else max(roof.products)
    return report


def start_seconds() -> float:
    """From the birth of a process until it has imported all that `eardrop transcribe` needs."""
    before = time.monotonic_ns()
    done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True)
    return (int(done.stdout) - before) / 1e9


def peak_memory(question: Question) -> int | None:
    """The most bytes of memory that a process holds which loads the model and transcribes once."""
    words = [question.model, question.projector or "", question.audio, question.tokens, question.computing]
    memory = "" if question.gpu_memory is None else str(question.gpu_memory)
    command = [sys.executable, "-c", _PEAK, *map(str, words), question.backend, question.precision, memory]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout) if done.stdout.strip() else None


def _loaded(question: Question) -> tuple[Recognizer, list[float]]:
    """The recogniser and the seconds of each load but the first, which may read from the disk."""
    seconds: list[float] = []
    while True:
        started = time.perf_counter()
        asr = load(
            question.model,
            projector=question.projector,
            backend=question.backend,
            threads=question.threads,
            precision=question.precision,
            gpu_memory=question.gpu_memory,
        )
        seconds.append(time.perf_counter() - started)
        if len(seconds) > question.runs or (len(seconds) > 1 and sum(seconds) > LOAD_SECONDS):
            return asr, seconds[1:]
        asr.close()


def transcribed(asr: Recognizer, question: Question) -> Run:
    """One run, watched."""
    spans: list[Span] = []
    told: list[float] = []

    def ended(name: str, seconds: float) -> None:
        now = time.perf_counter()
        spans.append(Span(name, now - seconds, now, threading.get_ident()))

    joules = machine.energy()
    started = time.perf_counter()
    with timing(ended):
        result = asr.transcribe(
            question.audio,
            max_tokens=question.tokens,
            told=lambda text: told.append(time.perf_counter()) if text else None,
        )
    whole = Span("whole", started, time.perf_counter(), threading.get_ident())
    after = machine.energy()
    spent = None if joules is None or after is None or after < joules else after - joules  # the counter may turn over
    first = told[0] - started if told else None
    return Run(whole, spans, first, result.text, result.duration, spent)


def weight_bytes(model: Model) -> int:
    """Bytes of weights that a step of one stream reads: the text model's tensors, once each.

    The embedding is read whole as the head, and a row of it as the token; keys and values are not counted.
    """
    return sum(tensor.raw.nbytes for tensor in model.files[0].tensors.values())


def sha256(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(question: Question, model: Model, run: Run) -> dict[str, Any]:
    """All that the figures depend on, and the answer."""
    asked = dataclasses.asdict(question)
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "flags": {name: asked[name] for name in ("tokens", "runs")}
        | {"threads": question.computing, "backend": model.backend.name},
        "files": [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in (*(file.path for file in model.files), question.audio)
        ],
        "audio_seconds": run.audio_seconds,
        "text": run.text,
    }


def _alone(name: str, seconds: list[float]) -> dict[str, Any]:
    """A stage that holds no other and happens once."""
    spent = figure(seconds, "s", "lower")
    return {"stage": name, "calls": 1, "own": spent, "inclusive": spent}


def _stages(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The stages in the order in which they first ended, then the whole."""
    names = list(dict.fromkeys(span.name for span in runs[0].spans))
    lines = [
        {
            "stage": name,
            "calls": len(runs[0].each(name)),
            "own": figure([run.own(name) for run in runs], "s", "lower"),
            "inclusive": figure([sum(run.each(name)) for run in runs], "s", "lower"),
        }
        for name in names
    ]
    own = [own_seconds(run.whole, run.spans, any_thread=True) for run in runs]
    whole = {"stage": "whole", "calls": 1, "own": figure(own, "s", "lower")}
    return [*lines, whole | {"inclusive": figure([run.whole.seconds for run in runs], "s", "lower")}]


def _figures(runs: Sequence[Run], peak: int | None, step_bytes: int, bandwidth: list[float]) -> dict[str, Any]:
    """The speed that users feel, and how much of the machine it takes."""
    steps = [np.array(run.each("token")) for run in runs if run.each("token")]
    firsts = [run.first_text for run in runs if run.first_text is not None]
    best = max(bandwidth)
    joules = [run.joules for run in runs if run.joules is not None]
    return {
        "tokens a second": figure([1 / t.mean() for t in steps], "tokens/s", "higher"),
        "times real time": figure([run.audio_seconds / run.whole.seconds for run in runs], "×", "higher"),
        "first text": figure(firsts, "s", "lower"),
        "token p50": figure([float(np.percentile(t, 50)) for t in steps], "s", "lower"),
        "token p95": figure([float(np.percentile(t, 95)) for t in steps], "s", "lower"),
        "peak memory": figure(None if peak is None else [peak], "bytes", "lower"),
        "energy": figure(joules, "J", "lower"),
        "read bandwidth": figure(bandwidth, "bytes/s", "higher"),
        "weights of a token": figure([step_bytes], "bytes", "lower"),
        "share of bandwidth": figure([step_bytes / float(np.median(t)) / best for t in steps], "share", "higher"),
    }


def _operations(question: Question) -> list[dict[str, Any]]:
    """Every operation below the stages, the longest first."""
    backend = choose(
        question.backend, threads=question.threads, precision=question.precision, gpu_memory=question.gpu_memory
    )
    speeds = of_model(
        lambda timed: load_model(question.model, question.projector, timed),
        read(question.audio),
        backend,
        tokens=question.tokens,
    )
    keys = ("op", "calls", "seconds", "flops", "bytes")
    return [{key: getattr(speed, key) for key in keys} for speed in speeds]
