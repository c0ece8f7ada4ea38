"""Cues: text and the time it is shown, cut as openai-whisper cuts it (`SubtitlesWriter`, whisper/utils.py, 20250625).

Bytes equal whisper's, but where its file would be broken: control characters go, `-->` is `->` in words too, and a
segment whose words are missing or incomplete is shown by its text. Whisper has no speakers: each begins a cue.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from eardrop.transcript.lines import Lines
from eardrop.transcript.spoken import Piece, by_whom, one_line, pieces, said, shared

if TYPE_CHECKING:
    from eardrop.transcript.result import Result, Segment

LONG_PAUSE = 3.0  # seconds between the starts of words: a new cue, where cues flow
UNLIMITED = 1000  # whisper's number, of characters and of words


class Cue(NamedTuple):
    """Times in milliseconds."""

    start: int
    end: int
    text: str


def stamp(milliseconds: int, *, hours: bool, mark: str) -> str:
    """[HH:]MM:SS.mmm, the hours left out where there are none unless `hours`; `mark` stands before milliseconds."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hour, minutes = divmod(minutes, 60)
    head = f"{hour:02d}:" if hours or hour else ""
    return f"{head}{minutes:02d}:{seconds:02d}{mark}{thousandths:03d}"


def thousandths(seconds: float) -> int:
    """Seconds → milliseconds, none before the start."""
    return max(0, round(seconds * 1000.0))


def cues(result: "Result", lines: Lines) -> Iterator[Cue]:
    """The cues of a transcript: one a segment, or as `lines` has them."""
    if lines == Lines() and not any(segment.words for segment in result.segments):
        for segment in result.segments:
            yield Cue(thousandths(segment.start), thousandths(segment.end), _safe(said(segment)))
        return
    for cue in _grouped(result.segments, lines):
        yield from _highlighted(cue) if lines.highlight_words else (cue.whole(),)


def _safe(text: str) -> str:
    return text.replace("-->", "->")


@dataclass
class _Cue:
    """Words on their way to a cue, with their line breaks and spaces."""

    speaker: str
    words: list[Piece] = field(default_factory=list)
    count: int = 1  # of lines
    length: int = 0  # of the last line

    def text(self, words: Sequence[str]) -> str:
        return self.speaker + "".join(words)

    def whole(self) -> Cue:
        text = self.text([word.text for word in self.words])
        return Cue(thousandths(self.words[0].start), thousandths(self.words[-1].end), text)

    def continue_line(self, word: Piece) -> None:
        self.words.append(word)
        self.length += len(word.text)

    def begin_line(self, word: Piece) -> None:
        bare = word.text.strip()
        if self.length:
            self.count += 1
            self.words.append(word._replace(text=f"\n{bare}"))
            self.length = len(bare)
        else:
            self.words.append(word._replace(text=bare))
            self.length = len(self.speaker) + len(bare)


def _timed(segment: "Segment") -> list[Piece]:
    """The segment's words, fit for a line; made from its text where it has none that spell it."""
    words = pieces(segment) or tuple(shared(segment))
    fit = ((word, _safe(one_line(word.text))) for word in words)
    return [word._replace(text=f" {text}" if word.text.startswith(" ") else text) for word, text in fit if text]


def _grouped(segments: Sequence["Segment"], lines: Lines) -> Iterator[_Cue]:
    width, chunk = lines.max_line_width or UNLIMITED, lines.max_words_per_line or UNLIMITED
    cue = _Cue("")
    last = None
    for segment in segments:
        speaker = by_whom(segment)
        for place, word in enumerate(_timed(segment)):
            pause = lines.flow and last is not None and word.start - last > LONG_PAUSE
            last = word.start
            ends = (not lines.flow and place % chunk == 0) or cue.speaker != speaker
            if cue.length and cue.length + len(word.text) <= width and not pause and not ends:
                cue.continue_line(word)
                continue
            full = lines.max_line_count is not None and (pause or cue.count >= lines.max_line_count)
            if cue.words and (full or ends):
                yield cue
            if not cue.words or full or ends:
                cue = _Cue(speaker)
            cue.begin_line(word)
    if cue.words:
        yield cue


def _highlighted(cue: _Cue) -> Iterator[Cue]:
    """The cue once for each word, which is underlined, and plain between two."""
    texts = [word.text for word in cue.words]
    last = thousandths(cue.words[0].start)
    for place, word in enumerate(cue.words):
        start, end = thousandths(word.start), thousandths(word.end)
        if last != start:
            yield Cue(last, start, cue.text(texts))
        bare = word.text.lstrip()
        marked = word.text[: len(word.text) - len(bare)] + f"<u>{bare}</u>"
        yield Cue(start, end, cue.text([*texts[:place], marked, *texts[place + 1 :]]))
        last = end
