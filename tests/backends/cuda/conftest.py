"""These tests need torch and Triton, and a GPU or Triton's interpreter: `make test-torch`."""

from collections.abc import Iterator

import pytest

from eardrop.backends import BACKENDS
from eardrop.ops.backend import Backend


@pytest.fixture(scope="session")
def cuda() -> Iterator[Backend]:
    """The backend; threads of the host that the interpreter's arrays would start are not worth their while."""
    reason = BACKENDS["cuda"].missing()
    if reason:
        pytest.skip(str(reason))
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield BACKENDS["cuda"].make()
    torch.set_num_threads(before)
