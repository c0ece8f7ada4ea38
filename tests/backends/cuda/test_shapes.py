"""Twenty random shapes of each operation; a thousand are `python -m tests.backends.cuda.campaign --count 1000`."""

import numpy as np
import pytest

from eardrop.backends.numpy import NumpyBackend
from eardrop.ops import OPS, outputs
from eardrop.ops.backend import Backend
from eardrop.ops.check import arithmetic_of, difference, meant, placed
from tests.backends.cuda.random_cases import RANDOM, case

SEED = 20261123


@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("name", RANDOM)
def test_a_random_shape_gives_what_the_reference_means(cuda: Backend, name: str, number: int) -> None:
    op, drawn = OPS[name], case(name, np.random.default_rng((SEED, number)))
    assert wrong(cuda, op, drawn) is None, drawn.label


def wrong(backend: Backend, op, drawn) -> str | None:
    """What is wrong with what a backend gives for a call, in words."""
    arguments = placed(backend, op, drawn)
    result = getattr(backend, op.name)(**arguments)
    changed = (arguments[name] for name in op.changes if arguments.get(name) is not None)
    got = [backend.download(value) for value in (*outputs(result), *changed)]
    tolerance = op.tolerance[arithmetic_of(backend, op, drawn.arguments)]
    pairs = zip(got, meant(op, placed(NumpyBackend(), op, drawn)), strict=True)
    return next((said for mine, theirs in pairs if (said := difference(mine, theirs, tolerance))), None)
