"""`eardrop convert`: a published checkpoint into the two GGUF files that llama.cpp and eardrop run."""

from collections.abc import Sequence
from pathlib import Path

from eardrop.cli.flags import Parser
from eardrop.cli.terminal import Voice, bar
from eardrop.gguf.mixes import TYPES
from eardrop.printable import printable
from eardrop.tools.convert import convert

EXAMPLES = """\
  eardrop convert LFM2.5-Audio-1.5B/ -o models/
  eardrop convert LFM2.5-Audio-1.5B/ -o models/ --type BF16 --force
  eardrop convert ~/.cache/huggingface/hub/models--…/snapshots/c362a06/ -o models/ --name LFM2.5-Audio-1.5B
"""


def main(words: Sequence[str]) -> int:
    """Convert, and print the paths of the files."""
    wishes = _parser().parse(words)
    with bar(f"convert {Path(wishes.checkpoint).name}") as progress:
        files = convert(
            Path(wishes.checkpoint),
            Path(wishes.output),
            form=wishes.type,
            name=wishes.name,
            force=wishes.force,
            progress=progress,
        )
    for path in files:
        print(printable(str(path)))
    Voice().note(
        f"wrote {' and '.join(f'{path.stat().st_size / 1e6:,.1f} MB' for path in files)} of {wishes.type.upper()}"
    )
    return 0


def _parser() -> Parser:
    parser = Parser(
        "convert",
        "Convert a checkpoint of LFM2-Audio as it is published (config.json, safetensors, tokenizer.json) into a text\n"
        "model and its projector, the GGUF files that llama.cpp and eardrop run.",
        EXAMPLES,
        "CHECKPOINT_DIR -o DIR [--type TYPE] [--name NAME] [--force]",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT_DIR", help="the folder of the checkpoint, with all its files")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder for the files; made if needed")
    parser.add_argument(
        "--type", default="F16", metavar="TYPE", help=f"of most weights: {', '.join(TYPES)} (default: F16)"
    )
    parser.add_argument("--name", metavar="NAME", help="the model's name, in both files' (default: the folder's)")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    return parser
