"""`eardrop quantize`: the same model in fewer bits, and what they cost."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eardrop.cli.flags import Parser
from eardrop.cli.sheet import Section, show
from eardrop.cli.terminal import Voice, bar
from eardrop.cores import usable_cores
from eardrop.errors import OptionError
from eardrop.gguf.mixes import TYPES, by_type
from eardrop.tools.keep import Keep
from eardrop.tools.requantize import Change, Report, requantize

ABOUT = f"""\
Write a text model or a projector in another type, and report the size and the error of each weight.

types: {", ".join(TYPES)}

Blocks are llama.cpp's, bit for bit, and so is the choice of which weight gets which: the token embedding has more
bits in the types below Q6_K, and in Q4_K_S and those that end in _M so have the most sensitive weights. (Here Q4_K and
Q5_K are that type throughout; llama.cpp takes these names for Q4_K_M and Q5_K_M.) Norms, biases and the kernels of
convolutions stay what they are. Start from F16, BF16 or F32: errors add up."""

EXAMPLES = """\
  eardrop quantize LFM2-Audio-1.5B-F16.gguf LFM2-Audio-1.5B-Q4_K_M.gguf Q4_K_M
  eardrop quantize mmproj-LFM2-Audio-1.5B-F16.gguf mmproj-LFM2-Audio-1.5B-Q8_0.gguf Q8_0
  eardrop quantize in.gguf out.gguf Q4_0 --keep 'blk.0.*=Q8_0' --keep 'token_embd.weight=F16'
  eardrop quantize in.gguf out.gguf Q5_K_M --json | jq '.tensors | max_by(.rmse)'
"""


def main(words: Sequence[str]) -> int:
    """Quantise, and print the report."""
    wishes = _parser().parse(words)
    mix, keep = by_type(wishes.type), [Keep.parse(text) for text in wishes.keep]
    with bar(f"{wishes.source} → {mix.name}", shown=not wishes.json) as progress:
        report = requantize(
            Path(wishes.source),
            Path(wishes.target),
            mix,
            keep=keep,
            force=wishes.force,
            threads=_threads(wishes),
            progress=progress,
        )
    if report.twice:
        Voice().warn(f"{report.twice} weights were quantized before, and errors add up; start from F16, BF16 or F32")
    show(_sections(report, wishes), as_json=wishes.json)
    return 0


def _parser() -> Parser:
    parser = Parser("quantize", ABOUT, EXAMPLES, "IN.gguf OUT.gguf TYPE [--keep PATTERN=TYPE] [--force] [--json]")
    parser.add_argument("source", metavar="IN.gguf", help="of a split model the first part")
    parser.add_argument("target", metavar="OUT.gguf", help="appears when it is complete")
    parser.add_argument("type", metavar="TYPE", help="the type of most weights, or a mix, in either case")
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PATTERN=TYPE",
        help="another type, or F32, for the weights of these names, as 'blk.*.attn_?.weight=Q8_0'; may be repeated,"
        " the first that matches counts",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT.gguf where it is there")
    parser.add_argument("-t", "--threads", type=int, metavar="N", help="threads that compute (default: physical cores)")
    parser.add_argument("--json", action="store_true", help="print JSON, with the tensors that stay what they are")
    return parser


def _threads(wishes: argparse.Namespace) -> int:
    if wishes.threads is None:
        return usable_cores()
    if wishes.threads < 1:
        raise OptionError(f"--threads must be at least 1, found {wishes.threads}")
    return int(wishes.threads)


def _sections(report: Report, wishes: argparse.Namespace) -> dict[str, Section]:
    changed = [change for change in report.changes if change.changed]
    return {
        "tensors": list(map(_record, report.changes)) if wishes.json else list(map(_line, changed)),
        "types": _types(report),
        "file": {
            "name": Path(wishes.target).name,
            "type": report.mix.name,
            "bytes before": report.size_before,
            "bytes": report.size_after,
            "bits per weight": round(_bits(report.changes), 2),
            "tensors that stay": len(report.changes) - len(changed),
        },
    }


def _record(change: Change) -> dict[str, Any]:
    """A tensor for programs."""
    return {
        "name": change.tensor.name,
        "shape": change.tensor.shape,
        "from": change.tensor.format.name,
        "type": change.format.name,
        "bytes before": change.tensor.nbytes,
        "bytes": change.nbytes,
        "rmse": change.rmse,
        "relative": change.relative,
        "why": change.why,
    }


def _line(change: Change) -> dict[str, Any]:
    """The same for people."""
    return {
        **_record(change),
        "rmse": f"{change.rmse:.3g}",
        "relative": f"{change.relative:.3%}",
    }


def _types(report: Report) -> list[dict[str, Any]]:
    """Tensors and bytes of each format, the largest first."""
    tensors, sizes = Counter[str](), Counter[str]()
    for change in report.changes:
        tensors[change.format.name] += 1
        sizes[change.format.name] += change.nbytes
    return [{"type": name, "tensors": tensors[name], "bytes": size} for name, size in sizes.most_common()]


def _bits(changes: Sequence[Change]) -> float:
    return 8 * sum(change.nbytes for change in changes) / max(1, sum(change.tensor.size for change in changes))
