"""Plain text: one segment a line, as whisper writes it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eardrop.transcript.result import Result


def write(result: "Result") -> str:
    """One stripped segment per line."""
    return "".join(f"{segment.text.strip()}\n" for segment in result.segments)
