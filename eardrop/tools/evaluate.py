"""Word and character error rates of a run over a corpus, and of two runs beside each other.

A run keeps the texts as they were; everything else is derived from them: a file of a run is read by scoring it again.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eardrop.errors import AudioTooLong, Cancelled, EardropError, EngineClosed, OptionError
from eardrop.printable import printable
from eardrop.tools.bootstrap import Difference, Interval, difference, interval
from eardrop.tools.corpus import Heard, Utterance
from eardrop.tools.normalize import NORMALIZERS
from eardrop.transcribe import Recognizer
from eardrop.transcript import Result
from eardrop.transcript.align import Counts, Pair, align, count, distance

SCHEMA = 1  # of the JSON; another number where the meaning of a key changes
ALL, SPEECH = "all", "speech alone"  # the second leaves out what has no words, as the Open ASR Leaderboard does


@dataclass(frozen=True)
class Scored:
    """An utterance, what was heard, and their words side by side, normalised."""

    name: str
    group: str
    reference: str
    heard: Heard
    pairs: Sequence[Pair]
    words: Counts
    character_edits: int
    characters: int  # of the reference, with one space between words

    @property
    def silent(self) -> bool:
        """Whether nothing is said in it."""
        return not self.words.length


def score(name: str, group: str, reference: str, heard: Heard, *, normalizer: str) -> Scored:
    """Count what differs once both are normalised."""
    normal = NORMALIZERS[normalizer]
    said, written = normal(reference), normal(heard.text)
    pairs = align(said.split(), written.split())
    return Scored(name, group, reference, heard, pairs, count(pairs), distance(said, written), len(said))


@dataclass(frozen=True)
class Summary:
    """What utterances say together. Rates are None where the references hold no words."""

    name: str
    scored: Sequence[Scored]

    @cached_property
    def words(self) -> Counts:
        """Of all."""
        return sum((one.words for one in self.scored), Counts())

    @cached_property
    def interval(self) -> Interval | None:
        """95 % of the word error rate."""
        return interval([one.words.edits for one in self.scored], [one.words.length for one in self.scored])

    @property
    def character_rate(self) -> float | None:
        """Edits of characters for each of the references'."""
        length = sum(one.characters for one in self.scored)
        return sum(one.character_edits for one in self.scored) / length if length else None

    @cached_property
    def character_interval(self) -> Interval | None:
        """95 % of the character error rate."""
        return interval([one.character_edits for one in self.scored], [one.characters for one in self.scored])

    @property
    def silent(self) -> list[Scored]:
        """Those in which nothing is said."""
        return [one for one in self.scored if one.silent]

    @property
    def spoke_on_silence(self) -> float | None:
        """The share of the silent ones for which something was written; None where none is silent."""
        return sum(bool(one.words.insertions) for one in self.silent) / len(self.silent) if self.silent else None

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of audio, and those spent on them, of the utterances that have both."""
        timed = [
            (one.heard.audio_seconds, one.heard.spent_seconds)
            for one in self.scored
            if one.heard.audio_seconds is not None and one.heard.spent_seconds is not None
        ]
        return sum(audio for audio, _ in timed), sum(spent for _, spent in timed)

    @property
    def times_real_time(self) -> float | None:
        """Seconds of audio for each second spent; None where nobody counted."""
        audio, spent = self.seconds
        return audio / spent if spent else None

    @property
    def mistakes(self) -> Counter[Pair]:
        """Each edit with its number."""
        return Counter(pair for one in self.scored for pair in one.pairs if pair[0] != pair[1])

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "utterances": len(self.scored),
            "words": _counts(self.words),
            "word_error_rate": self.words.rate,
            "interval": asdict(self.interval) if self.interval else None,
            "character_error_rate": self.character_rate,
            "character_interval": asdict(self.character_interval) if self.character_interval else None,
            "silent": len(self.silent),
            "spoke_on_silence": self.spoke_on_silence,
            "times_real_time": self.times_real_time,
        }


@dataclass(frozen=True)
class Run:
    """A corpus as one recogniser heard it. `about` says in words what was run, and on what."""

    about: Mapping[str, str]
    normalizer: str
    scored: Sequence[Scored]
    left_out: Mapping[str, str]  # recordings that were not scored, with the reason

    @cached_property
    def whole(self) -> Summary:
        """All utterances; words written on silence are insertions here."""
        return Summary(ALL, self.scored)

    @cached_property
    def parts(self) -> list[Summary]:
        """The utterances with words, where others have none; then the groups."""
        return _parts(self.scored)

    @property
    def worst(self) -> list[Scored]:
        """Those with mistakes, the highest rate first, of equal ones the most words; silence by what was written."""
        wrong = [one for one in self.scored if one.words.edits]
        return sorted(wrong, key=lambda one: (-one.words.edits / max(1, one.words.length), -one.words.edits, one.name))

    def facts(self) -> dict[str, Any]:
        """For programs, and for `read_run`."""
        return {
            "schema": SCHEMA,
            "about": dict(self.about),
            "normalizer": self.normalizer,
            ALL: self.whole.facts(),
            "parts": [{"name": part.name, **part.facts()} for part in self.parts],
            "left_out": dict(self.left_out),
            "utterances": [_facts(one) for one in self.scored],
        }


def _parts(scored: Sequence[Scored]) -> list[Summary]:
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        groups.setdefault(one.group, []).append(one)
    loud = [one for one in scored if not one.silent]
    parts = [Summary(SPEECH, loud)] if 0 < len(loud) < len(scored) else []
    return parts + [Summary(name or "(no group)", ones) for name, ones in sorted(groups.items()) if len(groups) > 1]


def _counts(words: Counts) -> dict[str, int]:
    return {**asdict(words), "length": words.length}


def _facts(one: Scored) -> dict[str, Any]:
    return {
        "audio": one.name,
        "group": one.group,
        "text": one.reference,
        "hypothesis": one.heard.text,
        "duration": one.heard.audio_seconds,
        "time": one.heard.spent_seconds,
        "error": one.heard.error,
        "words": _counts(one.words),
        "character_edits": one.character_edits,
        "characters": one.characters,
    }


def read_run(path: Path) -> Run:
    """A file that `eardrop eval --json` wrote. Raises OptionError for others."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["schema"] != SCHEMA:
            raise ValueError(f"schema {facts['schema']}, expected {SCHEMA}")
        normalizer = str(facts["normalizer"])
        scored = tuple(_scored(row, normalizer) for row in facts["utterances"])
        about = {str(key): str(value) for key, value in facts["about"].items()}
        return Run(about, normalizer, scored, dict(facts["left_out"]))
    except OSError as error:
        raise OptionError(f"{printable(str(path))} can't be read: {error.strerror}; check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = printable(f"{type(error).__name__}: {error}", most=100)
        raise OptionError(f"{printable(str(path))}: expected what eardrop eval --json wrote ({found})") from None


def _scored(row: Mapping[str, Any], normalizer: str) -> Scored:
    name, group, text, written = (str(row[key]) for key in ("audio", "group", "text", "hypothesis"))
    audio, spent = (None if row[key] is None else float(row[key]) for key in ("duration", "time"))
    heard = Heard(written, audio, spent, None if row["error"] is None else str(row["error"]))
    return score(name, group, text, heard, normalizer=normalizer)


def listen(
    asr: Recognizer,
    utterances: Sequence[Utterance],
    options: Mapping[str, Any],
    *,
    failed: Callable[[Utterance, EardropError], None],
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[tuple[Utterance, Heard]]:
    """Transcribe each, several at a time; their seconds, from one text to the next, are in sum those of all.

    failed    told what could not be transcribed, which counts as no text; what is longer than a limit is told, too,
              and then left out
    progress  told the share that is done, 0 to 1
    """
    before = time.perf_counter()
    outcomes = asr.transcribe_many([utterance.audio for utterance in utterances], **options)
    for place, (utterance, outcome) in enumerate(zip(utterances, outcomes, strict=True), start=1):
        now = time.perf_counter()
        if isinstance(outcome, Cancelled | EngineClosed):  # of the others none would be transcribed either
            raise outcome
        if isinstance(outcome, EardropError):
            failed(utterance, outcome)
        if isinstance(outcome, Result):
            yield utterance, Heard(outcome.text, outcome.duration, now - before)
            before = now
        elif not isinstance(outcome, AudioTooLong):
            yield utterance, Heard("", error=str(outcome))
        progress(place / len(utterances))


@dataclass(frozen=True)
class Compared:
    """Utterances that two runs share."""

    name: str
    before: Sequence[Scored]
    after: Sequence[Scored]

    @property
    def changed(self) -> list[tuple[Scored, Scored]]:
        """Those with more or fewer edits, the largest change first."""
        pairs = [(a, b) for a, b in zip(self.before, self.after, strict=True) if a.words.edits != b.words.edits]
        return sorted(pairs, key=lambda pair: -abs(pair[1].words.edits - pair[0].words.edits))

    @property
    def worse(self) -> int:
        """Utterances with more edits in the second run."""
        return sum(b.words.edits > a.words.edits for a, b in self.changed)

    @cached_property
    def words(self) -> Difference | None:
        """Of the word error rates."""
        return difference(_edits(self.before), _edits(self.after), [one.words.length for one in self.before])

    @cached_property
    def characters(self) -> Difference | None:
        """Of the character error rates."""
        before, after = ([one.character_edits for one in run] for run in (self.before, self.after))
        return difference(before, after, [one.characters for one in self.before])


def _edits(scored: Iterable[Scored]) -> list[int]:
    return [one.words.edits for one in scored]


@dataclass(frozen=True)
class Comparison:
    """Run B beside run A."""

    whole: Compared
    groups: Sequence[Compared]
    alone: tuple[Sequence[str], Sequence[str]]  # names of utterances that A, or B, has alone


def compare(a: Run, b: Run) -> Comparison:
    """The utterances of both. Raises OptionError where they were scored by other rules or against other words."""
    if a.normalizer != b.normalizer:
        raise OptionError(f"A was normalised as {a.normalizer}, B as {b.normalizer}; score both with one --normalizer")
    before, after = ({one.name: one for one in run.scored} for run in (a, b))
    shared = [name for name in before if name in after]
    if not shared:
        raise OptionError("these runs have no recording in common; give two runs over the same manifest")
    normal = NORMALIZERS[a.normalizer]
    other = [name for name in shared if normal(before[name].reference) != normal(after[name].reference)]
    if other:
        raise OptionError(
            f"{len(other)} recordings have other references in B, as {printable(other[0])}; score both on one manifest"
        )
    alone = ([name for name in before if name not in after], [name for name in after if name not in before])
    groups = sorted({before[name].group for name in shared})
    return Comparison(
        _compared(ALL, shared, before, after),
        [
            _compared(group or "(no group)", [name for name in shared if before[name].group == group], before, after)
            for group in groups
            if len(groups) > 1
        ],
        alone,
    )


def _compared(name: str, shared: Sequence[str], before: Mapping[str, Scored], after: Mapping[str, Scored]) -> Compared:
    return Compared(name, [before[one] for one in shared], [after[one] for one in shared])
