"""Words that were said above words that were written, wrapped to the terminal's width; long runs of hits shortened.

What is wrong is marked by a letter, and where there are colours by them, too: S substituted, D deleted, I inserted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from eardrop.printable import printable
from eardrop.transcript.align import Pair

AROUND = 4  # words shown before and behind a mistake
LABELS = ("said", "written", "")
_INDENT = 2
_STYLES = {"S": "yellow", "D": "red", "I": "green", "": ""}


@dataclass(frozen=True)
class _Column:
    """A word above a word above its mark."""

    cells: tuple[str, str, str]

    @property
    def width(self) -> int:
        return max(map(cell_len, self.cells))


def side_by_side(pairs: Sequence[Pair], width: int) -> Iterator[Text]:
    """Lines, three for each stretch of words that fits into so many cells, an empty one between stretches."""
    room = width - _INDENT - max(map(len, LABELS)) - 2
    for place, stretch in enumerate(_wrapped(list(_columns(pairs)), room)):
        if place:
            yield Text()
        for row, label in enumerate(LABELS):
            yield _line(stretch, row, label)


def _columns(pairs: Sequence[Pair]) -> Iterator[_Column]:
    wrong = [place for place, (said, written) in enumerate(pairs) if said != written]
    near = {near for place in wrong for near in range(place - AROUND, place + AROUND + 1)}
    hidden = 0
    for place, pair in enumerate(pairs):
        if place not in near:
            hidden += 1
            continue
        if hidden:
            yield _Column((f"({hidden})", f"({hidden})", ""))
            hidden = 0
        yield _column(*pair)
    if hidden and wrong:
        yield _Column((f"({hidden})", f"({hidden})", ""))


def _column(said: str | None, written: str | None) -> _Column:
    above, below = (printable(word) if word is not None else None for word in (said, written))
    mark = "" if said == written else "D" if written is None else "I" if said is None else "S"
    return _Column((above or "*" * cell_len(below or ""), below or "*" * cell_len(above or ""), mark))


def _wrapped(columns: Sequence[_Column], room: int) -> Iterator[list[_Column]]:
    """As many columns as fit, at least one."""
    stretch: list[_Column] = []
    used = 0
    for column in columns:
        if stretch and used + column.width > room:
            yield stretch
            stretch, used = [], 0
        stretch.append(column)
        used += column.width + 1
    if stretch:
        yield stretch


def _line(stretch: Sequence[_Column], row: int, label: str) -> Text:
    line = Text(" " * _INDENT + label.ljust(max(map(len, LABELS)) + 2), style="", no_wrap=True)
    for column in stretch:
        cell = column.cells[row]
        line.append(cell, style=_STYLES[column.cells[2]])
        line.append(" " * (column.width - cell_len(cell) + 1))
    line.rstrip()
    return line
