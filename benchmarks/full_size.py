"""Time and memory of a pair of the real size with random weights: loading, one recording, tokens a second.

    python benchmarks/full_size.py [--format Q4_0] [--backend auto] [--folder DIR] [RECORDING]

The pair (about 1 GB in Q4_0) is written to the user's cache folder once. Prints the machine, the date and the figures.
"""

import argparse
import datetime
import platform
import resource
from collections import defaultdict
from pathlib import Path

from platformdirs import user_cache_path

import eardrop
from eardrop.bench.pairs import full, write_pair
from eardrop.stages import timing


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", nargs="?", default=Path(__file__).parent.parent / "examples" / "harbour.flac")
    parser.add_argument("--format", default="Q4_0")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--folder", type=Path, default=user_cache_path("eardrop") / "full")
    args = parser.parse_args()
    text, projector = write_pair(full(args.format), args.folder)
    spent: defaultdict[str, list[float]] = defaultdict(list)
    with (
        timing(lambda name, seconds: spent[name].append(seconds)),
        eardrop.load(text, projector=projector, backend=args.backend) as asr,
    ):
        result = asr.transcribe(args.recording, max_tokens=32)
        backend = asr.model.backend.name
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {datetime.date.today()}")
    print(f"{text.name}, backend {backend}, {result.duration:.1f} s of audio, {len(result.segments[0].tokens)} tokens")
    for name, times in spent.items():
        print(f"  {name:8} {len(times):3} × {sum(times) / len(times):8.3f} s")
    print(f"  {1 / (sum(spent['token']) / len(spent['token'])):.1f} tokens a second")
    print(f"  {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory at the most")


if __name__ == "__main__":
    main()
