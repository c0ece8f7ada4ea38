"""The recording behind a transcript, for a page that draws and plays it."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from eardrop.audio import Source

Float32: TypeAlias = npt.NDArray[np.float32]

EMBED_LIMIT = 20_000_000  # bytes of Opus: nearly two hours; Firefox takes 32 MB of data: URL, which is a third longer
LEVELS = 800  # points of the drawing: one a pixel or two


@dataclass(frozen=True)
class Recording:
    """What was transcribed: its source and track, where it lies as the page sees it, how much of it a page may hold."""

    source: "Source"
    track: int | None = None
    link: str | None = None
    most_embedded: int = EMBED_LIMIT


@dataclass(frozen=True)
class Heard:
    """What a page needs of a recording."""

    levels: Float32  # (LEVELS,): root mean square of each stretch, the loudest 1
    opus: bytes | None  # WebM; None where it is too large


def link_from(target: Path, audio: "Source") -> str | None:
    """The address of a recording as the file `target` sees it: relative, escaped; None for what isn't a file."""
    if not isinstance(audio, str | os.PathLike) or os.fspath(audio) == "-":
        return None
    try:
        relative = os.path.relpath(os.fsdecode(audio), target.parent)
    except ValueError:  # on another drive of Windows
        return None
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def hear(recording: Recording, seconds: float) -> Heard:
    """Read a recording of that length once, in constant memory. Raises AudioError."""
    from eardrop.audio import OPUS_BIT_RATE, blocks, encode_opus  # not at the start: few write pages

    levels = _Levels(seconds)
    heard = levels.watch(blocks(recording.source, track=recording.track))
    hopeless = seconds * OPUS_BIT_RATE / 8 > 2 * recording.most_embedded  # ten hours needn't be encoded to know
    opus = None if hopeless else encode_opus(heard, most=recording.most_embedded)
    for _ in heard:  # what the encoder left when it gave up
        pass
    return Heard(levels.drawn(), opus)


class _Levels:
    """Loudness by time, of samples as they pass."""

    def __init__(self, seconds: float) -> None:
        from eardrop.audio import SAMPLE_RATE

        self._each = max(1.0, seconds * SAMPLE_RATE) / LEVELS  # samples of a level
        self._squares = np.zeros(LEVELS)
        self._counts = np.zeros(LEVELS)

    def watch(self, blocks: Iterable[Float32]) -> Iterator[Float32]:
        passed = 0
        for block in blocks:
            places = np.minimum((np.arange(passed, passed + len(block)) / self._each).astype(np.int64), LEVELS - 1)
            self._squares += np.bincount(places, np.square(block, dtype=np.float64), LEVELS)
            self._counts += np.bincount(places, minlength=LEVELS)
            passed += len(block)
            yield block

    def drawn(self) -> Float32:
        """(LEVELS,); a stretch without a sample, of a very short recording, has the level before it."""
        held = np.maximum.accumulate(np.where(self._counts > 0, np.arange(LEVELS), 0))
        level = np.sqrt(self._squares / np.maximum(self._counts, 1))[held]
        return (level / max(float(level.max()), 1e-9)).astype(np.float32)
