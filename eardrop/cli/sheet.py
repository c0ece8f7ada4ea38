"""Facts in sections, shown as tables on a terminal, as aligned lines elsewhere, as JSON to programs.

A section is a mapping, one fact a line, or a list of mappings with the same keys, one a line. Strings may be a
stranger's: they are made harmless here, and rich takes them literally.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from eardrop.cli.terminal import console
from eardrop.printable import printable

Section: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]

LONGEST = 200  # characters of a cell


def show(sections: Mapping[str, Section], *, as_json: bool = False) -> None:
    """Print all sections that aren't empty."""
    if as_json:
        print(json.dumps(sections, indent=2))  # ASCII: control characters are escaped by JSON itself
        return
    draw = _draw if sys.stdout.isatty() else _align
    for title, section in sections.items():
        if section:
            draw(title, _heads(section), _cells(section), _numbers(section))
            print()


def _heads(section: Section) -> list[str]:
    """The headings; none for a mapping."""
    return [] if isinstance(section, Mapping) else [_shown(name) for name in section[0]]


def _cells(section: Section) -> list[list[str]]:
    """The lines; a mapping's facts without a value are left out."""
    if isinstance(section, Mapping):
        return [[_shown(name), _shown(value)] for name, value in section.items() if value is not None]
    return [[_shown(value) for value in line.values()] for line in section]


def _numbers(section: Section) -> set[int]:
    """The columns that hold nothing but numbers: they are aligned at their ends."""
    if isinstance(section, Mapping):
        return set()
    return {
        place
        for place, name in enumerate(section[0])
        if all(isinstance(line[name], int) and not isinstance(line[name], bool) for line in section)
    }


def _shown(value: object) -> str:
    """A fact for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return printable(str(value), most=LONGEST) if value is not None else ""


def _align(title: str, heads: list[str], lines: list[list[str]], numbers: set[int]) -> None:
    shown = [heads, *lines] if heads else lines
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    print(title)
    for line in shown:
        cells = (
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print(f"  {'  '.join(cells)}".rstrip())


def _draw(title: str, heads: list[str], lines: list[list[str]], numbers: set[int]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=bool(heads), box=SIMPLE_HEAD if heads else None, show_edge=False, padding=(0, 1))
    for place, head in enumerate(heads or ("", "")):
        table.add_column(Text(head), overflow="fold", justify="right" if place in numbers else "left")
    for line in lines:
        table.add_row(*map(Text, line))
    out = console(sys.stdout)
    out.print(Text(title, style="bold"))
    out.print(table)
