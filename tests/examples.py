"""The recordings of examples/, alone and joined, and the pair that ships, which hears them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eardrop.audio import SAMPLE_RATE, read
from eardrop.hub.resolve import BUNDLED
from eardrop.ops import Float32

__all__ = ["BUNDLED", "EXAMPLES", "joined"]

FOLDER = Path(__file__).parent.parent / "examples"
ROWS = [json.loads(line) for line in (FOLDER / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
EXAMPLES = [(FOLDER / row["audio"], row["text"]) for row in ROWS if row["text"]]


def joined(examples: Sequence[tuple[Path, str]], *, pause: float) -> Float32:
    """One recording after the other, each with a silence behind it."""
    silence = np.zeros(round(pause * SAMPLE_RATE), np.float32)
    return np.concatenate([part for path, _ in examples for part in (read(path), silence)])
