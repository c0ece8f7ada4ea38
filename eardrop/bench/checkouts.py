"""Two checkouts of eardrop, reviewed in turns, A B A B: what else the machine does falls on both alike.

Each turn is `eardrop bench stages --runs 1` in a process of its own, which takes its code from the checkout and all
else (Python, libraries, files) from here. The turns' samples together are one review each, as `compare` takes them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eardrop.bench.compare import understood
from eardrop.bench.noise import figure
from eardrop.errors import EardropError, OptionError
from eardrop.printable import printable


def in_turns(
    a: Path, b: Path, words: Sequence[str], *, runs: int, told: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A review of each.

    words  what `eardrop bench stages` is told, the runs left out; paths are absolute
    """
    for checkout in (a, b):
        if not (checkout / "eardrop" / "__main__.py").is_file():
            raise OptionError(
                f"{printable(str(checkout))} is no checkout of eardrop: expected eardrop/__main__.py in it"
            )
    reviews: list[list[dict[str, Any]]] = [[], []]
    for turn in range(1, runs + 1):
        for name, checkout, found in zip("AB", (a, b), reviews, strict=True):
            told(f"{name}, turn {turn} of {runs}")
            found.append(_reviewed(checkout, words))
    return joined(reviews[0]), joined(reviews[1])


def _reviewed(checkout: Path, words: Sequence[str]) -> dict[str, Any]:
    """One turn."""
    command = [sys.executable, "-m", "eardrop", "bench", "stages", *words, "--runs", "1", "--json"]
    here = checkout.resolve()  # before all else on Python's path, in the processes of that process, too
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=here,
        env={**os.environ, "PYTHONPATH": str(here)},
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise EardropError(
            f"bench stages in {printable(str(checkout))} ended with {done.returncode}: {printable(last[0], most=300)}"
        )
    return understood(json.loads(done.stdout), str(checkout))


def joined(reviews: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reviews of one question as one, with the samples of all; what isn't measured in each is left out."""
    first = reviews[0]
    stages = [
        stage
        | {kind: _all([_stage(review, stage["stage"], kind) for review in reviews]) for kind in ("own", "inclusive")}
        for stage in first["stages"]
        if all(_stage(review, stage["stage"], "own") for review in reviews)
    ]
    figures = {name: _all([review["figures"].get(name) for review in reviews]) for name in first["figures"]}
    return first | {"stages": stages, "figures": figures, "flags": first["flags"] | {"runs": len(reviews)}}


def _stage(review: dict[str, Any], name: str, kind: str) -> dict[str, Any] | None:
    return next((stage[kind] for stage in review["stages"] if stage["stage"] == name), None)


def _all(figures: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The samples of all, or None where one is missing."""
    found = [one for one in figures if one is not None]
    if len(found) < len(figures):
        return None
    return figure([sample for one in found for sample in one["samples"]], found[0]["unit"], found[0]["better"])
