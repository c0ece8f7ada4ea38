"""The benchmark of the operations, derived from their records: time, speed and traffic of each.

Two views: every case of every operation by itself, or every operation as a whole model calls it.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from eardrop.backends import Ledger, awaited, cost_of, timed
from eardrop.engine import Engine, Model
from eardrop.ops import OPS, Case, Float32, Op
from eardrop.ops.backend import Backend
from eardrop.ops.check import placed
from eardrop.transcribe import Recognizer

SEED = 1
LEAST_SECONDS = 0.02  # of one measurement: shorter calls are repeated until they fill it
RUNS = 5


@dataclass(frozen=True)
class Speed:
    """One line: an operation, what it was given, and how fast it went."""

    op: str
    what: str
    calls: int
    seconds: float  # of all calls
    flops: float
    bytes: float

    @property
    def gigaflops(self) -> float:
        """Billions of operations a second."""
        return self.flops / self.seconds / 1e9

    @property
    def gigabytes(self) -> float:
        """Billions of bytes a second that the call can't do without."""
        return self.bytes / self.seconds / 1e9


def of_cases(backend: Backend, only: str | None = None) -> Iterator[Speed]:
    """Every case of every operation, or of one: the median of several runs."""
    for op in OPS.values():
        if only in (None, op.name):
            for case in op.cases(np.random.default_rng(SEED)):
                yield _case(backend, op, case)


def _case(backend: Backend, op: Op, case: Case) -> Speed:
    arguments, call = placed(backend, op, case), getattr(backend, op.name)
    cost = cost_of(backend, op, op.arguments(**arguments))

    def taken(repeats: int) -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            result = call(**arguments)
        awaited(backend, result)
        return time.perf_counter() - started

    repeats = max(1, int(LEAST_SECONDS / max(taken(1), 1e-7)))
    seconds = statistics.median(taken(repeats) / repeats for _ in range(RUNS))
    return Speed(op.name, case.label, 1, seconds, cost.flops, cost.bytes)


def of_model(make_model: Callable[[Backend], Model], samples: Float32, backend: Backend, *, tokens: int) -> list[Speed]:
    """Every operation as a transcription calls it, the longest first.

    make_model  gives a Model on the backend it is handed
    """
    ledger = Ledger()
    with Recognizer(Engine(make_model(timed(backend, ledger)), streams=1)) as asr:
        asr.transcribe(samples, max_tokens=1)
        ledger.clear()
        asr.transcribe(samples, max_tokens=tokens)
    lines = [
        Speed(name, "the whole model", spent.calls, spent.seconds, spent.flops, spent.bytes)
        for name, spent in ledger.spent.items()
    ]
    return sorted(lines, key=lambda line: -line.seconds)
