"""`eardrop info`: what this machine can do, or what a GGUF file is."""

from collections.abc import Sequence

from eardrop.cli import machine, model_card
from eardrop.cli.flags import Parser
from eardrop.cli.sheet import show
from eardrop.gguf import open_gguf

EXAMPLES = """\
  eardrop info
  eardrop info LFM2-Audio-1.5B-Q4_0.gguf
  eardrop info mmproj-LFM2-Audio-1.5B-Q8_0.gguf --tensors
  eardrop info model.gguf --json | jq '.file.parameters'
"""


def main(words: Sequence[str]) -> int:
    """Describe the file, or without one the machine."""
    wishes = _parser().parse(words)
    if wishes.file is None:
        show(machine.describe(), as_json=wishes.json)
        return 0
    with open_gguf(wishes.file) as file:
        show(model_card.describe(file, all_tensors=wishes.tensors), as_json=wishes.json)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "info",
        "Describe a GGUF file: what it is, its shape, its tensors, what recognition doesn't need.\n"
        "Without a file describe this machine: what can compute here, with which operations, under which settings.",
        EXAMPLES,
        "[FILE.gguf] [--tensors] [--json]",
    )
    parser.add_argument("file", nargs="?", metavar="FILE.gguf", help="of a split model the first part")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser
