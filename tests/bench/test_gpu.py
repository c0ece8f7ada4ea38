"""The run on a GPU keeps what it found, whatever a part does; the parts here stand in for those that need one."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu import measured, shown
from benchmarks.gpu_parts import PARTS, TINY, Course, Line, limited


def first(c: Course) -> Iterator[Line]:
    c.ceilings["bytes"] = 100.0
    yield Line("first", 1.0)


def fails(c: Course) -> Iterator[Line]:
    yield Line("before")
    raise OSError("a | b\nc")


def dies(c: Course) -> Iterator[Line]:
    yield Line("before")
    os._exit(3)


def hangs(c: Course) -> Iterator[Line]:
    yield Line("before")
    time.sleep(600)


def last(c: Course) -> Iterator[Line]:
    yield c.beside("bytes", 50.0, Line("last", limit=0.9))


def course(folder: Path) -> Callable[[dict[str, float]], Course]:
    return partial(Course, TINY, None, folder)


def run(folder: Path, *parts: Callable[[Course], Iterator[Line]], patience: float = 60, minutes: float = 5) -> list:
    until = time.monotonic() + 60 * minutes
    return list(measured({part.__name__: part for part in parts}, course(folder), until=until, patience=patience))


def test_what_a_part_breaks_is_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    found = run(tmp_path, first, fails, dies, last)
    assert [(part, line.name) for part, line in found] == [
        ("first", "first"), ("fails", "before"), ("fails", "failed"), ("dies", "before"), ("dies", "failed"),
        ("last", "last"),
    ]  # fmt: skip
    assert [line.note for _, line in found if line.name == "failed"] == ["OSError: a | b c", "its process ended"]
    assert not any(line.ok for _, line in found if line.name == "failed")
    assert (found[-1][1].share, found[-1][1].ok) == (0.5, False)  # the ceiling was handed on to the third process


def test_a_part_that_hangs_is_ended(tmp_path: Path) -> None:
    *before, (part, line) = run(tmp_path, hangs, patience=4)  # the process needs one or two to begin
    assert [name for name, _ in before] == ["hangs"]
    assert (part, line.ok, line.note) == ("hangs", False, "it took too long, and was ended")


def test_what_would_begin_too_late_is_named(tmp_path: Path) -> None:
    assert run(tmp_path, first, last, minutes=0) == [
        (name, Line("left out", note="the time was up")) for name in ("first", "last")
    ]


def test_without_a_ceiling_a_line_has_neither_share_nor_limit() -> None:
    line = limited(Course(TINY, None, Path()).beside("flops", 1.0, Line("product", 0.5, "TFLOP/s", limit=0.9)))
    assert (line.share, line.limit, line.ok, line.note) == (None, None, True, "no ceiling was measured")


def test_limits_are_of_the_share_or_the_value_and_seconds_are_at_most() -> None:
    assert limited(Line("", 9.0, "GB/s", share=0.95, limit=0.9)).ok
    assert not limited(Line("", 9.0, "GB/s", share=0.85, limit=0.9)).ok
    assert limited(Line("", 0.05, "s", limit=0.06)).ok
    assert not limited(Line("", 0.07, "s", limit=0.06)).ok


def test_a_row_keeps_its_cells() -> None:
    assert shown("part", Line("a|b", 1234.5, "GB/s", 0.5, 0.9, ok=False)) == (
        "| part | a\\|b | 1,234 GB/s | 50% | 90% | **no** |  |"
    )


def test_the_machine_and_its_ceilings_come_first() -> None:
    assert list(PARTS)[:2] == ["machine", "ceilings"]
