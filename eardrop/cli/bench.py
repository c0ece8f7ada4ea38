"""`eardrop bench`: how fast each operation is here, by itself or as a whole model calls it."""

from collections.abc import Iterable, Sequence
from typing import Any

from eardrop.audio import read
from eardrop.backends import choose
from eardrop.bench.ops import Speed, of_cases, of_model
from eardrop.cli.flags import Parser, add_model
from eardrop.cli.sheet import show
from eardrop.errors import OptionError
from eardrop.loading import load_model
from eardrop.ops import OPS

EXAMPLES = """\
  eardrop bench ops                                every operation, on each of its test cases
  eardrop bench ops linear --backend numpy         one of them
  eardrop bench ops -m models/ --audio talk.wav    every operation as a transcription calls it
"""


def main(words: Sequence[str]) -> int:
    """Measure, and print a line for each case or operation."""
    parser = _parser()
    wishes = parser.parse(words)
    if wishes.op is not None and wishes.op not in OPS:
        raise OptionError(f"no operation is called {wishes.op!r}: {', '.join(OPS)}")
    if (wishes.model is None) != (wishes.audio is None):
        raise OptionError("a whole model is measured on a recording: give -m and --audio, or neither")
    backend = choose(wishes.backend, threads=wishes.threads)
    if wishes.model is None:
        speeds: Iterable[Speed] = of_cases(backend, wishes.op)
    else:
        samples = read(wishes.audio)
        every = of_model(lambda b: load_model(wishes.model, wishes.mmproj, b), samples, backend, tokens=wishes.tokens)
        speeds = [speed for speed in every if wishes.op in (None, speed.op)]
    show({f"operations on {backend.name}": [_line(speed) for speed in speeds]}, as_json=wishes.json)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "bench",
        "Measure operations: time, arithmetic and memory traffic, from the records that their tests are made of.",
        EXAMPLES,
        "ops [OPERATION] [-m MODEL --audio FILE] [--backend NAME] [--json]",
    )
    parser.add_argument("what", choices=["ops"], help="what to measure")
    parser.add_argument("op", nargs="?", metavar="OPERATION", help="only this one")
    add_model(parser)
    parser.add_argument("--audio", metavar="FILE", help="the recording that a whole model is measured on")
    parser.add_argument(
        "--tokens", type=int, default=16, metavar="N", help="most tokens it may say, at least 1 (default: 16)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def _line(speed: Speed) -> dict[str, Any]:
    return {
        "operation": speed.op,
        "case": speed.what,
        "calls": speed.calls,
        "µs a call": f"{speed.seconds / speed.calls * 1e6:,.1f}",
        "ms": f"{speed.seconds * 1e3:,.2f}",
        "GFLOP/s": f"{speed.gigaflops:,.2f}",
        "GB/s": f"{speed.gigabytes:,.2f}",
    }
