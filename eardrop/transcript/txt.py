"""Plain text: one segment a line, as whisper writes it."""

from typing import TYPE_CHECKING

from eardrop.transcript.spoken import said

if TYPE_CHECKING:
    from eardrop.transcript.lines import Lines
    from eardrop.transcript.recording import Recording
    from eardrop.transcript.result import Result, Segment


def write(result: "Result", *, lines: "Lines | None" = None, recording: "Recording | None" = None) -> str:
    """One stripped segment per line."""
    return "".join(map(line, result.segments))


def line(segment: "Segment") -> str:
    """A segment's text, stripped, on a line of its own."""
    return f"{said(segment)}\n"
