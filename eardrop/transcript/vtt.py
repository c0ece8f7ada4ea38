"""WebVTT subtitles, as whisper writes them: without cue numbers, without hours where there are none."""

from typing import TYPE_CHECKING

from eardrop.transcript.lines import Lines
from eardrop.transcript.subtitles import cues, stamp

if TYPE_CHECKING:
    from eardrop.transcript.recording import Recording
    from eardrop.transcript.result import Result


def write(result: "Result", *, lines: Lines | None = None, recording: "Recording | None" = None) -> str:
    """A heading, then all cues, each with an empty line after it. `<` and `&` stay as they are, as whisper has it."""
    return "WEBVTT\n\n" + "".join(
        f"{_stamp(cue.start)} --> {_stamp(cue.end)}\n{cue.text}\n\n" for cue in cues(result, lines or Lines())
    )


def _stamp(milliseconds: int) -> str:
    return stamp(milliseconds, hours=False, mark=".")
