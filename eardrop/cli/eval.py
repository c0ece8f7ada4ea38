"""`eardrop eval`: word and character error rates over recordings whose texts are known, and of two runs."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eardrop.audio import SAMPLE_RATE
from eardrop.bench.machine import processor
from eardrop.cli.flags import Parser, add_model, add_options, given, loaded
from eardrop.cli.sheet import Section, show
from eardrop.cli.side_by_side import side_by_side
from eardrop.cli.terminal import ERRORS, NOTES, Voice, bar, console
from eardrop.cores import usable_processors
from eardrop.errors import AudioTooLong, EardropError, OptionError
from eardrop.printable import printable
from eardrop.tools.bootstrap import Difference, Interval
from eardrop.tools.corpus import GROUP, Corpus, Heard, Utterance, matched, read_corpus, read_hypotheses
from eardrop.tools.evaluate import Compared, Comparison, Run, Scored, Summary, compare, listen, read_run, score
from eardrop.tools.evaluation_page import between, page, percent
from eardrop.tools.normalize import NORMALIZERS
from eardrop.transcribe import Options, language_of
from eardrop.version import __version__

ABOUT = """\
Word and character error rates over a manifest (JSON lines with audio, text and perhaps group) or a folder (talk.wav
beside talk.txt). Texts are normalised as Whisper's are, so that the rates can be set beside published ones.
What can't be transcribed is told and counts as no text; the exit code is that of the first such recording.
`eardrop eval compare A.json B.json` sets two runs beside each other."""

EXAMPLES = """\
  eardrop eval corpus/manifest.jsonl -m models/
  eardrop eval recordings/ -m models/ --json > a.json --html a.html
  eardrop eval manifest.jsonl --group-by speaker --hypotheses other.jsonl     score another program's texts
  eardrop eval compare a.json b.json                                          what changed, and whether by chance
"""
WORST = 5
WIDE = 84  # cells that the widest table needs
UNSPACED = {"ja": "unspaced"}  # languages whose words can't be told apart by spaces


def main(words: Sequence[str]) -> int:
    """Evaluate, or compare two evaluations."""
    return _compare(words[1:]) if words and words[0] == "compare" else _evaluate(words)


def _evaluate(words: Sequence[str]) -> int:
    wishes = _parser().parse(words)
    if wishes.corpus is None:
        raise OptionError("no corpus was given; name a manifest (JSON lines with audio and text), or a folder")
    _require_count(wishes.worst)
    page_file = _writable(wishes.html)
    voice = Voice(ERRORS if wishes.quiet else NOTES)
    corpus = read_corpus(Path(wishes.corpus), group=wishes.group_by)
    work = _Work(wishes, corpus, voice)
    run = work.scored() if wishes.hypotheses else work.transcribed()
    _tell_left_out(run, voice)
    if page_file is not None:
        page_file.write_text(page(run), encoding="utf-8", newline="\n")
    if wishes.json:
        print(json.dumps(run.facts(), indent=1))
    else:
        show(_sheet(run))
        _show_worst(run.worst[: wishes.worst])
    return work.code


def _parser() -> Parser:
    parser = Parser("eval", ABOUT, EXAMPLES, "CORPUS -m FILE|--hypotheses FILE [options]")
    parser.add_argument("corpus", nargs="?", metavar="CORPUS", help="a manifest (JSON lines), or a folder")
    parser.add_argument(
        "--hypotheses",
        metavar="FILE",
        help="score these texts (JSON lines with audio and text) instead of transcribing",
    )
    parser.add_argument(
        "--group-by", default=GROUP, metavar="COLUMN", help=f"the manifest's column of groups (default: {GROUP})"
    )
    parser.add_argument(
        "--normalizer", choices=list(NORMALIZERS), help="what isn't counted (default: english; of Japanese, unspaced)"
    )
    _add_worst(parser, "the worst recordings to show, word by word")
    parser.add_argument("--html", metavar="FILE", help="write a page with figures and every mistake")
    parser.add_argument("--json", action="store_true", help="for programs, and for eardrop eval compare")
    add_model(parser)
    add_options(parser, Options)
    parser.add_argument("-q", "--quiet", action="store_true", help="errors and results, nothing else")
    return parser


def _add_worst(parser: Parser, what: str) -> None:
    parser.add_argument("--worst", type=int, default=WORST, metavar="N", help=f"{what} (default: {WORST})")


def _require_count(worst: int) -> None:
    if worst < 0:
        raise OptionError(f"--worst is {worst}, expected 0 or more")


def _writable(name: str | None) -> Path | None:
    """The page's file; known to be writable before hours are spent."""
    if name is None:
        return None
    try:
        with Path(name).open("a"):
            return Path(name)
    except (OSError, ValueError) as error:
        raise OptionError(f"--html: {printable(name)} can't be written: {error}; check the folder") from None


class _Work:
    """One evaluation; `code` is the exit code of the first recording that failed."""

    def __init__(self, wishes: argparse.Namespace, corpus: Corpus, voice: Voice) -> None:
        self._wishes, self._corpus, self._voice = wishes, corpus, voice
        self._left_out = dict(corpus.left_out)
        self.code = 0

    def scored(self) -> Run:
        """Texts that another program, or an earlier run, has written."""
        path = Path(self._wishes.hypotheses)
        if self._wishes.model or self._wishes.hf_repo:
            raise OptionError("-m transcribes and --hypotheses gives the texts: give one of the two")
        texts = read_hypotheses(path)
        found = matched(self._corpus.utterances, texts)
        if not found:
            raise OptionError(f"{printable(str(path))}: no line names a recording of {printable(self._corpus.name)}")
        missing = OptionError(f"{printable(path.name)} has no text of it")
        heard = [(utterance, found.get(utterance.name)) for utterance in self._corpus.utterances]
        for utterance, text in heard:
            if text is None:
                self._failed(utterance, missing)
        pairs = [(utterance, text or Heard("", error=str(missing))) for utterance, text in heard]
        return self._run({"hypotheses": path.name}, pairs, self._wishes.normalizer or "english")

    def transcribed(self) -> Run:
        """Texts of the model that was named."""
        wishes = self._wishes
        options = given(wishes, Options)
        checked = Options(**options)
        with loaded(wishes, self._voice) as asr, bar("transcribing", shown=self._voice.level >= NOTES) as progress:
            language = language_of(asr.model, checked.language)
            hiss = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)  # silence isn't asked about
            asr.transcribe(hiss, max_tokens=1)  # kernels are compiled at their first call
            heard = list(listen(asr, self._corpus.utterances, options, failed=self._failed, progress=progress))
            about = {
                "model": asr.model.name,
                "backend": asr.model.backend.name,
                "machine": f"{processor()}, {usable_processors()} cores",
            }
        return self._run(about, heard, wishes.normalizer or UNSPACED.get(language, "english"))

    def _failed(self, utterance: Utterance, error: EardropError) -> None:
        """A recording gave no text; one that is too long is only left out."""
        if isinstance(error, AudioTooLong):
            self._left_out[utterance.name] = str(error)
            return
        named = Path(utterance.name).name in str(error)
        self._voice.complain(f"{'' if named else f'{utterance.name}: '}{error}; it counts as no text")
        self.code = self.code or error.exit_code

    def _run(self, about: dict[str, str], heard: Sequence[tuple[Utterance, Heard]], normalizer: str) -> Run:
        about = {"corpus": self._corpus.name, **about, "eardrop": __version__}
        about["date"] = datetime.now(UTC).isoformat(timespec="minutes")
        scored = tuple(score(u.name, u.group, u.text, text, normalizer=normalizer) for u, text in heard)
        return Run(about, normalizer, scored, self._left_out)


def _tell_left_out(run: Run, voice: Voice) -> None:
    """One line for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in run.left_out.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        voice.note(f"not scored: {names[0]}{others}: {why}")


def _sheet(run: Run) -> dict[str, Section]:
    """A run for people."""
    whole = run.whole
    told: dict[str, Any] = {**run.about, "normaliser": run.normalizer}
    if whole.silent:
        share = f"{len(whole.silent)} recordings; wrote something on {percent(whole.spoke_on_silence, 0)} of them"
        told["silence"] = share
    if whole.times_real_time:
        audio, spent = whole.seconds
        told["speed"] = f"{whole.times_real_time:.1f} × real time ({audio:,.1f} s of audio in {spent:,.1f} s)"
    return {"measured": told} | _fitting("errors", [_row(part) for part in (whole, *run.parts)])


def _fitting(title: str, rows: Sequence[dict[str, Any]]) -> dict[str, Section]:
    """One table, or two below each other where a terminal is too narrow for it."""
    head, *names = rows[0]
    if not sys.stdout.isatty() or console(sys.stdout).width >= WIDE:
        return {title: rows}
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    return {
        f"{title}{more}": [{name: row[name] for name in (head, *half)} for row in rows]
        for more, half in zip(("", ", continued"), halves, strict=True)
    }


def _row(part: Summary) -> dict[str, Any]:
    words = part.words
    return {
        "set": part.name,
        "utterances": len(part.scored),
        "words": words.length,
        "WER": percent(words.rate),
        "95 %": between(part.interval),
        "sub": words.substitutions,
        "del": words.deletions,
        "ins": words.insertions,
        "hits": words.hits,
        "CER": percent(part.character_rate),
    }


def _show_worst(worst: Sequence[Scored]) -> None:
    out = console(sys.stdout)
    for place, one in enumerate(worst):
        if not place:
            print("worst (S substituted, D deleted, I inserted)")
        rate = "silence" if one.silent else percent(one.words.rate, 0)
        print(f"\n  {printable(one.name)}: {rate}, {one.words.edits} of {one.words.length} words")
        for line in side_by_side(one.pairs, out.width):
            out.print(line, soft_wrap=True)


def _compare(words: Sequence[str]) -> int:
    parser = Parser(
        "eval compare",
        "Two runs over the same recordings: the difference B − A of their word error rates, its 95 % interval and its\n"
        "p-value, by a bootstrap over pairs of utterances. What only one of the runs has is left out.",
        EXAMPLES,
        "A.json B.json [options]",
    )
    parser.add_argument("a", metavar="A.json", help="what `eardrop eval --json` wrote")
    parser.add_argument("b", metavar="B.json", help="the same, of another model or version")
    _add_worst(parser, "recordings that changed most to show")
    parser.add_argument("--json", action="store_true", help="for programs")
    wishes = parser.parse(words)
    _require_count(wishes.worst)
    a, b = read_run(Path(wishes.a)), read_run(Path(wishes.b))
    comparison = compare(a, b)
    for name, alone in zip("AB", comparison.alone, strict=True):
        if alone:
            Voice().note(f"left out: {len(alone)} recordings that {name} has alone, as {alone[0]}")
    if wishes.json:
        print(json.dumps(_facts(comparison), indent=1))
    else:
        show(_compared_sheet(a, b, comparison, wishes.worst))
    return 0


def _facts(comparison: Comparison) -> dict[str, Any]:
    """A comparison for programs."""
    return {
        "sets": [
            {"name": one.name, "utterances": len(one.before), "words": _difference(one.words),
             "characters": _difference(one.characters), "better": len(one.changed) - one.worse, "worse": one.worse}
            for one in (comparison.whole, *comparison.groups)
        ],
        "changed": [{"audio": a.name, "a": a.words.edits, "b": b.words.edits} for a, b in comparison.whole.changed],
        "alone": {name: list(names) for name, names in zip("ab", comparison.alone, strict=True)},
    }  # fmt: skip


def _difference(found: Difference | None) -> dict[str, Any] | None:
    if found is None:
        return None
    interval = found.interval and {"low": found.interval.low, "high": found.interval.high}
    return {"difference": found.value, "interval": interval, "p": found.p}


def _compared_sheet(a: Run, b: Run, comparison: Comparison, most: int) -> dict[str, Section]:
    """A comparison for people."""
    sets = (comparison.whole, *comparison.groups)
    words = [_compared_row(one, lambda one: one.words, lambda s: s.words.rate) for one in sets]
    characters = [_compared_row(comparison.whole, lambda one: one.characters, lambda s: s.character_rate)]
    changed = [
        {"recording": x.name, "words": x.words.length, "A": x.words.edits, "B": y.words.edits}
        for x, y in comparison.whole.changed[:most]
    ]
    return {
        "runs": {name: ", ".join(run.about.values()) for name, run in (("A", a), ("B", b))},
        **_fitting("word errors", words),
        **_fitting("character errors", characters),
        "changed most": changed,
    }


def _compared_row(
    one: Compared, of: Callable[[Compared], Difference | None], rate: Callable[[Summary], float | None]
) -> dict[str, Any]:
    found = of(one)
    return {
        "set": one.name,
        "utterances": len(one.before),
        "A": percent(rate(Summary(one.name, one.before))),
        "B": percent(rate(Summary(one.name, one.after))),
        "B − A": f"{found.value * 100:+.2f}" if found else "–",
        "95 %": _points(found.interval) if found else "",
        "p": f"{found.p:.4f}" if found and found.p is not None else "",
        "": _verdict(found),
        "B better": len(one.changed) - one.worse,
        "B worse": one.worse,
    }  # fmt: skip


def _points(interval: Interval | None) -> str:
    """In points of per cent."""
    return f"{interval.low * 100:+.2f} … {interval.high * 100:+.2f}" if interval else ""


def _verdict(found: Difference | None) -> str:
    """In words, at the usual five per cent."""
    if found is None or found.interval is None:
        return ""
    if found.interval.low <= 0 <= found.interval.high:
        return "no difference seen"
    return "B is better" if found.value < 0 else "A is better"
