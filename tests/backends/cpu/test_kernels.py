"""Kernels of the smaller operations: on every processor the reference's meaning, bit for bit the same however cut."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from eardrop.backends import PRECISIONS
from eardrop.backends.cpu.backend import CpuBackend
from eardrop.backends.cpu.target import runnable
from eardrop.backends.cpu.unpack import UNPACKINGS
from eardrop.backends.numpy import NumpyBackend
from eardrop.ops import OPS, Op, outputs, ragged
from eardrop.ops.check import arithmetic_of, difference, meant, placed
from eardrop.ops.linear import random_weight
from tests.backends.cpu.poison import poison_results

MINE = [op for op in OPS.values() if op.name != "linear" and op.name not in CpuBackend(1).lacking]
SIZES = (1, 2, 15, 17, 63, 129, 1000)
SEED = 8


# every processor of this machine, and those again whose products can be asked for in bfloat16
WAYS = [(row, precision) for row in runnable() for precision in PRECISIONS[: 1 + row.has("dot_bf16")]]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0].name} {way[1]}")
def backend(request: pytest.FixtureRequest) -> Iterator[CpuBackend]:
    row, precision = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARDROP_CPU", row.name)
        yield CpuBackend(threads=2, precision=precision)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def results(backend: CpuBackend, op: Op, arguments: dict[str, Any]) -> list[np.ndarray]:
    """What an operation gives and what it changes."""
    given = outputs(getattr(backend, op.name)(**arguments))
    changed = (arguments[name] for name in op.changes if arguments.get(name) is not None)
    return [np.array(x) for x in (*given, *changed)]


def small(op: Op) -> Iterator[dict[str, Any]]:
    """Cases that plain Python can go through."""
    for case in op.cases(np.random.default_rng(SEED)):
        sizes = [x.size for x in case.arguments.values() if isinstance(x, np.ndarray)]
        if max(sizes, default=0) < 3_000 or (op.name == "attention" and "(1, 1, 1)" in case.label):
            yield placed(NumpyBackend() if op.name != "embed" else CpuBackend(1), op, case)


@pytest.mark.parametrize("op", MINE, ids=lambda op: op.name)
def test_every_processor_gives_what_the_reference_means(backend: CpuBackend, op: Op) -> None:
    for case in op.cases(np.random.default_rng(SEED)):
        expected = meant(op, placed(NumpyBackend(), op, case))
        got = results(backend, op, placed(backend, op, case))
        for mine, theirs in zip(got, expected, strict=True):
            tolerance = op.tolerance[arithmetic_of(backend, op, case.arguments)]
            assert difference(mine, theirs, tolerance) is None, case.label


@pytest.mark.parametrize("op", MINE, ids=lambda op: op.name)
def test_compiled_and_interpreted_kernels_agree_bit_for_bit(
    backend: CpuBackend, op: Op, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = [results(backend, op, arguments) for arguments in small(op)]
    assert compiled
    monkeypatch.setenv("EARDROP_JIT", "0")
    for expected, arguments in zip(compiled, small(op), strict=True):
        for mine, theirs in zip(results(backend, op, arguments), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("op", MINE, ids=lambda op: op.name)
def test_the_number_of_threads_changes_no_bit(op: Op) -> None:
    backends = [CpuBackend(threads) for threads in (1, 2, 4)]
    for case in op.cases(np.random.default_rng(SEED)):
        first, *others = [results(backend, op, placed(backend, op, case)) for backend in backends]
        for other in others:
            for mine, theirs in zip(other, first, strict=True):
                np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("op", MINE, ids=lambda op: op.name)
def test_every_output_is_written(backend: CpuBackend, op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [placed(backend, op, case) for case in op.cases(np.random.default_rng(SEED))]
    expected = [results(backend, op, placed(backend, op, case)) for case in op.cases(np.random.default_rng(SEED))]
    poison_results(monkeypatch)
    for arguments, unpoisoned in zip(cases, expected, strict=True):
        for mine, theirs in zip(results(backend, op, arguments), unpoisoned, strict=True):
            np.testing.assert_array_equal(mine, theirs)


ROWS: dict[str, Callable[[CpuBackend, np.ndarray], Any]] = {
    "rms_norm": lambda b, x: b.rms_norm(x, normal(x.shape[1]), 1e-5),
    "layer_norm": lambda b, x: b.layer_norm(x, normal(x.shape[1]), normal(x.shape[1]), 1e-5),
    "glu": lambda b, x: b.glu(np.concatenate([x, -x], axis=1)),
    "swiglu": lambda b, x: b.swiglu(x, x + 1),
    "add": lambda b, x: b.add(x, x * x, 0.5),
    "rope": lambda b, x: b.rope(np.stack([x, -x], axis=2), np.full(len(x), 77, np.int32), 1e6),
    "pick": lambda b, x: b.pick(x),
    "pick with a mask": lambda b, x: b.pick(x, np.asarray(x >= x[:, :1])),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("width", SIZES)
def test_a_row_among_others_has_the_bits_of_the_row_alone(backend: CpuBackend, name: str, width: int) -> None:
    x, compute = normal(17, width), ROWS[name]
    together = outputs(compute(backend, x))
    meaning = outputs(compute(NumpyBackend(), x))  # type: ignore[arg-type]
    for mine, theirs in zip(together, meaning, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=2e-6)
    for rows in (1, 2, 5, 16):
        for part, whole in zip(outputs(compute(backend, x[:rows])), together, strict=True):
            np.testing.assert_array_equal(part, whole[:rows])
    for part, whole in zip(outputs(compute(backend, x[9:10])), together, strict=True):
        np.testing.assert_array_equal(part, whole[9:10])


@pytest.mark.parametrize("name", UNPACKINGS)
def test_rows_of_every_format_are_the_files_values_exactly(backend: CpuBackend, name: str) -> None:
    w = random_weight(np.random.default_rng(5), name, 31, 512)
    ids = np.array([30, 0, 7, 7], np.int32)
    np.testing.assert_array_equal(backend.embed(ids, backend.weight(w)), w.dequantize()[ids])


@pytest.mark.parametrize("width", SIZES)
def test_rows_of_any_width_are_copied(backend: CpuBackend, width: int) -> None:
    w, ids = normal(5, width), np.array([4, 0], np.int32)
    np.testing.assert_array_equal(backend.embed(ids, w), w[ids])


@pytest.mark.parametrize("gates", [1, 3])
@pytest.mark.parametrize(("taps", "channels"), [(2, 1), (3, 129), (4, 63), (9, 17)])
def test_a_sequence_convolved_at_once_has_the_bits_of_its_steps(
    backend: CpuBackend, taps: int, channels: int, gates: int
) -> None:
    x, kernel = normal(13, gates * channels), normal(taps, channels)
    start = normal(2, taps - 1, channels)
    whole, stepped = start.copy(), start.copy()
    slots = np.array([1], np.int32)
    y, _ = backend.short_conv(x, kernel, ragged(13), state=whole, slots=slots)
    for t in range(13):
        one, _ = backend.short_conv(x[t : t + 1], kernel, ragged(1), state=stepped, slots=slots)
        np.testing.assert_array_equal(one[0], y[t])
    np.testing.assert_array_equal(whole, stepped)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("heads", "kv", "d"), [(4, 2, 64), (3, 3, 10), (2, 1, 33)])
def test_attention_over_a_prompt_has_the_bits_of_its_steps(
    backend: CpuBackend, dtype: Any, heads: int, kv: int, d: int
) -> None:
    n, start = 140, 3
    q, k, v = normal(n, heads, d), normal(n, kv, d), normal(n, kv, d) + 1
    held = normal(2, 2, 150, kv, d).astype(dtype)
    at_once, stepped = held.copy(), held.copy()
    slots = np.array([1], np.int32)
    y = backend.attention(q, k, v, *at_once, ragged(n), slots, np.array([start], np.int32))
    for t in (*range(5), *range(55, 70), *range(125, n)):
        stepped[:, 1, start : start + t] = at_once[:, 1, start : start + t]
        at = np.array([start + t], np.int32)
        row = slice(t, t + 1)
        one = backend.attention(q[row], k[row], v[row], *stepped, ragged(1), slots, at)
        np.testing.assert_array_equal(one[0], y[t])
    np.testing.assert_array_equal(at_once[:, 0], held[:, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_a_row_looked_at_has_the_bits_of_the_row_alone(backend: CpuBackend, dtype: Any) -> None:
    n, start, heads, d = 140, 3, 6, 33
    q, keys = normal(n, heads, d), normal(2, 150, 2, d).astype(dtype)
    slots, asked = np.array([1], np.int32), np.array([4, 1, 1], np.int32)

    def looked(rows: slice, wanted: tuple[int, int]) -> np.ndarray:
        at = np.array([start + rows.start], np.int32)
        offsets = ragged(rows.stop - rows.start)
        return backend.attention_weights(q[rows], keys, offsets, slots, at, asked, np.array([wanted], np.int32))

    everywhere = looked(slice(0, n), (0, 150))
    np.testing.assert_allclose(everywhere.sum(axis=2), 1, rtol=1e-5)
    for t in (0, 61, 64, 139):
        np.testing.assert_array_equal(looked(slice(t, t + 1), (5, 130))[0], everywhere[t, :, 5:130])


def test_a_clip_among_others_has_the_bits_of_the_clip_alone(backend: CpuBackend) -> None:
    offsets, d = ragged(1, 70, 129), 33
    x, taps, bias = normal(200, 96), normal(9, 96), normal(96)
    q, k, v = (normal(200, 2, d) + i for i in range(3))
    p, u, w = normal(2 * 140 - 1, 2, d), normal(2, d), normal(2, d) + 1
    mel, filters = normal(200, 7, 1), normal(17, 3, 3)

    def results_of(rows: slice, offsets: np.ndarray) -> tuple[np.ndarray, ...]:
        mixed, _ = backend.short_conv(x[rows], taps, offsets, bias, "silu")
        heard = backend.rel_attention(q[rows], k[rows], v[rows], p, u, w, offsets)
        return mixed, heard, backend.conv2d(mel[rows], offsets, filters, bias[:17])

    mixed, heard, convolved = results_of(slice(0, 200), offsets)
    halves = np.cumsum([0, 1, 35, 65])
    for clip, (a, b) in enumerate(itertools.pairwise(offsets)):
        alone = results_of(slice(a, b), ragged(b - a))
        for mine, theirs in zip(
            alone, (mixed[a:b], heard[a:b], convolved[halves[clip] : halves[clip + 1]]), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)


def test_a_captured_step_reads_places_when_it_is_replayed(backend: CpuBackend) -> None:
    q, k, v = normal(2, 4, 32), normal(2, 2, 32), normal(2, 2, 32)
    caches = [np.zeros((3, 90, 2, 32), np.float16) for _ in range(4)]
    windows = [np.zeros((3, 2, 48), np.float32) for _ in range(2)]
    taps, table = normal(3, 48), normal(9, 48)
    ids, slots, starts = (backend.upload(np.full(2, 2, np.int32)) for _ in range(3))
    starts[:] = 0

    def step(caches: list[np.ndarray], window: np.ndarray) -> tuple[np.ndarray, ...]:
        turned = backend.rope(q, starts, 1e4)
        seen = backend.attention(turned, k, v, *caches, ragged(1, 1), slots, starts)
        mixed, _ = backend.short_conv(backend.embed(ids, table), taps, ragged(1, 1), state=window, slots=slots)
        return seen, mixed, *backend.pick(mixed)

    replay = backend.capture(lambda: step(caches[:2], windows[0]))
    for x in (*caches, *windows):
        x[:] = 0
    for t, (chosen, order) in enumerate((((0, 1), (3, 4)), ((1, 0), (8, 8)), ((0, 1), (0, 5))) * 25):
        for place, values in ((slots, chosen), (ids, order), (starts, (t, t))):
            backend.write(place, values)
        for mine, theirs in zip(replay(), step(caches[2:], windows[1]), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(caches[0], caches[2])
    np.testing.assert_array_equal(windows[0], windows[1])


def test_picks_know_no_number_too_large_and_none_allowed_in_a_block(backend: CpuBackend) -> None:
    logits, allowed = np.full((1, 9000), 3e38, np.float32), np.zeros((1, 9000), np.bool_)
    allowed[0, [8999, 8500]] = True
    ids, likely, margins = backend.pick(logits, allowed)
    assert ids[0] == 8500
    assert margins[0] == 0
    assert likely[0] == pytest.approx(-np.log(2))


def test_one_captured_step_is_one_program(backend: CpuBackend) -> None:
    from eardrop.backends.cpu.backend import Recording

    x, weight = normal(1, 64), normal(64)
    programs: list[int] = []

    class Counted(Recording):
        def replay(self) -> Callable[[], None]:
            programs.append(len(self.parts))
            return super().replay()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eardrop.backends.cpu.backend.Recording", Counted)
        backend.capture(lambda: backend.pick(backend.add(x, backend.rms_norm(x, weight, 1e-5))))
    assert programs == [1]
