"""Where the GPU's memory ends, copies of weights are given up first; what is left to say is a MemoryError."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from eardrop.backends import BACKENDS
from eardrop.ops import OPS
from eardrop.ops.backend import Backend
from eardrop.ops.check import placed
from eardrop.ops.linear import random_weight

torch = pytest.importorskip("torch")

SAID = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free."
ADVICE = " If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF"


@pytest.fixture
def backend(cuda: Backend) -> Any:
    """One that keeps a copy."""
    backend = BACKENDS["cuda"].make(gpu_memory=1 << 20)
    backend.linear(backend.upload(np.ones((129, 64), np.float32)), weight(backend))
    assert len(backend.copies) == 1
    return backend


def weight(backend: Backend) -> Any:
    return backend.weight(random_weight(np.random.default_rng(1), "Q4_0", 8, 64))


def full(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
    """Let an operation's file find no memory so many times."""
    from eardrop.backends.cuda import backend

    module = getattr(backend, name)
    compute, left = getattr(module, name), [times]

    def refusing(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise torch.OutOfMemoryError(SAID + ADVICE)
        return compute(*args, **kwargs)

    monkeypatch.setattr(module, name, refusing)


@pytest.mark.parametrize("name", ["short_conv", "rope", "attention"])
def test_an_operation_is_computed_once_the_copies_are_gone(
    backend: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch, name, times=1)
    op = OPS[name]
    case = next(op.cases(np.random.default_rng(1)))
    given = placed(backend, op, case)
    result = getattr(backend, name)(**given)
    assert (result[0] if isinstance(result, tuple) else result) is not None
    assert len(backend.copies) == 0
    backend.linear(backend.upload(np.ones((129, 64), np.float32)), weight(backend))
    assert len(backend.copies) == 0  # none is kept again: there is no memory for it


def test_what_still_does_not_fit_is_a_memory_error_without_advice_on_torch(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch, "rope", times=9)
    given = placed(backend, OPS["rope"], next(OPS["rope"].cases(np.random.default_rng(1))))
    with pytest.raises(MemoryError) as caught:
        backend.rope(**given)
    assert str(caught.value) == SAID


def test_memory_that_ends_in_an_allocation_is_a_memory_error_too(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError(SAID)

    monkeypatch.setattr(torch, "zeros", refusing)
    with pytest.raises(MemoryError, match="Tried to allocate"):
        backend.zeros((2, 3), np.float32)


def test_a_graph_holds_the_copies_that_it_reads(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their memory goes to nobody else as long as it is replayed."""
    from eardrop.backends.cuda import backend as module

    def recorded(step: Any, slots: Any, device: Any) -> Any:  # as on a GPU: it runs, and keeps nothing but the result
        result = step(*slots)
        return lambda: result

    monkeypatch.setattr(module, "captured", recorded)
    w, x = weight(backend), backend.upload(np.ones((129, 64), np.float32))
    copy = weakref.ref(backend.copies.of(w))
    replay = backend.capture(lambda: backend.linear(x, w))
    backend.copies.give_up()
    gc.collect()
    assert copy() is not None
    assert backend.download(replay()).shape == (129, 8)
    del replay
    gc.collect()
    assert copy() is None
