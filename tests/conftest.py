"""What the tests share: the recorded results of llama.cpp and the recordings, where they are at hand.

EARDROP_GOLDEN and EARDROP_AUDIO name two folders that are not part of the repository, EARDROP_LLAMA the program
llama-mtmd-cli; tests that need them are skipped without them. Everything else runs from the repository alone.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.fake_hub import Hub, serving

DATA = Path(__file__).parent / "data"


def _named(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} is not set")
    return Path(path)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files_go_with_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is written to the system's folder for temporary files lies in pytest's, which clears it away."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("temporary"))
    yield
    tempfile.tempdir = before


PATIENCE_SECONDS = 60


@pytest.fixture
def impatient() -> Iterator[None]:
    """A test that waits for what never comes fails instead of hanging."""

    def fail(*signal_: object) -> None:
        raise TimeoutError(f"still waiting after {PATIENCE_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(PATIENCE_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _no_model_of_your_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the machine's user chose as the default is not what is tested, nor, but for test_shipped.py, what ships."""
    monkeypatch.setattr("eardrop.hub.resolve.BUNDLED", tmp_path_factory.getbasetemp() / "no pair")
    monkeypatch.delenv("EARDROP_MODEL", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "none"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of our own with an empty cache, in place of the one that the settings name."""
    import huggingface_hub
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "EARDROP_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("eardrop.hub.download.PAUSES", (0.0, 0.0))
    huggingface_hub.close_session()
    with serving(Hub()) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{served.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # of the client that we compare with
        yield served
        huggingface_hub.close_session()


@pytest.fixture(scope="session")
def golden() -> Path:
    """llama.cpp's own outputs on seeded random models."""
    return _named("EARDROP_GOLDEN")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Recordings with their texts, in many formats."""
    return _named("EARDROP_AUDIO")


@pytest.fixture(scope="session")
def llama() -> Path:
    """llama.cpp's own program for recordings, llama-mtmd-cli."""
    return _named("EARDROP_LLAMA")
