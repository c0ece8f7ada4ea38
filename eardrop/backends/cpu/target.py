"""The processors kernels are compiled for, as a table: the first row whose features this machine has is taken.

A row says how wide a vector is and which of the layer's operations are one instruction; where one isn't, it is made
of others. EARDROP_CPU names a lower row than the machine could run.
"""

import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from eardrop.errors import OptionError
from eardrop.knobs import CPU


@dataclass(frozen=True)
class Target:
    """One row: what LLVM compiles for, and what the kernels may count on."""

    name: str
    about: str
    triple: str
    cpu: str  # LLVM's name of the least processor of this row
    features: tuple[str, ...]  # beyond it
    needs: tuple[str, ...]  # features that a machine must have to run this row
    vector_bytes: int
    registers: int  # vector registers
    natives: frozenset[str] = frozenset()

    def has(self, operation: str) -> bool:
        """Whether the operation is one instruction here."""
        return operation in self.natives

    @property
    def flags(self) -> str:
        """The features as LLVM takes them."""
        return ",".join(f"+{feature}" for feature in self.features)


_X86, _ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
_AVX2 = ("avx2", "fma", "f16c")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd")
_VNNI = ("avx512vnni", "avx512bf16")

_WIDE = frozenset({"fma", "lookup", "half"})
_PAIRS = frozenset({"pairs_u8_i8", "add_pairs"})

TABLE = (
    Target(
        "avx512-vnni-bf16", "AVX-512 with dot products of bytes and of bfloat16", _X86, "x86-64-v4", _VNNI,
        (*_AVX512, *_VNNI), 64, 32, _WIDE | {"dot_u8_i8", "dot_bf16"},
    ),
    Target("avx512", "AVX-512", _X86, "x86-64-v4", (), _AVX512, 64, 32, _WIDE | _PAIRS),
    Target(
        "avx-vnni", "AVX2 with dot products of bytes", _X86, "x86-64-v3", ("avxvnni",),
        (*_AVX2, "avxvnni"), 32, 16, _WIDE | {"dot_u8_i8"},
    ),
    Target("avx2", "AVX2, FMA and F16C", _X86, "x86-64-v3", (), _AVX2, 32, 16, _WIDE | _PAIRS | {"signed_by"}),
    Target("x86-64", "any x86-64: SSE2, no fused products", _X86, "x86-64", (), (), 16, 16),
    Target(
        "neon-dot", "AArch64 with dot products of bytes", _ARM, "generic", ("neon", "dotprod"),
        ("neon", "dotprod"), 16, 32, _WIDE | {"dot_i8_i8"},
    ),
    Target("neon", "any AArch64", _ARM, "generic", ("neon",), ("neon",), 16, 32, _WIDE | {"add_pairs"}),
)  # fmt: skip

_MACHINES = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}


def runnable() -> tuple[Target, ...]:
    """The rows this machine can run, the best first."""
    triple = _MACHINES.get(platform.machine().lower())
    features = features_by_linux() if triple == _X86 and sys.platform == "linux" else features_by_llvm()
    return tuple(row for row in TABLE if row.triple == triple and features.issuperset(row.needs))


def chosen() -> Target:
    """The best row, or the one that EARDROP_CPU names. Raises OptionError where that can't run here."""
    rows = {row.name: row for row in runnable()}
    name = CPU.read() or next(iter(rows), "")
    if name not in rows:
        wanted = f"EARDROP_CPU is {name!r}; " if name else ""
        raise OptionError(
            f"{wanted}this machine ({platform.machine()}) can run {', '.join(rows) or 'none of the rows'}"
        )
    return rows[name]


@cache
def features_by_llvm() -> frozenset[str]:
    """What this processor has, in LLVM's names."""
    from llvmlite import binding  # not at the start: loading LLVM takes longer than all the rest of this

    return frozenset(name for name, here in binding.get_host_cpu_features().items() if here)


@cache
def features_by_linux() -> frozenset[str]:
    """What Linux says that an x86-64 processor has, in LLVM's names; where it says nothing, what LLVM finds.

    In an emulator that shows another processor than it is (qemu-x86_64, valgrind), EARDROP_CPU names the row to take.
    """
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as told:
            flags = next(line for line in told if line.startswith("flags"))
    except (OSError, StopIteration):
        return features_by_llvm()
    return frozenset(flag.replace("_", "") for flag in flags.split())
