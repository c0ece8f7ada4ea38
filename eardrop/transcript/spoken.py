r"""What a segment says, as the text formats write it: on one line, in words, and by whom.

Control characters leave a text before it is written: a line break would end a cue, `\x1b` steers terminals, and
lone surrogates have no bytes.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eardrop.transcript.result import Segment

_BREAKS = re.compile("\r\n|[\t-\r\x1c-\x1e\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# Scripts that write no spaces: each character is a word with the marks that close it. Kana, Han, half-width kana.
_UNSPACED = "\u3041-\u3096\u30a0-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
_LETTER = re.compile(f"[{_UNSPACED}]")
_CLOSING = "\u3001\u3002\u300d\u300f\u3011\uff01\uff09\uff0c\uff1f"
_WORD = re.compile(rf"\s*(?:[{_UNSPACED}][{_CLOSING}]*|[^\s{_UNSPACED}]+)")


class Piece(NamedTuple):
    """A word with the space before it, if its text has one; a segment's pieces spell its text. Times in seconds."""

    start: float
    end: float
    text: str
    probability: float | None  # None where nobody heard the word alone


def one_line(text: str) -> str:
    """The text without control characters: breaks and tabs are spaces, the others gone."""
    return _CONTROLS.sub("", _BREAKS.sub(" ", text)).strip()


def by_whom(segment: "Segment") -> str:
    """`[left]: `, as whisperX writes speakers; nothing where channels weren't transcribed each for itself."""
    speaker = one_line(segment.speaker)
    return f"[{speaker}]: " if speaker else ""


def said(segment: "Segment") -> str:
    """The segment's text on one line, and who said it."""
    return by_whom(segment) + one_line(segment.text)


def before(text: str) -> str:
    """What whisper writes before a segment's first word: a space, but in scripts that write none."""
    letters = sum(map(str.isalnum, text))
    return "" if 2 * len(_LETTER.findall(text)) > letters else " "


def pieces(segment: "Segment") -> tuple[Piece, ...]:
    """The segment's words, where they spell its text; () where there are none or they lack some of it."""
    found: list[Piece] = []
    place = 0
    for word in segment.words:
        at = segment.text.find(word.text, place)
        if at < 0 or segment.text[place:at].strip():
            return ()
        gap = " " if at > place else "" if found else before(segment.text)
        found.append(Piece(word.start, word.end, gap + word.text, word.probability))
        place = at + len(word.text)
    return () if segment.text[place:].strip() else tuple(found)


def shared(segment: "Segment") -> Iterator[Piece]:
    """Words of a segment that has none: its time shared out by characters."""
    text = one_line(segment.text)
    words = _WORD.findall(text)
    seconds = (segment.end - segment.start) / max(1, sum(map(len, words)))
    place = 0
    for number, word in enumerate(words):
        start, place = segment.start + place * seconds, place + len(word)
        end = segment.end if number == len(words) - 1 else segment.start + place * seconds
        yield Piece(start, end, word if number else before(text) + word, None)
