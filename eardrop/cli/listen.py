"""`eardrop listen`: live captions of a microphone, or of samples on standard input."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeAlias

from eardrop.audio import SAMPLE_RATE, RawPCM, blocks
from eardrop.cli.flags import Parser, add_model, loaded
from eardrop.cli.terminal import ERRORS, NOTES, Region, Screen, Voice
from eardrop.errors import AudioError, MissingExtra, OptionError
from eardrop.ops import Float32
from eardrop.printable import printable
from eardrop.transcribe import Live
from eardrop.transcript import Segment

Show: TypeAlias = Callable[[Live], None]

EXAMPLES = """\
  eardrop listen                                          what the microphone hears; Ctrl-C ends it
  eardrop listen --devices                                which microphones there are
  eardrop listen > notes.txt                              a line for each utterance
  arecord -f S16_LE -r 16000 -t raw | eardrop listen -    samples on standard input
  ffmpeg -i rtmp://… -f s16le -ar 16000 -ac 1 - | eardrop listen - --format json
"""
BLOCK = 0.1  # seconds that a microphone gives at a time


def main(words: Sequence[str]) -> int:
    """Write what is said while it is said, until the sound ends or Ctrl-C."""
    wishes = _parser().parse(words)
    if wishes.source not in (None, "-"):
        raise OptionError(f"listen takes a microphone, or -; for a file: eardrop transcribe {wishes.source}")
    if wishes.devices:
        print(_sounddevice().query_devices())
        return 0
    if wishes.source is None:
        _sounddevice()  # what is missing is told before the model is loaded
    voice = Voice(ERRORS if wishes.quiet else NOTES)
    with loaded(wishes, voice) as asr, _heard(wishes) as heard, _page(wishes.format) as show:
        live = asr.live(every=wishes.every, ends=wishes.ends, told=show, language=wishes.language)
        try:
            for block in heard:
                live.feed(block)
        except KeyboardInterrupt:  # how one stops listening
            voice.note("the sound was stopped; writing the rest")
        live.finish()
    return 0


def _parser() -> Parser:
    parser = Parser(
        "listen",
        "Live captions of a microphone, or of samples on standard input. Text that stays goes to standard output.",
        EXAMPLES,
        "[-m FILE | -hf USER/REPO[:TYPE]] [options] [-]",
    )
    parser.add_argument("source", nargs="?", metavar="-", help="samples on standard input (default: the microphone)")
    add_model(parser.add_argument_group("model"))
    sound = parser.add_argument_group("sound")
    sound.add_argument("--device", metavar="NAME", help="which microphone, by number or part of its name")
    sound.add_argument("--devices", action="store_true", help="list the microphones")
    sound.add_argument("--rate", type=int, default=SAMPLE_RATE, metavar="N", help="samples a second on standard input")
    sound.add_argument("--raw", default="s16le", metavar="FORMAT", help="of them, as FFmpeg calls it (default: s16le)")
    text = parser.add_argument_group("text")
    text.add_argument("--language", help="what is spoken: en, or ja with a Japanese model (default: the model's own)")
    text.add_argument("--every", type=float, default=1.0, metavar="X", help="seconds between updates (default: 1)")
    text.add_argument(
        "--ends", type=float, default=0.8, metavar="X", help="silence that ends an utterance (default: 0.8)"
    )
    text.add_argument("-f", "--format", choices=("txt", "json"), default="txt", help="txt, or json: an object a change")
    text.add_argument("-q", "--quiet", action="store_true", help="errors and text, nothing else")
    return parser


@contextmanager
def _heard(wishes: argparse.Namespace) -> Iterator[Iterator[Float32]]:
    """The samples, block by block, until nothing comes any more."""
    if wishes.source == "-":
        with closing(blocks("-", raw=RawPCM(wishes.rate, wishes.raw))) as read:
            yield read
    else:
        with _microphone(wishes.device) as stream:
            yield _recorded(stream)


def _microphone(device: str | None) -> Any:
    chosen = int(device) if device and device.isdecimal() else device
    sounddevice = _sounddevice()
    try:
        return sounddevice.InputStream(
            samplerate=SAMPLE_RATE, channels=1, dtype="float32", device=chosen, blocksize=round(BLOCK * SAMPLE_RATE)
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(
            f"no microphone can be opened ({printable(str(error), most=120)}); see eardrop listen --devices, or pipe"
            " samples into eardrop listen -"
        ) from None


def _recorded(stream: Any) -> Iterator[Float32]:
    while True:
        samples, _ = stream.read(round(BLOCK * SAMPLE_RATE))
        yield samples[:, 0].copy()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise MissingExtra("a microphone needs sounddevice; install it with: pip install 'eardrop[mic]'") from None
    except OSError:  # it is there, and the system's PortAudio isn't
        raise MissingExtra("a microphone needs PortAudio; install the system's package, as libportaudio2") from None
    return sounddevice


@contextmanager
def _page(form: str) -> Iterator[Show]:
    """What shows the captions after each change: lines or objects; on a terminal, too, what may still change."""
    screen, shown = Screen(), 0

    def news(live: Live) -> tuple[Segment, ...]:
        """The utterances that ended since."""
        nonlocal shown
        new, shown = live.segments[shown:], len(live.segments)
        return new

    if form == "json":
        yield lambda live: screen.write("".join(f"{json.dumps(change)}\n" for change in _changes(news(live), live)))
    elif not sys.stderr.isatty():
        yield lambda live: screen.write("".join(f"{segment.text}\n" for segment in news(live)))
    else:
        with _terminal(screen, news) as show:
            yield show


def _changes(ended: Sequence[Segment], live: Live) -> Iterator[dict[str, object]]:
    for segment in ended:
        yield {"event": "segment", "start": segment.start, "end": segment.end, "text": segment.text}
    yield {"event": "partial", "committed": live.open, "volatile": live.volatile}


@contextmanager
def _terminal(screen: Screen, news: Callable[[Live], tuple[Segment, ...]]) -> Iterator[Show]:
    """The utterance that is open in the last lines, what may change of it dimmed; those that ended above."""
    from rich.text import Text

    with Region(Text(), refresh=0) as region:

        def show(live: Live) -> None:
            if ended := news(live):
                region.above(lambda: screen.write("".join(f"{segment.text}\n" for segment in ended)))
            stays, may_change = (printable(part) for part in (live.open, live.volatile))
            region.draw(Text.assemble(stays, " " if stays else "", (may_change, "dim")))

        yield show
