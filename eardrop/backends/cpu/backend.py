"""The CPU backend: kernels over weights as they lie in the mapped file, run by a team of threads.

What has no kernel yet falls back to the reference that it inherits; `lacking` says what that is.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eardrop.backends.cpu import linear as kernels
from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import Kernel
from eardrop.backends.cpu.target import Target, chosen
from eardrop.backends.cpu.team import Program, Team, word
from eardrop.backends.cpu.types import BF16, F16, F32
from eardrop.backends.cpu.unpack import UNPACKINGS
from eardrop.backends.numpy import NumpyBackend
from eardrop.gguf import BlockFormat, GgufTensor
from eardrop.knobs import JIT, THREADS
from eardrop.ops import OPS, Arithmetic, outputs

Floats = npt.NDArray[np.float32]
PLAIN = {"F32": F32, "F16": F16, "BF16": BF16}
CHUNK_BYTES = 1 << 16  # of weights that a thread takes at a time


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight (M, K) as it lies in the file."""

    tensor: GgufTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, K)."""
        return self.tensor.shape

    @property
    def format(self) -> BlockFormat:
        """Of its blocks."""
        return self.tensor.format

    @property
    def nbytes(self) -> int:
        """Of its blocks."""
        return self.tensor.nbytes

    def __len__(self) -> int:
        return self.tensor.shape[0]


@dataclass
class Recording:
    """What a captured step does: programs of kernels, and between them calls of references."""

    compiler: Compiler
    team: Team
    parts: list[Program | Callable[[], None]] = field(default_factory=list)

    def program(self) -> Program:
        """The program that the next kernel belongs to."""
        if not self.parts or not isinstance(self.parts[-1], Program):
            self.parts.append(Program())
        last = self.parts[-1]
        assert isinstance(last, Program)
        return last

    def call(self, function: Callable[[], Any], results: tuple[Any, ...]) -> None:
        """Let the replay call a function, and put what it gives where its results were the first time."""

        def again() -> None:
            for place, new in zip(results, outputs(function()), strict=True):
                place[...] = new

        self.parts.append(again)

    def replay(self) -> Callable[[], None]:
        """All of it once more, each program one foreign call."""
        steps = [
            partial(self.team.run, part.freeze(self.compiler)) if isinstance(part, Program) else part
            for part in self.parts
        ]

        def run() -> None:
            for step in steps:
                step()

        return run


class CpuBackend(NumpyBackend):
    """Kernels of this package; arrays are NumPy's, weights stay in their file."""

    name = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        self.target: Target = chosen()
        self._compiler = Compiler(self.target)
        self._team = Team(self._compiler, threads or usable_cores())
        self._recording: Recording | None = None
        self._quantised: tuple[Floats | None, tuple[Any, ...]] = (None, ())
        for name in self.lacking:
            setattr(self, name, self._falling_back(OPS[name].reference))

    @property
    def lacking(self) -> tuple[str, ...]:
        """Operations that fall back to their reference."""
        return tuple(name for name in OPS if getattr(CpuBackend, name) is getattr(NumpyBackend, name))

    def arithmetic(self, format_: BlockFormat) -> Arithmetic:
        """Blocks are multiplied in bytes, plain numbers in float32."""
        return Arithmetic.INT8 if format_.name in UNPACKINGS else Arithmetic.FLOAT32

    def weight(self, tensor: GgufTensor) -> Any:
        """The tensor itself, where a kernel reads its format and width; else its values."""
        name, columns = tensor.format.name, tensor.shape[1]
        step = UNPACKINGS[name].values if name in UNPACKINGS else kernels.LANES if name in PLAIN else 0
        return Matrix(tensor) if step and columns % step == 0 else tensor.dequantize()

    def download(self, x: Any) -> npt.NDArray[Any]:
        """The array itself; of a weight its values."""
        return x.tensor.dequantize() if isinstance(x, Matrix) else x

    def linear(self, x: Floats, w: Any, bias: Floats | None = None) -> Floats:
        """x · wᵀ + bias; every row has the bits it would have alone."""
        if not isinstance(w, Matrix):
            return np.asarray(self._fall_back(NumpyBackend.linear, x, w, bias))
        rows, (m, k) = len(x), w.shape
        y = np.empty((rows, m), np.float32)
        shift = np.zeros(m, np.float32) if bias is None else bias
        inputs = self._inputs(self._contiguous(x), w.format)
        first = 0
        for together in self._together:
            count = (rows - first) // together * together
            if count:
                kernel = self._product(w.format, together)
                parts = [part[first : first + count] for part in inputs]
                stride = w.tensor.raw.strides[0]
                arguments = [w.tensor.raw, stride, *parts, shift, y[first:], k, m, count]
                self._run(kernel, arguments, m, CHUNK_BYTES // stride)
                first += count
        return y

    @property
    def _together(self) -> tuple[int, ...]:
        """Rows of x that share an unpacked group: as many as there are registers for."""
        return (8, 4, 2, 1) if self.target.registers >= 32 else (4, 2, 1)

    def _product(self, format_: BlockFormat, together: int) -> Kernel:
        if format_.name in PLAIN:
            return kernels.plain(PLAIN[format_.name], together)
        return kernels.blocked(format_.name, together)

    def _inputs(self, x: Floats, format_: BlockFormat) -> tuple[Any, ...]:
        """x as the format's kernel takes it; several weights in a row share what was quantised."""
        if format_.name in PLAIN:
            return (x,)
        if self._quantised[0] is not x:
            n, k = x.shape
            parts = np.empty((n, k), np.int8), np.empty((n, k // 4), np.float32), np.empty((n, k // 4), np.int32)
            self._run(kernels.quantise, [x, *parts], n * k // kernels.BLOCK, 64)
            self._quantised = x, parts
        return self._quantised[1]

    def embed(self, ids: npt.NDArray[np.int32], w: Any) -> Floats:
        """Rows of the weight, expanded."""
        rows = w.tensor.dequantize_rows if isinstance(w, Matrix) else w.__getitem__
        return np.asarray(self._fall_back(lambda ids: rows(ids), ids))

    def write(self, x: npt.NDArray[Any], values: npt.ArrayLike) -> None:
        """Overwrite in place."""
        self._quantised = (None, ())
        x[...] = values

    def capture(self, step: Callable[..., Any], *slots: npt.NDArray[Any]) -> Callable[[], Any]:
        """Run once and record: kernels become programs, references calls between them."""
        self._recording = Recording(self._compiler, self._team)
        self._quantised = (None, ())
        try:
            result = step(*slots)
            replay = self._recording.replay()
        finally:
            self._recording, self._quantised = None, (None, ())

        def again() -> Any:
            replay()
            return result

        return again

    def _run(self, kernel: Kernel, arguments: Sequence[Any], items: int, chunk: int) -> None:
        """Run a kernel now; while a step is captured, record it too."""
        if JIT.read() == "0":
            self._fall_back(partial(_interpreted, kernel, arguments, items, self.target))
            return
        once = Program()
        once.add(kernel, arguments, items, chunk)
        self._team.run(once.freeze(self._compiler))
        if self._recording:
            self._recording.program().add(kernel, arguments, items, chunk)

    def _falling_back(self, reference: Callable[..., Any]) -> Callable[..., Any]:
        """The reference as an operation of this backend, with its signature."""

        @wraps(reference)
        def operation(*args: Any, **kwargs: Any) -> Any:
            return self._fall_back(reference, *args, **kwargs)

        return operation

    def _fall_back(self, reference: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The reference, recorded too while a step is captured."""
        result = reference(*args, **kwargs)
        if self._recording:
            self._recording.call(partial(reference, *args, **kwargs), outputs(result))
        return result

    def _contiguous(self, x: Floats) -> Floats:
        assert x.flags.c_contiguous or not self._recording, "a captured step reads rows that lie together"
        return np.ascontiguousarray(x)


def _interpreted(kernel: Kernel, arguments: Sequence[Any], items: int, target: Target) -> tuple[()]:
    """A kernel as plain Python; what it gives lies in its arguments."""
    kernel.interpret([word(argument) for argument in arguments], 0, items, target)
    return ()


def usable_cores() -> int:
    """Threads to run: as EARDROP_THREADS says, else the physical cores that this process may use."""
    if THREADS.level():
        return THREADS.level()
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in usable}
    return max(1, min(len(cores), _quota()))


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
        return 1_000_000 if allowed == "max" else max(1, int(allowed) // int(period))
    except (OSError, ValueError):
        return 1_000_000
