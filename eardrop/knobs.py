"""Every environment variable eardrop reads, its meaning and its default.

Knobs change what is shown or checked, or name what to use; never what the answer is. They are read when asked
for, not at import, so that a test may set them.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Knob:
    """One environment variable. `eardrop info` prints the table KNOBS."""

    name: str
    meaning: str
    default: str = ""

    def read(self) -> str:
        """The variable's value, or the default where it is unset or empty."""
        return os.environ.get(self.name) or self.default

    def level(self) -> int:
        """The value as a whole number; 0 for anything that is none."""
        text = self.read()
        return int(text) if text.isdecimal() else 0


DEBUG = Knob("EARDROP_DEBUG", "1: stages with times, and tracebacks; 2: every operation with its speed", "0")
CHECK = Knob("EARDROP_CHECK", "1: run every operation beside its reference and name the first that differs", "0")
TAP = Knob("EARDROP_TAP", "a folder: write every named intermediate there as .npy")
CPU = Knob("EARDROP_CPU", "a lower row of the processor table than this machine can run, as avx2")
THREADS = Knob("EARDROP_THREADS", "threads that compute (default: the physical cores this process may use)")
JIT = Knob("EARDROP_JIT", "0: run the CPU backend's kernels as plain Python, slowly, for a debugger", "1")
TRITON_INTERPRET = Knob(
    "TRITON_INTERPRET", "1: run the CUDA backend's kernels in Triton's interpreter, slowly, without a GPU", "0"
)
MODEL = Knob("EARDROP_MODEL", "the model of commands that name none: a file, a folder, or USER/REPO[:TYPE]")
NO_COLOR = Knob("NO_COLOR", "anything: no colours on the terminal (no-color.org)")

KNOBS = (DEBUG, CHECK, TAP, CPU, THREADS, JIT, TRITON_INTERPRET, MODEL, NO_COLOR)
