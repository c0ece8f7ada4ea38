"""How subtitles are cut into cues and lines: whisper's four wishes, under whisper's names."""

from dataclasses import dataclass, field

from eardrop.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The shape of the cues in srt and vtt; other formats have no lines to shape. `help` is for the command line.

    With width and count both given, cues flow over segments and break at pauses of more than three seconds; else each
    segment begins a cue of its own. Segments without words are shaped too, their time shared out by characters.
    """

    max_line_width: int | None = field(
        default=None, metadata={"help": "srt, vtt: most characters of a line, where words allow it"}
    )
    max_line_count: int | None = field(
        default=None, metadata={"help": "srt, vtt: most lines of a cue; needs --max-line-width"}
    )
    max_words_per_line: int | None = field(
        default=None, metadata={"help": "srt, vtt: most words of a cue; of none with --max-line-count and -width"}
    )
    highlight_words: bool = field(
        default=False, metadata={"help": "srt, vtt: underline each word while it is spoken, a cue for each"}
    )

    def __post_init__(self) -> None:
        for name in ("max_line_width", "max_line_count", "max_words_per_line"):
            wish = getattr(self, name)
            if wish is not None and wish < 1:
                raise OptionError(f"{name} is {wish}, expected at least 1")

    @property
    def flow(self) -> bool:
        """Whether cues flow over the ends of segments, as whisper has it."""
        return self.max_line_width is not None and self.max_line_count is not None
