"""`eardrop verify`: this engine beside published values of the real model."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from eardrop.cli.flags import Parser, add_model, chosen_backend, find_model
from eardrop.cli.terminal import Voice, bar, console
from eardrop.printable import printable

if TYPE_CHECKING:
    from eardrop.tools.published import Reference
    from eardrop.tools.subject import Subject
    from eardrop.tools.verify import Report, Row

ABOUT = """\
Prove an installation: compute what others published for the real LFM2-Audio models, and print the value, the
expected one, the distance and a verdict. Without recordings: tokenizer, prompt, single layers. Without a model: what
needs none. What was not run, or can't be compared for this model, is listed with the reason.

exit code: 0 where nothing failed, 1 where something did"""

EXAMPLES = """\
  eardrop verify -m LFM2.5-Audio-1.5B-F16.gguf                  what needs no recording
  eardrop verify -m LFM2.5-Audio-1.5B-F16.gguf --fetch          everything; fetches seven short clips
  eardrop verify -m LFM2.5-Audio-1.5B-F16.gguf --audio clips    everything; finds the clips by their sound
  eardrop verify --audio clips --only "*.mel_*"                 the front end alone, without a model"""

COLUMNS = ("check", "value", "expected", "distance", "verdict")
_STYLES = {"pass": "green", "FAIL": "bold red", "not comparable": "yellow"}


def main(words: Sequence[str]) -> int:
    """Verify."""
    wishes = _parser().parse(words)
    from eardrop.tools.published import published
    from eardrop.tools.verify import CHECKS, verify

    reference = published()
    missing: dict[str, str] = {}
    _require_checks(wishes.only, [check.id for check in CHECKS])
    subject = _subject(wishes, reference, missing)
    try:
        with bar("verifying", shown=not wishes.json) as show:
            report = verify(subject, reference, only=wishes.only, missing=missing, told=lambda id_, share: show(share))
    finally:
        subject.close()
    (_print_json if wishes.json else _print)(report, reference)
    if not wishes.json and not _named(wishes):
        _print_next(reference)
    return int(report.failed)


def _parser() -> Parser:
    parser = Parser(
        "verify", ABOUT, EXAMPLES, "[-m FILE | -hf USER/REPO[:TYPE]] [--mmproj FILE] [--audio DIR | --fetch] [options]"
    )
    add_model(parser)
    parser.add_argument("--audio", metavar="DIR", help="a folder with the recordings, under any names and formats")
    parser.add_argument("--fetch", action="store_true", help="fetch missing recordings from their public addresses")
    parser.add_argument("--hash", action="store_true", help="read the model's files whole, for their digests")
    parser.add_argument(
        "--as", dest="family", choices=("LFM2.5", "LFM2"), help="which model it is (default: as its names say)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="checks to run, as 'ls6930.*'; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _require_checks(patterns: Sequence[str], ids: Sequence[str]) -> None:
    """Every pattern names a check: a misspelt one would verify nothing and say that nothing failed."""
    from fnmatch import fnmatchcase

    from eardrop.errors import OptionError

    for pattern in patterns:
        if not any(fnmatchcase(id_, pattern) for id_ in ids):
            raise OptionError(f"--only: no check is called {pattern!r}; there are {', '.join(ids)}")


def _subject(wishes: argparse.Namespace, reference: "Reference", missing: dict[str, str]) -> "Subject":
    from eardrop.gguf import open_gguf
    from eardrop.model.kinds import Kind, require
    from eardrop.tools.subject import Subject

    text, projector = _pair(wishes)
    files = {
        Kind.TEXT: open_gguf(text) if text else None,
        Kind.PROJECTOR: open_gguf(projector) if projector else None,
    }
    for kind, file in files.items():
        if file:
            require(file, kind)
    return Subject(
        chosen_backend(wishes),
        text=files[Kind.TEXT],
        projector=files[Kind.PROJECTOR],
        clips=_clips(wishes, reference, missing),
        family=wishes.family,
        hashing=wishes.hash,
    )


def _named(wishes: argparse.Namespace) -> bool:
    """Whether there is a model; the one that ships has no published values."""
    from eardrop.hub import standing

    return bool(wishes.model or wishes.hf_repo or standing())


def _pair(wishes: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """The files, as far as they were given: a text model alone is enough for half of the checks."""
    from eardrop.errors import ModelFileError
    from eardrop.hub import find_projector

    if not _named(wishes):
        return None, Path(wishes.mmproj) if wishes.mmproj else None
    text, projector = find_model(wishes, Voice(), bundled=False)
    try:
        return text, find_projector(text, projector)
    except ModelFileError:
        if projector:
            raise
        return text, None


def _clips(wishes: argparse.Namespace, reference: "Reference", missing: dict[str, str]) -> dict[str, Path]:
    """The recordings that are there, or were fetched; why others aren't is entered in `missing`."""
    from eardrop.tools.clips import NotFetched, clip_folder, fetch, find

    found = find(Path(wishes.audio), reference.clips.values()) if wishes.audio else {}
    for clip in reference.clips.values() if wishes.fetch else ():
        if clip.id not in found:
            try:
                found[clip.id] = fetch(clip, clip_folder())
                Voice().note(f"{clip.id}: {clip.about}; {clip.licence}")
            except NotFetched as error:
                missing[clip.id] = str(error)
    return found


def _print_json(report: "Report", reference: "Reference") -> None:
    rows = [
        {
            "check": row.fact.id,
            "what": row.fact.what,
            "verdict": row.verdict,
            **dict(zip(COLUMNS[1:4], _values(row), strict=True)),
            "why": row.why,
            "model": row.fact.model,
            "sources": [reference.source(name) for name in row.fact.sources],
        }
        for row in report.rows
    ]
    print(json.dumps({"model": report.family, "told": report.told, "rows": rows}, indent=1))


def _print(report: "Report", reference: "Reference") -> None:
    compared = [row for row in report.rows if row.comparison]
    if compared:
        _print_table([(row.fact.id, *_values(row), row.verdict.value) for row in compared])
    for verdict, reasons in _reasons(report.rows).items():
        print(f"\n{verdict}")
        for why, ids in reasons.items():
            print(f"  {printable(why)}")
            print(fill(", ".join(ids), 100, initial_indent="      ", subsequent_indent="      "))
    print(f"\n{_model(report, reference)}{_counts(report)}")


def _values(row: "Row") -> tuple[str, str, str]:
    shown = row.comparison
    return (shown.value, shown.expected, shown.distance) if shown else ("", "", "")


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    lines = [tuple(printable(cell) for cell in row) for row in rows]
    if sys.stdout.isatty():
        _print_rich(lines)
        return
    widths = [max(map(len, column)) for column in zip(COLUMNS, *lines, strict=True)]
    for line in (COLUMNS, *lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(lines: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")  # a name that doesn't fit goes on in the next line
    for line in lines:
        table.add_row(*map(Text, line[:-1]), Text(line[-1], style=_STYLES.get(line[-1], "")))
    console(sys.stdout).print(table)


def _reasons(rows: Sequence["Row"]) -> dict[str, dict[str, list[str]]]:
    """Verdict → reason → checks, for all that need a reason."""
    reasons: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.why:
            reasons[row.verdict.value][row.why].append(row.fact.id)
    return reasons


def _model(report: "Report", reference: "Reference") -> str:
    if report.family is None:
        return ""
    name = reference.models.get(report.family, {}).get("name", report.family)
    return f"model: {name}{'' if report.told else ', by its values: its names do not say'}\n"


def _counts(report: "Report") -> str:
    from eardrop.tools.verify import Verdict

    return ", ".join(f"{report.count(verdict)} {verdict}" for verdict in Verdict)


def _print_next(reference: "Reference") -> None:
    commands = "\n".join(f"  eardrop verify -hf {model['gguf']}:F16" for model in reference.models.values())
    print(f"this needs no model; to fetch one and verify it:\n{commands}")
