"""The backend as a value: memory, what falls back, what is recorded, and the model from end to end."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eardrop.audio import log_mel
from eardrop.backends import BACKENDS, Ledger, timed
from eardrop.backends.numpy import NumpyBackend
from eardrop.loading import load_model
from eardrop.ops import OPS, listening, ragged
from eardrop.ops.backend import Backend
from eardrop.ops.check import placed
from tests.model.test_goldens import check_clip, forced_logits, rows_of
from tests.pairs import float32_pair, pair, record


def test_every_operation_has_its_kernel(cuda: Backend) -> None:
    assert cuda.lacking == ()


def test_a_missing_kernel_falls_back_to_the_reference(monkeypatch: pytest.MonkeyPatch, cuda: Backend) -> None:
    from eardrop.backends.cuda.backend import CudaBackend

    monkeypatch.delattr(CudaBackend, "short_conv")
    monkeypatch.delattr(CudaBackend, "glu")
    backend = BACKENDS["cuda"].make()
    assert backend.lacking == ("glu", "short_conv")
    x, taps = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    state = backend.zeros((1, 2, 2), np.float32)
    y, u = backend.short_conv(
        backend.upload(x), backend.upload(taps), ragged(3), state=state, slots=backend.upload(np.zeros(1, np.int32))
    )
    assert backend.download(y)[:, 0].tolist() == [1, 2, 3]
    assert np.array_equal(backend.download(u), x)
    assert backend.download(state).all()  # what it changes is changed


def test_arrays_go_there_and_back(cuda: Backend) -> None:
    for values in (np.arange(6, dtype=np.int32).reshape(2, 3), np.array([True, False]), np.float32([1.5, -2])):
        there = cuda.upload(values)
        assert np.array_equal(cuda.download(there), values)
        assert cuda.download(there).dtype == values.dtype
    kept = cuda.zeros((2, 3), "float16")
    cuda.write(kept[1], [1, 2, 3])
    cuda.write(kept[0], cuda.upload(np.float32([4, 5, 6])))
    assert cuda.download(cuda.concatenate([kept, kept[:1]])).tolist() == [[4, 5, 6], [1, 2, 3], [4, 5, 6]]
    cuda.write(kept, 0.0)
    assert not cuda.download(kept).any()


def test_what_is_uploaded_is_a_copy(cuda: Backend) -> None:
    values = np.zeros(3, np.float32)
    there = cuda.upload(values)
    values[:] = 1
    assert not cuda.download(there).any()


def test_a_step_whose_taps_are_heard_is_not_recorded(cuda: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    from eardrop.backends.cuda import backend

    monkeypatch.setattr(backend, "captured", lambda step, slots, device: lambda: "recorded")
    assert cuda.capture(lambda: "run")() == "recorded"
    with listening(lambda name, x: None):
        assert cuda.capture(lambda: "run")() == "run"


def test_a_graph_is_recorded_after_two_runs_and_its_result_stays_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from contextlib import nullcontext

    from eardrop.backends.cuda.capture import captured

    stream = SimpleNamespace(wait_stream=lambda other: None)
    graphs: list[str] = []
    graph = SimpleNamespace(replay=lambda: graphs.append("replay"))
    for name, made in {
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda s: nullcontext(),
        "CUDAGraph": lambda: graph,
        "graph": lambda g, capture_error_mode: nullcontext(graphs.append("record")),
    }.items():
        monkeypatch.setattr(torch.cuda, name, made)
    runs: list[object] = []
    replay = captured(lambda slot: runs.append(slot) or len(runs), ("slot",), torch.device("cuda"))
    assert (len(runs), replay(), replay()) == (3, 3, 3)
    assert graphs == ["record", "replay", "replay"]


def test_angles_are_exact_at_every_position(cuda: Backend) -> None:
    positions = np.concatenate([np.arange(64), np.arange(32_000, 32_768, 7), [2**20]]).astype(np.int32)
    x = np.zeros((len(positions), 1, 64), np.float32)
    x[:, :, :32] = 1  # what comes back is the cosines, then the sines
    got = cuda.download(cuda.rope(cuda.upload(x), cuda.upload(positions), 1e6))[:, 0]
    angles = positions[:, None] * np.power(1e6, -np.arange(32) / 32)
    np.testing.assert_allclose(got, np.hstack([np.cos(angles), np.sin(angles)]), atol=2e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_logits_that_are_no_numbers_are_seen(cuda: Backend, bad: float) -> None:
    logits = np.zeros((3, 5000), np.float32)
    logits[1, 4999] = bad
    ids, logprobs, _ = (cuda.download(column) for column in cuda.pick(cuda.upload(logits)))
    assert np.isnan(logprobs).tolist() == [False, True, False]
    assert ((ids >= 0) & (ids < 5000)).all()


def test_operations_are_timed_and_counted(cuda: Backend) -> None:
    ledger = Ledger()
    backend = timed(cuda, ledger)
    for op in (OPS["linear"], OPS["attention"], OPS["embed"]):
        case = next(op.cases(np.random.default_rng(1)))
        getattr(backend, op.name)(**placed(backend, op, case))
        expected = op.cost(**op.arguments(**placed(NumpyBackend(), op, case)))
        assert (ledger.spent[op.name].flops, ledger.spent[op.name].bytes) == (expected.flops, expected.bytes)


STEPS = 5


def test_the_micro_pair_meets_the_ordinary_records(cuda: Backend) -> None:
    gold, model = record("ms100"), load_model(*pair(), cuda)
    rows = rows_of(model, log_mel(gold.samples), half=False)
    assert np.abs(rows - gold.embd).max() <= 1.2e-3
    logits = forced_logits(model, rows, gold, STEPS)
    assert np.abs(logits - gold.logits[:STEPS]).max() <= 0.053


@pytest.mark.parametrize("clip", ["ms100", "chirp1"])
def test_the_micro_pair_in_float32_meets_the_sharp_records(cuda: Backend, clip: str) -> None:
    gold, model = record(clip), load_model(*float32_pair(), cuda)
    rows = rows_of(model, log_mel(gold.samples), half=True)
    assert np.abs(rows - gold.embd_f32).max() <= 1e-4
    assert np.abs(forced_logits(model, rows, gold, STEPS) - gold.logits_f32[:STEPS]).max() <= 1e-3


@pytest.mark.parametrize("name", ["micro-q8_0", "mini-q4_k"])
def test_quantised_pairs_are_within_check_pys_tolerances(cuda: Backend, golden: Path, name: str) -> None:
    check_clip(golden, load_model(*pair(name), cuda), name, "ms100")
