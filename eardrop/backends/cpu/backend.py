"""The CPU backend: kernels over weights as they lie in the mapped file, run by a team of threads.

Several threads may compute on one backend: each records and keeps for itself, and the team runs one program at a time.
What has no kernel yet falls back to the reference that it inherits; `lacking` says what that is.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

import numpy as np
import numpy.typing as npt

from eardrop.audio.log_mel import MelConfig
from eardrop.backends.cpu import (
    attention,
    conv2d,
    embed,
    norms,
    pick,
    pointwise,
    rel_attention,
    rope,
    short_conv,
    turned,
)
from eardrop.backends.cpu.compiler import Compiler
from eardrop.backends.cpu.flow import Kernel
from eardrop.backends.cpu.products import PLAIN, Matrix, Products, readable
from eardrop.backends.cpu.rooms import Rooms, apart
from eardrop.backends.cpu.running import Floats, Ints
from eardrop.backends.cpu.target import Target, chosen
from eardrop.backends.cpu.team import Calls, Program, Team, word
from eardrop.backends.cpu.types import F32
from eardrop.backends.cpu.unpack import UNPACKINGS
from eardrop.backends.numpy import NumpyBackend
from eardrop.cores import usable_cores
from eardrop.errors import OptionError
from eardrop.gguf import BlockFormat, GgufTensor
from eardrop.knobs import JIT
from eardrop.ops import OPS, Activation, Arithmetic, outputs
from eardrop.ops.work import heed, stoppable


@dataclass
class Recording:
    """What a captured step does: programs of kernels, and between them calls of references.

    Kernels are recorded without being run, as far as no reference wants to see what they give.
    """

    team: Team
    parts: list[Program | Callable[[], None]] = field(default_factory=list)
    rooms: Rooms = field(default_factory=Rooms)

    def program(self) -> Program:
        """The program that the next kernel belongs to."""
        if not self.parts or not isinstance(self.parts[-1], Program):
            self.parts.append(Program(self.rooms))
        last = self.parts[-1]
        assert isinstance(last, Program)
        return last

    def catch_up(self) -> None:
        """Run what was recorded since the last reference: the next one reads it."""
        if self.parts and isinstance(last := self.parts[-1], Program):
            with stoppable(last.freeze(self.team).stop):
                self.team.run(last)

    def call(self, function: Callable[[], Any], results: tuple[Any, ...]) -> None:
        """Let the replay call a function, and put what it gives where its results were the first time."""

        def again() -> None:
            for place, new in zip(results, outputs(function()), strict=True):
                place[...] = new

        self.parts.append(again)

    def replay(self) -> Callable[[], None]:
        """All of it once more, each program one foreign call."""
        steps = [
            partial(self.team.run, part.freeze(self.team)) if isinstance(part, Program) else part for part in self.parts
        ]

        def run() -> None:
            for step in steps:
                step()

        return run


class _Own(threading.local):
    """What each thread that computes has for itself: engines share a backend."""

    def __init__(self, products: Callable[[], Products], calls: Callable[[], Calls]) -> None:
        self.recording: Recording | None = None
        self.products, self.calls = products(), calls()


class CpuBackend(NumpyBackend):
    """Kernels of this package; arrays are NumPy's, weights stay in their file."""

    name = "cpu"
    kv_types: tuple[str, ...] = ("float16", "float32")  # half of the memory, and what llama.cpp keeps

    def __init__(self, threads: int | None = None, precision: str = "float32") -> None:
        self.target: Target = chosen()
        self._compiler = Compiler(self.target)
        self.threads = threads or usable_cores()
        self._team = Team(self._compiler, self.threads)
        self._in_bf16 = precision == "bf16"
        if self._in_bf16 and not self.target.has("dot_bf16"):
            raise OptionError(f"precision bf16 needs AVX-512 with BF16, {self.target.name} has none: leave it out")
        self._own = _Own(
            partial(Products, self._run, self.target, self.threads, self._in_bf16), partial(Calls, self._team)
        )
        for name in self.lacking:
            setattr(self, name, self._falling_back(OPS[name].reference))

    @property
    def lacking(self) -> tuple[str, ...]:
        """Operations that fall back to their reference."""
        return tuple(name for name in OPS if getattr(CpuBackend, name) is getattr(NumpyBackend, name))

    def arithmetic(self, format_: BlockFormat) -> Arithmetic:
        """Blocks are multiplied in bytes, plain numbers in float32 or as was asked for."""
        if format_.name in UNPACKINGS:
            return Arithmetic.INT8
        return Arithmetic.BFLOAT16 if self._in_bf16 else Arithmetic.FLOAT32

    def weight(self, tensor: GgufTensor) -> Any:
        """The tensor itself, where a kernel reads its format and width; else its values."""
        return Matrix(tensor) if readable(tensor) else tensor.dequantize()

    def ahead(self) -> AbstractContextManager[None]:
        """Within, a kernel may be under way while its caller goes on."""
        return self._own.calls.ahead()

    def upload(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """A copy."""
        self._own.calls.wait()
        return np.array(x)

    def download(self, x: Any) -> npt.NDArray[Any]:
        """The array itself; of a weight its values."""
        self._own.calls.wait()
        return x.tensor.dequantize() if isinstance(x, Matrix) else x

    def linear(self, x: Floats, w: Any, bias: Floats | None = None, activation: Activation | None = None) -> Floats:
        """f(x · wᵀ + bias); up to MOST_EXACT_ROWS rows have the bits they would have alone."""
        if not isinstance(w, Matrix):
            return np.asarray(self._fall_back(NumpyBackend.linear, x, w, bias, activation))
        return self._own.products.linear(self._contiguous(x), w, bias, activation)

    def embed(self, ids: Ints, w: Any) -> Floats:
        """Rows of the weight, expanded."""
        ids = self._contiguous(ids)
        if not isinstance(w, Matrix):
            return embed.embed(self._run, embed.plain(F32), ids, w, w.shape[1])
        way = w.unpacking
        kernel = embed.blocked(way) if way else embed.plain(PLAIN[w.format.name])
        return embed.embed(self._run, kernel, ids, w.tensor.raw, w.shape[1])

    def layer_norm(self, x: Floats, weight: Floats, bias: Floats, epsilon: float) -> Floats:
        """Each row by its mean and deviation."""
        return norms.layer_norm(self._run, self._contiguous(x), weight, bias, epsilon)

    def rms_norm(self, x: Floats, weight: Floats, epsilon: float) -> Floats:
        """Each row by its root mean square."""
        return norms.rms_norm(self._run, self._contiguous(x), weight, epsilon)

    def glu(self, x: Floats) -> Floats:
        """First half · σ(second half)."""
        return pointwise.glu(self._run, self._contiguous(x))

    def swiglu(self, gate: Floats, up: Floats) -> Floats:
        """silu(gate) · up."""
        return pointwise.each(self._run, pointwise.SWIGLU, self._contiguous(gate), self._contiguous(up))

    def add(self, x: Floats, y: Floats, scale: float = 1.0) -> Floats:
        """x + scale · y."""
        return pointwise.each(self._run, pointwise.ADD, self._contiguous(x), self._contiguous(y), float(scale))

    def log_mel(self, samples: Floats, offsets: Ints, config: MelConfig) -> Floats:
        """The reference: NumPy's transform in pieces takes a twentieth of the encoder's time."""
        return np.asarray(self._fall_back(NumpyBackend.log_mel, samples, offsets, config))

    def conv2d(
        self, x: Floats, offsets: Ints, weight: Floats, bias: Floats, activation: Activation | None = None
    ) -> Floats:
        """Stride 2 in both directions, clip by clip."""
        return conv2d.conv2d(self._run, self._contiguous(x), offsets, weight, bias, activation)

    def flatten(self, x: Floats) -> Floats:
        """(N, F, C) → (N, C · F)."""
        return conv2d.flatten(self._run, self._contiguous(x))

    def rel_attention(
        self, q: Floats, k: Floats, v: Floats, p: Floats, bias_u: Floats, bias_v: Floats, offsets: Ints
    ) -> Floats:
        """Every row over all rows of its clip, by content and by distance."""
        q, k, v, p = (self._contiguous(part) for part in (q, k, v, p))
        turning = turned.IN_BF16 if self._in_bf16 else turned.IN_FLOAT32
        return rel_attention.rel_attention(self._run, turning, q, k, v, p, bias_u, bias_v, offsets)

    def short_conv(
        self,
        x: Floats,
        taps: Floats,
        offsets: Ints,
        bias: Floats | None = None,
        activation: Activation | None = None,
        state: Floats | None = None,
        slots: Ints | None = None,
    ) -> tuple[Floats, Floats]:
        """Channel by channel, each sequence by itself."""
        return short_conv.short_conv(self._run, self._contiguous(x), taps, offsets, bias, activation, state, slots)

    def rope(self, x: Floats, positions: Ints, base: float) -> Floats:
        """Heads turned by their positions."""
        return rope.rope(self._run, self._contiguous(x), positions, base)

    def attention(
        self, q: Floats, k: Floats, v: Floats, keys: Any, values: Any, offsets: Ints, slots: Ints, starts: Ints
    ) -> Floats:
        """Over the cache, after appending k and v."""
        q, k, v = (self._contiguous(part) for part in (q, k, v))
        return attention.attention(self._run, q, k, v, keys, values, offsets, slots, starts)

    def attention_weights(
        self, q: Floats, keys: Any, offsets: Ints, slots: Ints, starts: Ints, heads: Ints, rows: Ints
    ) -> Floats:
        """What chosen heads looked at, on a range of rows."""
        q, heads, rows = (self._contiguous(part) for part in (q, heads, rows))
        return attention.attention_weights(self._run, q, keys, offsets, slots, starts, heads, rows)

    def pick(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None = None) -> tuple[Ints, Floats, Floats]:
        """The likeliest token of each row."""
        return pick.pick(self._run, self._contiguous(logits), allowed)

    def write(self, x: npt.NDArray[Any], values: npt.ArrayLike) -> None:
        """Overwrite in place."""
        self._own.calls.wait()
        self._own.products.forget()
        x[...] = values

    def concatenate(self, arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """One array of all rows."""
        self._own.calls.wait()
        return np.concatenate(arrays)

    def capture(self, step: Callable[..., Any], *slots: npt.NDArray[Any]) -> Callable[[], Any]:
        """Record: kernels become programs, references calls between them."""
        self._own.calls.wait()
        recording = self._own.recording = Recording(self._team)
        self._own.products.forget()
        try:
            with apart(recording.rooms):
                result = step(*slots)
            replay = recording.replay()
        finally:
            self._own.recording = None
            self._own.products.forget()

        def again() -> Any:
            replay()
            self._own.products.forget()  # the results' arrays are those of the last time, their values aren't
            return result

        return again

    def _run(self, kernel: Kernel, arguments: Sequence[Any], items: int, chunk: int) -> None:
        """Run a kernel now; while a step is captured, record it instead."""
        if JIT.read() == "0":
            heed()
            self._fall_back(partial(_interpreted, kernel, arguments, items, self.target))
            return
        own = self._own
        if own.recording:
            own.recording.program().add(kernel, arguments, items, chunk)
        else:
            own.calls.run(kernel, arguments, items, chunk)

    def _falling_back(self, reference: Callable[..., Any]) -> Callable[..., Any]:
        """The reference as an operation of this backend, with its signature."""

        @wraps(reference)
        def operation(*args: Any, **kwargs: Any) -> Any:
            return self._fall_back(reference, *args, **kwargs)

        return operation

    def _fall_back(self, reference: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The reference, recorded too while a step is captured."""
        self._own.calls.wait()
        if self._own.recording:
            self._own.recording.catch_up()
        result = reference(*args, **kwargs)
        if self._own.recording:
            self._own.recording.call(partial(reference, *args, **kwargs), outputs(result))
        return result

    def _contiguous(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        assert x.flags.c_contiguous or not self._own.recording, "a captured step reads rows that lie together"
        if not x.flags.c_contiguous:
            self._own.calls.wait()
        return np.ascontiguousarray(x)


def _interpreted(kernel: Kernel, arguments: Sequence[Any], items: int, target: Target) -> tuple[()]:
    """A kernel as plain Python; what it gives lies in its arguments."""
    kernel.interpret([word(argument) for argument in arguments], 0, items, target)
    return ()
