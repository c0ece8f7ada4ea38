"""Where in a recording somebody speaks: a probability per frame of 16 ms, in constant memory, and spans made of them.

blocks → SpectralDetector.push → probabilities → Spans.push → spans of samples
"""

from collections import deque
from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.audio.rate import SAMPLE_RATE
from eardrop.audio.samples import Float32

Float64: TypeAlias = npt.NDArray[np.float64]
Span: TypeAlias = tuple[int, int]  # from a sample to the one behind the last

FRAME = 256  # samples: 16 ms
ON, OFF = 0.4, 0.21  # low, as lost speech is worse than noise kept: docs/windows.md has the numbers
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
    """Spans of speech from probabilities.

    on     a span begins with `least` frames above it: one or two are a click
    off    and goes on above it
    hang   frames below that a span bridges

    No span begins before `now` that was not given or `current` by then.
    """

    def __init__(self, *, on: float = ON, off: float = OFF, least: int = 3, hang: int = 8) -> None:
        self._on, self._off, self._least, self._hang = on, off, least, hang
        self._frames = 0
        self._run = 0  # frames above `on`, not yet a span
        self._first: int | None = None  # frame
        self._last = 0  # frame behind the last that was speech

    @property
    def now(self) -> int:
        """The sample up to which all is decided."""
        return (self._frames - self._run) * FRAME

    @property
    def current(self) -> Span | None:
        """The span that may go on, as far as it has come."""
        return None if self._first is None else (self._first * FRAME, self._last * FRAME)

    def push(self, probabilities: Float32) -> Iterator[Span]:
        """The spans that end within these frames."""
        for probability in probabilities.tolist():
            self._frames += 1
            if self._first is None:
                self._run = self._run + 1 if probability >= self._on else 0
                if self._run == self._least:
                    self._first, self._last, self._run = self._frames - self._least, self._frames, 0
            elif probability >= self._off:
                self._last = self._frames
            elif self._frames - self._last >= self._hang:
                yield self._first * FRAME, self._last * FRAME
                self._first = None


GROUP = 16  # frames that are looked at together
EARLY = 4  # groups, a second, that wait for the first floor
FLOOR_GROUPS = 24  # six seconds; the least of each is taken
RANK = 1  # and of these the second least is the noise: the least alone falls with every chance dip of a hiss
NEAR, AROUND = 2, 10  # frames on each side that are averaged; AROUND stays within the neighbouring groups
WINDOW = 2 * FRAME  # samples under the window of a frame, which lies in its middle
GROUP_SAMPLES = (GROUP + 2) * FRAME + WINDOW - FRAME  # a group, a frame on each side to smooth with, half a frame more
BANDS = 20
HIGHEST = 5
LOWER = slice(2, 12)  # bands of 150 to 800 Hz
STILL = 1e-10  # power of a band below which it holds nothing: far below the dither of 16 bits
MOST_EXCESS = 40.0  # decibels

FEATURES = 6  # mean excess of all bands, of the HIGHEST, of the LOWER ones: NEAR, then AROUND

# Logistic regression of speech on the features: `python -m train detector`, from synthetic speech and made noises.
WEIGHTS = np.array([0.242, 0.031, -0.105, -0.709, 0.201, 0.488])
BIAS = -3.019


class SpectralDetector:
    """Speech by the energy in bands over the noise there, a logistic regression on SpectralFeatures.

    Decides half a second behind the recording, at its beginning a second and a half.
    """

    def __init__(self) -> None:
        self._features = SpectralFeatures()

    def push(self, samples: Float32) -> Float32:
        """(n,) samples at 16 kHz → probabilities of speech of the frames that are decided, in order."""
        return _probabilities(self._features.push(samples))

    def finish(self) -> Float32:
        """Those of the remaining frames; in all one for each FRAME that was begun."""
        return _probabilities(self._features.finish())


def _probabilities(features: Float64) -> Float32:
    return np.asarray(1 / (1 + np.exp(-(features @ WEIGHTS + BIAS))), np.float32)


class SpectralFeatures:
    """By how many decibels a frame rises over the noise: no matter how loud the recording is.

    The noise of a band is next to the least of its last six seconds. Voices rise over it in few bands, mostly in lower
    ones, doors and wind in all: the excess is averaged over all bands, over the highest and over the lower, near the
    frame and a sixth of a second around it.
    """

    def __init__(self) -> None:
        self._held: Float32 = np.zeros(WINDOW - FRAME // 2, np.float32)  # from a frame and a half before the next group
        self._received = self._given = 0  # samples; frames
        self._early: list[Float64] | None = []  # groups that wait for the first floor; None afterwards
        self._minima: deque[Float64] = deque(maxlen=FLOOR_GROUPS)
        self._excess: Float64 | None = None  # of the last group that was judged, and of the next

    def push(self, samples: Float32) -> Float64:
        """(n,) samples at 16 kHz → (frames, FEATURES) decibels of the frames that are decided, in order."""
        if not self._received and len(samples):
            self._held[:] = samples[0]  # zeros would be a click where the recording has an offset
        self._received += len(samples)
        found = self._heard(samples)
        self._given += len(found)
        return found

    def finish(self) -> Float64:
        """Those of the remaining frames; in all one for each FRAME that was begun."""
        missing = -(-self._received // FRAME) - self._given
        there_and_back = np.concatenate(
            [self._held[: -WINDOW - 1 : -1], self._held[-WINDOW:]]
        )  # zeros would be a pause
        return self._heard(np.resize(there_and_back, (EARLY + 3) * GROUP * FRAME))[:missing]

    def _heard(self, samples: Float32) -> Float64:
        self._held = np.concatenate([self._held, samples])
        found = [np.zeros((0, FEATURES))]
        while len(self._held) >= GROUP_SAMPLES:
            found += [self._judged(excess) for excess in self._excesses(_bands(self._held[:GROUP_SAMPLES]))]
            self._held = self._held[GROUP * FRAME :]
        return np.concatenate(found)

    def _excesses(self, bands: Float64) -> list[Float64]:
        """(GROUP, BANDS) powers → (GROUP, 3) of the groups whose floor is known."""
        self._minima.append(np.where(bands > STILL, bands, np.inf).min(axis=0))
        groups = [bands]
        if self._early is not None:
            self._early.append(bands)
            if len(self._early) < EARLY:
                return []
            groups, self._early = self._early, None
        floor = self._floor()
        return [_excess(group, floor) for group in groups]

    def _floor(self) -> Float64:
        """(BANDS,) of the noise; where few groups hold any the least: between digital silences the rest is a word."""
        minima = np.sort(self._minima, axis=0)
        known = np.isfinite(minima).sum(axis=0)
        return np.asarray(np.where(known < EARLY, minima[0], minima[min(RANK, len(minima) - 1)]))

    def _judged(self, following: Float64) -> Float64:
        """Takes the next group; gives the features of the one before it, which the first doesn't have."""
        if self._excess is None:
            self._excess = np.concatenate([following[::-1], following])  # zeros would be a pause
            return np.zeros((0, FEATURES))
        three = np.concatenate([self._excess, following])
        self._excess = three[GROUP:]
        return np.concatenate([_averaged(three, NEAR), _averaged(three, AROUND)], axis=1)


def _bands(samples: Float32) -> Float64:
    """(GROUP_SAMPLES,) → (GROUP, BANDS) mean powers, over three frames each."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::FRAME]
    spectrum = np.fft.rfft((windows - windows.mean(axis=1, keepdims=True)) * _HANN)  # without the offset of the middle
    power = (spectrum.real**2 + spectrum.imag**2)[:, _EDGES[0] : _EDGES[-1]]
    bands = np.add.reduceat(power, _EDGES[:-1] - _EDGES[0], axis=1) / np.diff(_EDGES)
    return np.asarray((bands[:-2] + bands[1:-1] + bands[2:]) / 3)


def _excess(bands: Float64, floor: Float64) -> Float64:
    """Decibels over the floor: (n, 3), of all bands, of the HIGHEST, of the LOWER ones."""
    excess = np.clip(10 * np.log10(np.maximum(bands / np.maximum(floor, STILL), 1.0)), 0, MOST_EXCESS)
    highest = np.sort(excess, axis=1)[:, -HIGHEST:]
    return np.stack([excess.mean(axis=1), highest.mean(axis=1), excess[:, LOWER].mean(axis=1)], axis=1)


def _averaged(three: Float64, frames: int) -> Float64:
    """The middle group of three, each frame averaged with so many on both sides: (3 · GROUP, k) → (GROUP, k)."""
    sums = np.cumsum(three[GROUP - frames - 1 : 2 * GROUP + frames], axis=0)
    width = 2 * frames + 1
    return np.asarray((sums[width:] - sums[:-width]) / width)


_HANN = np.hanning(WINDOW + 2)[1:-1]
# sorted(set()), as np.unique would import numpy.ma: 8 ms of every start
_EDGES = np.array(sorted(set(np.round(np.geomspace(100, 7000, BANDS + 1) * WINDOW / SAMPLE_RATE).astype(int).tolist())))
