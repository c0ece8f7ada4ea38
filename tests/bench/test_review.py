"""What a review measures hangs together; how long things take is nobody's business here."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eardrop.audio import read
from eardrop.bench import machine, plot
from eardrop.bench.review import Question, Span, own_seconds, review, weight_bytes
from eardrop.cli.main import main
from eardrop.cores import usable_cores
from eardrop.errors import MissingExtra, OptionError
from eardrop.stages import calls, timing
from tests.pairs import DATA, pair

TEXT, PROJECTOR = pair()
AUDIO = DATA / "ms100.wav"
STAGES = ["start", "load", "audio", "log-mel", "encoder", "prefill", "token", "detokenise", "whole"]


@pytest.fixture(scope="module")
def report() -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "READ_BYTES", 1 << 20)
        patch.setattr(machine, "PRODUCT", 64)
        question = Question(TEXT, PROJECTOR, AUDIO, tokens=4, runs=2, backend="numpy")
        return json.loads(json.dumps(review(question, operations=True)))


def test_every_stage_is_there(report: dict) -> None:
    assert sorted(stage["stage"] for stage in report["stages"]) == sorted(STAGES)
    assert report["stages"][0]["stage"] == "start"
    assert report["stages"][-1]["stage"] == "whole"


def test_a_stage_has_no_more_time_to_itself_than_in_all(report: dict) -> None:
    for stage in report["stages"]:
        assert 0 <= stage["own"]["median"] <= stage["inclusive"]["median"]
        assert stage["inclusive"]["low"] <= stage["inclusive"]["median"] <= stage["inclusive"]["high"]


def test_every_token_but_the_first_is_a_step(report: dict) -> None:
    calls = {stage["stage"]: stage["calls"] for stage in report["stages"]}
    assert (calls["token"], calls["detokenise"], calls["prefill"]) == (3, 4, 1)


def test_a_review_says_what_was_measured_on_what(report: dict) -> None:
    assert report["schema"] == 1
    assert {"processor", "cores", "governor"} <= set(report["machine"])
    assert {"eardrop", "python", "numpy"} <= set(report["versions"])
    assert [file["name"] for file in report["files"]] == [TEXT.name, PROJECTOR.name, AUDIO.name]
    assert all(len(file["sha256"]) == 64 for file in report["files"])
    assert report["flags"] == {"tokens": 4, "runs": 2, "threads": usable_cores(), "backend": "numpy"}
    assert report["text"]


def test_what_is_not_measured_is_none_and_nothing_is_estimated(report: dict) -> None:
    assert all(figure is None or figure["samples"] for figure in report["figures"].values())


def test_peak_memory_is_that_of_a_process_that_did_nothing_else(report: dict) -> None:
    peak = report["figures"]["peak memory"]
    if peak is None:
        pytest.skip("this system doesn't say")
    (taken,) = peak["samples"]
    assert 10 << 20 < taken < 10 << 30
    assert taken != machine.peak_memory()


def test_operations_have_calls_and_bytes(report: dict) -> None:
    assert {"op", "calls", "seconds", "flops", "bytes"} == set(report["operations"][0])


def test_a_text_of_one_token_has_no_steps_and_no_speed_of_them(monkeypatch) -> None:
    monkeypatch.setattr(machine, "READ_BYTES", 1 << 20)
    found = review(Question(TEXT, PROJECTOR, AUDIO, tokens=1, runs=1, backend="numpy"))
    assert found["figures"]["tokens a second"] is None
    assert "token" not in [stage["stage"] for stage in found["stages"]]


def test_resampling_is_a_stage_where_there_is_some() -> None:
    ended: list[tuple[str, float]] = []
    with timing(lambda name, seconds: ended.append((name, seconds))):
        read(np.zeros(16_000, np.float32))
        assert not ended
        read(np.zeros(32_000, np.float32), rate=8_000)  # in pieces of a second, told once
    ((name, seconds),) = ended
    assert name == "resample"
    assert seconds > 0


def test_a_stage_of_calls_counts_the_calls_alone_and_those_that_fail(monkeypatch) -> None:
    clock = iter(range(100))
    tick = lambda: float(next(clock))  # noqa: E731
    monkeypatch.setattr("eardrop.stages.time", SimpleNamespace(perf_counter=tick))
    ended: list[tuple[str, float]] = []
    with timing(lambda name, seconds: ended.append((name, seconds))), calls("dividing") as call:
        assert call(divmod, 7, 2) == (3, 1)
        tick()  # other work
        with pytest.raises(ZeroDivisionError):
            call(divmod, 1, 0)
    assert ended == [("dividing", 2.0)]


def test_own_time_leaves_out_what_lies_within_on_the_same_thread() -> None:
    outer, inner = Span("outer", 0.0, 10.0, 1), Span("inner", 2.0, 5.0, 1)
    innermost, elsewhere = Span("innermost", 3.0, 4.0, 1), Span("elsewhere", 4.0, 8.0, 2)
    spans = [innermost, inner, elsewhere, outer]
    assert own_seconds(outer, spans) == 7.0
    assert own_seconds(inner, spans) == 2.0
    assert own_seconds(outer, spans, any_thread=True) == 4.0
    assert own_seconds(elsewhere, spans) == 4.0


def test_the_weights_of_a_step_are_the_tensors_of_the_text_model() -> None:
    tensors = {"a": SimpleNamespace(raw=SimpleNamespace(nbytes=3)), "b": SimpleNamespace(raw=SimpleNamespace(nbytes=4))}
    assert weight_bytes(SimpleNamespace(files=(SimpleNamespace(tensors=tensors), None))) == 7


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"runs": 0}])
def test_less_than_one_is_refused(wrong: dict) -> None:
    with pytest.raises(OptionError, match="expected at least 1"):
        Question(TEXT, PROJECTOR, AUDIO, **wrong)


def test_energy_is_none_where_nobody_may_read_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(machine, "_RAPL", tmp_path)
    assert machine.energy() is None
    for name, spent in (("intel-rapl:0", 3), ("intel-rapl:1", 4), ("intel-rapl:0:0", 100)):  # the last is in the first
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{spent * 1_000_000}\n")
    assert machine.energy() == 7.0


def test_peak_memory_of_a_process_that_is_not_there_is_none() -> None:
    assert machine.peak_memory(2**30) is None


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_written(suffix: str, report: dict, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / f"stages{suffix}"
    plot.plot(report, target)
    assert target.read_bytes().startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")


def test_without_operations_the_picture_says_so(report: dict, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.plot({name: part for name, part in report.items() if name != "operations"}, tmp_path / "stages.svg")


def test_another_suffix_is_refused_before_anything_is_measured(capsys) -> None:
    words = ["stages", "-m", str(TEXT), "--audio", str(AUDIO), "--plot", "stages.pdf"]
    assert main(["bench", *words]) == OptionError.exit_code
    assert ".png or .svg" in capsys.readouterr().err


def test_without_matplotlib_the_command_that_installs_it_is_told(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'eardrop\[bench\]'"):
        plot.check(Path("stages.png"))
