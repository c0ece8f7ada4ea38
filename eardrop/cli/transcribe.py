"""`eardrop transcribe`: recordings become text, one after another, the prompt being the model's own."""

import argparse
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eardrop.audio import name_of, recordings_in
from eardrop.cli.flags import Parser, add_model, add_options, computed, find_model, given
from eardrop.cli.terminal import ERRORS, NOTES, Screen, Voice, bar
from eardrop.cli.watch import WATCHES, Watch, watch
from eardrop.errors import EardropError, Incomplete, OptionError
from eardrop.loading import load
from eardrop.printable import printable
from eardrop.transcribe import Options, Outcome, Progress, Recognizer, language_of
from eardrop.transcript import FORMATS, txt

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
    files = _recordings(wishes.files)
    voice = Voice(ERRORS if wishes.quiet else NOTES)
    options = given(wishes, Options)
    checked = Options(**options)  # wrong wishes are known before the model is loaded
    model, projector = find_model(wishes, voice)
    with bar("loading", shown=not wishes.quiet) as progress:
        asr = load(model, projector=projector, progress=progress, **computed(wishes))
    with asr:
        language_of(asr.model, checked.language)
        shown = watch(wishes.progress, voice, len(files))
        work = _Work(asr, options, wishes.formats or ["txt"], voice, shown, len(files) > 1, wishes.strict)
        return work.transcribe(files)


def _parser() -> Parser:
    parser = Parser(
        "transcribe",
        "Turn recordings into text. Text goes to standard output, everything else to standard error.",
        EXAMPLES,
        "[-m FILE | -hf USER/REPO[:TYPE]] [options] RECORDING… FOLDER… -",
    )
    parser.add_argument("files", nargs="*", metavar="RECORDING", help="files, folders of them, - for standard input")
    add_model(parser)
    parser.add_argument(
        "-f", "--output-format", dest="formats", type=_formats, action="extend", metavar="FORMAT",
        help=f"{', '.join(FORMATS)}; several with commas, or repeated (default: txt)",
    )  # fmt: skip
    add_options(parser, Options)
    parser.add_argument(
        "--progress", choices=WATCHES, default="auto",
        help="how far it is, on standard error: bars or lines, json for programs, off (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--strict", action="store_true", help=f"exit with {Incomplete.exit_code} if a text may be wrong or incomplete"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="errors and text, nothing else")
    return parser


def _formats(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",")]
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"no format is called {name!r}: there are {', '.join(FORMATS)}")
    return names


def _recordings(names: Sequence[str]) -> list[str]:
    """The recordings that were named, and those in folders that were."""
    found = []
    for name in names:
        folder = Path(name)
        if not name or name == "-" or not folder.is_dir():
            found.append(name)  # what isn't there is told when its turn comes
        elif inside := [str(path) for path in recordings_in(folder)]:
            found += inside
        else:
            raise OptionError(f"{printable(name)}: no recording is in this folder; name another, or files")
    if not found:
        raise OptionError("no recording was given; name at least one, a folder, or - for standard input")
    if found.count("-") > 1:
        raise OptionError("standard input can be read once; name - once")
    return found


def _about(name: str, message: str) -> str:
    """A message that says which recording it is about."""
    return message if name in message else f"{name}: {message}"


@dataclass(frozen=True)
class _Work:
    """What is done with the recordings."""

    asr: Recognizer
    options: dict[str, Any]
    formats: Sequence[str]
    voice: Voice
    watch: Watch
    headed: bool  # several recordings: say whose text comes
    strict: bool  # a warning is a failure

    def transcribe(self, files: Sequence[str]) -> int:
        """Write the text of each recording, in their order; the first exit code that isn't 0."""
        codes = [0]
        with self.watch as watch, closing(self._outcomes(files, watch)) as outcomes:
            for number, outcome in enumerate(outcomes):
                watch.ended(number)
                watch.above(partial(self._write, name_of(files[number]), outcome))
                codes.append(self._code(outcome))
        return next((code for code in codes if code), 0)

    def _outcomes(self, files: Sequence[str], watch: Watch) -> Generator[Outcome, None, None]:
        if len(files) > 1:
            yield from self.asr.transcribe_many(files, told=watch.told, **self.options)
            return
        (file,) = files
        try:
            yield self.asr.transcribe(file, told=partial(self._told, watch), **self.options)
        except EardropError as error:
            yield error

    @property
    def _live(self) -> bool:
        """Whether somebody reads along: a single recording's text on a terminal."""
        return not self.headed and self.formats == ["txt"] and sys.stdout.isatty()

    def _told(self, watch: Watch, progress: Progress) -> None:
        watch.told(0, progress)
        if self._live and progress.segment is not None:
            watch.above(partial(self._show, txt.line(progress.segment)))

    def _show(self, text: str) -> None:
        screen = Screen()
        screen.write(text)
        screen.end_line()

    def _write(self, name: str, outcome: Outcome) -> None:
        if self.headed and self.voice.level >= NOTES:
            print(f"==> {name} <==", file=sys.stderr, flush=True)
        if isinstance(outcome, EardropError):
            self.voice.complain(_about(name, str(outcome)))
            return
        for form in () if self._live else self.formats:
            self._show(FORMATS[form].write(outcome))
        for warning in outcome.warnings:
            self.voice.warn(_about(name, warning))

    def _code(self, outcome: Outcome) -> int:
        if isinstance(outcome, EardropError):
            return outcome.exit_code
        return Incomplete.exit_code if self.strict and outcome.warnings else 0
