"""Where in a recording somebody speaks: a probability per frame of 16 ms, in constant memory, and spans made of them.

blocks → SpectralDetector.push → probabilities → Spans.push → spans of samples
"""

from collections import deque
from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np

from eardrop.audio.rate import SAMPLE_RATE
from eardrop.audio.samples import Float32

Span: TypeAlias = tuple[int, int]  # from a sample to the one behind the last

FRAME = 256  # samples: 16 ms
SILENT = 4 / 2**15  # what dithered digital silence of 16 bits swings between its extremes


class Detector(Protocol):
    """Hears speech in a recording that comes in blocks. Remembers: one recording, one detector."""

    def push(self, samples: Float32) -> Float32:
        """(n,) samples at 16 kHz → probabilities of speech of the frames that are decided, in order."""
        ...

    def finish(self) -> Float32:
        """Those of the remaining frames; in all one for each FRAME that was begun."""
        ...


def is_silent(samples: Float32) -> bool:
    """Whether samples hold no sound at all: digital silence, dithered or not, on whatever level."""
    return not len(samples) or float(samples.max() - samples.min()) <= SILENT


class Spans:
    """Spans of speech from probabilities: they begin above `on`, go on above `off`, and bridge gaps of `hang` frames.

    A span that will be announced later doesn't begin before `now`, unless it is `current`.
    """

    def __init__(self, *, on: float = 0.5, off: float = 0.35, hang: int = 10) -> None:
        self._on, self._off, self._hang = on, off, hang
        self._frames = 0
        self._first: int | None = None  # frame
        self._last = 0  # frame behind the last that was speech

    @property
    def now(self) -> int:
        """The sample up to which all is decided."""
        return self._frames * FRAME

    @property
    def current(self) -> Span | None:
        """The span that may go on, as far as it has come."""
        return None if self._first is None else (self._first * FRAME, self._last * FRAME)

    def push(self, probabilities: Float32) -> Iterator[Span]:
        """The spans that end within these frames."""
        for probability in probabilities.tolist():
            if probability >= (self._on if self._first is None else self._off):
                self._first = self._frames if self._first is None else self._first
                self._last = self._frames + 1
            self._frames += 1
            if self._first is not None and self._frames - self._last >= self._hang:
                yield self._first * FRAME, self._last * FRAME
                self._first = None


GROUP = 16  # frames that are looked at together
FIRST_GROUPS = 4  # a second to learn the noise from, before anything is decided
FLOOR_GROUPS = 24  # six seconds: the noise is the least of these
MARGIN = (512 - FRAME) // 2  # samples beside a frame, under its window
BANDS = 20
STILL = 1e-9  # power of a band that digital silence doesn't exceed


class SpectralDetector:
    """Speech by how far the energy in bands rises over the noise, which is the least of the last six seconds."""

    def __init__(self) -> None:
        self._held: Float32 = np.zeros(MARGIN, np.float32)
        self._groups = 0
        self._minima: deque[Float32] = deque(maxlen=FLOOR_GROUPS)
        self._early: list[Float32] = []

    def push(self, samples: Float32) -> Float32:
        """(n,) samples at 16 kHz → probabilities of speech of the frames that are decided, in order."""
        self._held = np.concatenate([self._held, samples])
        found = []
        while len(self._held) >= GROUP * FRAME + 2 * MARGIN:
            found += self._decided(_bands(self._held[: GROUP * FRAME + 2 * MARGIN]))
            self._held = self._held[GROUP * FRAME :]
        return np.concatenate([*found, np.zeros(0, np.float32)])

    def finish(self) -> Float32:
        """Those of the remaining frames; in all one for each FRAME that was begun."""
        frames = -(-(len(self._held) - MARGIN) // FRAME)
        found = []
        if frames > 0:
            rest = np.pad(self._held, (0, (frames * FRAME + 2 * MARGIN) - len(self._held)))
            found += self._decided(_bands(rest))
        found += self._judged_early()
        return np.concatenate([*found, np.zeros(0, np.float32)])

    def _decided(self, bands: Float32) -> list[Float32]:
        self._minima.append(np.where(bands > STILL, bands, np.inf).min(axis=0))
        self._groups += 1
        if self._groups <= FIRST_GROUPS:
            self._early.append(bands)
            return self._judged_early() if self._groups == FIRST_GROUPS else []
        return [self._judged(bands)]

    def _judged_early(self) -> list[Float32]:
        early, self._early = self._early, []
        return [self._judged(bands) for bands in early]

    def _judged(self, bands: Float32) -> Float32:
        floor = np.maximum(np.min(self._minima, axis=0), STILL)
        excess = 10 * np.log10(np.maximum(bands / floor, 1.0))
        z = 0.5 * (excess.mean(axis=1) - 10)
        return np.asarray(1 / (1 + np.exp(-z)), np.float32)


def _bands(samples: Float32) -> Float32:
    """(n · FRAME + 2 · MARGIN,) samples → (n, BANDS) powers."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, FRAME + 2 * MARGIN)[::FRAME]
    spectrum = np.fft.rfft((windows - windows.mean(axis=1, keepdims=True)) * _HANN)
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray(
        np.add.reduceat(power[:, _EDGES[0] : _EDGES[-1]], _EDGES[:-1] - _EDGES[0], axis=1) / np.diff(_EDGES)
    )


_HANN = np.hanning(FRAME + 2 * MARGIN).astype(np.float32)
_EDGES = np.unique(np.round(np.geomspace(100, 7000, BANDS + 1) / SAMPLE_RATE * (FRAME + 2 * MARGIN)).astype(int))
