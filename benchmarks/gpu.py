"""Check and measure the CUDA backend on one GPU, in one run of less than ten minutes, with nothing to download.

    python -m benchmarks.gpu --golden FOLDER [--json gpu.json] [--minutes 9.5] [--only checks,short_conv]
    python -m benchmarks.gpu --tiny                   # the same course at sizes for Triton's interpreter: no figures

Needs Python 3.11 or newer with numpy, tokenizers, torch and triton, and disk for 4 GB. FOLDER holds the recorded
results of llama.cpp; without it that check is left out, and the report says so. The full-size models are made here,
from random blocks: their texts mean nothing, their times do. The report is Markdown; a check that fails, or a limit
that isn't met, makes the exit code 1.

The parts (`gpu_parts.py`) run one after another in a child process, which keeps models between them. A part that fails,
hangs or takes the process with it is a line that says so; those behind it run in another process, for what it left on
the GPU can't be trusted. What would not fit into the time is left out and named.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.gpu_parts import FULL, PARTS, TINY, Course, Line, limited

Parts: TypeAlias = Mapping[str, Callable[[Course], Iterator[Line]]]

FIRST = ("machine", "ceilings")  # the others need them to be told


def work(parts: Parts, course: Course, told: Connection) -> None:
    """In the child: tells the lines of each part, and behind them the ceilings known by then; or why it failed."""
    try:
        for part in parts.values():
            for line in part(course):
                told.send(limited(line))
            told.send(course.ceilings)
    except Exception as error:
        traceback.print_exc()
        told.send(f"{type(error).__name__}: {error}")


@contextmanager
def child(parts: Parts, course: Course) -> Iterator[Connection]:
    """Where a process tells what it finds; it is gone behind the block, whatever it was at."""
    aside = multiprocessing.get_context("spawn")  # CUDA doesn't bear a fork
    heard, told = aside.Pipe(duplex=False)
    process = aside.Process(target=work, args=(parts, course, told), daemon=True)
    process.start()
    told.close()
    try:
        yield heard
    finally:
        process.kill()
        process.join()


def answer(heard: Connection, until: float) -> Any:
    """The next that the child tells; or, as a text, why there is nothing."""
    if not heard.poll(max(0.0, until - time.monotonic())):
        return "it took too long, and was ended"
    try:
        return heard.recv()
    except EOFError:
        return "its process ended"


def measured(
    parts: Parts, make: Callable[[dict[str, float]], Course], *, until: float, patience: float
) -> Iterator[tuple[str, Line]]:
    """All lines, each with its part's name.

    make      the course, given the ceilings that are known
    until     the clock's time at which what is under way is ended, and the rest left out
    patience  seconds for one part
    """
    left, ceilings = dict(parts), dict[str, float]()
    while left and time.monotonic() < until:
        with child(left, make(ceilings)) as heard:
            for name in tuple(left):
                del left[name]
                started = time.monotonic()
                while isinstance(found := answer(heard, min(until, started + patience)), Line):
                    yield name, found
                print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
                if isinstance(found, str):
                    yield name, Line("failed", ok=False, note=" ".join(found.split())[:300])
                    break
                ceilings = found
    for name in left:
        yield name, Line("left out", note="the time was up")


def shown(part: str, line: Line) -> str:
    """A row of the table."""
    value = "" if line.value is None else f"{line.value:,.4g} {line.unit}".strip()
    share = "" if line.share is None else f"{line.share:.0%}"
    least = "" if line.limit is None else f"{line.limit:.0%}" if line.share is not None else f"{line.limit:,g}"
    cells = (part, line.name, value, share, least, "yes" if line.ok else "**no**", line.note)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def chosen(only: str) -> Parts:
    """The parts of these names, between commas; first those that every report needs."""
    names = dict.fromkeys((*FIRST, *only.split(",")))
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise SystemExit(f"no part is called {unknown[0]!r}: {', '.join(PARTS)}")
    return {name: PARTS[name] for name in names}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, help="recorded results of llama.cpp")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--minutes", type=float, default=9.5, help="what is under way then is ended")
    parser.add_argument("--part-minutes", type=float, default=3, help="and a part that takes so long by itself")
    parser.add_argument("--folder", type=Path, help="where models are made, and found again")
    parser.add_argument("--json", type=Path, help="the lines as data")
    parser.add_argument("--tiny", action="store_true", help="sizes for the interpreter")
    return parser.parse_args()


def main() -> int:
    """The report."""
    options = arguments()
    until, parts, lines = time.monotonic() + 60 * options.minutes, chosen(options.only), []
    if options.tiny:
        os.environ.setdefault("TRITON_INTERPRET", "1")  # before a child imports Triton
    print("| part | what | found | of roofline | wanted | holds | |\n|---|---|---:|---:|---:|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        sizes, folder = TINY if options.tiny else FULL, options.folder or Path(scratch)
        make = partial(Course, sizes, options.golden, folder)
        for part, line in measured(parts, make, until=until, patience=60 * options.part_minutes):
            lines.append({"part": part, **asdict(line)})
            print(shown(part, line), flush=True)
            if options.json:  # after each line: whoever ends this early keeps what was found
                options.json.write_text(json.dumps(lines, indent=1) + "\n")
    return int(not options.tiny and not all(line["ok"] for line in lines))


if __name__ == "__main__":
    sys.exit(main())
