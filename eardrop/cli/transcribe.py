"""`eardrop transcribe`: recordings become text, one after another, the prompt being the model's own."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eardrop.audio import recordings_in
from eardrop.cli.flags import Parser, add_model, add_options, given, loaded
from eardrop.cli.output_flags import add_output, chosen_formats, chosen_lines, chosen_paths, folder_of
from eardrop.cli.terminal import ERRORS, NOTES, Voice
from eardrop.cli.transcripts import STDIN, Folder, Printed, Target
from eardrop.cli.watch import WATCHES, watch
from eardrop.cli.whisper_flags import add_whisper, translated
from eardrop.cli.work import Work
from eardrop.engine import STREAMS
from eardrop.errors import Incomplete, OptionError
from eardrop.printable import printable
from eardrop.transcribe import Options, job_of, language_of

EXAMPLES = """\
  eardrop transcribe talk.mp3                             text on the terminal, as it comes
  eardrop transcribe -o subtitles -f srt,vtt film.mkv     files in a folder: subtitles/film.srt, subtitles/film.vtt
  eardrop transcribe -f html --words -o . interview.m4a   a page to read and hear it: click a word
  eardrop transcribe -o texts --resume recordings/        all in a folder; killed, the same command goes on
  eardrop transcribe -m models/ *.wav > texts.txt         their texts; names and warnings stay on the terminal
  eardrop transcribe -hf LiquidAI/LFM2.5-Audio-1.5B-GGUF:Q4_0 -f json talk.mp3 | jq .text
  cat talk.ogg | eardrop transcribe -m text.gguf -
"""


def main(words: Sequence[str]) -> int:
    """Transcribe each recording; one that fails is told, and its exit code is ours when the others are done."""
    wishes = translated(_parser().parse(words), words)
    voice = Voice(ERRORS if wishes.quiet else NOTES)
    files = _recordings(wishes.files)
    options = given(wishes, Options)
    checked = Options(**options)  # wrong wishes are known before the model is loaded
    target = _target(wishes, files)
    asr = loaded(wishes, voice, streams=wishes.batch)
    with asr, target.opened(job_of(asr.model, checked)), watch(wishes.progress, voice, len(files)) as shown:
        language_of(asr.model, checked.language)
        return Work(asr, options, target, voice, shown, several=len(files) > 1, strict=wishes.strict).transcribe(files)


def _parser() -> Parser:
    parser = Parser(
        "transcribe",
        "Turn recordings of any length into text. Text goes to standard output, everything else to standard error.",
        EXAMPLES,
        "[-m FILE | -hf USER/REPO[:TYPE]] [options] RECORDING… FOLDER… -",
    )
    parser.add_argument("files", nargs="*", metavar="RECORDING", help="files, folders of them, - for standard input")
    add_model(parser.add_argument_group("model"))
    transcription = parser.add_argument_group("transcription")
    add_options(transcription, Options)
    transcription.add_argument(
        "--batch", "--batch-size", type=_batch, default=STREAMS, metavar="N",
        help=f"windows that are decoded together; fewer take less memory (default: {STREAMS})",
    )  # fmt: skip
    output = add_output(parser)
    output.add_argument(
        "--resume", action="store_true", help="with -o: what is done there is not done again, and a journal is kept"
    )
    output.add_argument(
        "--progress", choices=WATCHES, default="auto",
        help="how far it is, on standard error: bars or lines, json for programs, off (default: auto)",
    )  # fmt: skip
    output.add_argument(
        "--strict", action="store_true", help=f"exit with {Incomplete.exit_code} if a text may be wrong or incomplete"
    )
    output.add_argument("-q", "--quiet", action="store_true", help="errors and text, nothing else")
    add_whisper(parser)
    return parser


def _batch(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text!r}")
    return count


def _target(wishes: argparse.Namespace, files: Sequence[str]) -> Target:
    """Where the transcripts go."""
    formats, lines, track = chosen_formats(wishes), chosen_lines(wishes), getattr(wishes, "track", None)
    named = partial(chosen_paths, wishes, files)
    if outputs := named():
        return Folder(formats, lines, track, folder_of(wishes), named, outputs, keeps=wishes.resume)
    if wishes.resume:
        raise OptionError("--resume is about files: say where with --output-dir")
    return Printed(formats, lines, track)


def _recordings(names: Sequence[str]) -> list[str]:
    """The recordings that were named, and those in folders that were."""
    found = []
    for name in names:
        folder = Path(name)
        if not name or name == STDIN or not folder.is_dir():
            found.append(name)  # what isn't there is told when its turn comes
        elif inside := [str(path) for path in recordings_in(folder)]:
            found += inside
        else:
            raise OptionError(f"{printable(name)}: no recording is in this folder; name another, or files")
    if not found:
        raise OptionError("no recording was given; name at least one, a folder, or - for standard input")
    if found.count(STDIN) > 1:
        raise OptionError("standard input can be read once; name - once")
    return found
