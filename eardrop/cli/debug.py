"""EARDROP_DEBUG: what each stage took, as it ends; at the second level what each operation took, at the end."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from eardrop.backends import LEDGER, OPERATIONS
from eardrop.knobs import DEBUG
from eardrop.stages import timing


@contextmanager
def told() -> Iterator[None]:
    """Tell on standard error while the block runs."""
    with timing(lambda name, seconds: print(f"eardrop: {name:8} {seconds * 1e3:10.2f} ms", file=sys.stderr)):
        yield
    if DEBUG.level() >= OPERATIONS:
        for name, spent in sorted(LEDGER.spent.items(), key=lambda entry: -entry[1].seconds):
            speed = f"{spent.flops / spent.seconds / 1e9:8.2f} GFLOP/s {spent.bytes / spent.seconds / 1e9:8.2f} GB/s"
            print(f"eardrop: {name:17} {spent.calls:6} × {spent.seconds * 1e3:10.2f} ms {speed}", file=sys.stderr)
