"""Two reviews of the same question: what changed beyond the noise, the largest time first, as markdown.

A and B were measured one after the other, so that what else the machine did may differ; a change counts where the
95 % interval of B ÷ A − 1 leaves zero out. "No difference seen" is a result.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eardrop.bench.noise import Estimate, change
from eardrop.bench.review import SCHEMA
from eardrop.errors import OptionError
from eardrop.printable import printable
from eardrop.transcript import align


@dataclass(frozen=True)
class Line:
    """One figure in both: a stage's time with what it holds, its own time, or one of the figures."""

    name: str
    unit: str
    better: str  # lower or higher
    before: float
    after: float
    change: Estimate  # B ÷ A − 1

    @property
    def seen(self) -> bool:
        """Whether it changed beyond the noise."""
        return not self.change.low <= 0 <= self.change.high

    @property
    def verdict(self) -> str:
        """For people."""
        if not self.seen:
            return "no difference seen"
        return "better" if (self.change.median < 0) == (self.better == "lower") else "**worse**"


@dataclass(frozen=True)
class Limit:
    """A change that is too much: `token>3%`, `times real time<-3%`."""

    name: str
    above: bool
    share: float

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """The limit in these words."""
        found = re.fullmatch(r"\s*(.+?)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*%\s*", text)
        if found is None:
            raise OptionError(
                f"{printable(text)!r} is no limit; write a stage or figure, < or >, and percent: token>3%"
            )
        return cls(found[1], found[2] == ">", float(found[3]) / 100)

    def broken(self, lines: Sequence[Line]) -> bool:
        """Whether the change is seen and beyond the limit."""
        named = [line for line in lines if line.name == self.name]
        if not named:
            known = ", ".join(line.name for line in lines)
            raise OptionError(f"nothing in both reviews is called {printable(self.name)!r}; there are {known}")
        share = named[0].change.median
        return named[0].seen and (share > self.share if self.above else share < self.share)

    def __str__(self) -> str:
        return f"{self.name}{'>' if self.above else '<'}{self.share * 100:g}%"


@dataclass(frozen=True)
class Comparison:
    """B beside A."""

    stages: Sequence[Line]  # the largest change in seconds first
    figures: Sequence[Line]
    same_text: bool
    words_differing: int
    differences: Sequence[str]  # in machine or question, where somebody insisted

    @property
    def lines(self) -> list[Line]:
        """All."""
        return [*self.stages, *self.figures]


def read_review(path: Path) -> dict[str, Any]:
    """A file that `eardrop bench stages --json` wrote."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{printable(str(path))} can't be read as a review: {error}") from None
    return understood(report, str(path))


def understood(report: Any, name: str) -> dict[str, Any]:
    """A review that is of this version's schema. Raises OptionError for another."""
    found = report.get("schema") if isinstance(report, dict) else None
    if found != SCHEMA:
        raise OptionError(f"{printable(name)} has schema {found}, expected {SCHEMA}; measure again")
    return dict(report)


def compare(a: dict[str, Any], b: dict[str, Any], *, force: bool = False) -> Comparison:
    """What changed from A to B. Raises OptionError where machine or question differ, unless forced."""
    differences = list(_differences(a, b))
    if differences and not force:
        raise OptionError(f"these reviews can't be compared: {'; '.join(differences)}; --force compares all the same")
    stages = [line for stage in _names(a, b) for line in _stage_lines(stage, a, b)]
    figures = [
        _line(name, a["figures"][name], b["figures"][name])
        for name in a["figures"]
        if _measured(a["figures"][name]) and _measured(b["figures"].get(name))
    ]
    words = align.distance(a["text"].split(), b["text"].split())
    return Comparison(
        sorted(stages, key=lambda line: -abs(line.after - line.before)), figures, a["text"] == b["text"], words,
        differences,
    )  # fmt: skip


def _differences(a: dict[str, Any], b: dict[str, Any]) -> Any:
    """What keeps two reviews from being of one question; the backend and the versions may be what is compared."""
    for name in ("processor", "cores", "memory_bytes"):
        x, y = a["machine"].get(name), b["machine"].get(name)
        if x != y:
            yield f"the machines' {name} are {printable(str(x))} and {printable(str(y))}"
    for name in ("tokens", "threads"):
        x, y = a["flags"].get(name), b["flags"].get(name)
        if x != y:
            yield f"{name} are {x} and {y}"
    if [file["sha256"] for file in a["files"]] != [file["sha256"] for file in b["files"]]:
        yield "the files are not the same"


def _measured(figure: dict[str, Any] | None) -> bool:
    """Whether it was, and is more than nothing: of nothing there are no shares."""
    return figure is not None and min(figure["samples"]) > 0


def _names(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    there = {stage["stage"] for stage in b["stages"]}
    return [stage["stage"] for stage in a["stages"] if stage["stage"] in there]


def _stage_lines(name: str, a: dict[str, Any], b: dict[str, Any]) -> list[Line]:
    """The stage with what it holds; also by itself, where that is something else."""
    before, after = (next(s for s in report["stages"] if s["stage"] == name) for report in (a, b))
    lines = [_line(name, before["inclusive"], after["inclusive"])]
    nested = before["own"]["samples"] != before["inclusive"]["samples"]
    if nested and _measured(before["own"]) and _measured(after["own"]):
        lines.append(_line(f"{name}, itself", before["own"], after["own"]))
    return lines


def _line(name: str, a: dict[str, Any], b: dict[str, Any]) -> Line:
    return Line(name, a["unit"], a["better"], a["median"], b["median"], change(a["samples"], b["samples"]))


def shown(value: float, unit: str) -> str:
    """A figure for people."""
    if unit == "s" and value < 1e-4:
        return f"{value * 1e6:,.1f} µs"
    if unit == "s":
        return f"{value * 1e3:,.1f} ms" if value < 10 else f"{value:,.1f} s"
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    if unit == "bytes/s":
        return f"{value / 1e9:,.1f} GB/s"
    return f"{value:.0%}" if unit == "share" else f"{value:,.2f} {unit}"


def markdown(comparison: Comparison, broken: Sequence[Limit] = ()) -> str:
    """For a comment on a change."""
    seen = [line for line in comparison.lines if line.seen]
    text = "the same text" if comparison.same_text else f"**another text**: {comparison.words_differing} words differ"
    parts = [f"{len(seen)} of {len(comparison.lines)} figures changed beyond the noise; {text}."]
    if comparison.differences:
        parts.append(f"**Not the same question**: {'; '.join(comparison.differences)}.")
    parts += [f"**Beyond the limit**: {limit}." for limit in broken]
    parts += [_table("stage", comparison.stages), _table("figure", comparison.figures)]
    return "\n\n".join(parts)


def _table(head: str, lines: Sequence[Line]) -> str:
    rows = [f"| {head} | A | B | B ÷ A − 1 | 95 % | |", "| --- | ---: | ---: | ---: | --- | --- |"]
    rows += [
        f"| {printable(line.name)} | {shown(line.before, line.unit)} | {shown(line.after, line.unit)}"
        f" | {line.change.median:+.1%} | {line.change.low:+.1%} … {line.change.high:+.1%} | {line.verdict} |"
        for line in lines
    ]
    return "\n".join(rows)
