"""Flags for what is written and where, under the names that whisper and whisper.cpp gave them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from eardrop.cli.flags import Group, add_options, given
from eardrop.errors import OptionError
from eardrop.printable import printable
from eardrop.transcript import FORMATS, Lines, Output, output_paths
from eardrop.transcript.paths import FIELDS, TEMPLATE

ALL = "all"

# whisper.cpp's flags for formats. It has others (-ocsv, -olrc, -owts), which no one else reads.
WHISPER_CPP = {
    "txt": ("-otxt", "--output-txt"),
    "srt": ("-osrt", "--output-srt"),
    "vtt": ("-ovtt", "--output-vtt"),
    "json": ("-oj", "--output-json", "-ojf", "--output-json-full"),
}


def add_output(parser: argparse.ArgumentParser) -> Group:
    """Formats, folder, names, and the lines of subtitles; the group they are in."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "-f", "--output-format", dest="formats", type=_formats, action="extend", metavar="FORMAT",
        help=f"{', '.join(FORMATS)}, or {ALL}; several with commas, or repeated (default: txt)",
    )  # fmt: skip
    group.add_argument("-o", "--output-dir", type=_folder, metavar="FOLDER", help="write files into this folder")
    group.add_argument(
        "--output-template", metavar="NAME",
        help=f"name of a file in it, with {', '.join(f'{{{field}}}' for field in FIELDS)} (default: {TEMPLATE})",
    )  # fmt: skip
    group.add_argument("-of", "--output-file", type=Path, metavar="PATH", help="of one recording, without the suffix")
    add_options(group, Lines)
    for form, names in WHISPER_CPP.items():
        group.add_argument(*names, dest="formats", action="append_const", const=form, help=argparse.SUPPRESS)
    group.add_argument("-ml", "--max-len", type=int, metavar="N", help=argparse.SUPPRESS)
    group.add_argument("-sow", "--split-on-word", action="store_true", help=argparse.SUPPRESS)  # never within one
    return group


def chosen_formats(wishes: argparse.Namespace) -> list[str]:
    """The formats that were asked for, each once; txt where none was."""
    return list(dict.fromkeys(wishes.formats or ["txt"]))


def chosen_lines(wishes: argparse.Namespace) -> Lines:
    """How subtitles are cut. whisper.cpp's `-ml N` is cues of one line of N characters."""
    short = {"max_line_width": wishes.max_len, "max_line_count": 1} if wishes.max_len is not None else {}
    return Lines(**{**short, **given(wishes, Lines)})


def chosen_paths(
    wishes: argparse.Namespace, sources: Sequence[str], *, kept: dict[str, Output] | None = None
) -> dict[str, Output]:
    """Where each recording's files go; {} where nothing is to be written. `kept` is what was decided before."""
    formats, folder, template = chosen_formats(wishes), wishes.output_dir, wishes.output_template
    if wishes.output_file is not None:
        if folder is not None or template is not None or len(sources) > 1:
            raise OptionError("--output-file names the files of one recording: for several, give --output-dir alone")
        name = wishes.output_file.name
        if not name:
            raise OptionError(f"--output-file is {printable(str(wishes.output_file))!r}, expected a path and a name")
        folder, template = wishes.output_file.parent, name.replace("{", "{{").replace("}", "}}")
    if folder is None and template is None:
        return {}
    return output_paths(sources, formats, folder=folder or Path(), template=template or TEMPLATE, kept=kept)


def folder_of(wishes: argparse.Namespace) -> Path:
    """Where the files are that were asked for."""
    if wishes.output_file is not None:
        return Path(wishes.output_file.parent)
    return Path(wishes.output_dir or "")


def _folder(said: str) -> Path:
    """A folder, there or to be made; who writes `-o talk.txt` wants a file of that name."""
    path, form = Path(said), Path(said).suffix.removeprefix(".").lower()
    if path.is_dir() or not (path.exists() or form in FORMATS):
        return path
    file = f"-of {path.with_suffix('')} -f {form}" if form in FORMATS else "-of NAME"
    other = "name another" if path.exists() else "make it first"
    raise argparse.ArgumentTypeError(
        f"expected a folder, found {said!r}: for one recording's file {file}, for a folder {other}"
    )


def _formats(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",")]
    for name in names:
        if name not in FORMATS and name != ALL:
            known = ", ".join((*FORMATS, ALL))
            raise argparse.ArgumentTypeError(f"no format is called {name!r}: there are {known}")
    return list(FORMATS) if ALL in names else names
