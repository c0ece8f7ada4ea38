"""The recipe's command line; `python -m train --help`."""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

from platformdirs import user_cache_path

# The allocator gives memory back after every step unless it is told not to; that halves the speed. It reads this once.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
MERGES_FROM = 30_000  # sentences

EXAMPLES = """\
  python -m train                          speech, a model of 60 hours heard with its cooldown, and its report
  python -m train speech --shards 120      more speech, beside a model that learns
  python -m train learn --hours 80         go on from the checkpoint until 80 hours were heard
  python -m train cooldown --hours 15      a finished model in DIR/cooled, from the checkpoint, in 15 hours more
  python -m train export ship --recordings audio/manifest.jsonl      the pair and its card into the package
  python -m train learn --device cuda --workers 14 --batch-seconds 400 --minutes 8
"""


def main() -> None:
    """Run one part of the recipe, or all of it."""
    if missing := {name: value for name, value in _ALLOCATOR.items() if name not in os.environ}:
        os.execve(sys.executable, [sys.executable, "-m", "train", *sys.argv[1:]], os.environ | missing)
    wishes = _parser().parse_args()
    wishes.folder.mkdir(parents=True, exist_ok=True)
    for part in wishes.parts or ["speech", "learn", "cooldown", "export", "report"]:
        PARTS[part](wishes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m train", description="Make the small LFM2-Audio that eardrop ships.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help="parts of the recipe; none is all of it")
    parser.add_argument("--folder", type=Path, default=user_cache_path("eardrop-train"), help="for all that is made")
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--shards", type=int, default=100, help="of speech, six to ten minutes each (default: 100)")
    parser.add_argument("--processes", type=int, default=1, help="that synthesise")
    parser.add_argument("--hours", type=float, help="of audio heard: in all (learn: 60), or from here (cooldown: 15)")
    parser.add_argument("--minutes", type=float, default=1e9, help="of wall clock, at most")
    parser.add_argument("--recordings", type=Path, metavar="MANIFEST", help="recorded human speech for the card (ship)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches; 0 is this one")
    parser.add_argument("--batch-seconds", type=float, default=24.0)
    parser.add_argument("--prose", type=float, help="share of everyday prose (learn: as made; cooldown: 0.3)")
    parser.add_argument("--rate", type=float, default=1e-3)
    return parser


def _speech(wishes: argparse.Namespace) -> None:
    from train.speech import make_shards

    for done, seconds in make_shards(wishes.folder / "speech", wishes.seed, wishes.shards, processes=wishes.processes):
        _tell({"shards": done, "hours": round(seconds / 3600, 2)})


def _learn(wishes: argparse.Namespace, *, cooldown: bool = False) -> None:
    import torch

    from train.learn import Plan, learn, started_cooldown
    from train.text import WIDE, sentences
    from train.vocabulary import kept_merges

    torch.set_num_threads(wishes.threads)
    kept_merges(
        wishes.folder / "merges.txt",
        (sentence.text for sentence in itertools.islice(sentences(Random(wishes.seed), WIDE), MERGES_FROM)),
    )
    plan = Plan(
        seed=wishes.seed, hours=wishes.hours or 60.0, rate=wishes.rate, batch_seconds=wishes.batch_seconds,
        minutes=wishes.minutes, device=wishes.device, workers=wishes.workers, prose=wishes.prose,
    )  # fmt: skip
    folder = wishes.folder
    if cooldown:
        folder, plan = started_cooldown(wishes.folder, plan, wishes.hours or 15.0)
    for line in learn(folder, plan, wishes.folder / "speech"):
        _tell(line)


def _export(wishes: argparse.Namespace) -> None:
    from train.export import export

    for path in export(_finished(wishes), wishes.folder / "model"):
        print(path)


def _report(wishes: argparse.Namespace) -> None:
    from train.report import report

    report(wishes.folder / "model", wishes.folder / "tests", tell=print)


def _formats(wishes: argparse.Namespace) -> None:
    from train.formats import measure, table, verdict

    measured = measure(wishes.folder / "model", wishes.folder / "tests", tell=_note)
    print(table(measured), verdict(measured), sep="\n\n")


def _examples(wishes: argparse.Namespace) -> None:
    from train.examples import make_examples
    from train.report import make_tests

    for path in make_examples(make_tests(wishes.folder / "tests").parent, Path(__file__).parent.parent / "examples"):
        print(path)


def _ship(wishes: argparse.Namespace) -> None:
    from train.card import Training
    from train.learn import Plan
    from train.ship import ship

    folder, plan = _finished(wishes), Plan(seed=wishes.seed, rate=wishes.rate, batch_seconds=wishes.batch_seconds)
    logs = [wishes.folder / "log.jsonl"]
    if (folder / "plan.json").exists():
        logs.append(folder / "log.jsonl")
        plan = replace(plan, **json.loads((folder / "plan.json").read_text(encoding="utf-8")))
    training = Training(folder, logs, wishes.folder / "speech", plan)
    ship(training, wishes.folder / "model", wishes.folder / "tests", wishes.recordings, tell=_note)


def _detector(wishes: argparse.Namespace) -> None:
    from train.detector import SHARDS, fitted
    from train.speech import Corpus, make_shards

    for _ in make_shards(wishes.folder / "speech", wishes.seed, SHARDS, processes=wishes.processes):
        pass
    corpus = Corpus(wishes.folder / "speech", SHARDS)
    corpus.refresh()
    weights, bias = fitted(corpus, wishes.seed)
    print(f"WEIGHTS = np.array([{', '.join(f'{weight:.3f}' for weight in weights)}])\nBIAS = {bias:.3f}")


def _finished(wishes: argparse.Namespace) -> Path:
    """The folder of the cooled model where there is one."""
    cooled: Path = wishes.folder / "cooled"
    return cooled if (cooled / "checkpoint.pt").exists() else wishes.folder


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _tell(line: Mapping[str, object]) -> None:
    print(json.dumps(line), flush=True)


PARTS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "speech": _speech,
    "learn": _learn,
    "cooldown": lambda wishes: _learn(wishes, cooldown=True),
    "export": _export,
    "report": _report,
    "formats": _formats,
    "examples": _examples,
    "ship": _ship,
    "detector": _detector,
}

if __name__ == "__main__":
    main()
