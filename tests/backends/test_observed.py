"""EARDROP_CHECK, timing, and the choice of a backend."""

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eardrop.backends import BACKENDS, LEDGER, Divergence, Ledger, checked, choose, timed
from eardrop.backends.numpy import NumpyBackend
from eardrop.dialect import REFERENCE
from eardrop.engine import Engine, Request
from eardrop.errors import MissingExtra, OptionError
from eardrop.loading import load_model
from eardrop.ops import OPS
from eardrop.stages import timing
from eardrop.text import MEDIA, prompt
from tests.pairs import pair, record


def heard(backend: Any) -> list[int]:
    """A whole answer, every operation of both networks on the way."""
    model = load_model(*pair(), backend)
    with Engine(model) as engine:
        parts = prompt(model.tokenizer, system="Perform ASR.", user=[MEDIA], dialect=REFERENCE)
        return [token.id for token in engine.submit(Request(parts, [record("ms100").samples], limit=4))]


# What a slip of the hand does to each operation: a sign, an order, a shape, a state that is not written.
def _negated(call, arguments: dict) -> Any:
    result = call(**arguments)
    return (-result[0], *result[1:]) if isinstance(result, tuple) else -result


def _longer(call, arguments: dict) -> Any:
    result = call(**arguments)
    return np.concatenate([result, result[:1]])


def _forgetful(call, arguments: dict) -> Any:
    own = {name: np.array(value) if name in ("state", "keys") else value for name, value in arguments.items()}
    return call(**own)


BREAKS = {
    **{name: _negated for name in OPS if name not in ("attention_weights", "embed", "flatten")},
    "embed": _longer,
    "flatten": lambda call, arguments: call(**arguments)[:, ::-1],
}


class Broken(NumpyBackend):
    """A backend with one operation spoilt."""

    def __init__(self, name: str, slip) -> None:
        call = getattr(NumpyBackend, name)
        op = OPS[name]
        setattr(self, name, lambda *args, **kwargs: slip(call, op.arguments(*args, **kwargs)))


@pytest.mark.parametrize("name", [name for name, choice in BACKENDS.items() if choice.missing() is None])
def test_a_checked_backend_gives_the_same_answer(name: str) -> None:
    make = BACKENDS[name].make
    assert heard(checked(make())) == heard(make())


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_operation_is_named_with_its_inputs_saved(name: str) -> None:
    with pytest.raises(Divergence, match=rf"^{name} on numpy: output 0") as error:
        heard(checked(Broken(name, BREAKS[name])))
    saved = Path(str(error.value).rpartition("inputs in ")[2])
    assert saved.is_relative_to(tempfile.gettempdir())
    with np.load(saved) as inputs:
        assert set(inputs) <= set(OPS[name].signature.parameters)
        assert len(inputs) > 0


@pytest.mark.parametrize("name", ["short_conv", "attention"])
def test_a_state_that_is_not_written_is_noticed(name: str) -> None:
    with pytest.raises(Divergence, match=rf"^{name} on numpy: output [12]"):
        heard(checked(Broken(name, _forgetful)))


@pytest.mark.parametrize("name", [name for name, choice in BACKENDS.items() if choice.missing() is None])
def test_timing_counts_every_call_of_the_whole_model(name: str) -> None:
    ledger = Ledger()
    heard(timed(BACKENDS[name].make(), ledger))
    assert set(ledger.spent) == set(OPS) - {"attention_weights"}
    assert ledger.spent["pick"].calls >= 4
    linear = ledger.spent["linear"]
    assert linear.calls > 50
    assert linear.seconds > 0
    assert linear.flops > linear.calls
    ledger.clear()
    assert not ledger.spent


def test_auto_takes_the_first_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = BACKENDS["numpy"]
    for name in BACKENDS:
        monkeypatch.setitem(BACKENDS, name, replace(choice, missing=lambda: OptionError("it is broken")))
    monkeypatch.setitem(BACKENDS, "other", replace(choice, make=lambda **wishes: SimpleNamespace(name="other")))
    assert choose().name == "other"
    with pytest.raises(OptionError, match="'numpy' can't run here: it is broken"):
        choose("numpy")
    monkeypatch.setitem(BACKENDS, "absent", replace(choice, missing=lambda: MissingExtra("pip install it")))
    with pytest.raises(MissingExtra, match="'absent' can't run here: pip install it"):
        choose("absent")
    with pytest.raises(OptionError, match="no backend is called 'tpu': choose auto, cpu, cuda, numpy"):
        choose("tpu")
    with pytest.raises(OptionError, match="precision is 'fp8': choose float32 or bf16"):
        choose("other", precision="fp8")


def test_the_reference_computes_in_float32_alone() -> None:
    with pytest.raises(OptionError, match="the numpy backend computes in float32"):
        choose("numpy", precision="bf16")


def test_memory_of_a_gpu_is_a_wish_to_those_who_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="gpu_memory is of a GPU, and backend 'numpy' has none: choose cuda"):
        choose("numpy", gpu_memory=0)
    on_gpu = replace(BACKENDS["numpy"], make=lambda **wishes: SimpleNamespace(**wishes), on_gpu=True)
    monkeypatch.setitem(BACKENDS, "other", on_gpu)
    assert [choose("other", gpu_memory=bytes_).gpu_memory for bytes_ in (None, 0, 5)] == [None, 0, 5]
    with pytest.raises(OptionError, match="gpu_memory is -1, expected a number of bytes"):
        choose("other", gpu_memory=-1)


def test_the_check_is_switched_on_by_its_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose("numpy"), NumpyBackend)
    monkeypatch.setenv("EARDROP_CHECK", "1")
    assert not isinstance(choose("numpy"), NumpyBackend)
    assert choose("numpy").name == "numpy"


def test_operations_are_timed_at_the_second_debug_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARDROP_DEBUG", "2")
    LEDGER.clear()
    heard(choose("numpy"))
    assert LEDGER.spent["linear"].calls > 50
    LEDGER.clear()


def test_taps_are_written_where_the_knob_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("eardrop.ops.taps._listeners", [])
    monkeypatch.setenv("EARDROP_TAP", str(tmp_path / "taps"))
    heard(choose("numpy"))
    written = {path.name for path in (tmp_path / "taps").iterdir()}
    assert {"audio_adapter.npy", "logits.npy", "logits.1.npy", "lfm.layers.3.self_attn.npy"} <= written
    assert np.load(tmp_path / "taps" / "logits.npy").shape == (1, 960)


def test_stages_of_the_journey_are_told_to_whoever_listens() -> None:
    told: list[str] = []
    with timing(lambda name, seconds: told.append(name)):
        heard(NumpyBackend())
    assert list(dict.fromkeys(told)) == ["load", "log-mel", "encoder", "prefill", "token"]
    assert told.count("token") == 3
    heard(NumpyBackend())
    assert told.count("load") == 1


def test_taps_that_cannot_be_written_are_refused_by_the_variable_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EARDROP_TAP", str(tmp_path / "file"))
    with pytest.raises(OptionError, match="EARDROP_TAP: expected a folder"):
        choose("numpy")
