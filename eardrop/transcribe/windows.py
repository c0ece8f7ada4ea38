"""A recording of any length becomes windows that a model can take: cut in pauses, silence left out, in constant memory.

    blocks → probability of speech per frame → spans of speech → units between pauses → windows

Spans less than `skip` seconds apart belong together; silence that is longer lies in no window, but for `PAD` on both
sides. Among the pauses of what belongs together, dynamic programming takes those whose windows are close to `target`,
and whose silence is long and quiet. In a unit that is longer than `longest`, a quarter of a second far below what is
loud is a pause, too; where there is none, it is cut at its quietest places, and the windows there overlap, so that each
word is whole in one of them.

What is no window is skipped: the complement of the windows. A recording in which nobody is heard at all isn't skipped
on the detector's word alone: its first `longest` seconds become a window without `speech`, for the model to decide,
unless they are digital silence. Noise beside speech that was heard is skipped; docs/windows.md says why.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from eardrop.audio import SAMPLE_RATE
from eardrop.audio.samples import regrouped
from eardrop.audio.speech import Detector, Span, Spans, SpectralDetector, is_silent
from eardrop.errors import OptionError
from eardrop.ops import Float32

PAD = round(0.4 * SAMPLE_RATE)  # samples of a skipped silence that stay on each side of speech
OVERLAP = round(1.5 * SAMPLE_RATE)  # samples that windows share where no pause is: a long word, and its surroundings
LEAST_LONGEST = 4.0  # seconds
HORIZON = 2.0  # times `longest`: what is looked at before a window is decided

HARD = 10.0  # cost of a cut without a pause: none of those below reaches it
SHORT_PAUSE = 0.5  # cost of a pause of no length, falling to 0 at LONG_PAUSE
LONG_PAUSE = round(0.8 * SAMPLE_RATE)
LOUD_PAUSE = 1.0  # cost of a pause as loud as can be; 0 for FAINTEST
HIDDEN_PAUSE = round(0.25 * SAMPLE_RATE)  # a stop's closure is half as long
HIDDEN_PAUSE_DEPTH = 20.0  # decibels below what is loud: weak consonants are shorter than a hidden pause
FAINTEST = -100.0  # decibels
LOUDNESS_FRAME = 320  # samples: 20 ms


@dataclass(frozen=True)
class Window:
    """A stretch of a recording for a model to transcribe. Positions are samples of the recording, at 16 kHz."""

    start: int
    stop: int
    samples: Float32  # (stop - start,)
    speech: tuple[Span, ...]  # where in it speech was heard
    seam: Literal["pause", "overlap"]  # how it ends: "overlap", and the next window begins before this one's end


@dataclass(frozen=True)
class _Unit:
    """Speech that is not cut, and how far a window that begins or ends with it may reach into the pauses."""

    low: int
    start: int
    stop: int
    high: int
    cost: float  # of a cut behind it
    seam: Literal["pause", "overlap"] = "pause"


def windows(
    blocks: Iterable[Float32],
    *,
    target: float | None = None,
    longest: float = 30.0,
    skip: float = 2.0,
    detector: Detector | None = None,
) -> Iterator[Window]:
    """The windows of a recording in order, each as soon as it is decided.

    blocks    samples (n,) float32, mono, 16 kHz, of any lengths: the windows don't depend on them
    target    seconds that a window should have; two thirds of `longest` where none are named
    longest   seconds that no window exceeds; 4 or more
    skip      silences of more seconds are left out; shorter ones lie in windows
    detector  who hears speech; a fresh one, as it remembers

    Holds at most 2 × `longest` + `skip` + 3 s of samples. Windows overlap at seams that are "overlap", nowhere else.
    """
    wanted = longest * 2 / 3 if target is None else target
    cutter = _Cutter(_limits(wanted, longest, skip), detector or SpectralDetector())
    for block in regrouped(blocks):
        yield from cutter.push(block)
    yield from cutter.finish()


@dataclass(frozen=True)
class _Limits:
    """All in samples."""

    target: int
    longest: int
    skip: int
    pad: int
    overlap: int


def _limits(target: float, longest: float, skip: float) -> _Limits:
    if not longest >= LEAST_LONGEST:
        raise OptionError(f"longest is {longest} seconds, expected at least {LEAST_LONGEST:g}")
    if not 0 < target <= longest:
        raise OptionError(f"target is {target} seconds, expected more than 0 and at most longest, {longest:g}")
    if not 0 <= skip <= longest:
        raise OptionError(f"skip is {skip} seconds, expected 0 to longest, {longest:g}")
    most, gap = round(longest * SAMPLE_RATE), round(skip * SAMPLE_RATE)
    return _Limits(round(target * SAMPLE_RATE), most, gap, min(PAD, gap // 2), min(OVERLAP, most // 4))


class _Tape:
    """The last samples of a recording, in the blocks they came in: joining them anew each second would cost most."""

    def __init__(self) -> None:
        self._blocks: deque[Float32] = deque()
        self._origin = 0  # of the recording, the first that is held
        self.end = 0

    def push(self, samples: Float32) -> None:
        self._blocks.append(samples)
        self.end += len(samples)

    def forget(self, before: int) -> None:
        """Let go of blocks that lie before a sample."""
        while self._blocks and self._origin + len(self._blocks[0]) <= before:
            self._origin += len(self._blocks.popleft())

    def cut(self, start: int, stop: int) -> Float32:
        """A copy of some of what is held."""
        pieces, at = [np.zeros(0, np.float32)], self._origin
        for block in self._blocks:
            pieces.append(block[max(0, start - at) : max(0, stop - at)])
            at += len(block)
        return np.concatenate(pieces)

    def loudness(self, start: int, stop: int) -> Float32:
        """Decibels of each LOUDNESS_FRAME, whatever the offset: (⌈(stop − start) / LOUDNESS_FRAME⌉,)."""
        samples = self.cut(start, stop)
        frames = np.pad(samples, (0, -len(samples) % LOUDNESS_FRAME), mode="edge").reshape(-1, LOUDNESS_FRAME)
        return np.asarray(10 * np.log10(frames.var(axis=1) + 10 ** (FAINTEST / 10)), np.float32)


class _Cutter:
    """Turns blocks into windows; holds what isn't decided."""

    def __init__(self, limits: _Limits, detector: Detector) -> None:
        self._limits, self._detector = limits, detector
        self._tape, self._spans = _Tape(), Spans()
        self._pending: list[Span] = []  # closed spans that are in no window yet
        self._low: int | None = None  # where the next window begins, when it follows on one that was given
        self._begin = 0  # speech before belongs to windows that were given
        self._end = 0  # of the last window that silence followed
        self._opening: Float32 | None = None  # the first `longest` of a longer recording in which nobody was heard yet

    def push(self, block: Float32) -> Iterator[Window]:
        self._tape.push(block)
        yield from self._listen(self._detector.push(block))
        while (spans := self._spoken()) and spans[-1][1] - self._reach(spans) >= HORIZON * self._limits.longest:
            yield self._first(spans)
        self._forget()

    def finish(self) -> Iterator[Window]:
        """The windows that are left when the recording ends."""
        yield from self._listen(self._detector.finish())
        total = self._tape.end
        spans = [(start, min(stop, total)) for start, stop in self._spoken() if start < total]
        if spans:
            stop = spans[-1][1]
            yield from self._rest(spans, total if total - stop <= self._limits.skip else stop + self._limits.pad)
        elif not self._end:
            samples = self._tape.cut(0, min(total, self._limits.longest)) if self._opening is None else self._opening
            if not is_silent(samples):
                yield Window(0, len(samples), samples, (), "pause")

    def _listen(self, probabilities: Float32) -> Iterator[Window]:
        """Take note of what was heard; where a silence has become too long, give the windows before it."""
        for span in self._spans.push(probabilities):
            yield from self._before_silence(until=span[0])
            self._pending.append(span)
        current = self._spans.current
        yield from self._before_silence(until=current[0] if current else self._spans.now)

    def _before_silence(self, until: int) -> Iterator[Window]:
        if (spans := self._clipped(self._pending)) and until - spans[-1][1] > self._limits.skip:
            yield from self._rest(spans, spans[-1][1] + self._limits.pad)

    def _spoken(self) -> list[Span]:
        """All that is in no window yet, up to now."""
        current = self._spans.current
        return self._clipped([*self._pending, current] if current else self._pending)

    def _clipped(self, spans: Sequence[Span]) -> list[Span]:
        return [(max(start, self._begin), stop) for start, stop in spans if stop > self._begin]

    def _reach(self, spans: Sequence[Span]) -> int:
        """Where the first window of the spans may begin."""
        if self._low is not None:
            return self._low
        start = spans[0][0]
        return 0 if not self._end and start <= self._limits.skip else max(self._end, start - self._limits.pad)

    def _rest(self, spans: Sequence[Span], high: int) -> Iterator[Window]:
        """All windows of these spans; `high` is how far the last may reach into the silence behind them."""
        units = self._units(spans, high)
        for first, last in _plan(units, self._limits, goes_on=False):
            yield self._window(spans, units[first : last + 1])
        self._pending, self._low, self._end = [], None, high

    def _first(self, spans: Sequence[Span]) -> Window:
        """The first window of spans that don't fit one."""
        units = self._units(spans, spans[-1][1])
        first, last = _plan(units, self._limits, goes_on=True)[0]
        self._low, self._begin = units[last + 1].low, units[last + 1].start
        self._pending = [span for span in self._pending if span[1] > self._begin]
        return self._window(spans, units[first : last + 1])

    def _window(self, spans: Sequence[Span], units: Sequence[_Unit]) -> Window:
        start, stop = _extent(units[0], units[-1], self._limits.longest)
        speech = tuple((max(a, start), min(b, stop)) for a, b in spans if a < stop and b > start)
        return Window(start, stop, self._tape.cut(start, stop), speech, units[-1].seam)

    def _units(self, spans: Sequence[Span], high: int) -> list[_Unit]:
        """The spans, each up to the middle of the pauses beside it; those too long for a window in pieces."""
        middles = [(before[1] + after[0]) // 2 for before, after in pairwise(spans)]
        costs = [*(self._pause_cost(before[1], after[0]) for before, after in pairwise(spans)), 0.0]
        lows, highs = [self._reach(spans), *middles], [*middles, high]
        units: list[_Unit] = []
        for low, (start, stop), top, cost in zip(lows, spans, highs, costs, strict=True):
            unit = _Unit(low, start, stop, top, cost)
            units += [piece for part in self._parts(unit) for piece in self._pieces(part)]
        return units

    def _pause_cost(self, start: int, stop: int) -> float:
        short = max(0.0, 1 - (stop - start) / LONG_PAUSE)
        return SHORT_PAUSE * short + LOUD_PAUSE * _share(self._tape.loudness(start, stop).mean())

    def _parts(self, unit: _Unit) -> list[_Unit]:
        """A unit, and one that is too long cut in the middle of its still stretches: pauses that noise kept hidden."""
        if unit.stop - unit.start <= self._limits.longest:
            return [unit]
        loudness = self._tape.loudness(unit.start, unit.stop)
        still = loudness < np.percentile(loudness, 90) - HIDDEN_PAUSE_DEPTH
        still[0] = still[-1] = False
        parts, rest = [], unit
        for first, last in np.flatnonzero(np.diff(still)).reshape(-1, 2) * LOUDNESS_FRAME + unit.start:
            if last - first >= HIDDEN_PAUSE:
                middle = int(first + last) // 2
                cost = self._pause_cost(int(first), int(last))
                parts.append(replace(rest, stop=middle, high=middle, cost=cost, seam="pause"))
                rest = replace(rest, low=middle, start=middle)
        return [*parts, rest]

    def _pieces(self, unit: _Unit) -> list[_Unit]:
        """A unit, and one that is too long cut at the quietest place of each thirtieth of a window, with overlaps."""
        if unit.stop - unit.start <= self._limits.longest:
            return [unit]
        overlap, size = self._limits.overlap, self._limits.longest // 30
        pieces, rest = [], unit
        for start in range(unit.start + overlap, unit.stop - overlap - size, size):
            loudness = self._tape.loudness(start, start + size)
            quietest = int(np.argmin(loudness))
            stop = start + quietest * LOUDNESS_FRAME + (LOUDNESS_FRAME + overlap) // 2
            cost = HARD + _share(loudness[quietest])
            pieces.append(replace(rest, stop=stop, high=stop, cost=cost, seam="overlap"))
            rest = replace(rest, low=stop - overlap, start=stop - overlap)
        return [*pieces, rest]

    def _forget(self) -> None:
        """Hold only what a window may still need."""
        if spans := self._spoken():
            self._opening = None
            self._tape.forget(self._reach(spans))
        elif self._end or self._opening is not None:
            self._tape.forget(self._spans.now - self._limits.pad)
        elif self._spans.now >= self._limits.longest:
            self._opening = self._tape.cut(0, self._limits.longest)


def _extent(first: _Unit, last: _Unit, longest: int) -> Span:
    """From where to where a window of these units goes: into the pauses on both sides as far as `longest` allows."""
    left, right = first.start - first.low, last.high - last.stop
    room = longest - (last.stop - first.start)
    if left + right > room:
        left = min(left, max(room // 2, room - right))
        right = min(right, room - left)
    return first.start - left, last.stop + right


def _share(loudness: np.float32) -> float:
    """Decibels as a share of what can be: 0 for silence, 1 for the loudest square wave."""
    return 1 + float(loudness) / -FAINTEST


def _plan(units: Sequence[_Unit], limits: _Limits, *, goes_on: bool) -> list[Span]:
    """The windows of least cost, as first and last unit of each. `goes_on`: more will follow on the last unit."""
    costs, first_of = [0.0], []  # of the best windows of the first k units; where the last of these begins
    for last, unit in enumerate(units):
        is_open = goes_on and last == len(units) - 1
        ways = []
        for first in range(last, -1, -1):
            if unit.stop - units[first].start > limits.longest:
                break
            start, stop = _extent(units[first], unit, limits.longest)
            ways.append((costs[first] + _deviation(stop - start, limits, is_open), first))
        cost, first = min(ways)
        costs.append(cost + (0.0 if last == len(units) - 1 else unit.cost))
        first_of.append(first)
    made, last = [], len(units) - 1
    while last >= 0:
        made.append((first_of[last], last))
        last = first_of[last] - 1
    return made[::-1]


def _deviation(length: int, limits: _Limits, is_open: bool) -> float:
    """From the target: 0 there, 1 for a window of no length and for one of `longest`; what grows isn't too short."""
    if length > limits.target:
        return ((length - limits.target) / (limits.longest - limits.target)) ** 2
    return 0.0 if is_open else (1 - length / limits.target) ** 2
