"""SubRip subtitles, as whisper writes them: numbered cues, commas before milliseconds."""

from typing import TYPE_CHECKING

from eardrop.transcript.lines import Lines
from eardrop.transcript.subtitles import cues, stamp

if TYPE_CHECKING:
    from eardrop.transcript.recording import Recording
    from eardrop.transcript.result import Result


def write(result: "Result", *, lines: Lines | None = None, recording: "Recording | None" = None) -> str:
    """All cues, each with an empty line after it."""
    return "".join(
        f"{number}\n{_stamp(cue.start)} --> {_stamp(cue.end)}\n{cue.text}\n\n"
        for number, cue in enumerate(cues(result, lines or Lines()), start=1)
    )


def _stamp(milliseconds: int) -> str:
    return stamp(milliseconds, hours=True, mark=",")
