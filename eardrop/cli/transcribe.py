"""`eardrop transcribe`: recordings become text, one after another, the prompt being the model's own."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from eardrop.audio import name_of
from eardrop.cli.flags import Parser, add_model, add_options, computed, find_model, given
from eardrop.cli.terminal import ERRORS, NOTES, Screen, Voice, bar, spinner
from eardrop.errors import EardropError, OptionError
from eardrop.loading import load
from eardrop.transcribe import Options, Recognizer, language_of
from eardrop.transcript import FORMATS, Result

EXAMPLES = """\
  eardrop transcribe -m LFM2-Audio-1.5B-F16.gguf talk.mp3
  eardrop transcribe -m models/ *.wav > texts.txt         a line for each; names and warnings stay on the terminal
  eardrop transcribe -m text.gguf --mmproj mmproj.gguf -f json talk.mp3 | jq .text
  eardrop transcribe -hf LiquidAI/LFM2.5-Audio-1.5B-GGUF:Q4_0 talk.mp3     fetched the first time
  cat talk.ogg | eardrop transcribe -m text.gguf -
"""


def main(words: Sequence[str]) -> int:
    """Transcribe each file; one that fails is told, and its exit code is ours when the others are done."""
    wishes = _parser().parse(words)
    if not wishes.files:
        raise OptionError("no recording was given; name at least one, or - for standard input")
    voice = Voice(ERRORS if wishes.quiet else NOTES)
    options = given(wishes, Options)
    checked = Options(**options)  # wrong wishes are known before the model is loaded
    model, projector = find_model(wishes, voice)
    with bar("loading", shown=not wishes.quiet) as progress:
        asr = load(model, projector=projector, progress=progress, **computed(wishes))
    with asr:
        language_of(asr.model, checked)
        work = _Work(asr, options, wishes.formats or ["txt"], voice, headed=len(wishes.files) > 1)
        codes = [work.transcribe(file) for file in wishes.files]
    return next((code for code in codes if code), 0)


def _parser() -> Parser:
    parser = Parser(
        "transcribe",
        "Turn recordings into text. Text goes to standard output, everything else to standard error.",
        EXAMPLES,
        "[-m FILE | -hf USER/REPO[:TYPE]] [options] RECORDING…",
    )
    parser.add_argument("files", nargs="*", metavar="RECORDING", help="in any usual format; - is standard input")
    add_model(parser)
    parser.add_argument(
        "-f", "--output-format", dest="formats", type=_formats, action="extend", metavar="FORMAT",
        help=f"{', '.join(FORMATS)}; several with commas, or repeated (default: txt)",
    )  # fmt: skip
    add_options(parser, Options)
    parser.add_argument("-q", "--quiet", action="store_true", help="errors and text, nothing else")
    return parser


def _formats(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",")]
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"no format is called {name!r}: there are {', '.join(FORMATS)}")
    return names


def _about(name: str, message: str) -> str:
    """A message that says which recording it is about."""
    return message if name in message else f"{name}: {message}"


@dataclass(frozen=True)
class _Work:
    """What is done with each recording."""

    asr: Recognizer
    options: dict[str, object]
    formats: Sequence[str]
    voice: Voice
    headed: bool  # several recordings: say whose text comes

    def transcribe(self, file: str) -> int:
        """Write the recording's text; the exit code."""
        name = name_of(file)
        if self.headed and self.voice.level >= NOTES:
            print(f"==> {name} <==", file=sys.stderr, flush=True)
        try:
            result = self._watched(file, name)
        except EardropError as error:
            self.voice.complain(_about(name, str(error)))
            return error.exit_code
        for warning in result.warnings:
            self.voice.warn(_about(name, warning))
        return 0

    def _watched(self, file: str, name: str) -> Result:
        """On a terminal plain text appears as it is generated, else when it is done."""
        screen, live = Screen(), self.formats == ["txt"] and sys.stdout.isatty()
        begun = False
        try:
            with spinner(name, shown=self.voice.level >= NOTES) as hide:

                def told(text: str) -> None:
                    nonlocal begun
                    text = text if begun else text.lstrip()
                    if text and live:
                        hide()
                        begun = True
                        screen.write(text)

                result = self.asr.transcribe(file, told=told, **self.options)  # type: ignore[arg-type]
        finally:
            screen.end_line()
        for form in () if live else self.formats:
            screen.write(FORMATS[form].write(result))
            screen.end_line()
        return result
