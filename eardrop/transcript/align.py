"""Which words of a reference were heard, which were exchanged, left out or put in: Levenshtein's alignment, exactly.

Where several alignments have the fewest edits, the sum of the edits is the only one there is, but not its parts; ours
are rapidfuzz's, and so jiwer's: from the end, leave out before you put in, put in before you exchange.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Pair: TypeAlias = tuple[str | None, str | None]  # a word of the reference and what was heard instead; None for nothing


@dataclass(frozen=True)
class Counts:
    """Hits and edits of some words; add them up."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def edits(self) -> int:
        """What had to be mended."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def length(self) -> int:
        """Words of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float | None:
        """Edits for each word of the reference, above 1 where more was put in than there was; None of no words."""
        return self.edits / self.length if self.length else None

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


def align(reference: Sequence[str], heard: Sequence[str]) -> list[Pair]:
    """The two side by side, with the fewest edits: equal words, exchanged ones, (word, None), (None, word).

    Time and memory grow with len(reference) × len(heard), but 64 cells are one step: 15,000 words take 60 MB.
    """
    same = shared(reference, heard)
    tail = shared(reference[same:][::-1], heard[same:][::-1])
    middle = _traced(reference[same : len(reference) - tail], heard[same : len(heard) - tail])
    equal = list(zip(reference, reference, strict=True))
    return equal[:same] + middle + equal[len(reference) - tail :]


def count(pairs: Sequence[Pair]) -> Counts:
    """What `align` gave, counted."""
    deletions = sum(heard is None for _, heard in pairs)
    insertions = sum(reference is None for reference, _ in pairs)
    hits = sum(reference == heard for reference, heard in pairs)
    return Counts(hits, len(pairs) - hits - deletions - insertions, deletions, insertions)


def distance(reference: Sequence[Hashable], heard: Sequence[Hashable]) -> int:
    """The fewest members, as characters, to exchange, leave out or put in that make one of the other."""
    up, down = (1 << len(reference)) - 1, 0
    for up, down in _columns(reference, heard):  # noqa: B007  # the last one holds the whole difference
        pass
    return len(heard) + up.bit_count() - down.bit_count()


def shared(a: Sequence[str], b: Sequence[str]) -> int:
    """How many both begin with: a best alignment pairs them, and most texts are nearly equal."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _columns(reference: Sequence[Hashable], heard: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """For each thing heard a column of the table of distances, as differences from one entry to the next.

    Bit r of the first number says that entry r + 1 is entry r plus 1, of the second that it is entry r minus 1. A
    column is reckoned from the one before by a few operations on all bits at once (Myers 1999; Hyyrö 2003, figure 8).
    """
    full = (1 << len(reference)) - 1
    places: dict[Hashable, int] = {}
    for place, word in enumerate(reference):
        places[word] = places.get(word, 0) | 1 << place
    up, down = full, 0
    for word in heard:
        equal = places.get(word, 0)
        diagonal = ((((equal & up) + up) ^ up) | equal | down) & full
        right, left = (down | ~(diagonal | up)) << 1 | 1, (diagonal & up) << 1
        up, down = (left | ~(diagonal | right)) & full, right & diagonal
        yield up, down


def _traced(reference: Sequence[str], heard: Sequence[str]) -> list[Pair]:
    """The way from the last cell of the table back to the first, forwards."""
    columns = list(_columns(reference, heard))
    pairs: list[Pair] = []
    r, h = len(reference), len(heard)
    while r and h:
        word, other = reference[r - 1], heard[h - 1]
        if columns[h - 1][0] >> (r - 1) & 1:
            pairs.append((word, None))
            r -= 1
        elif h > 1 and columns[h - 2][1] >> (r - 1) & 1:
            pairs.append((None, other))
            h -= 1
        else:
            pairs.append((word, other))
            r, h = r - 1, h - 1
    begun: list[Pair] = [(word, None) for word in reference[:r]] + [(None, word) for word in heard[:h]]
    return begun + pairs[::-1]
