"""Channels each for itself: telephone calls and interviews with a microphone for each speaker."""

import heapq
from collections.abc import Callable, Iterator, Sequence

from eardrop.transcribe.transcription import Transcription
from eardrop.transcript import Result, Segment

STEREO = ("left", "right")


def speaker(channel: int, of: int) -> str:
    """What a channel is called."""
    return STEREO[channel] if of == len(STEREO) else f"channel {channel + 1}"


class Channels:
    """The channels of one recording, transcribed side by side; their segments in the order of time."""

    def __init__(self, count: int, transcription: Callable[[int, str], Transcription]) -> None:
        self._parts = [transcription(channel, speaker(channel, count)) for channel in range(count)]

    def segments(self) -> Iterator[Segment]:
        """As each comes: a segment waits for those of other channels that begin earlier."""
        streams = [part.segments() for part in self._parts]
        yield from heapq.merge(*streams, key=lambda segment: segment.start)

    def result(self) -> Result:
        """All of them as one."""
        segments = tuple(self.segments())
        notes = tuple(dict.fromkeys(note for part in self._parts for note in part.notes))
        skipped = self._parts[0].skipped
        for part in self._parts[1:]:
            skipped = common(skipped, part.skipped)
        return self._parts[0].result_of(segments, notes, skipped)

    def cancel(self) -> None:
        """End all of them now."""
        for part in self._parts:
            part.cancel()


def common(a: Sequence[tuple[float, float]], b: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Stretches that lie in both of two ordered lists of stretches."""
    pairs = ((max(one[0], two[0]), min(one[1], two[1])) for one in a for two in b)
    return sorted((start, stop) for start, stop in pairs if start < stop)
