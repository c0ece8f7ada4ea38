"""Kernels in Triton: the references' meaning at random shapes, and the same bits however sequences are put together.

They run on a GPU, or with TRITON_INTERPRET=1 without one; `make test-torch` sees to that.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu_shapes import SHAPES, drawn, wrong
from eardrop.backends.cuda.device import missing
from eardrop.ops import OPS, Arithmetic, ragged

if missing():
    pytest.skip(str(missing()), allow_module_level=True)

import torch

from eardrop.backends.cuda.backend import CudaBackend

SEED, CASES = 20261123, 20
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's NumPy tells of NaN and ∞


@pytest.fixture(scope="module")
def backend() -> CudaBackend:
    return CudaBackend()


@pytest.fixture
def poisoned() -> Iterator[None]:
    """What is allocated and not written holds NaN, or the largest whole number."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.usefixtures("poisoned")
def test_random_shapes_give_what_the_reference_means(backend: CudaBackend, name: str) -> None:
    found = [wrong(backend, OPS[name], drawn(OPS[name], SEED, number)) for number in range(CASES)]
    assert not any(found), next(said for said in found if said)


def test_every_operation_has_random_shapes() -> None:
    assert SHAPES.keys() == OPS.keys()


@pytest.mark.parametrize("gates", [1, 3])
@pytest.mark.parametrize(("taps", "channels"), [(2, 1), (3, 129), (4, 63), (9, 17)])
def test_a_sequence_convolved_at_once_has_the_bits_of_its_steps(
    backend: CudaBackend, taps: int, channels: int, gates: int
) -> None:
    x, kernel = (backend.upload(part) for part in (normal(13, gates * channels), normal(taps, channels)))
    whole, stepped = (backend.upload(normal(2, taps - 1, channels)) for _ in range(2))
    slots = backend.upload(np.array([1], np.int32))
    y, u = backend.short_conv(x, kernel, ragged(13), state=whole, slots=slots)
    for t in range(13):
        one, _ = backend.short_conv(x[t : t + 1], kernel, ragged(1), state=stepped, slots=slots)
        assert torch.equal(one[0], y[t])
        if t >= taps - 2:
            assert torch.equal(stepped[1], u[t + 2 - taps : t + 1])
    assert torch.equal(whole, stepped)


def test_a_clip_among_others_has_the_bits_of_the_clip_alone_whatever_they_hold(backend: CudaBackend) -> None:
    """The others hold NaN: not a number of theirs is seen."""
    offsets, own, d, up = ragged(1, 70, 35), slice(1, 71), 33, backend.upload

    def surrounded(x: np.ndarray) -> Any:
        x[: own.start] = x[own.stop :] = np.nan
        return up(x)

    x, taps, bias = surrounded(normal(106, 96)), up(normal(9, 96)), up(normal(96))
    q, k, v = (surrounded(normal(106, 2, d) + i) for i in range(3))
    p, u, w = up(normal(2 * 80 - 1, 2, d)), up(normal(2, d)), up(normal(2, d) + 1)
    mel, filters = surrounded(normal(106, 7, 1)), up(normal(17, 3, 3))

    def results(rows: slice, offsets: np.ndarray) -> tuple[Any, ...]:
        mixed, _ = backend.short_conv(x[rows], taps, offsets, bias, "silu")
        heard = backend.rel_attention(q[rows], k[rows], v[rows], p, u, w, offsets)
        return mixed, heard, backend.conv2d(mel[rows], offsets, filters, bias[:17])

    together, halves = results(slice(0, 106), offsets), slice(1, 36)
    for one, all_, rows in zip(results(own, ragged(70)), together, (own, own, halves), strict=True):
        assert torch.equal(one, all_[rows])
        assert bool(torch.isfinite(one).all())


@pytest.mark.parametrize("rows", [100, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_stream_of_a_step_has_the_bits_it_has_alone(backend: CudaBackend, dtype: Any, rows: int) -> None:
    """Whether the cache has room for parts or not; what it holds behind a stream's rows is never read."""
    starts, slots = np.array([5, 0, 99], np.int32), np.array([2, 0, 3], np.int32)
    q, k, v = (backend.upload(normal(3, heads, 32) + i) for i, heads in enumerate((6, 2, 2)))
    held = normal(2, 5, rows, 2, 32).astype(dtype)
    for slot, start in zip(slots, starts, strict=True):
        held[:, slot, start:] = np.nan
    caches = [backend.upload(cache) for cache in held]
    places = backend.upload(slots), backend.upload(starts)
    together = backend.attention(q, k, v, *caches, ragged(1, 1, 1), *places)
    assert bool(torch.isfinite(together).all())
    for i, slot in enumerate(slots):
        own = [backend.upload(cache) for cache in held]
        row = slice(i, i + 1)
        alone = backend.attention(q[row], k[row], v[row], *own, ragged(1), *(part[row] for part in places))
        assert torch.equal(alone[0], together[i])
        for mine, theirs in zip(own, caches, strict=True):
            assert torch.equal(mine[slot].nan_to_num(), theirs[slot].nan_to_num())


def test_a_prompt_in_chunks_is_the_prompt_at_once(backend: CudaBackend) -> None:
    """Prompts, drafts and steps go different ways to the same sums."""
    n = 100
    q, k, v = (backend.upload(normal(n, heads, 16) + i) for i, heads in enumerate((4, 2, 2)))
    slots = backend.upload(np.array([1], np.int32))

    def absorbed(*bounds: int) -> tuple[Any, ...]:
        caches, parts = [backend.zeros((2, 120, 2, 16), np.float32) for _ in range(2)], []
        for a, b in itertools.pairwise(bounds):
            at = backend.upload(np.array([a], np.int32))
            parts.append(backend.attention(q[a:b], k[a:b], v[a:b], *caches, ragged(b - a), slots, at))
        return torch.cat(parts), *caches

    y, *caches = absorbed(0, n)
    stepped, *others = absorbed(0, 70, 71, 72, 80, 96, 97, n)
    limit = OPS["attention"].tolerance[Arithmetic.FLOAT32].of_largest * float(y.abs().max())
    torch.testing.assert_close(stepped, y, rtol=0, atol=2 * limit)
    for mine, theirs in zip(others, caches, strict=True):
        assert torch.equal(mine, theirs)
