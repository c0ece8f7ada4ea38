"""AArch64: the kernels compile there, have the instructions meant, and compute the same under an emulator.

Needs `qemu-user` and `gcc-aarch64-linux-gnu` (Debian's names); without them what is compiled is only looked at.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding as llvm

from eardrop.backends.cpu import linear, panels
from eardrop.backends.cpu.compiler import assembled, optimize, target_machine
from eardrop.backends.cpu.flow import Kernel
from eardrop.backends.cpu.quantise import layout, quantise
from eardrop.backends.cpu.target import TABLE, Target
from eardrop.backends.cpu.types import BF16, F16, F32
from eardrop.backends.cpu.unpack import UNPACKINGS
from tests.backends.cpu.test_vector import CASES, as_kernel, samples

ROWS = [row for row in TABLE if row.triple.startswith("aarch64")]
IN = OUT = 512  # bytes that a case may take and give
DRIVER = """
#include <stdint.h>
#include <stdio.h>
typedef void kernel(const int64_t *, int64_t, int64_t);
%s
static kernel *table[] = {%s};
int main(void) {
    static uint8_t in[512] __attribute__((aligned(64))), out[512] __attribute__((aligned(64)));
    int64_t words[2] = {(int64_t)in, (int64_t)out};
    uint32_t which;
    while (fread(&which, 4, 1, stdin) == 1 && fread(in, 512, 1, stdin) == 1) {
        for (int i = 0; i < 512; i++) out[i] = 0;
        table[which](words, 0, 1);
        fwrite(out, 512, 1, stdout);
    }
    return 0;
}
"""


def compiled(kernels: list[Kernel], row: Target) -> llvm.ModuleRef:
    module = llvm.parse_assembly(assembled(kernels, row))
    module.verify()
    optimize(module, target_machine(row))
    return module


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_products_use_the_processors_instructions_and_call_nothing(row: Target) -> None:
    ways = [way for each in UNPACKINGS.values() for way in each]
    kernels = [kernel for way in ways for kernel in (linear.blocked(way, 4), quantise(layout(way)))]
    kernels += [linear.plain(element, 4) for element in (F32, F16, BF16)]
    kernels += [panels.plain(F16).product, *(panels.blocked(way).product for way in UNPACKINGS["Q4_K"])]
    text = target_machine(row).emit_assembly(compiled(kernels, row))
    assert ("\tsdot\t" in text) == row.has("dot_i8_i8")
    assert "\tfmla\t" in text
    assert "\tfcvtl\t" in text
    assert "\tbl\t" not in text


@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="qemu-user is not installed")
@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="gcc-aarch64-linux-gnu is not installed")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_operations_compute_what_they_mean_under_an_emulator(row: Target, tmp_path: Path) -> None:
    kernels = [as_kernel(case) for case in CASES]
    program = built(kernels, row, tmp_path)
    given, meant = [], []
    for index, (case, kernel) in enumerate(zip(CASES, kernels, strict=True)):
        for _ in range(5):
            whole = np.zeros(IN, np.uint8)
            filled = np.concatenate([samples(type_).view(np.uint8) for type_ in case[1]])
            whole[: len(filled)] = filled
            out = np.zeros(OUT, np.uint8)
            kernel.interpret([whole.ctypes.data, out.ctypes.data], 0, 1, row)
            given.append(np.uint32(index).tobytes() + whole.tobytes())
            meant.append((case, out))
    ran = subprocess.run(
        ["qemu-aarch64", "-cpu", "max", str(program)], input=b"".join(given), capture_output=True, check=True
    )
    got = np.frombuffer(ran.stdout, np.uint8).reshape(-1, OUT)
    for found, (case, expected) in zip(got, meant, strict=True):
        size, kind = case[2].nbytes, case[2].numpy
        np.testing.assert_array_equal(found[:size].view(kind), expected[:size].view(kind), err_msg=case[0])


def built(kernels: list[Kernel], row: Target, folder: Path) -> Path:
    """A program of all kernels that reads (which, operands) and writes results."""
    names = [kernel.name for kernel in kernels]
    (folder / "kernels.o").write_bytes(target_machine(row).emit_object(compiled(kernels, row)))
    quoted = [f'extern kernel k{i} __asm__("{name}");' for i, name in enumerate(names)]
    table = ", ".join(f"k{i}" for i in range(len(names)))
    (folder / "driver.c").write_text(DRIVER.replace("%s", "\n".join(quoted), 1).replace("%s", table, 1))
    command = ["aarch64-linux-gnu-gcc", "-static", "-O1", "driver.c", "kernels.o", "-o", "program"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "program"
