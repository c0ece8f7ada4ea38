"""`eardrop bench`: where the time goes, here and beside llama.cpp; what changed; how fast each operation is."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from eardrop.audio import read
from eardrop.backends import PRECISIONS
from eardrop.bench import machine, peers, plot
from eardrop.bench.checkouts import in_turns
from eardrop.bench.compare import Limit, compare, markdown, read_review, shown
from eardrop.bench.noise import Estimate
from eardrop.bench.ops import Speed, of_cases, of_model
from eardrop.bench.pairs import full, write_pair
from eardrop.bench.review import RUNS, Question, review
from eardrop.cli.flags import Parser, add_model, chosen_backend, computed, find_model
from eardrop.cli.sheet import Section, show
from eardrop.cli.terminal import NOTES, Voice, bar
from eardrop.errors import OptionError
from eardrop.gguf.mixes import MIXES
from eardrop.hub import find_projector
from eardrop.loading import load_model
from eardrop.ops import OPS
from eardrop.printable import printable

EXAMPLES = """\
  eardrop bench stages -m models/ --audio talk.wav            where the time goes, from start to text
  eardrop bench stages --full Q4_0 --audio talk.wav --plot stages.svg --against llama-mtmd-cli
  eardrop bench stages -m models/ --audio talk.wav --json > before.json
  eardrop bench compare before.json after.json --fail-if "token>3%"
  eardrop bench compare ../before . --full Q4_0 --audio talk.wav   two checkouts, in turns
  eardrop bench ops                                           every operation, on each of its test cases
  eardrop bench ops linear -m models/ --audio talk.wav        one, as a transcription calls it
"""
QUIET = 0.5  # programs at work, on average, that measuring can bear
TOO_MUCH = 1  # the exit code of `compare` where a limit is broken or the texts differ


def main(words: Sequence[str]) -> int:
    """Measure what the first word asks for."""
    if words and words[0] in MEASURES:
        return MEASURES[words[0]](words[1:])
    parser = Parser(
        "bench",
        "Measure: `stages` of a transcription, also beside llama.cpp; `compare` two of them; `ops`, every operation.\n"
        "eardrop bench stages --help, and so on, tells the flags of each.",
        EXAMPLES,
        f"{'|'.join(MEASURES)} [options]",
    )
    parser.add_argument("what", choices=list(MEASURES), help="what to measure")
    parser.parse(words)
    raise OptionError(f"say what to measure first: eardrop bench {' or '.join(MEASURES)}; see eardrop bench --help")


def _stages(words: Sequence[str]) -> int:
    wishes = _stages_parser().parse(words)
    peer = None if wishes.against is None else peers.peer(wishes.against)
    picture = None if wishes.plot is None else Path(wishes.plot)
    if picture is not None:
        plot.check(picture)
    question, told, load = _question(wishes), Voice(NOTES).note, machine.load()
    if load is not None and load > QUIET:
        Voice(NOTES).warn(f"the load is {load:.1f}: other programs run here, and the figures will say so")
    beside = None if peer is None else peers.against(peer, question, told)  # while this process is small
    report = review(question, told=told, operations=wishes.ops or picture is not None)
    report |= {"against": beside, "load": load}
    if picture is not None:
        plot.plot(report, picture)
    if wishes.json:
        print(json.dumps(report, indent=1))
    else:
        show(_sheet(report))
    return 0


def _stages_parser() -> Parser:
    parser = Parser(
        "bench stages",
        "Where the time of a transcription goes: stages, tokens a second, memory, the share of the machine's speed.\n"
        "Medians of several runs behind a warm-up, with their 95 % intervals.",
        EXAMPLES,
        "-m MODEL|--full FORMAT --audio FILE [options]",
    )
    _add_question(parser)
    parser.add_argument(
        "--against", metavar="PATH", nargs="?", const=peers.PROGRAM,
        help=f"measure llama.cpp, too, in turns: a {peers.PROGRAM}, {peers.PACKAGE}, or a Python that has it (default:"
        f" the {peers.PROGRAM} that is installed)",
    )  # fmt: skip
    parser.add_argument("--ops", action="store_true", help="time every operation, too")
    parser.add_argument("--plot", metavar="FILE.png|svg", help="draw stages and operations")
    parser.add_argument("--json", action="store_true", help="for programs, and for eardrop bench compare")
    return parser


def _add_question(parser: Parser) -> None:
    """What is measured."""
    add_model(parser)
    parser.add_argument(
        "--full", metavar="FORMAT", type=str.upper, help=f"a random pair of the real size instead: {', '.join(MIXES)}"
    )
    parser.add_argument("--audio", metavar="FILE", help="the recording")
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"runs, or pairs of them (default: {RUNS})")
    parser.add_argument("--tokens", type=int, default=20, metavar="N", help="most tokens of the text (default: 20)")


def _question(wishes: argparse.Namespace) -> Question:
    """What is to be measured, on files that are there."""
    if wishes.audio is None:
        raise OptionError("no recording was given; name one with --audio")
    model, projector = _pair(wishes)
    return Question(
        model, projector, Path(wishes.audio), wishes.tokens, wishes.runs, **computed(wishes)
    )  # fmt: skip


def _pair(wishes: argparse.Namespace) -> tuple[Path, Path]:
    """The files of the model that was named, or of a random one, made where it is missing."""
    if wishes.full is None:
        files = find_model(wishes, Voice(NOTES))
        return files.text, find_projector(*files)
    if wishes.model or wishes.hf_repo:
        raise OptionError("-m or -hf names a model and --full makes one: give one of the two")
    if wishes.full not in MIXES:
        raise OptionError(f"no random weights are drawn as {printable(wishes.full)!r}: choose {', '.join(MIXES)}")
    with bar("writing a random pair"):
        model, projector = write_pair(full(wishes.full), user_cache_path("eardrop") / "full")
    return model, projector if wishes.mmproj is None else Path(wishes.mmproj)


def _sheet(report: dict[str, Any]) -> dict[str, Section]:
    """A review for people."""
    here, flags = report["machine"], report["flags"]
    what = {
        "machine": f"{here['processor']}, {here['cores']} cores; load before it began {report['load'] or 0:.1f}",
        "files": ", ".join(file["name"] for file in report["files"]),
        "audio": f"{report['audio_seconds']:.1f} s",
        "computed": f"backend {flags['backend']}, {flags['threads']} threads, {flags['runs']} runs, {report['date']}",
        "text": report["text"] or "(empty)",
    }
    sections: dict[str, Section] = {
        "measured": what,
        "stages": [
            {
                "stage": stage["stage"],
                "calls": stage["calls"],
                "itself": shown(stage["own"]["median"], "s"),
                "with what it holds": shown(stage["inclusive"]["median"], "s"),
                "95 %": _interval(stage["inclusive"]),
            }
            for stage in report["stages"]
        ],
        "figures": [
            {"figure": name, "median": shown(f["median"], f["unit"]) if f else "not measured", "95 %": _interval(f)}
            for name, f in report["figures"].items()
        ],
    }
    if "gpu" in report:
        sections |= _on_gpu(report["gpu"])
    if report["against"]:
        sections |= _beside(report["against"])
    if "operations" in report:
        sections["operations"] = [_line(Speed(what="the whole model", **line)) for line in report["operations"]]
    return sections


def _on_gpu(gpu: dict[str, Any]) -> dict[str, Section]:
    """Parts of the model under the GPU's two roofs."""

    def shares(line: dict[str, Any]) -> dict[str, str]:
        return {name: shown(line[name]["median"], "share") for name in ("of memory", "of products")}

    return {
        "gpu": {
            "name": gpu["name"],
            "copies": shown(gpu["copies"]["median"], "bytes/s"),
            "products of halves": f"{gpu['products']['median'] / 1e12:,.1f} TFLOP/s",
            "launches of a token": gpu["launches of a token"],
        },
        "on the gpu, waited for": [
            {"stage": line["stage"], "median": shown(line["seconds"]["median"], "s"), **shares(line)}
            for line in gpu["stages"]
        ],
        "streams together": [
            {"streams": line["streams"], "tokens/s": f"{line['rate']['median']:,.0f}", **shares(line)}
            for line in gpu["streams"]
        ],
    }


def _beside(beside: dict[str, Any]) -> dict[str, Section]:
    """eardrop and llama.cpp."""
    ours, theirs = beside["tokens"]
    told = {
        "program": f"{beside['program']} ({beside['build']})",
        "flags": " ".join(beside["flags"]),
        "tokens": f"{ours} and {theirs}",
        "text": "the same" if beside["same text"] else "differs",
    }
    lines = [
        {
            "whole processes": peers.NAMES[name],
            "eardrop": shown(f["ours"]["median"], f["unit"]) if f else "not measured",
            "llama.cpp": shown(f["theirs"]["median"], f["unit"]) if f else "not measured",
            "ratio": f"{f['ratio']['median']:.2f}" if f else "",
            "95 %": f"{f['ratio']['low']:.2f} … {f['ratio']['high']:.2f}" if f else "",
            "better is": f["better"] if f else "",
        }
        for name, f in beside["figures"].items()
    ]
    return {"beside llama.cpp": told, f"eardrop ÷ llama.cpp, {beside['pairs']} pairs": lines}


def _interval(figure: dict[str, Any] | None) -> str:
    if figure is None or len(figure["samples"]) < 2:
        return ""
    e = Estimate(figure["median"], figure["low"], figure["high"])
    return f"{shown(e.low, figure['unit'])} … {shown(e.high, figure['unit'])}"


def _compare(words: Sequence[str]) -> int:
    parser = Parser(
        "bench compare",
        "What changed between two reviews beyond the noise, as markdown, the largest change in seconds first.\n"
        "A and B are files that `eardrop bench stages --json` wrote, or two checkouts, which are reviewed in turns,\n"
        f"on the model and recording named. Exit code {TOO_MUCH} where a limit is broken or the texts differ.",
        EXAMPLES,
        "A B [--fail-if LIMIT] [--force] [-m MODEL|--full FORMAT --audio FILE]",
    )
    parser.add_argument("before", metavar="A", help="a review, or a folder that holds eardrop's source")
    parser.add_argument("after", metavar="B", help="the same of a later version")
    _add_question(parser)
    parser.add_argument(
        "--fail-if", action="append", default=[], metavar="LIMIT",
        help='a change that is too much, as "token>3%%" or "times real time<-3%%"; may be repeated',
    )  # fmt: skip
    parser.add_argument("--other-text", action="store_true", help="the texts may differ")
    parser.add_argument("--force", action="store_true", help="compare other machines, files and flags, too")
    wishes = parser.parse(words)
    limits = [Limit.parse(text) for text in wishes.fail_if]
    comparison = compare(*_reviews(wishes), force=wishes.force)
    broken = [limit for limit in limits if limit.broken(comparison.lines)]
    print(markdown(comparison, broken))
    return TOO_MUCH if broken or not (comparison.same_text or wishes.other_text) else 0


def _reviews(wishes: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of two files, or of two checkouts."""
    a, b = Path(wishes.before), Path(wishes.after)
    if not (a.is_dir() and b.is_dir()):
        return read_review(a), read_review(b)
    question = _question(wishes)
    files = {"-m": question.model, "--mmproj": question.projector, "--audio": question.audio}
    words = [word for flag, path in files.items() if path is not None for word in (flag, str(path.resolve()))]
    words += ["--tokens", str(question.tokens), "--threads", str(question.computing), "--backend", question.backend]
    if question.precision != PRECISIONS[0]:  # an older checkout may not know the flag
        words += ["--precision", question.precision]
    if question.gpu_memory is not None:
        words += ["--gpu-memory", str(question.gpu_memory)]
    return in_turns(a, b, words, runs=question.runs, told=Voice(NOTES).note)


def _ops(words: Sequence[str]) -> int:
    wishes = _ops_parser().parse(words)
    if wishes.op is not None and wishes.op not in OPS:
        raise OptionError(f"no operation is called {wishes.op!r}: {', '.join(OPS)}")
    named = wishes.model or wishes.hf_repo
    if (named is None) != (wishes.audio is None):
        raise OptionError("a whole model is measured on a recording: give -m and --audio, or neither")
    backend = chosen_backend(wishes)
    if named is None:
        speeds: Iterable[Speed] = of_cases(backend, wishes.op)
    else:
        samples, files = read(wishes.audio), find_model(wishes, Voice(NOTES))
        every = of_model(lambda b: load_model(*files, b), samples, backend, tokens=wishes.tokens)
        speeds = [speed for speed in every if wishes.op in (None, speed.op)]
    show({f"operations on {backend.name}": [_line(speed) for speed in speeds]}, as_json=wishes.json)
    return 0


def _ops_parser() -> Parser:
    parser = Parser(
        "bench ops",
        "Measure operations: time, arithmetic and memory traffic, from the records that their tests are made of.",
        EXAMPLES,
        "[OPERATION] [-m MODEL --audio FILE] [--backend NAME] [--json]",
    )
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


MEASURES: dict[str, Callable[[Sequence[str]], int]] = {"stages": _stages, "compare": _compare, "ops": _ops}
