"""Measure full-size random pairs beside llama-mtmd-cli and put the table into benchmarks/README.md.

    python benchmarks/table.py [--against PATH] [--formats Q4_0,Q8_0] [--threads 2] [--keep FOLDER] [RECORDING]

Takes about a minute and a half a format on two cores. Let the machine do nothing else meanwhile: llama.cpp's threads
wait for each other, and lose more than ours where something takes a core from them.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from eardrop.bench.compare import shown
from eardrop.bench.peers import NAMES, PROGRAM

HERE = Path(__file__).parent
README = HERE / "README.md"
BEGIN, END = "<!-- measured by table.py -->\n", "<!-- end -->\n"


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", nargs="?", type=Path, default=HERE.parent / "examples" / "harbour.flac")
    parser.add_argument("--against", default=PROGRAM)
    parser.add_argument("--formats", default="Q4_0,Q8_0")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--keep", type=Path, help="a folder for the reviews, to compare later ones with")
    wishes = parser.parse_args()
    reviews = {form: _review(form, wishes) for form in wishes.formats.split(",")}
    if wishes.keep:
        wishes.keep.mkdir(parents=True, exist_ok=True)
        for form, review in reviews.items():
            (wishes.keep / f"{form}.json").write_text(json.dumps(review, indent=1), encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    table = _table(reviews)
    README.write_text(before + BEGIN + table + END + rest.partition(END)[2], encoding="utf-8")
    print(table)


def _review(form: str, wishes: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "eardrop", "bench", "stages", "--full", form, "--audio", str(wishes.recording)]
    command += ["--threads", wishes.threads, "--against", wishes.against, "--json"]
    review: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return review


def _table(reviews: dict[str, dict[str, Any]]) -> str:
    first = next(iter(reviews.values()))
    machine, versions, flags = first["machine"], first["versions"], first["flags"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB;"
        f" {flags['threads']} threads; {first['date']}, commit {_commit()}, load before it began {first['load']:.1f};"
        f" eardrop {versions['eardrop']}, Python {versions['python']}, llvmlite {versions.get('llvmlite', '–')};"
        f" {first['against']['program']}: {first['against']['build']}.",
        f"{first['audio_seconds']:.1f} s of audio, {flags['tokens']} tokens, {flags['runs']} pairs behind a warm-up.",
        "",
        "| pair | whole processes | eardrop | llama.cpp | eardrop ÷ llama.cpp | 95 % | better is |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for form, review in reviews.items():
        lines += [_beside(form, name, f) for name, f in review["against"]["figures"].items()]
    lines += ["", f"| one process, model in use | {' | '.join(reviews)} |", f"| --- |{' ---: |' * len(reviews)}"]
    for place, stage in enumerate(first["stages"]):
        every = [review["stages"][place]["inclusive"] for review in reviews.values()]
        calls = f" × {stage['calls']}" if stage["calls"] > 1 else ""
        lines.append(f"| {stage['stage']}{calls} | {_cells(every)} |")
    for name in first["figures"]:
        lines.append(f"| {name} | {_cells([review['figures'][name] for review in reviews.values()])} |")
    return "\n".join([*lines, ""])


def _beside(form: str, name: str, f: dict[str, Any] | None) -> str:
    if f is None:
        return f"| {form} | {NAMES[name]} | not measured | | | | |"
    ours, theirs = (shown(f[whose]["median"], f["unit"]) for whose in ("ours", "theirs"))
    ratio = f["ratio"]
    interval = f"{ratio['low']:.2f} … {ratio['high']:.2f}"
    return f"| {form} | {NAMES[name]} | {ours} | {theirs} | {ratio['median']:.2f} | {interval} | {f['better']} |"


def _cells(figures: list[dict[str, Any] | None]) -> str:
    return " | ".join(
        f"{shown(f['median'], f['unit'])} ({shown(f['low'], f['unit'])} … {shown(f['high'], f['unit'])})"
        if f and len(f["samples"]) > 1
        else shown(f["median"], f["unit"])
        if f
        else "not measured"
        for f in figures
    )


def _commit() -> str:
    """Of the checkout, with a + where files differ from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
