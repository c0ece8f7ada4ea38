"""The contract between the networks and whoever computes: fulfilled in `backends/`, met here only as an argument."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from eardrop.audio.log_mel import MelConfig
from eardrop.gguf import BlockFormat, GgufTensor
from eardrop.ops.activations import Activation
from eardrop.ops.record import Arithmetic, Array, Int32

Weight = Any  # a matrix as a backend keeps it: `shape` is its, the rest is the backend's own


class Backend(Protocol):
    """A value passed to the networks. The operations' meaning is in `OPS`; a test holds the two equal."""

    name: str
    kv_types: tuple[str, ...]  # what keys and values may be kept in, the default first
    together_seconds: int  # of clips that are encoded in one batch
    together_frames: int  # of mel that are subsampled at once: the first convolution makes 32 kB of each

    @property
    def lacking(self) -> tuple[str, ...]:
        """The operations that run as their references."""

    def arithmetic(self, format_: BlockFormat) -> Arithmetic:
        """How products with weights of this format are taken: which tolerance holds."""

    def ahead(self) -> AbstractContextManager[None]:
        """Within, an operation may return before it is done: what it gives is read through `download` alone."""

    def weight(self, tensor: GgufTensor) -> Weight:
        """A matrix (M, K) ready for `linear` and `embed`. May re-lay blocks; may not change values."""

    def upload(self, x: npt.ArrayLike) -> Array:
        """A copy where this backend computes."""

    def download(self, x: Array | Weight) -> npt.NDArray[Any]:
        """An array, or a weight's values, as NumPy."""

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Zeros where this backend computes."""

    def write(self, x: Array, values: Array | npt.ArrayLike) -> None:
        """Overwrite x in place, from here or from the host: how a captured step is given its next tokens."""

    def concatenate(self, arrays: Sequence[Array]) -> Array:
        """The rows of all, in order."""

    def step_rows(self, streams: int) -> int:
        """Rows of a step that is captured for so many streams; more than them where few steps shall serve all."""

    def capture(self, step: Callable[..., Any], *slots: Array) -> Callable[[], Any]:
        """Record `step(*slots)` and return the replay, which reads what the slots hold by then.

        Whether the step is run as well is the backend's choice: what it writes to is garbage afterwards.
        """

    def linear(self, x: Array, w: Weight, bias: Array | None = None, activation: Activation | None = None) -> Array: ...
    def embed(self, ids: Array, w: Weight) -> Array: ...
    def layer_norm(self, x: Array, weight: Array, bias: Array, epsilon: float) -> Array: ...
    def rms_norm(self, x: Array, weight: Array, epsilon: float) -> Array: ...
    def glu(self, x: Array) -> Array: ...
    def swiglu(self, gate: Array, up: Array) -> Array: ...
    def add(self, x: Array, y: Array, scale: float = 1.0) -> Array: ...
    def log_mel(self, samples: Array, offsets: Int32, config: MelConfig) -> Array: ...
    def conv2d(
        self, x: Array, offsets: Int32, weight: Array, bias: Array, activation: Activation | None = None
    ) -> Array: ...
    def flatten(self, x: Array) -> Array: ...
    def rel_attention(
        self, q: Array, k: Array, v: Array, p: Array, bias_u: Array, bias_v: Array, offsets: Int32
    ) -> Array: ...
    def short_conv(
        self,
        x: Array,
        taps: Array,
        offsets: Int32,
        bias: Array | None = None,
        activation: Activation | None = None,
        state: Array | None = None,
        slots: Array | None = None,
    ) -> tuple[Array, Array]: ...
    def rope(self, x: Array, positions: Array, base: float) -> Array: ...
    def attention(
        self, q: Array, k: Array, v: Array, keys: Array, values: Array, offsets: Int32, slots: Array, starts: Array
    ) -> Array: ...
    def attention_weights(
        self, q: Array, keys: Array, offsets: Int32, slots: Array, starts: Array, heads: Int32, rows: Int32
    ) -> Array: ...
    def pick(self, logits: Array, allowed: Array | None = None) -> tuple[Array, Array, Array]: ...


def floats(backend: Backend, tensor: GgufTensor) -> Array:
    """A small tensor (a norm, a bias, a kernel) as float32 where the backend computes, whatever its format."""
    return backend.upload(np.ascontiguousarray(tensor.dequantize(), np.float32))
