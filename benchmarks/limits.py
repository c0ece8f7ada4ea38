"""Measure what the project promises of its speed beside llama.cpp, line by line, and put it into benchmarks/README.md.

    python benchmarks/limits.py --against FOLDER [--only decode,prefill] [--pairs 9] [--threads 2]

FOLDER holds llama-bench, llama-batched-bench and llama-mtmd-cli, built for this machine. Both sides take turns,
A B A B, one computing at a time. Everything takes about half an hour on two cores: let the machine do nothing else
meanwhile. What was measured is kept in benchmarks/measured.json, a machine and target each; lines that were not
measured this time stay as they were, with their date.
"""

import argparse
import datetime
import gc
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from platformdirs import user_cache_path

from eardrop.audio import SAMPLE_RATE, read
from eardrop.audio.log_mel import log_mel
from eardrop.backends import choose
from eardrop.backends.cpu.target import chosen
from eardrop.bench import machine, peers
from eardrop.bench.compare import shown
from eardrop.bench.noise import estimate
from eardrop.bench.pairs import full, thin, write_projector, write_text
from eardrop.bench.recordings import write_wav
from eardrop.bench.review import Question, weight_bytes
from eardrop.bench.warm import Warm
from eardrop.gguf import open_gguf
from eardrop.loading import load, load_model
from eardrop.transcribe import question as asking

HERE = Path(__file__).parent
README, MEASURED = HERE / "README.md", HERE / "measured.json"
BEGIN, END = "<!-- measured by limits.py -->\n", "<!-- end -->\n"
SPEECH = HERE.parent / "examples" / "harbour.flac"  # repeated or cut to the length wanted
LEAST_PAIRS = 9  # fewer prove nothing
TOKENS, ROWS, STREAMS, PROMPT = 32, 384, 8, 16
WINDOWS, WINDOW_SECONDS, WINDOW_TOKENS, MOST_BYTES = 10, 30, 100, 1.3e9  # of a recording of five minutes

Turn: TypeAlias = Callable[[], dict[str, float]]  # A, then B: what they took, by names that lines refer to


@dataclass(frozen=True)
class Rule:
    """How two figures of one turn become the number that is limited."""

    of: Callable[[float, float], float]  # ours, theirs
    sign: str
    unit: str

    def holds(self, value: float, limit: float) -> bool:
        """Whether the number keeps to its limit."""
        return value >= limit if self.sign == "≥" else value <= limit


SPEED = Rule(lambda ours, theirs: ours / theirs, "≥", "×")  # tokens a second
TIME = Rule(lambda ours, theirs: theirs / ours, "≥", "×")  # as fast
PART = Rule(lambda ours, theirs: ours / theirs, "≤", "×")
LONGER = Rule(lambda ours, theirs: ours - theirs, "≤", "s")


@dataclass(frozen=True)
class Limit:
    """What is promised of a line; with a share of the read bandwidth besides it, or instead of it."""

    value: float
    share: float | None = None
    either: bool = False


@dataclass(frozen=True)
class Line:
    """One line of the table: which figures of a contest, what becomes of them, and what is promised of it."""

    name: str
    rule: Rule
    unit: str  # of the figures
    avx2: Limit | None = None
    avx512: Limit | None = None
    ours: str = "ours"  # the figures' names in a turn
    theirs: str = "theirs"

    def limit(self, target: str) -> Limit | None:
        """What is promised on this row of the processor table."""
        return {"avx512-vnni-bf16": self.avx512, "avx2": self.avx2, "avx-vnni": self.avx2}.get(target)


@dataclass(frozen=True)
class Contest:
    """What is run in turns, and the lines that come of it."""

    group: str  # for --only
    what: str
    prepare: Callable[["Course"], AbstractContextManager[Turn]]
    lines: tuple[Line, ...]
    precision: str = ""  # that the backend must offer

    def named(self, names: Sequence[str]) -> bool:
        """Whether its group or one of its lines is among the names."""
        return any(name in names for name in (self.group, *(line.name for line in self.lines)))


@dataclass(frozen=True)
class Course:
    """What every contest has: the other side, the files, the clips."""

    llama: peers.Llama
    threads: int
    folder: Path = field(default_factory=lambda: user_cache_path("eardrop") / "full")

    def text(self, mix: str) -> Path:
        """The text model of this mix, made where it is missing, in the system's cache."""
        return _in_cache(write_text(full(mix), self.folder))

    def projector(self, form: str) -> Path:
        """The projector in this format."""
        return _in_cache(write_projector(full(form), self.folder))

    @cached_property
    def thin(self) -> Path:
        """A text model that costs nothing."""
        return _in_cache(write_text(thin(), self.folder))

    def clip(self, seconds: float) -> Path:
        """A recording of this length, of speech again and again."""
        path = self.folder / f"speech-{seconds:g}s.wav"
        samples = np.resize(read(SPEECH), round(seconds * SAMPLE_RATE))
        return write_wav(path, (samples * 32767).astype(np.int16))

    def question(self, text: Path, seconds: float, tokens: int) -> Question:
        """What whole processes are asked, with the F16 projector."""
        return Question(text, self.projector("F16"), self.clip(seconds), tokens, threads=self.threads)

    def warm(self, text: Path, projector: Path, precision: str = "") -> Warm:
        """Our side, loaded."""
        wishes = {"precision": precision} if precision else {}
        return Warm(load_model(text, projector, choose("cpu", threads=self.threads, **wishes)))


@cache
def _in_cache(path: Path) -> Path:
    """A file that the system holds: read anew as we map it, in large pages where there are any, for both sides."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open_gguf(path) as model:
        for tensor in model.tensors.values():
            tensor.raw.reshape(-1)[::4096].max(initial=0)
    return path


# What is run. Each prepares a contest and gives its turn.


@contextmanager
def decode(course: Course, mix: str) -> Iterator[Turn]:
    """One stream, and what share of the read bandwidth its weights take."""
    text = course.text(mix)
    warm = course.warm(text, course.projector("F16"))
    weights = weight_bytes(warm.model)

    def turn() -> dict[str, float]:
        ours = TOKENS / warm.decode(TOKENS)
        bandwidth = max(machine.read_bandwidth(course.threads))  # of this very moment: it changes
        return {"ours": ours, "theirs": course.llama.decode(text, TOKENS), "share": ours * weights / bandwidth}

    yield turn


@contextmanager
def prefill(course: Course, mix: str, precision: str = "") -> Iterator[Turn]:
    """A prompt."""
    text = course.text(mix)
    warm = course.warm(text, course.projector("F16"), precision)
    yield lambda: {"ours": ROWS / warm.prefill(ROWS), "theirs": course.llama.prefill(text, ROWS)}


@contextmanager
def encoder(course: Course, form: str, seconds: float, precision: str = "") -> Iterator[Turn]:
    """One clip as one window; llama.cpp's program, too, has encoded thirty seconds before."""
    projector, clips = course.projector(form), [course.clip(30), course.clip(seconds)]
    warm = course.warm(course.thin, projector, precision)
    mel = log_mel(read(clips[-1]), warm.model.front_end)
    yield lambda: {"ours": warm.encode(mel), "theirs": course.llama.encoder(course.thin, projector, clips)}


@contextmanager
def memory(course: Course) -> Iterator[Turn]:
    """Processes that encode: what clips add to the peak of one that encodes a second."""
    questions = {seconds: course.question(course.thin, seconds, 1) for seconds in (1, 150, 300)}

    def turn() -> dict[str, float]:
        peaks = {seconds: peers.ours(question).peak_bytes or 0 for seconds, question in questions.items()}
        return {"ours": float(peaks[300] - peaks[1]), "theirs": float(peaks[150] - peaks[1])}

    yield turn


@contextmanager
def streams(course: Course, mix: str) -> Iterator[Turn]:
    """Eight streams at once."""
    text = course.text(mix)
    warm = course.warm(text, course.projector("F16"))

    def turn() -> dict[str, float]:
        ours = STREAMS * TOKENS / warm.decode(TOKENS, prompt=PROMPT, streams=STREAMS)
        one, batch = course.llama.together(text, rows=PROMPT, tokens=TOKENS, streams=STREAMS)
        return {"ours": ours, "theirs": one, "batch": batch}

    yield turn


@contextmanager
def whole(course: Course, mix: str) -> Iterator[Turn]:
    """Whole processes, from birth to end."""
    question, program = course.question(course.text(mix), 4.9, 20), peers.mtmd_cli(course.llama.program)

    def turn() -> dict[str, float]:
        a, b = peers.ours(question), peers.theirs(program, question)
        peaks = {"our memory": float(a.peak_bytes or 0), "their memory": float(b.peak_bytes or 0)}
        return {"ours": a.seconds, "theirs": b.seconds, **peaks}

    yield turn


@contextmanager
def first(course: Course, mix: str) -> Iterator[Turn]:
    """The same processes with an empty folder of kernels, and again with what the first put there."""
    question = course.question(course.text(mix), 4.9, 20)

    def turn() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as empty:
            run = partial(peers.ours, question, {"XDG_CACHE_HOME": empty})
            return {"ours": run().seconds, "theirs": run().seconds}

    yield turn


@contextmanager
def recording(course: Course, mix: str) -> Iterator[Turn]:
    """Five minutes: ten windows of a hundred tokens each, beside one clip and a thousand; loading isn't counted.

    The weights are random: no text ends by itself. Memory is that of a process that transcribes the same recording.
    """
    text, projector, clip = course.text(mix), course.projector("F16"), course.clip(WINDOWS * WINDOW_SECONDS)
    windows = np.split(read(clip), WINDOWS)
    program = peers.mtmd_cli(course.llama.program)
    asked = Question(text, projector, clip, WINDOWS * WINDOW_TOKENS, threads=course.threads)
    words = ["-m", str(text), "--mmproj", str(projector), "-t", str(course.threads), "-q", str(clip)]
    command = [sys.executable, "-m", "eardrop", "transcribe", "--max-tokens", str(WINDOW_TOKENS), *words]
    with load(text, projector=projector, threads=course.threads) as asr:
        asked_for = asking.question(asr.model, None)

        def ours() -> float:
            started = time.perf_counter()
            for handle in [asr.engine.submit(asked_for.about(part, limit=WINDOW_TOKENS)) for part in windows]:
                assert len(list(handle)) == WINDOW_TOKENS
            return time.perf_counter() - started

        def turn() -> dict[str, float]:
            mine, peak, other = ours(), peers.run(command).peak_bytes, peers.theirs(program, asked)
            assert all((other.encoder, other.prefill, other.decode, other.tokens))
            theirs = other.encoder + other.prefill + other.tokens / other.decode
            return {"ours": mine, "theirs": theirs, "our memory": float(peak or 0), "most": MOST_BYTES}

        yield turn


def _decode(mix: str, avx2: Limit, avx512: Limit) -> Contest:
    lines = (Line(f"decode {mix}", SPEED, "tokens/s", avx2, avx512),)
    return Contest("decode", f"{TOKENS} tokens of one stream", partial(decode, mix=mix), lines)


def _prefill(mix: str, avx2: float | None, avx512: float, precision: str = "") -> Contest:
    name = f"prefill {mix} {precision}".rstrip()
    lines = (Line(name, SPEED, "rows/s", Limit(avx2) if avx2 else None, Limit(avx512)),)
    return Contest("prefill", f"{ROWS} rows", partial(prefill, mix=mix, precision=precision), lines, precision)


def _encoder(form: str, seconds: float, avx2: float | None, avx512: float, precision: str = "") -> Contest:
    name = f"encoder {form} {seconds:g} s {precision}".rstrip()
    lines = (Line(name, TIME, "s", Limit(avx2) if avx2 else None, Limit(avx512)),)
    run = partial(encoder, form=form, seconds=seconds, precision=precision)
    return Contest("encoder" if seconds <= 30 else "window", "one window", run, lines, precision)


def _whole(mix: str, avx2: tuple[Limit, Limit] | None = None, avx512: tuple[Limit, Limit] | None = None) -> Contest:
    a, b = avx2 or (None, None), avx512 or (None, None)
    lines = (
        Line(f"whole process {mix} time", PART, "s", a[0], b[0]),
        Line(f"whole process {mix} memory", PART, "bytes", a[1], b[1], "our memory", "their memory"),
    )
    return Contest("whole", "a process, 4.9 s of speech, 20 tokens, F16 projector", partial(whole, mix=mix), lines)


CONTESTS = (
    _decode("Q4_0", Limit(1.2), Limit(1.15)),
    _decode("Q8_0", Limit(1.1), Limit(1.1)),
    _decode("Q4_K_M", Limit(1.15), Limit(1.15)),
    _decode("F16", Limit(0.97, 0.9, either=True), Limit(1.0, 0.9)),
    _prefill("Q4_0", 2.2, 2.0),
    _prefill("Q8_0", 1.6, 3.0),
    _prefill("Q4_K_M", 1.8, 2.0),
    _prefill("F16", 1.05, 1.2),
    _prefill("F16", None, 1.8, "bf16"),
    _encoder("F16", 30, 2.2, 2.5),
    _encoder("F16", 30, None, 5.0, "bf16"),
    _encoder("Q8_0", 30, 3.0, 5.0),
    _encoder("F16", 300, 3.5, 5.0),
    _encoder("F16", 300, None, 10.0, "bf16"),
    Contest(
        "memory", "what the encoder's clip adds to our peak memory: 300 s beside 150 s", memory,
        (Line("memory 300 s ÷ 150 s", PART, "bytes", Limit(2.1), Limit(2.1)),),
    ),
    Contest(
        "streams", f"{STREAMS} streams, {TOKENS} tokens each", partial(streams, mix="Q4_0"),
        (
            Line(f"{STREAMS} streams Q4_0 beside one", SPEED, "tokens/s", Limit(3.0), Limit(5.0)),
            Line(f"{STREAMS} streams Q4_0 beside {STREAMS}", SPEED, "tokens/s", theirs="batch"),
        ),
    ),
    Contest(
        "recording", f"{WINDOWS} windows of {WINDOW_TOKENS} tokens", partial(recording, mix="Q4_0"),
        (
            Line("recording of 300 s Q4_0", TIME, "s", Limit(4.0), Limit(6.0)),
            Line("recording of 300 s Q4_0 memory", PART, "bytes", Limit(1.0), Limit(1.0), "our memory", "most"),
        ),
    ),
    _whole("Q4_0", (Limit(0.6), Limit(0.6)), (Limit(0.5), Limit(0.6))),
    _whole("Q8_0"),
    Contest(
        "first", "the same process with nothing compiled, beside its second start", partial(first, mix="Q4_0"),
        (Line("first start beside the second", LONGER, "s", Limit(1.0), Limit(1.0)),),
    ),
)  # fmt: skip
GROUPS = tuple(dict.fromkeys(contest.group for contest in CONTESTS))


def main(words: Sequence[str] | None = None) -> None:
    """Measure, keep, and write the table."""
    wishes = _parser().parse_args(words)
    course = Course(peers.Llama(wishes.against, wishes.threads), wishes.threads)
    offered = inspect.signature(choose).parameters
    here = {"machine": machine.describe(), "target": chosen().name}
    print(head(here))
    for contest in CONTESTS:
        if contest.named(wishes.only) and (not contest.precision or "precision" in offered):
            found = measured(contest, course, wishes.pairs)
            print("\n".join(rows(contest, here | {"lines": found})), flush=True)
            if wishes.pairs >= LEAST_PAIRS:
                keep(here, found)
    if wishes.pairs < LEAST_PAIRS:
        print(f"{wishes.pairs} pairs prove nothing and were not kept: give --pairs {LEAST_PAIRS}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, metavar="FOLDER", help="of llama.cpp's programs")
    parser.add_argument("--only", type=_names, default=GROUPS, metavar="NAMES", help=f"{', '.join(GROUPS)}, or lines")
    parser.add_argument("--pairs", type=int, default=LEAST_PAIRS, help=f"behind a warm-up (default: {LEAST_PAIRS})")
    parser.add_argument("--threads", type=int, default=2, help="on both sides (default: 2)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if not any(contest.named([name]) for contest in CONTESTS)]:
        lines = (line.name for contest in CONTESTS for line in contest.lines)
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join((*GROUPS, *lines))}")
    return names


def measured(contest: Contest, course: Course, pairs: int) -> dict[str, Any]:
    """The contest's lines, each by its name, after turns behind one that isn't counted."""
    turns: list[dict[str, float]] = []
    with contest.prepare(course) as turn:
        for number in range(pairs + 1):
            names = ", ".join(line.name for line in contest.lines)
            print(f"{names}: {f'pair {number} of {pairs}' if number else 'a pair to warm up'}", file=sys.stderr)
            turns.append(turn())
    del turn  # and with it the model, whose threads nap
    gc.collect()
    return {line.name: _figures(line, turns[1:]) | _circumstances(contest, course) for line in contest.lines}


def _figures(line: Line, turns: Sequence[dict[str, float]]) -> dict[str, Any]:
    ours, theirs = ([turn[key] for turn in turns] for key in (line.ours, line.theirs))
    figures = {"ours": ours, "theirs": theirs, "number": list(map(line.rule.of, ours, theirs))}
    if "share" in turns[0]:
        figures["share"] = [turn["share"] for turn in turns]
    return {name: asdict(estimate(samples)) | {"samples": samples} for name, samples in figures.items()}


def _circumstances(contest: Contest, course: Course) -> dict[str, Any]:
    return {
        "what": contest.what,
        "threads": course.threads,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": _commit(),
        "load": machine.load(),
        "versions": machine.versions(),
        "llama.cpp": course.llama.build(),
    }


def _commit() -> str:
    """Of the checkout, with a + where files differ from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def keep(here: dict[str, Any], found: dict[str, Any]) -> None:
    """Renew these lines of this machine, at once: a later one may fail. The table is of all that was kept."""
    everything = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else []
    everything = merged(everything, here, found)
    MEASURED.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text(
        before + BEGIN + "\n".join(map(table, everything)) + END + rest.partition(END)[2], encoding="utf-8"
    )


def merged(everything: list[dict[str, Any]], here: dict[str, Any], found: dict[str, Any]) -> list[dict[str, Any]]:
    """All machines' lines, those of this one renewed."""
    others = [entry for entry in everything if (entry["machine"], entry["target"]) != (here["machine"], here["target"])]
    before: dict[str, Any] = {}
    for entry in everything:
        before |= {} if entry in others else entry["lines"]
    return [*others, here | {"lines": before | found}]


def table(entry: dict[str, Any]) -> str:
    """One machine's lines as markdown."""
    return "\n".join([head(entry), *(row for contest in CONTESTS for row in rows(contest, entry)), ""])


def head(entry: dict[str, Any]) -> str:
    """What was measured on, and the table's head."""
    computer = entry["machine"]
    return "\n".join(
        (
            f"**{computer['processor']}**, {computer['cores']} cores, {computer['memory_bytes'] / 2**30:.0f} GiB;"
            f" kernels for {entry['target']}.",
            "",
            "| line | eardrop | llama.cpp | number | 95 % | limit | of bandwidth | holds | measured |",
            "| --- | ---: | ---: | ---: | --- | --- | ---: | --- | --- |",
        )
    )


def rows(contest: Contest, entry: dict[str, Any]) -> list[str]:
    """The contest's lines, of those that were measured."""
    found = entry["lines"]
    return [_row(line, found[line.name], entry["target"]) for line in contest.lines if line.name in found]


def _row(line: Line, found: dict[str, Any], target: str) -> str:
    ours, theirs = (shown(found[whose]["median"], line.unit) for whose in ("ours", "theirs"))
    number, limit, share = found["number"], line.limit(target), found.get("share")
    cells = [
        line.name,
        ours,
        theirs,
        f"{number['median']:.2f} {line.rule.unit}",
        f"{number['low']:.2f} … {number['high']:.2f}",
        _promised(line.rule, limit),
        f"{share['median']:.0%}" if share else "",
        verdict(line.rule, limit, found),
        f"{found['date'][:10]}, {found['commit']}",
    ]
    return f"| {' | '.join(cells)} |"


def _promised(rule: Rule, limit: Limit | None) -> str:
    if limit is None:
        return "reported"
    share = "" if limit.share is None else f" {'or' if limit.either else 'and'} {limit.share:.0%} of bandwidth"
    return f"{rule.sign} {limit.value:g} {rule.unit}{share}"


def verdict(rule: Rule, limit: Limit | None, found: dict[str, Any]) -> str:
    """Whether the medians keep to what is promised; nothing is said of fewer pairs than prove it."""
    if limit is None:
        return ""
    if (pairs := len(found["number"]["samples"])) < LEAST_PAIRS:
        return f"{pairs} of {LEAST_PAIRS} pairs"
    kept = [rule.holds(found["number"]["median"], limit.value)]
    if limit.share is not None:
        kept.append(found["share"]["median"] >= limit.share)
    return "yes" if (any if limit.either else all)(kept) else "**no**"


if __name__ == "__main__":
    main()
