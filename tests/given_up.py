"""What tests of cancelled work share."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eardrop.errors import Cancelled


@contextmanager
def given_up() -> Iterator[None]:
    """The block ends because its work was stopped."""
    try:
        yield
    except Cancelled:
        return
    pytest.fail("the work went on to its end")
