"""How much of the machine's processor is ours."""

import os
from pathlib import Path

from eardrop.knobs import THREADS

_NO_LIMIT = 1_000_000


def usable_processors() -> int:
    """Processors, as the system counts them, that this process may use."""
    return len(_usable())


def usable_cores() -> int:
    """Threads to compute on: as EARDROP_THREADS says, else the physical cores that this process may use."""
    return THREADS.level() or max(1, min(len({_siblings(cpu) for cpu in _usable()}), _quota()))


def _usable() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _siblings(cpu: int) -> str:
    """The processors that share a core with this one, as the system lists them."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota() -> int:
    """Cores that the control group allows."""
    try:
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return _NO_LIMIT if allowed == "max" else max(1, int(allowed) // int(period))
    except (OSError, ValueError):
        return _NO_LIMIT
