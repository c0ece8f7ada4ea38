"""How blocks are unpacked: from their own bytes alone."""

from dataclasses import replace

import numpy as np
import pytest

from eardrop.backends.cpu.target import TABLE, Target
from eardrop.backends.cpu.types import PTR, Type
from eardrop.backends.cpu.unpack import UNPACKINGS, Unpacking
from eardrop.backends.cpu.vector import OPERATIONS, Interpreter, Lanes, const, under

WAYS = [way for ways in UNPACKINGS.values() for way in ways]


@pytest.mark.parametrize("target", TABLE, ids=lambda row: row.name)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_nothing_is_read_beyond_a_span_which_may_end_the_file(
    way: Unpacking, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    span, load = np.zeros(way.step, np.uint8), OPERATIONS["load"]

    def within(p: Lanes, as_: Type, align: int) -> Lanes:
        at = int(p[0]) - span.ctypes.data
        assert at >= 0
        assert at + as_.nbytes <= way.step
        return np.asarray(load.meaning(p, as_, align))

    monkeypatch.setitem(OPERATIONS, "load", load)  # to have it back: an operation puts itself into the table
    replace(load, meaning=within)
    with under(Interpreter(target)):
        p = const(PTR, span.ctypes.data)
        assert list(way.groups(p))
        assert (way.minima is None) or way.minima(p).type.lanes == way.sums
