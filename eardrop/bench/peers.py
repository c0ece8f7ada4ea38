"""eardrop beside llama.cpp: whole processes on the same files with the same prompt, in turns, A B A B ….

    A   eardrop run --llama-compat, which tells its stages under EARDROP_DEBUG=1
    B   llama-mtmd-cli --perf -lv 4, which logs its own; or llama-cpp-python, as llama_cpp_python.py calls it

    time        birth to end of the process, model and recording being in the system's cache
    memory      the most it held (VmHWM), looked at every 10 ms
    encoder     llama-mtmd-cli: "mtmd batch encoding done in … ms", whole milliseconds; mel frames in none
    prefill     llama-mtmd-cli: "prompt eval time" less the encoder's, during which its clock runs on
    decode      tokens a second; the first token comes with the prefill and isn't among them

All run as they come, llama.cpp with its warm-up, Python with its imports: that is what people wait for.

`Llama` is llama.cpp alone, with a model in use: what its own programs measure of decode, prefill and encoder.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eardrop.audio import SAMPLE_RATE, read
from eardrop.bench import machine
from eardrop.bench.noise import estimate, paired
from eardrop.bench.review import Question
from eardrop.errors import EardropError, OptionError
from eardrop.printable import printable

LEAST_PAIRS = 5  # fewer say nothing about the noise
LOOK_SECONDS = 0.01
PROMPT_ROWS = 64  # the prompt's text, generously
ROWS_A_SECOND = 12.5  # of audio
CONTEXT_STEP = 512
FILE_WORDS = 6  # of a command, that name files: they come first
PROGRAM, PACKAGE = "llama-mtmd-cli", "llama-cpp-python"
BENCH, BATCHED = "llama-bench", "llama-batched-bench"
TRIES = 3  # for a log that llama-mtmd-cli cut short
PATIENCE = 60.0  # seconds for a program to tell its version: the package reads a hundred megabytes first
_AS_INSTALLED = {"PYTHONDONTWRITEBYTECODE": ""}  # bytecode is there: else each start would compile 100 files


@dataclass(frozen=True)
class Ended:
    """A process that ended well."""

    seconds: float
    peak_bytes: int | None
    out: str
    log: str


@dataclass(frozen=True)
class Process:
    """What one process took; None for what it did not say."""

    seconds: float
    peak_bytes: int | None
    encoder: float | None
    prefill: float | None
    decode: float | None  # tokens a second
    tokens: int | None
    text: str


FIGURES = {  # of a pair: unit, and which is better
    "seconds": ("s", "lower"),
    "peak_bytes": ("bytes", "lower"),
    "encoder": ("s", "lower"),
    "prefill": ("s", "lower"),
    "decode": ("tokens/s", "higher"),
}
NAMES = {"seconds": "time", "peak_bytes": "peak memory", "encoder": "encoder", "prefill": "prefill", "decode": "decode"}


@dataclass(frozen=True)
class Peer:
    """What eardrop is measured beside.

    command  before what both are told, and more behind it
    said     understands its log
    """

    name: str
    build: str
    command: tuple[str, ...]
    more: tuple[str, ...]
    said: Callable[[str], dict[str, Any]]

    def told(self, question: Question) -> list[str]:
        """Its words."""
        return [*_words(question), *self.more]


def peer(name: str) -> Peer:
    """What a name or path means: llama-mtmd-cli, or llama-cpp-python, of this Python or of the one that is named."""
    if name == PACKAGE:
        return _package(Path(sys.executable))
    program = find(name)
    return _package(program) if re.fullmatch(r"(python|pypy)[\d.]*t?(\.exe)?", program.name) else mtmd_cli(program)


def mtmd_cli(program: Path) -> Peer:
    """llama.cpp's own program."""
    return Peer(program.name, _build(program), (str(program),), ("--perf", "-lv", "4"), _said_by_llama)


_VERSION = "import llama_cpp, llama_cpp.mtmd_cpp; print(llama_cpp.__version__)"


def _package(python: Path) -> Peer:
    """The package of this Python."""
    done = _asked([python, "-c", _VERSION])
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise OptionError(
            f"{printable(str(python))} has no {PACKAGE} ({printable(last[0], most=200)}); {printable(str(python))}"
            f" -m pip install {PACKAGE} compiles it, or name with --against a Python that has it"
        )
    script = Path(__file__).with_name("llama_cpp_python.py")
    return Peer(PACKAGE, done.stdout.strip(), (str(python), str(script)), (), _said_by_package)


def _asked(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """A program that tells its version, ended. Raises OptionError where it has not ended in time."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PATIENCE,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        program = printable(str(command[0]))
        raise OptionError(
            f"{program} hasn't told its version within {PATIENCE:g} seconds; run it by itself, or name another"
        ) from None


def find(name: str) -> Path:
    """The program, by its path or its name on PATH."""
    found = shutil.which(name)
    if found is None:
        raise OptionError(
            f"{printable(name)!r}: no program of that name or path can be run; give --against the path of {PROGRAM}, or"
            f" of a Python that has {PACKAGE}"
        )
    return Path(found)


def against(peer: Peer, question: Question, told: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Both, in turns, after one pair that isn't counted; what the report says of it."""
    if question.runs < LEAST_PAIRS:
        raise OptionError(f"runs is {question.runs}, and beside another program at least {LEAST_PAIRS} are needed")
    if question.projector is None:
        raise OptionError("name the projector with --mmproj: llama.cpp finds none by itself")
    pairs: list[tuple[Process, Process]] = []
    for turn in range(question.runs + 1):
        told(f"pair {turn} of {question.runs}" if turn else "a pair to warm up")
        pairs.append((ours(question), theirs(peer, question)))
    a, b = zip(*pairs[1:], strict=True)
    return {
        "program": peer.name,
        "build": peer.build,
        "flags": peer.told(question)[FILE_WORDS:],
        "pairs": question.runs,
        "tokens": [next((run.tokens for run in runs if run.tokens), None) for runs in (a, b)],
        "texts": [a[0].text, b[0].text],
        "same text": a[0].text == b[0].text,
        "figures": {name: _beside(a, b, name) for name in FIGURES},
    }


def ours(question: Question, environment: Mapping[str, str] = MappingProxyType({})) -> Process:
    """One process of ours; the environment is added to this one's."""
    words = [*_words(question), "--llama-compat", "--backend", question.backend]
    return _process([sys.executable, "-m", "eardrop", "run", *words], _said_by_us, environment)


def theirs(peer: Peer, question: Question) -> Process:
    """One process of llama.cpp."""
    return _process([*peer.command, *peer.told(question)], peer.said)


def _words(question: Question) -> list[str]:
    """What both are told."""
    return [
        "-m", str(question.model), "--mmproj", str(question.projector), "--audio", str(question.audio),
        "-sys", "Perform ASR.", "-p", "<__media__>", "--temp", "0", "-n", str(question.tokens),
        "-t", str(question.computing), "-c", str(_context([question.audio], question.tokens)),
    ]  # fmt: skip


def _context(clips: Sequence[Path], tokens: int) -> int:
    """Rows that a prompt with these clips and its answer need."""
    seconds = sum(len(read(clip)) for clip in clips) / SAMPLE_RATE
    rows = PROMPT_ROWS + int(seconds * ROWS_A_SECOND) + tokens
    return -(-rows // CONTEXT_STEP) * CONTEXT_STEP


def _beside(a: Sequence[Process], b: Sequence[Process], name: str) -> dict[str, Any] | None:
    """One figure of both, and ours ÷ theirs, pair by pair; None where too few pairs have it.

    A pair is left out where one of the two doesn't say: llama-mtmd-cli now and then ends before its log is written.
    """
    every = [(getattr(x, name), getattr(y, name)) for x, y in zip(a, b, strict=True)]
    said = [(x, y) for x, y in every if x and y]  # nor where it is 0, being too short for the clock
    if len(said) < LEAST_PAIRS:
        return None
    ours, theirs = ([pair[side] for pair in said] for side in (0, 1))
    unit, better = FIGURES[name]
    return {
        "unit": unit,
        "better": better,
        "pairs": len(said),
        "ours": asdict(estimate(ours)),
        "theirs": asdict(estimate(theirs)),
        "ratio": asdict(paired(theirs, ours)),
        "samples": [ours, theirs],
    }


def _process(
    command: Sequence[str],
    said: Callable[[str], dict[str, Any]],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Process:
    """One transcription, and what its log says of it."""
    ended = run(command, environment)
    return Process(seconds=ended.seconds, peak_bytes=ended.peak_bytes, text=ended.out.strip(), **said(ended.log))


def run(command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> Ended:
    """One process, from its birth to its end. Raises EardropError where it fails."""
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **_AS_INSTALLED, "EARDROP_DEBUG": "1", **environment},
    ) as child:
        watch = _Watch(child.pid)
        try:
            out, log = child.communicate()
        except BaseException:  # Ctrl-C: nothing is left behind
            child.kill()
            raise
        finally:
            peak = watch.end()
    seconds = time.perf_counter() - started
    text = log.decode("utf-8", "replace")
    if child.returncode:
        last = text.strip().splitlines()[-1:] or ["it said nothing"]
        raise EardropError(
            f"{Path(command[0]).name} ended with {child.returncode}: {printable(last[0], most=300)}; run it by itself"
        )
    return Ended(seconds, peak, out.decode("utf-8", "replace"), text)


class _Watch:
    """Looks at a process's peak memory while it lives: what a system says of it afterwards includes its parent's."""

    def __init__(self, process: int) -> None:
        self._process, self._peak = process, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="eardrop-watch", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while True:
            self._peak = max(self._peak, machine.peak_memory(self._process) or 0)
            if self._ended.wait(LOOK_SECONDS):
                return

    def end(self) -> int | None:
        """The most bytes seen."""
        self._ended.set()
        self._thread.join()
        return self._peak or None


def _said_by_us(log: str) -> dict[str, Any]:
    """The stages of EARDROP_DEBUG=1."""
    stages: dict[str, list[float]] = {}
    for name, spent in re.findall(r"^eardrop: (\S+) +([\d.]+) ms$", log, re.MULTILINE):
        stages.setdefault(name, []).append(float(spent) / 1e3)
    steps = stages.get("token", [])
    return {
        "encoder": sum(stages["encoder"]) if "encoder" in stages else None,
        "prefill": sum(stages["prefill"]) if "prefill" in stages else None,
        "decode": len(steps) / sum(steps) if sum(steps) else None,
        "tokens": len(steps) + 1 if "prefill" in stages else None,
    }


_ENCODED = re.compile(r"(?:batch encoding done|slice encoded) in (\d+) ms")
_PROMPT = re.compile(r"prompt eval time =\s*([\d.]+) ms /\s*\d+ tokens")
_EVAL = re.compile(r"[^t] +eval time =\s*([\d.]+) ms /\s*(\d+) runs")


def _said_by_llama(log: str) -> dict[str, Any]:
    """The lines of --perf -lv 4."""
    encoded = [int(spent) / 1e3 for spent in _ENCODED.findall(log)]
    prompt, steps = _PROMPT.search(log), _EVAL.search(log)
    seconds = float(steps[1]) / 1e3 if steps else 0.0
    return {
        "encoder": sum(encoded) if encoded else None,
        "prefill": float(prompt[1]) / 1e3 - sum(encoded) if prompt else None,
        "decode": int(steps[2]) / seconds if steps and seconds else None,
        "tokens": int(steps[2]) + 1 if steps else None,
    }


def _said_by_package(log: str) -> dict[str, Any]:
    """The line of JSON that llama_cpp_python.py ends with."""
    lines = [line for line in log.splitlines() if line.startswith("{")]
    return dict(json.loads(lines[-1])) if lines else dict.fromkeys(("encoder", "prefill", "decode", "tokens"))


@dataclass(frozen=True)
class Llama:
    """llama.cpp's own programs, in one folder. Each loads its model, warms it up and measures; loads don't count."""

    folder: Path
    threads: int

    def __post_init__(self) -> None:
        for name in (PROGRAM, BENCH, BATCHED):
            find(str(self.folder / name))

    @property
    def program(self) -> Path:
        """The one that transcribes."""
        return self.folder / PROGRAM

    def decode(self, model: Path, tokens: int) -> float:
        """Tokens a second of one stream, from an empty context on."""
        return self._bench(model, 0, tokens)

    def prefill(self, model: Path, rows: int) -> float:
        """Rows a second."""
        return self._bench(model, rows, 0)

    def _bench(self, model: Path, rows: int, tokens: int) -> float:
        words = ["-m", str(model), "-p", str(rows), "-n", str(tokens), "-t", str(self.threads), "-r", "1"]
        (test,) = json.loads(run([str(self.folder / BENCH), *words, "-o", "json"]).out)
        return float(test["avg_ts"])

    def together(self, model: Path, *, rows: int, tokens: int, streams: int) -> tuple[float, float]:
        """Tokens a second of one stream, and of so many at once in all, behind prompts of so many rows."""
        words = ["-m", str(model), "-npp", str(rows), "-ntg", str(tokens), "-npl", f"1,{streams}", "-t"]
        context = -(-streams * (rows + tokens) // CONTEXT_STEP) * CONTEXT_STEP
        words += [str(self.threads), "-c", str(context), "--output-format", "jsonl"]
        out = run([str(self.folder / BATCHED), *words]).out
        speeds = [float(json.loads(line)["speed_tg"]) for line in out.splitlines() if line.startswith("{")]
        if len(speeds) != 2:
            raise EardropError(f"{BATCHED} measured {len(speeds)} batches, expected 2; run it by itself")
        return speeds[0], speeds[1]

    def encoder(self, text: Path, projector: Path, clips: Sequence[Path]) -> float:
        """Seconds for the last of these clips, which are encoded one after the other."""
        words = ["-m", str(text), "--mmproj", str(projector), "-t", str(self.threads), "-c", str(_context(clips, 1))]
        words += [word for clip in clips for word in ("--audio", str(clip))]
        words += ["-p", "<__media__>" * len(clips), "-n", "1", "--temp", "0", "--perf", "-lv", "4"]
        for _ in range(TRIES):
            encoded = _ENCODED.findall(run([str(self.program), *words]).log)
            if len(encoded) == len(clips):
                return int(encoded[-1]) / 1e3
        raise EardropError(f"{PROGRAM} didn't say how long the encoder took, {TRIES} times; run it by itself")

    def build(self) -> str:
        """What it says of itself."""
        return _build(self.program)


def _build(program: Path) -> str:
    """What it says of itself."""
    done = _asked([program, "--version"])
    lines = [line for line in (done.stderr + done.stdout).splitlines() if "version" in line or "built" in line]
    return printable("; ".join(lines), most=200)
