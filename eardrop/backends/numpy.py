"""The reference backend: every operation is its own meaning, collected from `ops/`.

Where is the code? In `eardrop/ops/*.py`: each reference there is what this backend runs. It is slow and obvious,
and every other backend must agree with it. Work that nobody wants any more ends between two operations.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from eardrop.gguf import BlockFormat, GgufTensor
from eardrop.ops import OPS, Arithmetic
from eardrop.ops.work import heeding


class NumpyBackend:
    """NumPy on the host; weights are expanded to float32 when they are loaded."""

    name = "numpy"
    kv_types: tuple[str, ...] = ("float32", "float16")
    together_seconds = 60  # all that is made of them on the way lies in memory together
    together_frames = 512  # whose first convolution stays in the third cache

    @property
    def lacking(self) -> tuple[str, ...]:
        """All: that is what this backend is."""
        return tuple(OPS)

    linear = staticmethod(heeding(OPS["linear"].reference))
    embed = staticmethod(heeding(OPS["embed"].reference))
    layer_norm = staticmethod(heeding(OPS["layer_norm"].reference))
    rms_norm = staticmethod(heeding(OPS["rms_norm"].reference))
    glu = staticmethod(heeding(OPS["glu"].reference))
    swiglu = staticmethod(heeding(OPS["swiglu"].reference))
    add = staticmethod(heeding(OPS["add"].reference))
    log_mel = staticmethod(heeding(OPS["log_mel"].reference))
    conv2d = staticmethod(heeding(OPS["conv2d"].reference))
    flatten = staticmethod(heeding(OPS["flatten"].reference))
    rel_attention = staticmethod(heeding(OPS["rel_attention"].reference))
    short_conv = staticmethod(heeding(OPS["short_conv"].reference))
    rope = staticmethod(heeding(OPS["rope"].reference))
    attention = staticmethod(heeding(OPS["attention"].reference))
    attention_weights = staticmethod(heeding(OPS["attention_weights"].reference))
    pick = staticmethod(heeding(OPS["pick"].reference))

    def arithmetic(self, format_: BlockFormat) -> Arithmetic:
        """Products of every format are taken in float32."""
        return Arithmetic.FLOAT32

    def ahead(self) -> AbstractContextManager[None]:
        """Every operation is done when it returns."""
        return nullcontext()

    def weight(self, tensor: GgufTensor) -> npt.NDArray[np.float32]:
        """The values; float32 tensors stay in the mapped file."""
        return tensor.dequantize()

    def upload(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """A copy: what the caller does with his own is his affair."""
        return np.array(x)

    def download(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The array itself."""
        return x

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Zeros; pages that are never touched cost nothing."""
        return np.zeros(shape, dtype)

    def write(self, x: npt.NDArray[Any], values: npt.ArrayLike) -> None:
        """Overwrite in place."""
        x[...] = values

    def concatenate(self, arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """One array of all rows."""
        return np.concatenate(arrays)

    def step_rows(self, streams: int) -> int:
        """As many: another row costs more than to capture anew."""
        return streams

    def capture(self, step: Callable[..., Any], *slots: npt.NDArray[Any]) -> Callable[[], Any]:
        """The function itself: there is nothing to record."""
        return lambda: step(*slots)
