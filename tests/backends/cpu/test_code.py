"""Compiled code is kept, and believed only where nobody else could have put it."""

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import kernel, loop
from eardrop.backends.cpu.target import chosen, runnable
from eardrop.backends.cpu.types import PTR
from eardrop.backends.cpu.vector import Value
from eardrop.errors import OptionError


@kernel("squares", y=PTR)
def squares(p: Any, lo: Value, hi: Value) -> None:
    for i in loop(lo, hi):
        p.y.store(i * i, i * 8)


def works(compiler: Compiler) -> bool:
    y, code = np.zeros(5, np.int64), compiler.address(squares)
    words = np.array([y.ctypes.data], np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(code)(words.ctypes.data, 0, 5)
    return y.tolist() == [0, 1, 4, 9, 16]


class Counting(Compiler):
    """Counts what it compiles."""

    compiled = 0

    def compile(self, kernel_: Any) -> bytes:
        self.compiled += 1
        return super().compile(kernel_)


def compiled(folder: Path) -> int:
    compiler = Counting(chosen(), folder)
    assert works(compiler)
    return compiler.compiled


def test_what_was_compiled_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    assert compiled(folder) == 1
    assert compiled(folder) == 0
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "damage", [lambda c: b"", lambda c: c[:-1], lambda c: c[:100] + b"!" + c[101:], lambda c: c[5:]]
)
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: Any) -> None:
    folder = tmp_path / "kernels"
    compiled(folder)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert compiled(folder) == 1
    assert entry.read_bytes() == whole


def test_a_folder_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    compiled(folder)
    folder.chmod(0o777)
    assert compiled(folder) == 1
    folder.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert compiled(link) == 1


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert compiled(tmp_path / "file" / "kernels") == 1
    if os.getuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        assert compiled(tmp_path / "closed" / "kernels") == 1


def test_each_processor_has_entries_of_its_own(tmp_path: Path) -> None:
    for row in runnable():
        assert works(Counting(row, tmp_path / "kernels"))
    assert len(list((tmp_path / "kernels").iterdir())) == len(runnable())


def test_a_lower_processor_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lowest = runnable()[-1]
    monkeypatch.setenv("EARDROP_CPU", lowest.name)
    assert chosen() is lowest
    monkeypatch.setenv("EARDROP_CPU", "z80")
    with pytest.raises(OptionError, match=r"EARDROP_CPU is 'z80'.*can run"):
        chosen()
