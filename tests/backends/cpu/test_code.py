"""Compiled code is kept, and believed only where nobody else could have put it."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eardrop.backends.cpu import compiler as compiling
from eardrop.backends.cpu.codegen import object_code
from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import kernel, loop
from eardrop.backends.cpu.maths import exp
from eardrop.backends.cpu.placing import placed
from eardrop.backends.cpu.target import TABLE, chosen, features_by_linux, features_by_llvm, runnable
from eardrop.backends.cpu.types import F32, PTR
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


@kernel("exponentials", x=PTR, y=PTR)
def exponentials(p: Any, lo: Value, hi: Value) -> None:
    """Has constants in sections of their own, at distances that a linker writes."""
    for i in loop(lo, hi):
        p.y.store(exp(p.x.load(F32 * 16, i * 64)), i * 64)


def exponentials_by(compiler: Compiler) -> np.ndarray:
    x = np.linspace(-80, 80, 64, dtype=np.float32)
    y = np.zeros_like(x)
    words = np.array([x.ctypes.data, y.ctypes.data], np.int64)
    code = compiler.address(exponentials)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(code)(words.ctypes.data, 0, 4)
    return y


placing = pytest.mark.skipif(
    sys.platform != "linux" or not chosen().triple.startswith("x86"), reason="LLVM's linker alone works here"
)


@pytest.mark.parametrize("row", runnable(), ids=lambda row: row.name)
def test_code_that_we_place_does_what_it_does_where_llvm_places_it(
    row: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = exponentials_by(Compiler(row, tmp_path / "kernels"))
    np.testing.assert_allclose(ours, np.exp(np.linspace(-80, 80, 64, dtype=np.float32)), rtol=1e-6)
    monkeypatch.setattr(compiling, "placed", lambda code, name: None)
    assert np.array_equal(exponentials_by(Compiler(row, tmp_path / "kernels")), ours)


@placing
def test_placed_code_can_be_run_and_not_be_written() -> None:
    found = placed(object_code(exponentials, chosen()), "exponentials")
    assert found is not None
    ranges = (line.split()[:2] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())
    (rights,) = (
        rights for where, rights in ranges
        if int(where.split("-")[0], 16) <= found.address < int(where.split("-")[1], 16)
    )  # fmt: skip
    assert rights == "r-xp"


@placing
def test_what_only_a_true_linker_can_place_is_left_to_it() -> None:
    code = bytearray(object_code(exponentials, chosen()))
    assert placed(bytes(code), "exponentials") is not None
    foreign = (code[:18] + b"\xb7" + code[19:], b"MZ" + code[2:], _with_another_relocation(code))
    odd = (code[: len(code) // 2], code[:64], code[:60] + b"\0\0" + code[62:])
    assert all(placed(bytes(other), "exponentials") is None for other in (*foreign, *odd))
    assert placed(bytes(code), "another") is None


def _with_another_relocation(code: bytearray) -> bytearray:
    """The first distance becomes an address of 64 bits (R_X86_64_64)."""
    table, count = int.from_bytes(code[40:48], "little"), int.from_bytes(code[60:62], "little")
    for at in range(table, table + 64 * count, 64):
        if code[at + 4] == 4:  # relocations
            first = int.from_bytes(code[at + 24 : at + 32], "little")
            return code[: first + 8] + b"\x01" + code[first + 9 :]
    raise AssertionError("no relocations")


@placing
def test_linux_tells_of_the_features_in_the_table_what_llvm_finds() -> None:
    needs = {need for row in TABLE if row.triple == chosen().triple for need in row.needs}
    assert features_by_linux() & needs == features_by_llvm() & needs


def test_where_linux_tells_nothing_llvm_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features : neon\n")
    for said in (tmp_path / "cpuinfo", tmp_path / "missing"):
        monkeypatch.setattr("eardrop.backends.cpu.target.Path", lambda _, said=said: said)
        assert features_by_linux.__wrapped__() == features_by_llvm()


@placing
def test_a_start_that_finds_its_kernels_does_not_load_llvm(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np; from eardrop.backends import choose; "
        "b = choose('cpu', threads=2); print(b.add(np.ones((3, 64), np.float32), np.ones((3, 64), np.float32)).sum(), "
        "'llvmlite.binding' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, check=True,
            capture_output=True, text=True,
        ).stdout.split()
        for _ in range(2)
    ]  # fmt: skip
    assert said == [["384.0", "True"], ["384.0", "False"]]
