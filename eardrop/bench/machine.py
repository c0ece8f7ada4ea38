"""The machine that is measured on: what it is, what it can do at most, and what it spends."""

import os
import platform
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np

from eardrop.cores import usable_processors
from eardrop.version import __version__

LIBRARIES = ("numpy", "llvmlite", "av", "soxr", "tokenizers")

READ_BYTES = 512 << 20  # far more than any cache
READ_PIECE = 1 << 17  # whole numbers of 64 bits read per call: 1 MiB, so that calling costs nothing
PASSES = 7
PRODUCT = 1536  # rows and columns of the matrices whose product is timed

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_RAPL = Path("/sys/class/powercap")


def describe() -> dict[str, str | int | None]:
    """What tells one machine from another."""
    return {
        "processor": processor(),
        "cores": usable_processors(),
        "memory_bytes": memory_bytes(),
        "system": platform.platform(),
        "governor": _text(_CPUFREQ),
    }


def versions() -> dict[str, str]:
    """Of eardrop, Python and the libraries that compute."""
    found = {"eardrop": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """What the system calls it."""
    named = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    return f"{named[1]} ({platform.machine()})" if named else platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Of the machine; None where nobody says."""
    if sys.platform == "win32" or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def load() -> float | None:
    """Programs that ran or waited to, on the average of the last minute; None where the system doesn't count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def peak_memory(process: int | str = "self") -> int | None:
    """The most bytes of memory a process has held so far (VmHWM), mapped files included; None where nobody says."""
    try:
        status = Path(f"/proc/{process}/status").read_text(errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) << 10 if found else None


def read_bandwidth(threads: int) -> list[float]:
    """Bytes a second that so many threads read: each the largest value of its part of 512 MiB, pass after pass.

    Values are whole numbers: NumPy looks for NaN among floats, which takes longer than memory does.
    """
    values = np.ones(READ_BYTES // 8, np.uint64)
    parts = np.array_split(values, threads)

    def read(part: "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]") -> None:
        for start in range(0, len(part), READ_PIECE):
            part[start : start + READ_PIECE].max()  # NumPy lets go of the interpreter meanwhile

    with ThreadPoolExecutor(threads) as pool:
        every = [_seconds(lambda: list(pool.map(read, parts))) for _ in range(PASSES + 1)]
    return [values.nbytes / seconds for seconds in every[1:]]


def product_peak() -> float:
    """Operations a second of NumPy's float32 matrix product, on all the threads its library takes."""
    x = np.ones((PRODUCT, PRODUCT), np.float32)
    return 2 * PRODUCT**3 / min(_seconds(lambda: x @ x) for _ in range(PASSES))


def energy() -> float | None:
    """Joules that the processor packages have spent since some time past; None where nobody may read them."""
    counters = sorted(_RAPL.glob("intel-rapl:[0-9]*")) if _RAPL.exists() else []
    packages = [path for path in counters if path.name.count(":") == 1]
    read = [_text(path / "energy_uj") for path in packages]
    spent = [int(text) for text in read if text is not None]
    return sum(spent) / 1e6 if spent else None


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _text(path: Path) -> str | None:
    """A system file's text; None where it is missing or kept from us."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
