"""Where transcripts go: a path for each recording and format, decided before anything is written.

    output_paths(["a.mp3", "a.wav"], ["txt"], folder=Path("out"))
        → {"a.mp3": Output(…, {"txt": out/a.txt}), "a.wav": Output(…, {"txt": out/a.wav.txt})}

Names of recordings are a stranger's: what they make of a template stays below the folder, has no separators, no
controls and no name that a system keeps for itself, and no two are the same, not even on a system that can't tell A
from a. An earlier decision that is handed over again stands, whatever recordings were added since.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from string import Formatter

from eardrop.errors import OptionError
from eardrop.printable import printable

TEMPLATE = "{stem}.{format}"
FIELDS = {
    "stem": "the recording's name without its suffix: talk",
    "name": "with it: talk.mp3",
    "suffix": "the suffix alone: mp3",
    "folder": "the name of the folder it lies in",
    "number": "its place among the recordings, from 1; {number:03} has three digits",
    "format": "txt, srt, …",
}
LONGEST = 240  # bytes of a name: systems take 255, and some add a few of their own
STDIN_STEM = "stdin"

_FORBIDDEN = re.compile("[/\\\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_FORBIDDEN_ON_WINDOWS = re.compile('[<>:"|?*]')
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.I)


@dataclass(frozen=True)
class Output:
    """Where the transcripts of a recording go, and what decided it: keep it, and hand it over to decide so again."""

    number: int  # the recording's place among the others, from 1
    attempt: int  # 0 for the first choice of a name, more where that was taken
    paths: Mapping[str, Path]  # by format


def output_paths(
    sources: Sequence[str],
    formats: Sequence[str],
    *,
    folder: Path,
    template: str = TEMPLATE,
    kept: Mapping[str, Output] | None = None,
) -> dict[str, Output]:
    """The paths of each recording's transcripts, below `folder`; nothing is written or made.

    template  a path in the folder with FIELDS in braces; `.{format}` is added where it doesn't end so
    kept      what was decided for some of them before: their numbers and attempts stay

    Where two recordings would have the same path, the one that comes later has its suffix in its name (a.wav.txt),
    or a number (a.wav-2.txt). No recording is overwritten. Raises OptionError for a template that names no path in the
    folder or has unknown fields.
    """
    kept, names = kept or {}, _Names(template, "stem" in _fields(template), folder, formats)
    numbers = {source: number for number, source in enumerate(dict.fromkeys(sources), start=1)}
    taken = {_identity(Path(source)) for source in numbers if source != "-"}
    taken |= {path for source in kept.keys() - numbers for path in _identities(kept[source].paths)}
    tried: dict[frozenset[str], int] = {}  # the attempt that a first choice has come to: a thousand may share one
    outputs: dict[str, Output] = {}
    for source in sorted(numbers, key=lambda source: source not in kept):  # what was decided comes first
        before = kept.get(source)
        number = before.number if before else numbers[source]
        first = _identities(names.of(source, number, attempt=0))
        attempt = before.attempt if before else tried.get(first, 0)
        while _identities(names.of(source, number, attempt=attempt)) & taken:
            attempt += 1
        tried[first] = attempt
        outputs[source] = Output(number, attempt, names.of(source, number, attempt=attempt))
        taken |= _identities(outputs[source].paths)
    return {source: outputs[source] for source in numbers}


def _fields(template: str) -> set[str]:
    """The fields that a template names, once it is known to be sound."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise OptionError(f"the output template {printable(template)!r} has a stray brace: {error}") from None
    found = set()
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in FIELDS or conversion or (spec and not (name == "number" and re.fullmatch("[0-9]{1,2}", spec))):
            field = printable(
                "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
            )
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise OptionError(f"the output template has {field}; the fields are {known}, and {{number:03}} for digits")
        found.add(name)
    literal = "".join(text for text, *_ in parts)
    pure = PureWindowsPath(template)
    if pure.drive or pure.root or ".." in pure.parts or "\x00" in literal or not template.strip("/. "):
        raise OptionError(
            f"the output template {printable(template)!r} must name a file in the output folder: "
            "no absolute path, no '..'; choose the folder with --output-dir"
        )
    return found


@dataclass(frozen=True)
class _Names:
    """What a template, known to be sound, makes of recordings."""

    template: str
    stemmed: bool  # whether it has the stem, in which attempts show
    folder: Path
    formats: Sequence[str]

    def of(self, source: str, number: int, *, attempt: int) -> dict[str, Path]:
        """The path of each format."""
        return {form: self._inside(self._path(source, form, number, attempt)) for form in self.formats}

    def _path(self, source: str, form: str, number: int, attempt: int) -> PurePosixPath:
        """A relative path whose every part is a name that systems take."""
        path = Path(STDIN_STEM if source == "-" else source)
        stem, attempt = (_stem(path, attempt), 0) if self.stemmed else (path.stem, attempt)
        values = {"stem": stem, "name": path.name, "suffix": path.suffix.removeprefix("."), "format": form}
        values["folder"] = Path(os.path.abspath(path)).parent.name  # noqa: PTH100  # links stay what they are called
        filled = ""
        for text, field, digits, _ in Formatter().parse(self.template):
            filled += text
            if field == "number":
                filled += str(number).zfill(int(digits or 0))
            elif field:
                filled += _harmless(values[field]) or "_"
        *above, last = PurePosixPath(filled.replace("\\", "/")).parts or ("_",)  # "." has none
        ending = f".{form}"
        head = last.removesuffix(ending) + (f"-{attempt + 1}" if attempt else "")
        return PurePosixPath(*map(_fitting, above), _fitting(head or "_", ending))

    def _inside(self, name: PurePosixPath) -> Path:
        """The path in the folder; OptionError where a link in it leads out of it."""
        path = self.folder / name
        if not path.parent.resolve().is_relative_to(self.folder.resolve()):
            raise OptionError(
                f"the output template {printable(self.template)!r} leads out of {printable(str(self.folder))} "
                "through a link: choose another folder with --output-dir"
            )
        return path


def _stem(path: Path, attempt: int) -> str:
    """What stands for the stem at an attempt: itself, the whole name, the whole name with a number."""
    choices = dict.fromkeys((path.stem, path.name))
    return [*choices][attempt] if attempt < len(choices) else f"{path.name}-{attempt - len(choices) + 2}"


def _harmless(value: str) -> str:
    """A stranger's name without what would lead elsewhere, or what a system refuses."""
    value = _FORBIDDEN.sub("_", value)
    return _FORBIDDEN_ON_WINDOWS.sub("_", value) if os.name == "nt" else value


def _fitting(name: str, ending: str = "") -> str:
    """A name that systems take, with its ending: no device, no dots alone, not too long; what was cut has its hash."""
    name = name.rstrip(". ") or "_" if not ending or os.name == "nt" else name
    if _DEVICES.match(name + ending):
        name = f"_{name}"
    whole = name.encode("utf-8", "surrogatepass")
    if len(whole) + len(ending) > LONGEST:
        digest = hashlib.sha256(whole).hexdigest()[:8]
        room = LONGEST - len(ending) - len(digest) - 1
        name = f"{whole[:room].decode(errors='ignore')}-{digest}"
    return name + ending


def _identities(paths: Mapping[str, Path]) -> frozenset[str]:
    return frozenset(map(_identity, paths.values()))


def _identity(path: Path) -> str:
    """Equal for paths that are one file on some system: letters' cases and accents' spellings don't count."""
    path = Path(str(path).replace("\0", "_"))  # a name that can't be is equal to none that can
    resolved = path.parent.resolve() / path.name
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(resolved)).casefold())
