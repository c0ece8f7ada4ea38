"""LLVM: a kernel becomes text, is improved, becomes object code; and is linked where `placing.py` can't.

Its library takes 25 ms to load and tens of MiB to hold: where `placing.py` works, a start that finds all its kernels
compiled does without.
"""

import contextlib
import gc
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache

from llvmlite import binding as llvm
from llvmlite import ir

from eardrop.backends.cpu.flow import Kernel
from eardrop.backends.cpu.target import Target
from eardrop.knobs import DEBUG

SHOW_IR, SHOW_ASSEMBLY = 3, 4  # levels of EARDROP_DEBUG

# Keep the order of instructions as kernels write it: the machine combiner and the scheduler turn chains of sums into
# trees that spill all registers; a product of blocks falls to half its speed. These hold for the whole process.
_OPTIONS = ("-x86-machine-combiner=false", "-enable-misched=false")


def object_code(kernel: Kernel, target: Target) -> bytes:
    """The kernel's object code, made anew."""
    with _uncollected():
        text = assembled([kernel], target)
    module, machine = llvm.parse_assembly(text), target_machine(target)
    module.verify()
    optimize(module, machine)
    if DEBUG.level() >= SHOW_ASSEMBLY:
        sys.stderr.write(machine.emit_assembly(module))
    return bytes(machine.emit_object(module))


class Linker:
    """Puts object code of any processor and system into memory, where it stays as long as the linker."""

    def __init__(self, target: Target) -> None:
        machine = target_machine(target)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)

    def address(self, code: bytes, name: str) -> int:
        """Where the function of this name lies."""
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        return int(self._engine.get_function_address(name))


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for dead cycles: it would go through all objects of the process again and again."""
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


def assembled(kernels: Iterable[Kernel], target: Target) -> str:
    """The kernels as LLVM's text."""
    module = ir.Module("kernels")
    module.triple = target.triple
    for each in kernels:
        each.emit(module, target)
    # no-builtins: else loops that fill or copy become calls of the C library, which isn't linked here
    text = re.sub(r"^define .*$", r'\g<0> nounwind "no-builtins"', str(module), flags=re.MULTILINE)
    if DEBUG.level() >= SHOW_IR:
        sys.stderr.write(text)
    return text


def target_machine(target: Target) -> llvm.TargetMachine:
    _start_llvm()
    chosen = llvm.Target.from_triple(target.triple)
    return chosen.create_target_machine(target.cpu, target.flags, opt=3, reloc="pic", codemodel="small")


@cache
def _start_llvm() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for option in _OPTIONS:
        llvm.set_option("", option)


# Not LLVM's own pipeline: it reassociates sums, and an order of sums is part of what a kernel means.
_PASSES = ("sroa", "instruction_combine", "simplify_cfg", "loop_rotate", "instruction_combine", "simplify_cfg")


def optimize(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    passes = llvm.create_new_module_pass_manager()
    for name in _PASSES:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3)))
