"""How operations are done fast: a backend is a value, chosen once and handed down.

`BACKENDS` is the table: a name, whether this machine can run it, and how to make it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from eardrop.backends.numpy import NumpyBackend
from eardrop.backends.observed import Divergence, Ledger, Spent, awaited, checked, cost_of, observed, timed
from eardrop.errors import EardropError, OptionError
from eardrop.knobs import CHECK, DEBUG, TAP
from eardrop.ops import write_taps
from eardrop.ops.backend import Backend


@dataclass(frozen=True)
class BackendChoice:
    """One row of the table that `--backend` and `eardrop info` read."""

    make: Callable[..., Backend]  # given threads=N, None for the backend's own choice, and precision=NAME
    about: str
    missing: Callable[[], EardropError | None]  # why it can't run here, or None
    on_gpu: bool = False  # then `make` is given gpu_memory=BYTES too, None for the backend's own choice


def _numpy(threads: int | None = None, precision: str = "float32") -> Backend:
    if precision != "float32":
        raise OptionError(f"precision is {precision!r}, but the numpy backend computes in float32: leave it out")
    return NumpyBackend()  # its threads are its BLAS library's


def _cpu(threads: int | None = None, precision: str = "float32") -> Backend:
    from eardrop.backends.cpu.backend import CpuBackend  # imported when chosen: a compiler comes with it

    return CpuBackend(threads, precision)


def _cpu_missing() -> EardropError | None:
    try:
        from eardrop.backends.cpu.target import chosen

        chosen()
    except (ImportError, OptionError) as error:
        return OptionError(str(error))
    return None


def _cuda(threads: int | None = None, precision: str = "float32", gpu_memory: int | None = None) -> Backend:
    from eardrop.backends.cuda.backend import CudaBackend  # imported when chosen: torch and Triton come with it

    return CudaBackend(precision, gpu_memory)  # threads are the processor's


def _cuda_missing() -> EardropError | None:
    from eardrop.backends.cuda.device import missing

    return missing()


BACKENDS: dict[str, BackendChoice] = {
    "cpu": BackendChoice(_cpu, "kernels compiled for this processor; weights stay in their file", _cpu_missing),
    # behind the processor's: what no GPU has run is for those who ask for it (docs/cuda.md)
    "cuda": BackendChoice(_cuda, "Triton kernels and tensor cores of an NVIDIA GPU", _cuda_missing, on_gpu=True),
    "numpy": BackendChoice(_numpy, "NumPy, one operation at a time: the reference", lambda: None),
}

PRECISIONS = ("float32", "bf16")  # of many rows, with F32, F16 and BF16 weights or each other
OPERATIONS = 2  # the level of EARDROP_DEBUG that times operations
LEDGER = Ledger()  # where it is entered


def choose(
    name: str = "auto", *, threads: int | None = None, precision: str = "float32", gpu_memory: int | None = None
) -> Backend:
    """The backend of this name, or for "auto" the fastest that runs here; checked, timed or tapped if a knob asks.

    precision   one of PRECISIONS
    gpu_memory  bytes, for a backend on a GPU

    Raises OptionError for a name that isn't in the table or can't run here, or a wish that it can't meet; MissingExtra
    where what it needs isn't installed.
    """
    usable = [known for known, choice in BACKENDS.items() if choice.missing() is None]
    wanted = usable[0] if name == "auto" else name
    if wanted not in BACKENDS:
        raise OptionError(f"no backend is called {name!r}: choose auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[wanted].missing()
    if reason is not None:
        raise type(reason)(f"backend {wanted!r} can't run here: {reason}")
    if threads is not None and threads < 1:
        raise OptionError(f"threads is {threads}, expected at least 1")
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}: choose {' or '.join(PRECISIONS)}")
    memory = _of_gpu(wanted, gpu_memory)
    backend = BACKENDS[wanted].make(threads=threads, precision=precision, **memory)
    if CHECK.level():
        backend = checked(backend)
    if DEBUG.level() >= OPERATIONS:
        backend = timed(backend, LEDGER)
    if TAP.read():
        try:
            write_taps(TAP.read(), backend.download)
        except OSError as error:
            raise OptionError(f"{TAP.name}: expected a folder to write to: {error}; name another") from None
    return backend


def _of_gpu(name: str, memory: int | None) -> dict[str, int | None]:
    """What is said about a GPU's memory to a backend that has one."""
    if memory is not None and not BACKENDS[name].on_gpu:
        raise OptionError(f"gpu_memory is of a GPU, and backend {name!r} has none: choose cuda, or leave it out")
    if memory is not None and memory < 0:
        raise OptionError(f"gpu_memory is {memory}, expected a number of bytes, or 0 for none")
    return {"gpu_memory": memory} if BACKENDS[name].on_gpu else {}


__all__ = [
    "BACKENDS",
    "LEDGER",
    "OPERATIONS",
    "PRECISIONS",
    "BackendChoice",
    "Divergence",
    "Ledger",
    "Spent",
    "awaited",
    "checked",
    "choose",
    "cost_of",
    "observed",
    "timed",
]
