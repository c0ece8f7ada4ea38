"""Recordings with the words spoken in them, and what somebody heard: manifests, folders, files of hypotheses.

A manifest is a file of JSON lines. Its columns have the names that are about: NAMES for the recording, `text`, and one
for the group.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eardrop.audio import is_recording
from eardrop.errors import OptionError
from eardrop.printable import printable

NAMES = ("audio", "file", "audio_filepath", "source")  # ours, plain, NeMo's, that of `eardrop transcribe -f json`
HEARD = ("pred_text", "hypothesis", "text")  # NeMo's first: beside it, `text` is the reference
AUDIO_SECONDS, SPENT_SECONDS = "duration", "time"  # as the Open ASR Leaderboard's files have them
GROUP = "group"
MANIFEST = "manifest.jsonl"  # of a folder


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it."""

    name: str  # as the manifest names it, or its path within the folder
    audio: Path
    text: str  # "" is silence
    group: str = ""


@dataclass(frozen=True)
class Heard:
    """What was written for an utterance. Seconds are None where nobody counted them."""

    text: str
    audio_seconds: float | None = None
    spent_seconds: float | None = None
    error: str | None = None  # why there is no text


@dataclass(frozen=True)
class Corpus:
    """What can be scored, and what can't, with the reason."""

    name: str
    utterances: Sequence[Utterance]
    left_out: Mapping[str, str]


def read_corpus(path: Path, *, group: str = GROUP) -> Corpus:
    """A manifest, a folder that holds one, or a folder with recordings beside texts of the same name.

    group  the manifest's column that tells groups apart; in a folder without one the folders within it do

    Raises OptionError that names the file and the line, and where there is nothing to score.
    """
    manifest = path / MANIFEST if path.is_dir() else path
    corpus = _folder(path) if path.is_dir() and not manifest.is_file() else _manifest(manifest, group)
    if not corpus.utterances:
        raise OptionError(
            f"{printable(str(path))}: no recording has a text; give a manifest (JSON lines with audio and text), or a "
            "folder with talk.wav beside talk.txt"
        )
    return corpus


def read_hypotheses(path: Path) -> dict[str, Heard]:
    """Texts by the names of their recordings. Raises OptionError that names the file and the line."""
    heard = {}
    for place, row in _rows(path):
        name = _name(row, place)
        column = next((column for column in HEARD if column in row), None)
        if column is None:
            raise OptionError(f"{place}: expected what was heard in the column {' or '.join(HEARD)}")
        if name in heard:
            raise OptionError(f"{place}: {printable(name)} is there a second time; leave one line for each recording")
        heard[name] = Heard(
            _string(row, column, place), _seconds(row, AUDIO_SECONDS, place), _seconds(row, SPENT_SECONDS, place)
        )
    return heard


def matched(utterances: Sequence[Utterance], heard: Mapping[str, Heard]) -> dict[str, Heard]:
    """What was heard by the utterances' names: the whole name first, else the file's name where only one has it."""
    by_file: dict[str, list[str]] = {}
    for name in heard:
        by_file.setdefault(Path(name).name, []).append(name)
    wanted: dict[str, int] = {}
    for utterance in utterances:
        wanted[Path(utterance.name).name] = wanted.get(Path(utterance.name).name, 0) + 1
    found = {}
    for name in (utterance.name for utterance in utterances):
        alike = by_file.get(Path(name).name, [])
        if name in heard:
            found[name] = heard[name]
        elif len(alike) == 1 and wanted[Path(name).name] == 1:
            found[name] = heard[alike[0]]
    return found


def _manifest(path: Path, group: str) -> Corpus:
    utterances: dict[str, Utterance] = {}
    left_out = {}
    folder = path.resolve().parent  # absolute, so that no name is "-", which would be standard input
    for place, row in _rows(path):
        name = _name(row, place)
        if name in utterances or name in left_out:
            raise OptionError(f"{place}: {printable(name)} is there a second time; leave one line for each recording")
        if row.get("text") is None:
            left_out[name] = "no text in the manifest"
        else:
            told = row.get(group)
            utterances[name] = Utterance(
                name, folder / name, _string(row, "text", place), "" if told is None else str(told)
            )
    if group != GROUP and not any(utterance.group for utterance in utterances.values()):
        raise OptionError(f"{printable(str(path))}: no line has the column {printable(group)!r}; group by another")
    return Corpus(path.name, tuple(utterances.values()), left_out)


def _folder(path: Path) -> Corpus:
    """Each recording beside a text of its name, the folders within being the groups."""
    folder = path.resolve()
    utterances, left_out = [], {}
    for text in sorted(folder.rglob("*.txt")):
        recordings = [file for file in sorted(text.parent.glob("*")) if file.stem == text.stem and is_recording(file)]
        within = text.parent.relative_to(folder).as_posix()
        if not recordings:
            left_out[text.relative_to(folder).as_posix()] = "no recording of that name beside it"
        for file in recordings:
            group = "" if within == "." else within
            utterances.append(Utterance(file.relative_to(folder).as_posix(), file, _read(text), group))
    return Corpus(folder.name, utterances, left_out)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OptionError(f"{printable(str(path))} can't be read: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise OptionError(f"{printable(str(path))} is no UTF-8 text; convert it") from None


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's object, and how messages call the line."""
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{printable(str(path))}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise OptionError(f"{place}: expected a JSON object, found {printable(line, most=40)}")
        yield place, row


def _name(row: Mapping[str, Any], place: str) -> str:
    column = next((column for column in NAMES if column in row), None)
    if column is None:
        raise OptionError(f"{place}: expected the recording's file in the column {', '.join(NAMES)}")
    name = _string(row, column, place)
    if not name or "\0" in name:
        raise OptionError(f"{place}: {column} names no file; give its path, from the manifest's folder")
    return name


def _string(row: Mapping[str, Any], column: str, place: str) -> str:
    if not isinstance(row[column], str):
        raise OptionError(f"{place}: {column} is {printable(repr(row[column]), most=40)}, expected a text")
    return str(row[column])


def _seconds(row: Mapping[str, Any], column: str, place: str) -> float | None:
    told = row.get(column)
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told < 1e9:
        raise OptionError(f"{place}: {column} is {printable(repr(told), most=40)}, expected seconds")
    return float(told)
