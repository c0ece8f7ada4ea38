"""Seams without a pause: two windows overlap there, and each word of the overlap gets one owner.

Both windows wrote the overlap, the first with its last word maybe cut off, the second with its first. The longest run
of words that both have in common decides: the first window keeps it, the second goes on behind it.
"""

import re
from collections.abc import Sequence

from eardrop.transcript.align import shared

MOST_WORDS_A_SECOND = 8.0


def common_run(before: Sequence[str], after: Sequence[str], seconds: float) -> tuple[int, int] | None:
    """Where the words of an overlap of so many seconds part: how many of `before` stay, how many of `after` go.

    None where they have no word in common there.
    """
    most = 2 + int(seconds * MOST_WORDS_A_SECOND)
    first = max(0, len(before) - most)
    ends, starts = [_plain(word) for word in before[first:]], [_plain(word) for word in after[:most]]
    runs = ((shared(ends[i:], starts[j:]), i, j) for i in range(len(ends)) for j in range(len(starts)) if ends[i])
    # of several as long the one that loses least of either window
    length, i, j = max(runs, key=lambda run: (run[0], run[1] - run[2]), default=(0, 0, 0))
    return (first + i + length, j + length) if length else None


def _plain(word: str) -> str:
    return re.sub(r"\W", "", word).casefold()
