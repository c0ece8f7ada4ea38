"""The wishes of one transcription: keywords of the Python API, and flags of the command line derived from them."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypedDict, get_args

from eardrop.audio import DAY
from eardrop.errors import OptionError

Mixing: TypeAlias = Literal["mix", "split"]


class Wishes(TypedDict, total=False):
    """The keywords of `Recognizer.transcribe` and `stream`, for type checkers; a test holds it equal to Options."""

    max_tokens: int | None
    max_seconds: float
    track: int | None
    language: str | None
    window: float | None
    words: bool
    start: float
    end: float | None
    channels: Mixing


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a recording is transcribed. `help` is what the command line says of a field."""

    max_tokens: int | None = field(
        default=None, metadata={"help": "most tokens of a text (default: by the seconds of audio)"}
    )
    max_seconds: float = field(
        default=DAY,
        metadata={"help": "refuse longer recordings, counted while decoding (default: a day)"},
    )
    track: int | None = field(
        default=None, metadata={"help": "audio track of a container, from 0 (default: the one marked as default)"}
    )
    language: str | None = field(
        default=None, metadata={"help": "what is spoken: en, or ja with a Japanese model (default: the model's own)"}
    )
    window: float | None = field(
        default=None, metadata={"help": "most seconds that are transcribed as one, cut in pauses (default: 30)"}
    )
    words: bool = field(default=False, metadata={"help": "estimate when each word was said"})
    start: float = field(default=0.0, metadata={"help": "where to begin: seconds, or 1:02:03.5", "clock": True})
    end: float | None = field(default=None, metadata={"help": "where to end (default: the recording's)", "clock": True})
    channels: Mixing = field(
        default="mix", metadata={"help": "one text of all channels, or split: each its own speaker (default: mix)"}
    )

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise OptionError(f"max_tokens is {self.max_tokens}, expected at least 1")
        if not self.max_seconds > 0:
            raise OptionError(f"max_seconds is {self.max_seconds}, expected more than 0")
        if self.track is not None and self.track < 0:
            raise OptionError(f"track is {self.track}, expected 0 or more")
        if not self.start >= 0:
            raise OptionError(f"start is {self.start:g} seconds, expected 0 or more")
        if self.end is not None and not self.end > self.start:
            raise OptionError(f"end is {self.end:g} seconds, expected more than start, {self.start:g}")
        if self.channels not in get_args(Mixing):
            raise OptionError(f"channels is {self.channels!r}, expected {' or '.join(get_args(Mixing))}")
        if self.window is not None and not self.window >= 1:
            raise OptionError(f"window is {self.window:g} seconds, expected at least 1")
