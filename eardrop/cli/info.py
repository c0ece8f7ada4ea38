"""`eardrop info`: what this machine can do, or what a GGUF file is."""

import json
from collections.abc import Sequence
from pathlib import Path

from eardrop.cli import machine, model_card
from eardrop.cli.flags import Parser
from eardrop.cli.sheet import Section, show
from eardrop.gguf import open_gguf
from eardrop.hub import find_projector, find_text

EXAMPLES = """\
  eardrop info
  eardrop info LFM2-Audio-1.5B-Q4_0.gguf
  eardrop info models/                                   the pair in a folder, one after the other
  eardrop info mmproj-LFM2-Audio-1.5B-Q8_0.gguf --tensors
  eardrop info model.gguf --json | jq '.file.parameters'
"""


def main(words: Sequence[str]) -> int:
    """Describe the file, the pair in a folder, or without either the machine."""
    wishes = _parser().parse(words)
    if wishes.file is None:
        show(machine.describe(), as_json=wishes.json)
        return 0
    path = Path(wishes.file)
    if not path.is_dir():
        show(_card(path, wishes.tensors), as_json=wishes.json)
        return 0
    text = find_text(path)
    pair = {"text": _card(text, wishes.tensors), "projector": _card(find_projector(text), wishes.tensors)}
    if wishes.json:
        print(json.dumps(pair, indent=2))
    else:
        for card in pair.values():
            show(card)
    return 0


def _card(path: Path, all_tensors: bool) -> dict[str, Section]:
    with open_gguf(path) as file:
        return model_card.describe(file, all_tensors=all_tensors)


def _parser() -> Parser:
    parser = Parser(
        "info",
        "Describe a GGUF file, or the pair in a folder: what it is, its shape, its tensors, what recognition doesn't\n"
        "need. Without a file describe this machine: what can compute here, which operations it has, and its settings.",
        EXAMPLES,
        "[FILE.gguf|FOLDER] [--tensors] [--json]",
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE.gguf", help="or a folder with a pair; of a split model the first part"
    )
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser
