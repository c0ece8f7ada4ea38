"""Trust in a window's text: what speaks against it, and whether another attempt says it better.

A decoder can stop early, loop, or write nothing, and it never says so. Each sign of that is a `Fault`. A window with
faults is tried again, cut otherwise; the attempt with fewer of them is kept, and what is left is told to the user.
Repetition is judged against the seconds there were to say it: people do say "no no no no".
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from eardrop.audio import SAMPLE_RATE
from eardrop.ops import Float32
from eardrop.search import Finish
from eardrop.transcribe.windows import Window

SOUNDING = 0.5  # seconds of speech that can't be nothing
FASTEST = 8.0  # words a second: an auctioneer's 400 a minute are 6.7
SHORTEST = 0.12  # seconds of a word that is said again and again
SLOWEST, PATIENT = 0.4, 4.0  # words a second of somebody who speaks, and the seconds from which that is asked
LOOP_TIMES, LOOP_WORDS = 4, 8  # repeats, and words in them, that are looked at twice
LOOP_PHRASE = 12  # words
LEAST_HALF, QUIET = 1.0, 0.1  # seconds of half a window, and of the place where it is cut


@dataclass(frozen=True)
class Fault:
    """What speaks against a text. weight: beside those of another attempt; told: to the user, empty if only a doubt."""

    weight: int
    told: str


@dataclass(frozen=True)
class Repeated:
    """A phrase that stands several times in a row."""

    phrase: str
    words: int  # in all its repeats
    times: int


def faults(text: str, finish: Finish | None, tokens: int, *, speech: float, seconds: float) -> list[Fault]:
    """What speaks against a window's text.

    finish, tokens  how and after how many its decoding ended
    speech          seconds in which somebody was heard, 0 where nobody knows
    seconds         of the window
    """
    words = text.split()
    found = [
        _cut_off(finish, tokens),
        _empty(words, speech),
        _loop(words, speech or seconds),
        _hasty(words, speech or seconds),
        _thin(words, speech),
    ]
    return [fault for fault in found if fault]


def weight(found: Iterable[Fault]) -> int:
    """How much speaks against an attempt."""
    return sum(fault.weight for fault in found)


def _cut_off(finish: Finish | None, tokens: int) -> Fault | None:
    return None if finish is Finish.STOP else Fault(4, f"the text was cut off after {tokens} tokens ({finish})")


def _empty(words: Sequence[str], speech: float) -> Fault | None:
    if words or speech < SOUNDING:
        return None
    return Fault(3, f"nothing was written, though somebody seems to speak for {speech:.1f} s")


def _loop(words: Sequence[str], seconds: float) -> Fault | None:
    """Repeats for which there was no time; those for which there was are only looked at twice."""
    found = repeated(words)
    if found is None:
        return None
    if found.words * SHORTEST > seconds:
        return Fault(4, f'"{found.phrase}" stands {found.times} times in {seconds:.1f} s')
    return Fault(1, "")


def _hasty(words: Sequence[str], seconds: float) -> Fault | None:
    if len(words) <= 4 + FASTEST * seconds:
        return None
    return Fault(3, f"{len(words)} words were written for {seconds:.1f} s")


def _thin(words: Sequence[str], speech: float) -> Fault | None:
    if not words or speech < PATIENT or len(words) >= SLOWEST * speech:
        return None
    return Fault(2, f"only {len(words)} words were written for {speech:.1f} s of speech")


def repeated(words: Sequence[str]) -> Repeated | None:
    """The longest stretch of one phrase again and again: LOOP_TIMES times and LOOP_WORDS words at least."""
    plain = [re.sub(r"\W", "", word).casefold() for word in words]
    best: Repeated | None = None
    for length in range(1, LOOP_PHRASE + 1):
        start = 0
        while start + length * LOOP_TIMES <= len(plain):
            times = _times(plain, start, length)
            if times >= LOOP_TIMES and length * times >= max(LOOP_WORDS, best.words + 1 if best else 0):
                best = Repeated(" ".join(words[start : start + length]), length * times, times)
            start += max(1, length * (times - 1))
    return best


def _times(words: Sequence[str], start: int, length: int) -> int:
    """How often the phrase at `start` stands there in a row."""
    phrase, stop = words[start : start + length], start + length
    while words[stop : stop + length] == phrase:
        stop += length
    return (stop - start) // length


def halves(window: Window) -> list[Window]:
    """A window cut in two: in the longest pause of its middle half, else where that is quietest. None if too short."""
    count = len(window.samples)
    if count < 2 * LEAST_HALF * SAMPLE_RATE:
        return []
    low, high = window.start + count // 4, window.stop - count // 4
    pauses = [(stop, start) for (_, stop), (start, _) in pairwise(window.speech)]
    inside = [(min(high, stop) - max(low, start), start, stop) for start, stop in pauses]
    length, start, stop = max(inside, default=(0, 0, 0))
    if length > 0:
        cut = min(high, max(low, (start + stop) // 2))
    else:
        cut = window.start + _quietest(window.samples, count // 4, count - count // 4)
    return [_part(window, window.start, cut), _part(window, cut, window.stop)]


def _quietest(samples: Float32, low: int, high: int) -> int:
    """The middle of the faintest QUIET seconds between two samples."""
    frame = round(QUIET * SAMPLE_RATE)
    energies = (samples[low : high - (high - low) % frame].reshape(-1, frame) ** 2).mean(axis=1)
    return low + int(energies.argmin()) * frame + frame // 2


def _part(window: Window, start: int, stop: int) -> Window:
    speech = ((max(start, first), min(stop, last)) for first, last in window.speech)
    return Window(
        start, stop, window.samples[start - window.start : stop - window.start],
        tuple((first, last) for first, last in speech if first < last),
        window.seam if stop == window.stop else "pause",
    )  # fmt: skip
