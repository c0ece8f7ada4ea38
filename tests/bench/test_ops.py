"""The operations' benchmark runs on every case and on a whole model, and its figures hang together."""

import json

from eardrop.backends.numpy import NumpyBackend
from eardrop.bench import ops
from eardrop.cli.main import main
from eardrop.loading import load_model
from eardrop.ops import OPS
from tests.pairs import DATA, pair, record


def test_every_case_of_an_operation_has_a_speed(monkeypatch) -> None:
    monkeypatch.setattr(ops, "LEAST_SECONDS", 0.0)
    lines = list(ops.of_cases(NumpyBackend()))
    assert {line.op for line in lines} == set(OPS)
    assert all(line.seconds > 0 for line in lines)
    alone = list(ops.of_cases(NumpyBackend(), only="rope"))
    assert [line.what for line in alone] == [line.what for line in lines if line.op == "rope"]


def test_a_whole_model_is_measured_operation_by_operation() -> None:
    lines = ops.of_model(
        lambda backend: load_model(*pair(), backend), record("ms100").samples, NumpyBackend(), tokens=4
    )
    assert {line.op for line in lines} == set(OPS) - {"attention_weights"}
    assert [line.seconds for line in lines] == sorted((line.seconds for line in lines), reverse=True)
    linear = next(line for line in lines if line.op == "linear")
    assert linear.gigaflops == linear.flops / linear.seconds / 1e9
    assert linear.gigabytes > 0
    picks = next(line for line in lines if line.op == "pick")
    assert picks.calls == 4  # one behind the prompt, three steps


def test_one_operation_of_a_whole_model_is_one_line(capsys) -> None:
    words = ["ops", "linear", "-m", str(pair()[0]), "--audio", str(DATA / "ms20.wav"), "--tokens", "1", "--json"]
    assert main(["bench", *words]) == 0
    (lines,) = json.loads(capsys.readouterr().out).values()
    assert [line["operation"] for line in lines] == ["linear"]
