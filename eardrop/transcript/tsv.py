"""A table with tabs, as whisper writes it: start and end in whole milliseconds, then the text."""

from typing import TYPE_CHECKING

from eardrop.transcript.spoken import said
from eardrop.transcript.subtitles import thousandths

if TYPE_CHECKING:
    from eardrop.transcript.lines import Lines
    from eardrop.transcript.recording import Recording
    from eardrop.transcript.result import Result


def write(result: "Result", *, lines: "Lines | None" = None, recording: "Recording | None" = None) -> str:
    """A heading, then one row a segment."""
    rows = (
        f"{thousandths(segment.start)}\t{thousandths(segment.end)}\t{said(segment)}\n" for segment in result.segments
    )
    return "start\tend\ttext\n" + "".join(rows)
