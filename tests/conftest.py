"""What the tests share: the recorded results of llama.cpp and the recordings, where they are at hand.

EARDROP_GOLDEN and EARDROP_AUDIO name two folders that are not part of the repository; tests that need them are
skipped without them. Everything else runs from the repository alone.
"""

import os
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


def _folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} is not set")
    return Path(path)


@pytest.fixture(scope="session")
def golden() -> Path:
    """llama.cpp's own outputs on seeded random models."""
    return _folder("EARDROP_GOLDEN")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Recordings with their texts, in many formats."""
    return _folder("EARDROP_AUDIO")
