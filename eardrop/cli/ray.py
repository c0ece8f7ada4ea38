"""`eardrop ray`: a folder or a table of recordings becomes Parquet files, on the machines of a Ray cluster."""

from collections.abc import Sequence
from pathlib import Path

from eardrop.cli.flags import Parser, add_model, add_options, computed, given, named_model
from eardrop.cli.terminal import ERRORS, NOTES, Voice
from eardrop.engine import STREAMS
from eardrop.errors import AudioError, OptionError
from eardrop.hub import DEMONSTRATION, HubName, standing
from eardrop.printable import printable
from eardrop.transcribe import Options

EXAMPLES = """\
  eardrop ray -m /shared/models/ /shared/recordings/ -o /shared/texts
  eardrop ray -m /shared/models/ calls.csv --column file -o /shared/texts
  eardrop ray -hf LiquidAI/LFM2.5-Audio-1.5B-GGUF:Q4_0 corpus.parquet -o /shared/texts
  RAY_ADDRESS=10.0.0.1:6379 eardrop ray -m /shared/models/ /shared/recordings/ -o /shared/texts
"""


def main(words: Sequence[str]) -> int:
    """Transcribe what the output has not yet; recordings that failed are rows, and decide the exit code."""
    wishes = _parser().parse(words)
    voice = Voice(ERRORS if wishes.quiet else NOTES)
    options = given(wishes, Options)
    Options(**options)  # wrong wishes are known before anything is started
    if wishes.offline:
        raise OptionError("--offline is about this machine alone: give -m a folder with the pair that every node sees")
    model = named_model(wishes) or next(iter(standing() or ()), None)
    if model is None:
        voice.note(DEMONSTRATION)
    from eardrop.ray import connected, counted, recordings, transcribe_corpus  # after --help, which needs no Ray

    paths = recordings(wishes.source, wishes.column)
    with connected():
        transcribe_corpus(
            paths, wishes.output_dir, gpus=wishes.gpus, recognizers=wishes.recognizers, streams=wishes.streams,
            model=_everywhere(model), projector=_everywhere(wishes.mmproj), **computed(wishes), **options,
        )  # fmt: skip
    count, failed = counted(wishes.output_dir)
    voice.note(f"{printable(str(wishes.output_dir))} has {count} recordings, {failed} of them with an error")
    return AudioError.exit_code if failed else 0


def _parser() -> Parser:
    parser = Parser(
        "ray",
        "Turn a corpus into text on the Ray cluster that runs here or that RAY_ADDRESS names; without one, on this"
        " machine. Texts go into Parquet files. The same command goes on where it was ended.",
        EXAMPLES,
        "[-m FILE | -hf USER/REPO[:TYPE]] [options] FOLDER|TABLE -o DIR",
    )
    parser.add_argument(
        "source", type=Path, metavar="FOLDER|TABLE", help="of recordings, or of paths: .parquet, .csv, .jsonl"
    )
    add_model(parser.add_argument_group("model, as every node sees it"))
    add_options(parser.add_argument_group("transcription"), Options)
    cluster = parser.add_argument_group("cluster")
    cluster.add_argument("--column", default="path", metavar="NAME", help="of a table, with the paths (default: path)")
    cluster.add_argument("-o", "--output-dir", type=Path, required=True, metavar="DIR", help="as every node sees it")
    cluster.add_argument(
        "--recognizers", type=int, metavar="N", help="at most (default: what the cluster has room for)"
    )
    cluster.add_argument("--gpus", type=float, default=0, metavar="X", help="of each recogniser, 0.5 too (default: 0)")
    cluster.add_argument(
        "--streams", type=int, default=STREAMS, metavar="N",
        help=f"texts that each decodes at once (default: {STREAMS})",
    )  # fmt: skip
    cluster.add_argument("-q", "--quiet", action="store_true", help="of eardrop, errors alone")
    return parser


def _everywhere(said: HubName | str | None) -> str | None:
    """A path from here, so that it means the same on a node, which works in another folder; a name stays one."""
    if isinstance(said, str) and Path(said).exists():
        return str(Path(said).absolute())
    return None if said is None else str(said)
