"""What people keep of a recording: segments of text with their times, and what is wrong with them.

`Result.write("talk.txt")` picks the format by the suffix; the formats are one file each beside this one.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from eardrop.errors import OptionError
from eardrop.printable import printable
from eardrop.transcript import html, json, spoken, srt, tsv, txt, vtt
from eardrop.transcript.lines import Lines
from eardrop.transcript.recording import Recording, link_from

if TYPE_CHECKING:
    from eardrop.audio import Source


class Writer(Protocol):
    """A format: a module with this function, which leaves alone what its format has no place for."""

    def write(self, result: "Result", *, lines: Lines | None = None, recording: Recording | None = None) -> str:
        """The whole file. `lines` shapes subtitles, `recording` is what a page plays; neither is needed."""
        ...


FORMATS: Mapping[str, Writer] = {"txt": txt, "srt": srt, "vtt": vtt, "tsv": tsv, "json": json, "html": html}


@dataclass(frozen=True)
class Word:
    """A word with the marks at it. Times in seconds of the recording, estimated as `Result.words_by` says."""

    start: float
    end: float
    text: str
    probability: float = 1.0  # that all of its tokens are right: the product of theirs


@dataclass(frozen=True)
class Segment:
    """A stretch of speech. Times in seconds of the recording."""

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    logprob: float = 0.0  # mean over the tokens
    warnings: tuple[str, ...] = ()  # why the text may be wrong or incomplete
    words: tuple[Word, ...] = ()  # where they were asked for
    speech: float = 0.0  # seconds of it in which somebody was heard to speak
    speaker: str = ""  # the channel it was heard on, where channels were transcribed each for itself


@dataclass(frozen=True)
class Result:
    """A transcript."""

    segments: tuple[Segment, ...]
    source: str  # what was transcribed, as messages call it
    model: str
    duration: float  # seconds of audio
    language: str = "en"
    notes: tuple[str, ...] = ()  # what was wrong with the recording
    demonstration: str = ""  # of the small model that ships: that it only demonstrates, and how to get a real one
    skipped: tuple[tuple[float, float], ...] = ()  # stretches in which nobody was heard: not transcribed
    words_by: str = ""  # how the times of words were estimated

    @property
    def coverage(self) -> float:
        """The share of the speech heard whose text is there and not known to be incomplete; 1 where none was heard."""
        heard = sum(segment.speech for segment in self.segments)
        kept = sum(segment.speech for segment in self.segments if segment.text and not segment.warnings)
        return kept / heard if heard else 1.0

    @property
    def text(self) -> str:
        """All of it: a space between segments, none in scripts that write none."""
        return "".join(spoken.before(one.text) + one.text for one in self.segments if one.text).removeprefix(" ")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the recording or any of its segments."""
        return (*self.notes, *(warning for segment in self.segments for warning in segment.warnings))

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        form: str | None = None,
        lines: Lines | None = None,
        audio: "Source | None" = None,
        track: int | None = None,
    ) -> None:
        """Write the file whole or not at all; the suffix chooses the format, or `form` does.

        lines  how subtitles are cut, in formats that have lines
        audio  what was transcribed, and its track: a page (html) draws and plays it. Read only where it is used

        Raises OptionError for an unknown format or a file that can't be written, AudioError for audio that can't be
        read.
        """
        target = Path(path)
        name = form or target.suffix.removeprefix(".").lower()
        if name not in FORMATS:
            raise OptionError(
                f"{printable(target.name)}: no format is called '{printable(name)}': {', '.join(FORMATS)}"
            )
        recording = None if audio is None else Recording(audio, track, link_from(target, audio))
        _write_atomically(target, FORMATS[name].write(self, lines=lines, recording=recording).encode())

    def to_json(self) -> str:
        """All of it, on one line; what json files hold."""
        return json.write(self)

    @classmethod
    def from_json(cls, text: str, name: str = "JSON") -> "Result":
        """What `to_json` gave; OptionError for anything else, which calls it by its name."""
        facts, segments = json.read(text, name)
        whole = (segment | {"words": tuple(Word(**word) for word in segment["words"])} for segment in segments)
        return cls(segments=tuple(Segment(**segment) for segment in whole), **facts)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Result":
        """A result that `write` wrote as json."""
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise OptionError(f"{printable(str(file))} can't be read: {error.strerror}; check the path") from None
        return cls.from_json(text, file.name)


def _write_atomically(target: Path, content: bytes) -> None:
    """Through a file beside it: a reader sees the old or the new, never half."""
    import tempfile  # not at the start: few write files

    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".eardrop-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:  # which names a file that nobody has heard of
        why = f"can't be written: {error.strerror}; check the disk, the folder and your rights"
        raise OptionError(f"{printable(str(target))} {why}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
