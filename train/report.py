"""How good a model is: sentences it never heard, by known, unknown and foreign voices, and sounds without words.

The recordings are made once, from a seed of their own, and lie in a folder with a manifest, as `eardrop eval` takes it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

import eardrop
from eardrop.audio import SAMPLE_RATE
from eardrop.bench.machine import processor
from eardrop.bench.recordings import write_wav
from eardrop.tools.corpus import Corpus, read_corpus
from eardrop.tools.evaluate import Run, Scored, Summary, listen, score
from train.augment import SOUNDS, sound
from train.engines import Samples
from train.speech import Utterance, utterances
from train.text import CLOSED
from train.voices import Group

SEED = 2026  # of the tests
SENTENCES, QUIET = 200, 60  # of each set
NOTHING = "nothing"
DIGITS = "digit strings"


@dataclass(frozen=True)
class TestSet:
    """Sentences held out from training: of which kinds, and by whom."""

    mix: Mapping[str, int]
    group: Group


SETS: Mapping[str, TestSet] = {
    "seen voices": TestSet(CLOSED, "seen"),
    "near voices": TestSet(CLOSED, "near"),
    "held-out engine": TestSet(CLOSED, "held-out"),
    DIGITS: TestSet({"digits": 1}, "seen"),
    "everyday prose": TestSet({"prose": 1}, "seen"),
}


def make_tests(folder: Path) -> Path:
    """The manifest of the test recordings, made where it is missing."""
    manifest = folder / "manifest.jsonl"
    if not manifest.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for number, (group, said) in enumerate(_recordings()):
            name = f"{number:04}.wav"
            write_wav(folder / name, np.pad(said.samples, SAMPLE_RATE // 6))
            rows.append({"audio": name, "text": said.text, "group": group, "kind": said.kind, "voice": said.voice})
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return manifest


def _recordings() -> Iterator[tuple[str, Utterance]]:
    for name, test in SETS.items():
        for said in islice(utterances(f"{SEED}/{name}", test.mix, test.group, held_out=True), SENTENCES):
            yield name, said
    draw = np.random.default_rng(SEED)
    for number in range(QUIET):
        kind = ["silence", *SOUNDS][number % (1 + len(SOUNDS))]
        yield NOTHING, Utterance(kind, "", "", _quiet(kind, draw))


def _quiet(kind: str, draw: np.random.Generator) -> Samples:
    """One to six seconds without a word."""
    length = int(SAMPLE_RATE * draw.uniform(1, 6))
    if kind == "silence":
        return np.zeros(length, np.int16)
    made = sound(SOUNDS[kind], draw)[:length]
    return np.asarray(made / np.abs(made).max() * draw.uniform(100, 20000), np.int16)


def report(model: Path, tests: Path, *, tell: Callable[[str], None]) -> None:
    """Word error rates of an exported model by set, and within the closed domain by kind; tells a table.

    model  a folder with a pair
    tests  the folder of the recordings
    """
    manifest = make_tests(tests)
    run = heard_by(model, read_corpus(manifest), tell=tell)
    for summary in by_set(run):
        tell(_line(summary))
    tell("of seen voices:")
    for summary in by_kind(run, manifest):
        tell(_line(summary))
    for one in _examples(run):
        tell(f"  {one.group}: {one.reference!r} was heard as {one.heard.text!r}")


def heard_by(model: Path, corpus: Corpus, *, tell: Callable[[str], None]) -> Run:
    """A corpus as a pair hears it, on one thread; what can't be read is told and counts as no text."""
    with eardrop.load(model, threads=1) as asr:
        scored = tuple(
            score(utterance.name, utterance.group, utterance.text, heard, normalizer="english")
            for utterance, heard in listen(asr, corpus.utterances, {}, failed=lambda utterance, error: tell(str(error)))
        )
        about = {"corpus": corpus.name, "model": asr.model.name, "backend": asr.model.backend.name}
    about |= {"machine": f"{processor()}, one core", "eardrop": eardrop.__version__}
    return Run(about | {"date": datetime.now(UTC).isoformat(timespec="minutes")}, "english", scored, corpus.left_out)


def by_set(run: Run) -> list[Summary]:
    """Each set of the tests."""
    return [Summary(name, [one for one in run.scored if one.group == name]) for name in (*SETS, NOTHING)]


def by_kind(run: Run, manifest: Path) -> list[Summary]:
    """Each kind of sentence of the closed domain, said by seen voices."""
    kinds = {row["audio"]: row["kind"] for row in map(json.loads, manifest.read_text(encoding="utf-8").splitlines())}
    closed = [one for one in run.scored if one.group == "seen voices"]
    return [Summary(kind, [one for one in closed if kinds[one.name] == kind]) for kind in CLOSED]


def _line(summary: Summary) -> str:
    if summary.words.rate is None:
        return (
            f"{summary.name:20} nothing written for {1 - (summary.spoke_on_silence or 0):.0%} of {len(summary.scored)}"
        )
    between = summary.interval
    within = f"{between.low:5.1%} to {between.high:5.1%}" if between else ""
    return f"{summary.name:20} {summary.words.rate:6.1%}  {within}  of {summary.words.length} words"


def _examples(run: Run) -> list[Scored]:
    """A few of each set."""
    return [one for name in SETS for one in [one for one in run.scored if one.group == name][:3]]
