"""What a model loses in fewer bits: its pair in each format, heard by eardrop over the same tests, and their sizes.

DIR/model/Q8_0/         the pair in that format, by `eardrop quantize`'s own rules
DIR/model/runs/F16.json what was heard, as `eardrop eval --json` writes it and `eardrop eval compare` takes it
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from eardrop.gguf.mixes import by_type
from eardrop.hub import find_projector, find_text
from eardrop.tools.bootstrap import Difference
from eardrop.tools.corpus import Corpus, read_corpus
from eardrop.tools.evaluate import Compared, Run, Summary, read_run
from eardrop.tools.requantize import requantize
from train.report import heard_by, make_tests

PLAIN = "F16"
FORMATS = (PLAIN, "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
GOOD = ("Q8_0", "Q6_K", "Q5_K_M")  # of these more than LOSS is told
LOSS = 0.01  # of the word error rate

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """A pair in one format: where it lies, sizes in bytes, and what it heard."""

    form: str
    folder: Path
    text: int
    projector: int
    run: Run

    @cached_property
    def speech(self) -> Summary:
        """All tests in which something is said."""
        return Summary(self.form, [one for one in self.run.scored if not one.silent])


def measure(model: Path, tests: Path, *, tell: Tell) -> list[Measured]:
    """The F16 pair of a folder in every format of the table, over the tests; some thirty seconds each."""
    corpus = read_corpus(make_tests(tests))
    found = []
    for form in FORMATS:
        folder = quantised(model, form)
        tell(f"{form}: {len(corpus.utterances)} recordings")
        text, projector = (file.stat().st_size for file in pair(folder))
        run = kept_run(folder, model / "runs" / f"{form}.json", corpus, tell=tell)
        found.append(Measured(form, folder, text, projector, run))
    return found


def pair(folder: Path) -> tuple[Path, Path]:
    """Text model and projector in a folder."""
    text = find_text(folder)
    return text, find_projector(text)


def quantised(model: Path, form: str) -> Path:
    """The folder of the pair in a format, made of the F16 pair unless it is newer than that."""
    if form == PLAIN:
        return model
    folder = model / form
    folder.mkdir(exist_ok=True)
    for source in pair(model):
        target = folder / source.name.replace(PLAIN, form)
        if not _is_newer(target, source):
            requantize(source, target, by_type(form), force=True)
    return folder


def kept_run(folder: Path, path: Path, corpus: Corpus, *, tell: Tell) -> Run:
    """What a pair heard of a corpus, kept at `path`; heard anew where the pair is newer."""
    if not _is_newer(path, *pair(folder)):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(heard_by(folder, corpus, tell=tell).facts(), indent=1), encoding="utf-8")
    return read_run(path)


def _is_newer(path: Path, *sources: Path) -> bool:
    return path.exists() and all(path.stat().st_mtime >= source.stat().st_mtime for source in sources)


def table(measured: Sequence[Measured]) -> str:
    """Markdown: sizes, the word error rate with its interval, and the difference from F16 in points."""
    rows = [
        "| type | text model | projector | both | word error rate | 95 % | against F16, points (95 %) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in measured:
        sizes = " | ".join(f"{size / 1e6:.1f} MB" for size in (one.text, one.projector, one.text + one.projector))
        interval = one.speech.interval
        within = f"{interval.low:.1%} … {interval.high:.1%}" if interval else ""
        rows.append(f"| {one.form} | {sizes} | {one.speech.words.rate:.1%} | {within} | {_against(one, measured[0])} |")
    return "\n".join(rows)


def verdict(measured: Sequence[Measured]) -> str:
    """Whether a format down to Q5 loses more than a point, in a sentence."""
    losses = {one.form: found.value for one in measured if one.form in GOOD and (found := _loss(one, measured[0]))}
    bad = [f"{form} loses {loss * 100:.1f} points" for form, loss in losses.items() if loss > LOSS]
    if bad:
        return f"{' and '.join(bad)} against {PLAIN}: more than the one point that was aimed at."
    return f"No format down to {GOOD[-1]} loses more than one point against {PLAIN}."


def _against(one: Measured, plain: Measured) -> str:
    found = _loss(one, plain)
    if one is plain or found is None:
        return ""
    within = f" ({found.interval.low * 100:+.2f} … {found.interval.high * 100:+.2f})" if found.interval else ""
    return f"{found.value * 100:+.2f}{within}"


def _loss(one: Measured, plain: Measured) -> Difference | None:
    return Compared(one.form, plain.speech.scored, one.speech.scored).words
