"""The CUDA backend: joins the files of this folder, one for each operation or family, as one value.

Arrays are torch tensors on one GPU; under Triton's interpreter on the host. What has no kernel here runs as its
reference on the host (`lacking`): its arguments are downloaded, what it gives or changes is uploaded.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from eardrop.audio.log_mel import MelConfig
from eardrop.backends.cuda import (
    attention,
    conv2d,
    device,
    embed,
    linear,
    log_mel,
    norms,
    pick,
    pointwise,
    rel_attention,
    rope,
    short_conv,
)
from eardrop.backends.cuda.capture import captured
from eardrop.backends.cuda.unpack import ROWS
from eardrop.backends.cuda.weight import Copies, Weight, uploaded
from eardrop.gguf import BlockFormat, GgufTensor
from eardrop.ops import OPS, Activation, Arithmetic, Int32, Op, heard
from eardrop.ops.work import heed, heeding

Tensor: TypeAlias = torch.Tensor
P = ParamSpec("P")
T = TypeVar("T")

COPIES_SHARE = 0.25  # of the memory that is free, for weights in half precision beside their blocks


def sparing(method: Callable[P, T]) -> Callable[P, T]:
    """The method; where the GPU's memory ends, once more without the copies of weights, and then MemoryError.

    It may be called twice: whatever changes what it is given has allocated all it needs before.
    """

    @wraps(method)
    def spared(*args: P.args, **kwargs: P.kwargs) -> T:
        backend: Any = args[0]
        try:
            return method(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            full = MemoryError(str(error).partition(" If reserved")[0])  # without advice about torch's variables
        if _recording(backend.device) or not backend.copies.give_up():
            raise full
        return spared(*args, **kwargs)

    return spared


def operation(method: Callable[P, T]) -> Callable[P, T]:
    """An operation: it heeds first, and spares memory."""
    return heeding(sparing(method))


class CudaBackend:
    """Kernels in Triton, products of many rows by torch, on the current GPU."""

    name = "cuda"
    kv_types: tuple[str, ...] = ("float16", "float32")
    together_seconds = 64 * 30  # fewer leave the tensor cores idle
    together_frames = 1 << 12  # the first convolution makes 134 MB of them

    def __init__(self, precision: str = "float32", gpu_memory: int | None = None) -> None:
        self.device = device.chosen()
        self._in_bf16 = precision == "bf16"
        self._products = torch.bfloat16 if self._in_bf16 else torch.float32  # of many rows with each other
        self.copies = Copies(_copies_budget(self.device) if gpu_memory is None else gpu_memory)
        for name in self.lacking:
            setattr(self, name, self._falling_back(OPS[name]))

    @property
    def lacking(self) -> tuple[str, ...]:
        """Operations that run as their references, on the host."""
        return tuple(name for name in OPS if not hasattr(CudaBackend, name))

    def arithmetic(self, format_: BlockFormat) -> Arithmetic:
        """Products on tensor cores have operands of 16 bits, those with float32 weights none that are rounded."""
        if self._in_bf16 or format_.name == "BF16":
            return Arithmetic.BFLOAT16
        return Arithmetic.FLOAT16 if in_halves(format_) else Arithmetic.FLOAT32

    def ahead(self) -> AbstractContextManager[None]:
        """Nothing changes: a stream computes while its caller goes on, always."""
        return nullcontext()

    @sparing
    def weight(self, tensor: GgufTensor) -> Weight:
        """The blocks, field by field, on the device."""
        return uploaded(tensor, self.device, in_bf16=self._in_bf16)

    @sparing
    def upload(self, x: npt.ArrayLike) -> Tensor:
        """A copy on the device; its caller goes on while it is under way."""
        return self._staged(x).to(self.device, non_blocking=True)

    @sparing
    def download(self, x: Tensor | Weight) -> npt.NDArray[Any]:
        """An array, or a weight's values, on the host; waits for what computes it."""
        return np.asarray((x.rows() if isinstance(x, Weight) else x).cpu().numpy())

    @sparing
    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Tensor:
        """Zeros on the device."""
        return torch.zeros(shape, dtype=_type_of(dtype), device=self.device)

    @sparing
    def write(self, x: Tensor, values: Tensor | npt.ArrayLike) -> None:
        """Overwrite in place."""
        x.copy_(values if isinstance(values, torch.Tensor) else self._staged(values), non_blocking=True)

    @sparing
    def concatenate(self, arrays: Sequence[Tensor]) -> Tensor:
        """One array of all rows."""
        return torch.cat(list(arrays))

    def step_rows(self, streams: int) -> int:
        """The next power of two: to record a graph takes three runs from Python, a few rows more next to nothing."""
        return 1 << (streams - 1).bit_length()

    @sparing
    def capture(self, step: Callable[..., Any], *slots: Tensor) -> Callable[[], Any]:
        """A CUDA graph; the function itself where the host takes part: a reference, or who listens to taps."""
        if self.lacking or heard():
            return lambda: step(*slots)
        with self.copies.used() as used:
            replay = captured(step, slots, self.device)
        return lambda used=used: replay()  # type: ignore[misc]

    @operation
    def linear(self, x: Tensor, w: Weight, bias: Tensor | None = None, activation: Activation | None = None) -> Tensor:
        """f(x · wᵀ + bias)."""
        return linear.linear(x.contiguous(), w, bias, activation, self.copies)

    @operation
    def embed(self, ids: Tensor, w: Weight) -> Tensor:
        """Rows of the weight."""
        return embed.embed(ids.contiguous(), w)

    @operation
    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """Each row by its mean and deviation."""
        return norms.layer_norm(x.contiguous(), weight, bias, epsilon)

    @operation
    def rms_norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Each row by its root mean square."""
        return norms.rms_norm(x.contiguous(), weight, epsilon)

    @operation
    def glu(self, x: Tensor) -> Tensor:
        """First half · σ(second half)."""
        return pointwise.glu(x.contiguous())

    @operation
    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) · up."""
        return pointwise.swiglu(gate.contiguous(), up.contiguous())

    @operation
    def add(self, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
        """x + scale · y."""
        return pointwise.add(x, y, scale)

    @operation
    def log_mel(self, samples: Tensor, offsets: Int32, config: MelConfig) -> Tensor:
        """Frames of every clip; of a front end that isn't LFM2's by the reference."""
        if not log_mel.has_kernel(config):
            return self.upload(OPS["log_mel"].reference(self.download(samples), offsets, config))
        return log_mel.log_mel(samples, offsets, config)

    @operation
    def conv2d(
        self, x: Tensor, offsets: Int32, weight: Tensor, bias: Tensor, activation: Activation | None = None
    ) -> Tensor:
        """Stride 2 in both directions, clip by clip."""
        return conv2d.conv2d(x, offsets, weight, bias, activation)

    @operation
    def flatten(self, x: Tensor) -> Tensor:
        """(N, F, C) → (N, C · F)."""
        return conv2d.flatten(x)

    @operation
    def rel_attention(
        self, q: Tensor, k: Tensor, v: Tensor, p: Tensor, bias_u: Tensor, bias_v: Tensor, offsets: Int32
    ) -> Tensor:
        """Every row over all rows of its clip, by content and by distance."""
        return rel_attention.rel_attention(q, k, v, p, bias_u, bias_v, offsets, products=self._products)

    @operation
    def short_conv(
        self,
        x: Tensor,
        taps: Tensor,
        offsets: Int32,
        bias: Tensor | None = None,
        activation: Activation | None = None,
        state: Tensor | None = None,
        slots: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Channel by channel, each sequence by itself."""
        return short_conv.short_conv(x, taps, offsets, bias, activation, state, slots)

    @operation
    def rope(self, x: Tensor, positions: Tensor, base: float) -> Tensor:
        """Heads turned by their positions."""
        return rope.rope(x.contiguous(), positions, base)

    @operation
    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        keys: Tensor,
        values: Tensor,
        offsets: Int32,
        slots: Tensor,
        starts: Tensor,
    ) -> Tensor:
        """Over the cache, after appending k and v."""
        return attention.attention(q, k, v, keys, values, offsets, slots, starts)

    @operation
    def attention_weights(
        self, q: Tensor, keys: Tensor, offsets: Int32, slots: Tensor, starts: Tensor, heads: Int32, rows: Int32
    ) -> Tensor:
        """What chosen heads looked at, on a range of rows."""
        return attention.attention_weights(q, keys, offsets, slots, starts, heads, rows)

    @operation
    def pick(self, logits: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest token of each row."""
        return pick.pick(logits.contiguous(), allowed)

    def _staged(self, x: npt.ArrayLike) -> Tensor:
        """A copy in pages that stay in memory, which torch keeps until they have been read."""
        values = np.asarray(x)
        there = torch.empty(values.shape, dtype=_type_of(values.dtype), pin_memory=self.device.type == "cuda")
        there.numpy()[...] = values
        return there

    def _falling_back(self, op: Op) -> Callable[..., Any]:
        """The reference as an operation of this backend, with its signature."""

        @wraps(op.reference)
        def referred(*args: Any, **kwargs: Any) -> Any:
            heed()
            given = op.arguments(*args, **kwargs)
            own = {name: np.array(self.download(x)) if isinstance(x, torch.Tensor) else x for name, x in given.items()}
            result = op.reference(**own)
            for name in op.changes:
                if given[name] is not None:
                    self.write(given[name], own[name])
            return tuple(map(self.upload, result)) if isinstance(result, tuple) else self.upload(result)

        return referred


def _type_of(dtype: npt.DTypeLike) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


def in_halves(format_: BlockFormat) -> bool:
    """Whether products of many rows round a weight of this format to float16."""
    return format_.name == "F16" or format_.name in ROWS


def _recording(place: torch.device) -> bool:
    """Whether a graph is being recorded on this thread's stream: no memory can be given back meanwhile."""
    return bool(place.type == "cuda" and torch.cuda.is_current_stream_capturing())


def _copies_budget(place: torch.device) -> int:
    return int(COPIES_SHARE * torch.cuda.mem_get_info(place)[0]) if place.type == "cuda" else 0
