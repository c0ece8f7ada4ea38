"""Recordings among the files of a folder: known by their first bytes, as everywhere, whatever their names."""

import os
from collections.abc import Iterator
from pathlib import Path

from eardrop.audio.containers import HEAD, id3_length, sniff
from eardrop.errors import AudioError


def is_recording(path: Path) -> bool:
    """Whether a file's first bytes are those of a container we read."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
        if skipped := id3_length(head):
            file.seek(skipped)
            head = file.read(HEAD)
    try:
        sniff(head, "")
    except AudioError:
        return False
    return True


def recordings_in(folder: Path) -> Iterator[Path]:
    """All recordings in a folder and those within it, sorted; hidden files and folders, and links to folders, left out.

    A file that can't be opened counts as a recording, so that reading it says why.
    """
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            if not name.startswith(".") and _may_be(path):
                yield path


def _may_be(path: Path) -> bool:
    try:
        return is_recording(path)
    except OSError:
        return True
