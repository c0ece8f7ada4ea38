"""Every backend gives what each operation's record means: the tests are derived from the records."""

import inspect

import numpy as np
import pytest

from eardrop.backends import BACKENDS
from eardrop.ops import OPS, Case, Op, outputs
from eardrop.ops.backend import Backend
from eardrop.ops.check import arithmetic_of, difference, meant, placed
from eardrop.ops.record import Tolerance

SEED = 20261123
CASES = [(op, case) for op in OPS.values() for case in op.cases(np.random.default_rng(SEED))]
REFERENCE = BACKENDS["numpy"].make()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    choice = BACKENDS[request.param]
    reason = choice.missing()
    if reason:
        pytest.skip(str(reason))
    return choice.make()


@pytest.mark.parametrize(("op", "case"), CASES, ids=lambda value: value.name if isinstance(value, Op) else value.label)
def test_backend_gives_what_the_reference_means(backend: Backend, op: Op, case: Case) -> None:
    arguments = placed(backend, op, case)
    with backend.ahead():
        result = getattr(backend, op.name)(**arguments)
        changed = (arguments[name] for name in op.changes if arguments.get(name) is not None)
        got = [backend.download(value) for value in (*outputs(result), *changed)]
    expected = meant(op, placed(REFERENCE, op, case))
    tolerance = op.tolerance[arithmetic_of(backend, op, case.arguments)]
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        assert difference(mine, theirs, tolerance) is None


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_backend_has_the_references_signature(backend: Backend, op: Op) -> None:
    mine = inspect.signature(getattr(backend, op.name))
    assert list(mine.parameters) == list(op.signature.parameters)
    protocol = inspect.signature(getattr(Backend, op.name))
    assert list(protocol.parameters)[1:] == list(op.signature.parameters)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_operation_writes_only_to_what_it_says(op: Op) -> None:
    for case in op.cases(np.random.default_rng(SEED)):
        arguments = placed(REFERENCE, op, case)
        before = {name: np.array(value) for name, value in arguments.items() if isinstance(value, np.ndarray)}
        op.reference(**arguments)
        for name, value in before.items():
            assert name in op.changes or np.array_equal(arguments[name], value, equal_nan=True), (case.label, name)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_cost_is_positive_and_names_the_references_arguments(op: Op) -> None:
    for case in op.cases(np.random.default_rng(SEED)):
        cost = op.cost(**op.arguments(**placed(REFERENCE, op, case)))
        assert cost.flops >= 0, case.label
        assert cost.bytes > 0 or case.label.endswith("none")


def test_there_are_at_most_twenty_operations() -> None:
    assert len(OPS) <= 20


def test_every_operation_has_an_odd_shape_and_distinct_labels() -> None:
    for op in OPS.values():
        labels = [case.label for case in op.cases(np.random.default_rng(SEED))]
        assert len(set(labels)) == len(labels) >= 3, op.name


TIGHT = Tolerance(1e-6, "a test")


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (np.zeros(2, np.float32), np.zeros(3, np.float32), "shape"),
        (np.zeros(2), np.zeros(2, np.float32), "dtype"),
        (np.array([1, 3], np.int32), np.array([1, 2], np.int32), "(1,)"),
        (np.array([1, np.nan], np.float32), np.array([1, 2], np.float32), "nan"),
        (np.array([1, 2.1], np.float32), np.array([1, 2], np.float32), "apart"),
        (np.array([1, np.inf], np.float32), np.array([1, 2], np.float32), "inf"),
        (np.array([1, 2], np.float32), np.array([1, np.inf], np.float32), "inf"),
    ],
)
def test_difference_says_what_is_wrong(got: np.ndarray, expected: np.ndarray, words: str) -> None:
    assert words in (difference(got, expected, TIGHT) or "")


def test_difference_lets_pass_what_is_within_the_tolerance() -> None:
    values = np.array([1000, 1e-3, np.inf], np.float32)
    assert difference(values + np.float32(1e-4), values, TIGHT) is None
    assert difference(values[:0], values[:0], TIGHT) is None
