"""Kernels become machine code, in this process, for this processor; what was compiled once is kept.

Object code is code: it is believed only from a folder that is ours alone, and only if an entry is the one whose
digest its name and its own SHA-256 claim. Anything else is compiled anew, in memory if need be.
"""

import contextlib
import gc
import hashlib
import os
import re
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import llvmlite
from llvmlite import binding as llvm
from llvmlite import ir
from platformdirs import user_cache_path

from eardrop.backends.cpu.flow import Kernel
from eardrop.backends.cpu.target import Target
from eardrop.knobs import DEBUG

SHOW_IR, SHOW_ASSEMBLY = 3, 4  # levels of EARDROP_DEBUG

# Keep the order of instructions as kernels write it: the machine combiner and the scheduler turn chains of sums into
# trees that spill all registers; a product of blocks falls to half its speed. These hold for the whole process.
_OPTIONS = ("-x86-machine-combiner=false", "-enable-misched=false")


class Compiler:
    """Compiles kernels for one target, one module each, when they are first asked for. Safe to share."""

    def __init__(self, target: Target, folder: Path | None = None) -> None:
        self.target = target
        self._folder = _trusted(folder or user_cache_path("eardrop") / "kernels")
        self._machine = target_machine(target)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(target))
        self._addresses: dict[str, int] = {}
        self._lock = threading.Lock()

    def address(self, kernel: Kernel) -> int:
        """Where the kernel's code lies, for as long as this compiler lives."""
        with self._lock:
            if kernel.name not in self._addresses:
                self._engine.add_object_file(llvm.ObjectFileRef.from_data(self._object(kernel)))
                self._engine.finalize_object()
                self._addresses[kernel.name] = self._engine.get_function_address(kernel.name)
            return self._addresses[kernel.name]

    def _object(self, kernel: Kernel) -> bytes:
        name = _digest(kernel.name, self.target.name, self.target.flags)
        kept = _kept(self._folder, name)
        if kept is None:
            kept = self.compile(kernel)
            _keep(self._folder, name, kept)
        return kept

    def compile(self, kernel: Kernel) -> bytes:
        """The kernel's object code, made anew."""
        with _uncollected():
            text = assembled([kernel], self.target)
        module = llvm.parse_assembly(text)
        module.verify()
        optimize(module, self._machine)
        if DEBUG.level() >= SHOW_ASSEMBLY:
            sys.stderr.write(self._machine.emit_assembly(module))
        return bytes(self._machine.emit_object(module))


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


# What was compiled, on disk: NAME.o is 32 bytes of SHA-256, then the object they are the digest of.

_HASH_BYTES = 32


def _digest(*facts: str) -> str:
    """The name of an entry: all that its code depends on."""
    whole = "\0".join((*facts, llvmlite.__version__, _sources(), sys.platform))
    return hashlib.sha256(whole.encode()).hexdigest()[:40]


@cache
def _sources() -> str:
    """The digest of every file that kernels are made by."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.rglob("*.py")))).hexdigest()


def _trusted(folder: Path) -> Path | None:
    """The folder if it is ours alone, made where it is missing; None where it can't be trusted or written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
    return folder if stat.S_ISDIR(found.st_mode) and ours else None


def _kept(folder: Path | None, name: str) -> bytes | None:
    """The entry of this name, if it is what it says it is."""
    if folder is None:
        return None
    try:
        content = (folder / f"{name}.o").read_bytes()
    except OSError:
        return None
    claimed, code = content[:_HASH_BYTES], content[_HASH_BYTES:]
    return code if code and hashlib.sha256(code).digest() == claimed else None


def _keep(folder: Path | None, name: str, code: bytes) -> None:
    """Put an entry in its place at once; a folder that takes nothing is no misfortune."""
    if folder is None:
        return
    part = folder / f".{name}.{os.urandom(4).hex()}"
    with contextlib.suppress(OSError):
        part.write_bytes(hashlib.sha256(code).digest() + code)
        part.replace(folder / f"{name}.o")
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)
