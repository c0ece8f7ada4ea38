"""Any number of random shapes of each operation: `TRITON_INTERPRET=1 python -m tests.backends.cuda.campaign --help`.

Prints one line for each operation, and each call that is wrong with the seed that makes it again.
"""

import argparse
import time

import numpy as np

from eardrop.backends import choose
from eardrop.ops import OPS
from tests.backends.cuda.random_cases import RANDOM, case
from tests.backends.cuda.test_shapes import SEED, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operations", nargs="*", default=[], metavar="OPERATION", help=", ".join(RANDOM))
    parser.add_argument("--count", type=int, default=1000, help="calls of each (default: 1000)")
    parser.add_argument("--seed", type=int, default=SEED)
    wishes = parser.parse_args()
    backend, failed = choose("cuda"), 0
    print(f"{wishes.count} random calls of each operation on {backend.device}, seed {wishes.seed}")
    for name in wishes.operations or RANDOM:
        started, bad = time.perf_counter(), 0
        for number in range(wishes.count):
            drawn = case(name, np.random.default_rng((wishes.seed, number)))
            said = wrong(backend, OPS[name], drawn)
            if said:
                bad += 1
                print(f"{name} number {number} ({drawn.label}): {said}", flush=True)
        failed += bad
        print(f"{name}: {bad} of {wishes.count} wrong, {time.perf_counter() - started:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
