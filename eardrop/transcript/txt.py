"""Plain text: one segment a line, as whisper writes it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eardrop.transcript.result import Result, Segment


def write(result: "Result") -> str:
    """One stripped segment per line."""
    return "".join(map(line, result.segments))


def line(segment: "Segment") -> str:
    """A segment's text, stripped, on a line of its own."""
    return f"{segment.text.strip()}\n"
