"""A page: one HTML file with the waveform, the text beside it, and the recording to hear it by.

The template is page/page.html with page.css and page.js; Python fills in what is known of the recording. Nothing is
loaded from elsewhere, and the content policy forbids it; every stranger's word is escaped.
"""

import base64
import hashlib
import math
from collections.abc import Iterator
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from eardrop.printable import printable
from eardrop.transcript.recording import Heard, Recording, hear
from eardrop.transcript.spoken import pieces

if TYPE_CHECKING:
    from eardrop.transcript.lines import Lines
    from eardrop.transcript.result import Result, Segment

DOUBT = (0.9, 0.7, 0.5)  # a probability below the n-th is shaded n deep
WIDTH, HEIGHT = 1000, 100  # of the drawing, stretched to the page
GAP = 2.0  # seconds: a shorter stretch that was skipped shows on the waveform, without a line in the text


def write(result: "Result", *, lines: "Lines | None" = None, recording: Recording | None = None) -> str:
    """The whole document. Without a recording it has no waveform, but the same text and times."""
    heard = hear(recording, result.duration) if recording else None
    style, script = _part("page.css"), _part("page.js")
    address, policy = _media(recording, heard)
    return Template(_part("page.html")).substitute(
        policy=f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        f"media-src {policy}; base-uri 'none'; form-action 'none'",
        language=escape(printable(result.language)),
        title=_shown(result.source),
        facts=" · ".join(_facts(result)),
        style=style,
        script=script,
        duration=f"{result.duration:.3f}",
        clock=clock(result.duration),
        audio=f'<audio controls preload="auto" src="{address}"></audio>' if address else "",
        sound=_sound(recording, heard),
        drawing=_drawing(result, heard),
        legend=_legend(result),
        notes=_notes(result),
        text="\n".join(_text(result)),
        made=_made(result),
    )


def clock(seconds: float) -> str:
    """[h:]mm:ss for people, rounded down as clocks do."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def _part(name: str) -> str:
    return resources.files("eardrop.transcript").joinpath("page", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(text: str) -> str:
    """A stranger's text: no markup, and no character that turns the line around."""
    return escape(printable(text, keep="\n\t"))


def _media(recording: Recording | None, heard: Heard | None) -> tuple[str, str]:
    """The address of the sound, which may be none, and where the policy lets sound come from."""
    if heard and heard.opus:
        return f"data:audio/webm;base64,{base64.b64encode(heard.opus).decode()}", "data:"
    if recording and recording.link:
        return _shown(recording.link), "'self' file:"  # a page opened from a disk has no self
    return "", "'none'"


def _sound(recording: Recording | None, heard: Heard | None) -> str:
    """What people should know of where the sound is."""
    if heard and heard.opus:
        return ""
    if recording and recording.link:
        return f'<p class="soft">The recording is not in this page: it plays {_shown(recording.link)}.</p>'
    return '<p class="soft">The recording is not in this page: the text has its times, but can’t be heard.</p>'


def _facts(result: "Result") -> Iterator[str]:
    yield clock(result.duration)
    yield _shown(result.model)
    yield _shown(result.language)
    yield f"{math.floor(100 * result.coverage)} % of the speech heard is in the text"


def _drawing(result: "Result", heard: Heard | None) -> str:
    """What was skipped, what is doubtful, and the waveform over it, twice: the second is shown as far as was played."""
    bands = [_band("skipped", start, end, result) for start, end in result.skipped]
    bands += [_band("warned", segment.start, segment.end, result) for segment in result.segments if segment.warnings]
    if heard is not None:
        path = _outline(heard.levels.tolist())
    else:
        path = "".join(_block(segment, result) for segment in result.segments if segment.text.strip())
    return (
        f'{"".join(bands)}<path id="levels" d="{path}"/><clipPath id="played"><rect width="0" height="{HEIGHT}"/>'
        f'</clipPath><use href="#levels" clip-path="url(#played)"/>'
    )


def _place(seconds: float, result: "Result") -> float:
    return min(WIDTH, max(0.0, WIDTH * seconds / result.duration)) if result.duration > 0 else 0.0


def _band(kind: str, start: float, end: float, result: "Result") -> str:
    left, right = _place(start, result), _place(end, result)
    return f'<rect class="{kind}" x="{left:.1f}" width="{max(1.0, right - left):.1f}" height="{HEIGHT}"/>'


def _outline(levels: list[float]) -> str:
    """The levels and their mirror image, as one closed line; never thinner than a hair, so that silence is a line."""
    middle, step = HEIGHT / 2, WIDTH / len(levels)
    heights = [max(0.6, 0.94 * middle * level**0.7) for level in levels]  # loudness is heard as a power of amplitude
    upper = [f"{(i + 0.5) * step:.1f} {middle - height:.1f}" for i, height in enumerate(heights)]
    lower = [f"{(i + 0.5) * step:.1f} {middle + height:.1f}" for i, height in enumerate(heights)]
    return f"M0 {middle:g}L{'L'.join(upper)}L{WIDTH} {middle:g}L{'L'.join(reversed(lower))}Z"


def _block(segment: "Segment", result: "Result") -> str:
    """Where text is, drawn where there is no waveform."""
    left, right = _place(segment.start, result), _place(segment.end, result)
    return f"M{left:.1f} 40H{right:.1f}V60H{left:.1f}Z"


def _doubt(probability: float | None) -> str:
    """The class of a word that was read with this probability."""
    depth = sum(probability < edge for edge in DOUBT) if probability is not None else 0
    return f" d{depth}" if depth else ""


def _legend(result: "Result") -> str:
    keys = "".join(
        f'<span class="unit d{depth}">below {edge * 100:.0f} %</span> ' for depth, edge in enumerate(DOUBT, start=1)
    )
    whose = "words" if any(pieces(segment) for segment in result.segments) else "segments"
    entries = [
        f'<label class="key"><input type="checkbox" id="shade" checked> Shade {whose} by probability: {keys}</label>'
    ]
    if result.skipped:
        entries.append('<span class="key"><i class="swatch skipped"></i> nobody heard, skipped</span>')
    if any(segment.warnings for segment in result.segments):
        entries.append('<span class="key"><i class="swatch warned"></i> check this</span>')
    return "".join(entries)


def _notes(result: "Result") -> str:
    """What is wrong with the whole, and where to look for the rest."""
    told = [
        f"<li>{_shown(note)}</li>"
        for note in (*([result.demonstration] if result.demonstration else []), *result.notes)
    ]
    told += [
        f'<li><a href="#s{number}">{clock(segment.start)}</a> {_shown(warning)}</li>'
        for number, segment in enumerate(result.segments)
        for warning in segment.warnings
    ]
    if not told:
        return ""
    heading = f"{len(told)} thing{'s' * (len(told) > 1)} to know"
    opened = " open" if len(told) <= 5 else ""
    return f'<details class="notes"{opened}><summary>{heading}</summary><ul>{"".join(told)}</ul></details>'


def _text(result: "Result") -> Iterator[str]:
    """Segments, and between them the stretches that were skipped, by time."""
    gaps = sorted(stretch for stretch in result.skipped if stretch[1] - stretch[0] >= GAP)
    for number, segment in enumerate(result.segments):
        while gaps and gaps[0][0] < segment.end and gaps[0][0] <= segment.start:
            yield _gap(*gaps.pop(0))
        yield _segment(number, segment)
    yield from (_gap(*gap) for gap in gaps)


def _gap(start: float, end: float) -> str:
    return f'<p class="gap">{_time(start)}<span>{end - start:.1f} s skipped: nobody was heard to speak</span></p>'


def _time(seconds: float) -> str:
    shown = clock(seconds)
    return (
        f'<button type="button" class="time" data-seek="{seconds:.3f}" aria-label="Play from {shown}">{shown}</button>'
    )


def _segment(number: int, segment: "Segment") -> str:
    speaker = f"<b>{_shown(segment.speaker)}</b> " if segment.speaker else ""
    warnings = "".join(f'<p class="warning">{_shown(warning)}</p>' for warning in segment.warnings)
    kind = "segment warned" if segment.warnings else "segment"
    return (
        f'<section class="{kind}" id="s{number}">{_time(segment.start)}'
        f"<div><p>{speaker}{_units(segment)}</p>{warnings}</div></section>"
    )


def _units(segment: "Segment") -> str:
    """What can be clicked: the words, or all of the segment where it has none."""
    words = pieces(segment)
    if not words:
        text = segment.text.strip()
        probability = math.exp(min(0.0, segment.logprob))
        return _unit(segment.start, segment.end, text, probability) if text else '<span class="soft">no text</span>'
    return "".join(
        ("" if not number or not word.text.startswith(" ") else " ")
        + _unit(word.start, word.end, word.text.removeprefix(" "), word.probability)
        for number, word in enumerate(words)
    )


def _unit(start: float, end: float, text: str, probability: float | None) -> str:
    share = f' data-share="{probability * 100:.0f}"' if probability is not None else ""
    return (
        f'<span class="unit{_doubt(probability)}" data-start="{start:.3f}" data-end="{end:.3f}"{share}>'
        f"{_shown(text)}</span>"
    )


def _made(result: "Result") -> str:
    words = f" Times of words are estimates: {_shown(result.words_by)}." if result.words_by else ""
    return f"Transcribed by eardrop on a computer, with {_shown(result.model)}; it errs.{words}"
