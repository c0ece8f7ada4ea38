"""A model with random weights, llama.cpp's records of it, and what stands for a terminal."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import eardrop
from eardrop.transcribe import Recognizer
from tests.pairs import DATA, pair


@pytest.fixture(scope="session")
def model() -> str:
    """The micro pair's text model; its projector lies beside it."""
    return str(pair()[0])


@pytest.fixture(scope="session")
def asr(model: str) -> Recognizer:
    return eardrop.load(model)


@pytest.fixture(scope="session")
def clip() -> Callable[[str], str]:
    return lambda name: str(DATA / f"{name}.wav")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a captured stream, "stdout" or "stderr", believe it is a terminal."""

    def pretend(name: str) -> None:
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)

    return pretend


@pytest.fixture
def document() -> str:
    return (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
