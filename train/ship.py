"""What a release takes from a run: a small pair beside its card, in the package; the run's log, in the recipe."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from eardrop.hub.resolve import BUNDLED
from eardrop.tools.corpus import MANIFEST, NAMES, Corpus, read_corpus
from eardrop.tools.evaluate import Run
from train.card import Training, card
from train.formats import Measured, Tell, kept_run, measure, pair

FORM = "Q5_K_M"  # Q8_0 would make an installation larger than 450 MB
LOG = Path(__file__).with_name("shipped.jsonl")
LOG_LINES = 500  # some eighty kilobytes
MOST_BYTES = 25_000_000  # of the pair
SPOKEN = ("speech", "speech-joined", "nonspeech")  # kinds of recordings; others repeat a few in many formats


def ship(training: Training, model: Path, tests: Path, recordings: Path | None, *, tell: Tell) -> None:
    """Write the pair and its card into the package, and the thinned log beside the recipe.

    model       the folder of the F16 pair
    recordings  a manifest of recorded human speech, with `kind` and `source`, or its folder; None: not measured
    """
    measured = measure(model, tests, tell=tell)
    shipped = next(one for one in measured if one.form == FORM)
    recorded = _recorded(shipped, model, recordings, tell=tell) if recordings else None
    BUNDLED.mkdir(exist_ok=True)
    written = card(training, measured, shipped, tests, recorded)
    _put(shipped)
    (BUNDLED / "README.md").write_text(written, encoding="utf-8")
    _keep_log(training)
    for path in (*sorted(BUNDLED.iterdir()), LOG):
        tell(f"{path}: {path.stat().st_size:,} bytes")


def _put(shipped: Measured) -> None:
    """The pair in place of the one before."""
    assert shipped.text + shipped.projector <= MOST_BYTES, "the pair is larger than what a package may carry"
    for path in BUNDLED.glob("*.gguf"):
        path.unlink()
    for path in pair(shipped.folder):
        shutil.copyfile(path, BUNDLED / path.name)


def _recorded(shipped: Measured, model: Path, recordings: Path, *, tell: Tell) -> Run:
    manifest = recordings / MANIFEST if recordings.is_dir() else recordings
    return kept_run(shipped.folder, model / "runs" / "recorded.json", spoken_by_people(manifest), tell=tell)


def spoken_by_people(manifest: Path) -> Corpus:
    """The recordings of a manifest that are speech, or sounds without any, by their source."""
    corpus = read_corpus(manifest, group="source")
    rows = map(json.loads, manifest.read_text(encoding="utf-8").splitlines())
    meant = {row[next(name for name in NAMES if name in row)] for row in rows if row["kind"] in SPOKEN}
    return Corpus(corpus.name, [one for one in corpus.utterances if one.name in meant], corpus.left_out)


def _keep_log(training: Training) -> None:
    """The plan, and every so many lines of the run's log and its cooldown's."""
    lines = training.log()
    every = max(1, -(-len(lines) // LOG_LINES))
    kept = [{"plan": asdict(training.plan)}, *lines[:-1:every], *lines[-1:]]
    LOG.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
