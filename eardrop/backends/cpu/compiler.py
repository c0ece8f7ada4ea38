"""Kernels become machine code, in this process, for this processor; what was compiled once is kept.

Object code is code: it is believed only from a folder that is ours alone, and only if an entry is the one whose
digest its name and its own SHA-256 claim. Anything else is compiled anew, in memory if need be.
"""

import contextlib
import hashlib
import os
import stat
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import llvmlite
from platformdirs import user_cache_path

from eardrop.backends.cpu.flow import Kernel
from eardrop.backends.cpu.placing import Placed, placed
from eardrop.backends.cpu.target import Target

if TYPE_CHECKING:
    from eardrop.backends.cpu.codegen import Linker


class Compiler:
    """Compiles kernels for one target, one module each, when they are first asked for. Safe to share."""

    def __init__(self, target: Target, folder: Path | None = None) -> None:
        self.target = target
        self._folder = _trusted(folder or user_cache_path("eardrop") / "kernels")
        self._addresses: dict[str, int] = {}
        self._placed: list[Placed] = []  # they hold the memory that the addresses lie in
        self._linker: Linker | None = None  # made when something is met that `placed` can't place
        self._lock = threading.Lock()

    def address(self, kernel: Kernel) -> int:
        """Where the kernel's code lies, for as long as this compiler lives."""
        with self._lock:
            if kernel.name not in self._addresses:
                self._addresses[kernel.name] = self._linked(self._object(kernel), kernel.name)
            return self._addresses[kernel.name]

    def _linked(self, code: bytes, name: str) -> int:
        if found := placed(code, name):
            self._placed.append(found)
            return found.address
        from eardrop.backends.cpu.codegen import Linker  # only then: see there

        self._linker = self._linker or Linker(self.target)
        return self._linker.address(code, name)

    def _object(self, kernel: Kernel) -> bytes:
        name = _digest(kernel.name, self.target.name, self.target.flags)
        kept = _kept(self._folder, name)
        if kept is None:
            kept = self.compile(kernel)
            _keep(self._folder, name, kept)
        return kept

    def compile(self, kernel: Kernel) -> bytes:
        """The kernel's object code, made anew."""
        from eardrop.backends.cpu.codegen import object_code  # only now: see there

        return object_code(kernel, self.target)


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
