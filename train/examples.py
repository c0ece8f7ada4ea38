"""The recordings in examples/: sentences of our own grammar that no model was trained on, said by the engines.

They are chosen by kind, never by how well a model hears them: of each the first test recording of two seconds or more.
Prose of others isn't among them, whose terms are its authors'.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from eardrop.audio import SAMPLE_RATE, read
from eardrop.tools.corpus import MANIFEST

LEAST_SECONDS = 2.0
CHOSEN = {  # the file's name, the set of the tests and the kind
    "digits": ("seen voices", "digits"),
    "number": ("seen voices", "number"),
    "letters": ("seen voices", "letters"),
    "date": ("seen voices", "date"),
    "time": ("seen voices", "time"),
    "command": ("seen voices", "command"),
    "sentence": ("seen voices", "sentence"),
    "near_voice": ("near voices", "sentence"),
    "other_engine": ("held-out engine", "command"),
    "music": ("nothing", "music"),
}
# Older than the recipe and known by its name elsewhere: espeak-ng, in words that the grammar hasn't.
HARBOUR = {
    "audio": "harbour.flac", "text": "The harbour lights came on, and the last ferry left for the island.",
    "group": "own words", "kind": "own words", "voice": "espeak/en",
}  # fmt: skip


def make_examples(tests: Path, folder: Path) -> Iterator[Path]:
    """Choose from the test recordings and write FLAC files and their manifest; gives what is written."""
    rows = [json.loads(line) for line in (tests / MANIFEST).read_text(encoding="utf-8").splitlines()]
    chosen = []
    for name, (group, kind) in CHOSEN.items():
        row, samples = _first(tests, rows, group, kind)
        chosen.append(dict(row) | {"audio": f"{name}.flac"})
        yield _write(folder / f"{name}.flac", samples)
    manifest = folder / MANIFEST
    manifest.write_text("".join(json.dumps(row) + "\n" for row in (*chosen, HARBOUR)), encoding="utf-8")
    yield manifest


def _first(
    tests: Path, rows: list[dict[str, Any]], group: str, kind: str
) -> tuple[Mapping[str, Any], NDArray[np.float32]]:
    alike = (row for row in rows if (row["group"], row["kind"]) == (group, kind))
    heard = ((row, read(tests / row["audio"])) for row in alike)
    return next(found for found in heard if len(found[1]) >= LEAST_SECONDS * SAMPLE_RATE)


def _write(path: Path, samples: NDArray[np.float32]) -> Path:
    """16-bit FLAC, the samples as they were."""
    whole = np.round(samples * 32768).astype(np.int16)[None]
    with av.open(str(path), "w", format="flac") as file:
        stream = file.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for part in (frame, None):
            file.mux(stream.encode(part))
    return path
