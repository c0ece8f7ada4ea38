import os

import pytest

from eardrop import cores


@pytest.fixture
def two_cores_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EARDROP_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "_siblings", lambda cpu: f"{cpu % 2},{cpu % 2 + 2}")
    monkeypatch.setattr(cores, "_quota", lambda: 8)


@pytest.mark.usefixtures("two_cores_of_two")
def test_threads_are_the_physical_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (cores.usable_cores(), cores.usable_processors()) == (2, 4)
    monkeypatch.setattr(cores, "_quota", lambda: 1)
    assert cores.usable_cores() == 1


@pytest.mark.usefixtures("two_cores_of_two")
def test_whoever_names_a_number_of_threads_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARDROP_THREADS", "7")
    assert cores.usable_cores() == 7
