"""Facts in sections, shown as tables on a terminal, as aligned lines elsewhere, as JSON to programs.

A section is a mapping, one fact a line, or a list of mappings with the same keys, one a line. Values are what they are,
for programs; what people see of them is decided here: numbers with separators and aligned at their ends, a tuple as a
shape. Strings may be a stranger's: they are made harmless here, and rich takes them literally.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from eardrop.cli.terminal import console
from eardrop.printable import printable

Section: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Lines: TypeAlias = list[list[str]]

LONGEST = 200  # characters of a cell
_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]\d+)?(%| \S{1,8})?")  # with its unit


def show(sections: Mapping[str, Section], *, as_json: bool = False) -> None:
    """Print all sections that aren't empty."""
    if as_json:
        print(json.dumps(sections, indent=2))  # ASCII: control characters are escaped by JSON itself
        return
    draw = _draw if sys.stdout.isatty() else _align
    for title, section in sections.items():
        if section:
            draw(title, _heads(section), _justified(_cells(section)))
            print()


def _heads(section: Section) -> list[str]:
    """The headings; none for a mapping."""
    return [] if isinstance(section, Mapping) else [_shown(name) for name in section[0]]


def _cells(section: Section) -> Lines:
    """The lines; a mapping's facts without a value are left out."""
    if isinstance(section, Mapping):
        return [[_shown(name), _shown(value)] for name, value in section.items() if value is not None]
    return [[_shown(value) for value in line.values()] for line in section]


def _justified(lines: Lines) -> Lines:
    """The same with the numbers of a column ending at one place, whatever words stand between them."""
    widths = [max((len(cell) for cell in column if _is_number(cell)), default=0) for column in zip(*lines, strict=True)]
    return [
        [cell.rjust(width) if _is_number(cell) else cell for cell, width in zip(line, widths, strict=True)]
        for line in lines
    ]


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def _of_numbers(lines: Lines) -> set[int]:
    """The columns that hold numbers alone, or nothing: they and their headings are aligned at their ends."""
    return {
        place
        for place, column in enumerate(zip(*lines, strict=True))
        if any(column) and all(_is_number(cell) for cell in column if cell)
    }


def _shown(value: object) -> str:
    """A fact for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return " × ".join(map(str, value)) or "one value"
    if isinstance(value, list):
        return printable(" ".join(map(str, value)), most=LONGEST)
    return printable(str(value), most=LONGEST) if value is not None else ""


def _align(title: str, heads: list[str], lines: Lines) -> None:
    shown, numbers = [heads, *lines] if heads else lines, _of_numbers(lines) if heads else set()
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    print(title)
    for line in shown:
        cells = (
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print(f"  {'  '.join(cells)}".rstrip())


def _draw(title: str, heads: list[str], lines: Lines) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    numbers = _of_numbers(lines) if heads else set()
    table = Table(show_header=bool(heads), box=SIMPLE_HEAD if heads else None, show_edge=False, padding=(0, 1))
    for place, head in enumerate(heads or ("", "")):
        table.add_column(Text(head), overflow="fold", justify="right" if place in numbers else "left")
    for line in lines:
        table.add_row(*map(Text, line))
    out = console(sys.stdout)
    out.print(Text(title, style="bold"))
    out.print(table)
