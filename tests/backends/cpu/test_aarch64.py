"""AArch64: the kernels compile there, have the instructions meant, and compute the same under an emulator.

Needs `qemu-user` and `gcc-aarch64-linux-gnu` (Debian's names); without them what is compiled is only looked at.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llvmlite import binding as llvm

from eardrop.backends.cpu import linear, panels, products
from eardrop.backends.cpu.codegen import assembled, optimize, target_machine
from eardrop.backends.cpu.flow import Kernel
from eardrop.backends.cpu.products import PLAIN
from eardrop.backends.cpu.quantise import layout, quantise
from eardrop.backends.cpu.target import TABLE, Target
from eardrop.backends.cpu.team import word
from eardrop.backends.cpu.types import BF16, F16, F32
from eardrop.backends.cpu.unpack import UNPACKINGS, in_order
from eardrop.ops.linear import random_weight
from tests.backends.cpu.test_vector import CASES, RARE, as_kernel, of_a_register, samples

ROWS = [row for row in TABLE if row.triple.startswith("aarch64")]
emulated = pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")),
    reason="qemu-user and gcc-aarch64-linux-gnu are not both installed",
)

# Reads calls and gives back what their memory holds then. A call is six or more words: which kernel, lo, hi, how many
# arguments, and for each its bytes in memory, which follow, or −1 and a number.
DRIVER = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
typedef void kernel(const int64_t *, int64_t, int64_t);
%s
static kernel *table[] = {%s};
int main(void) {
    int64_t call[4], words[32], sizes[32];
    while (fread(call, sizeof call, 1, stdin) == 1) {
        for (int i = 0; i < call[3]; i++) {
            if (fread(&sizes[i], 8, 1, stdin) != 1) return 1;
            int64_t size = sizes[i];
            words[i] = size < 0 ? 0 : (int64_t)aligned_alloc(64, (size + 64) / 64 * 64);
            if (size && fread(size < 0 ? (void *)&words[i] : (void *)words[i], size < 0 ? 8 : size, 1, stdin) != 1)
                return 1;
        }
        table[call[0]](words, call[1], call[2]);
        for (int i = 0; i < call[3]; i++) {
            if (sizes[i] < 0) continue;
            fwrite((void *)words[i], 1, sizes[i], stdout);
            free((void *)words[i]);
        }
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Called:
    """A call of a kernel: its arguments, and what those in memory hold when it has been interpreted."""

    kernel: Kernel
    items: int
    arguments: list[Any]
    after: list[np.ndarray]

    def words(self, which: int) -> bytes:
        """As the driver reads it."""
        parts = [np.array([which, 0, self.items, len(self.arguments)]).tobytes()]
        for argument in self.arguments:
            if isinstance(argument, np.ndarray):
                parts += [np.int64(argument.nbytes).tobytes(), argument.tobytes()]
            else:
                parts.append(np.array([-1, argument]).tobytes())
        return b"".join(parts)


@dataclass
class Interpreting:
    """Runs kernels as plain Python for a processor, and keeps the calls."""

    row: Target
    calls: list[Called] = field(default_factory=list)

    def __call__(self, kernel: Kernel, arguments: Sequence[Any], items: int, chunk: int) -> None:
        given = [np.array(x) if isinstance(x, np.ndarray) else x for x in arguments]
        kernel.interpret([word(x) for x in arguments], 0, items, self.row)
        assert all(x.flags.c_contiguous for x in arguments if isinstance(x, np.ndarray))
        after = [x.copy() for x in arguments if isinstance(x, np.ndarray)]
        self.calls.append(Called(kernel, items, given, after))


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
    kernels += [panels.plain(F16).product, panels.blocked(in_order("Q4_K", 256)).product]
    text = target_machine(row).emit_assembly(compiled(kernels, row))
    assert ("\tsdot\t" in text) == row.has("dot_i8_i8")
    assert ("\tsadalp\t" in text) == row.has("add_pairs")
    assert "\tsmull2\t" in text or row.has("dot_i8_i8")
    assert "\tfmla\t" in text
    assert "\tfcvtl\t" in text
    assert "\tbl\t" not in text


@emulated
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_operations_compute_what_they_mean_under_an_emulator(row: Target, tmp_path: Path) -> None:
    interpreting = Interpreting(row)
    for case in CASES + [of_a_register(case, row) for case in RARE if row.has(case[0])]:
        kernel = as_kernel(case)
        for _ in range(5):
            given = np.concatenate([samples(type_).view(np.uint8) for type_ in case[1]])
            interpreting(kernel, [given, np.zeros(case[2].lanes, case[2].numpy)], 1, 1)
    agree(interpreting, tmp_path)


@emulated
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_products_have_the_bits_of_their_meaning_under_an_emulator(
    row: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "MOST_EXACT_ROWS", 2)  # three rows go by panels
    interpreting = Interpreting(row)
    exact = [(name, 2, 2, UNPACKINGS[name][-1].values) for name in UNPACKINGS] + [(name, 2, 2, 64) for name in PLAIN]
    for name, m, n, k in (*exact, *((name, 16, 3, 256) for name in ("F16", "Q4_0", "Q8_0", "Q4_K", "Q6_K"))):
        w = products.Matrix(random_weight(np.random.default_rng(5), name, m, k))
        x = np.random.default_rng(n).standard_normal((n, k), dtype=np.float32)
        products.Products(interpreting, row, threads=1).linear(x, w, bias=None, activation=None)
    agree(interpreting, tmp_path)


def agree(interpreted: Interpreting, folder: Path) -> None:
    """Let compiled kernels do under an emulator what was interpreted, and compare every bit."""
    calls, kernels = interpreted.calls, {call.kernel.name: call.kernel for call in interpreted.calls}
    program, places = built(list(kernels.values()), interpreted.row, folder), list(kernels)
    given = b"".join(call.words(places.index(call.kernel.name)) for call in calls)
    ran = subprocess.run(["qemu-aarch64", "-cpu", "max", str(program)], input=given, capture_output=True, check=True)
    at = 0
    for call in calls:
        for meant in call.after:
            got = np.frombuffer(ran.stdout, meant.dtype, meant.size, at).reshape(meant.shape)
            np.testing.assert_array_equal(got, meant, err_msg=call.kernel.name)
            at += meant.nbytes
    assert at == len(ran.stdout)


def built(kernels: list[Kernel], row: Target, folder: Path) -> Path:
    """A program of all kernels that reads calls and writes results."""
    names = [kernel.name for kernel in kernels]
    (folder / "kernels.o").write_bytes(target_machine(row).emit_object(compiled(kernels, row)))
    quoted = [f'extern kernel k{i} __asm__("{name}");' for i, name in enumerate(names)]
    table = ", ".join(f"k{i}" for i in range(len(names)))
    (folder / "driver.c").write_text(DRIVER.replace("%s", "\n".join(quoted), 1).replace("%s", table, 1))
    command = ["aarch64-linux-gnu-gcc", "-static", "-O1", "driver.c", "kernels.o", "-o", "program"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "program"
