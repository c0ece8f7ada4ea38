"""Compile every CUDA kernel for GPUs that aren't there, as the full-size model calls them; registers, spills, memory.

    python -m benchmarks.gpu_compile [--target 80 90] [--only short_conv] [--assembly FOLDER]

Operations are called with tensors that have shapes and no memory; each kernel is compiled for the arguments it would
have been launched with, and not launched. Spills are bytes of local memory a thread; anything but 0 there, or a kernel
that isn't compiled, makes the exit code 1. It takes a few minutes the first time; Triton keeps what was compiled.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.pop("TRITON_INTERPRET", None)  # before Triton is imported: what is interpreted isn't compiled
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # as the backend asks for it; unset, Triton 3.9 warns

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from eardrop.backends.cuda import (
    attention,
    conv2d,
    linear,
    norms,
    pick,
    pointwise,
    rel_attention,
    rope,
    short_conv,
    unpack,
)
from eardrop.backends.cuda.weight import PLAIN, Copies, Weight
from eardrop.gguf import by_name
from eardrop.ops import ragged

WIDTH, KV_WIDTH, HEADS, HEAD = 2048, 512, 8, 64
CLIPS = ragged(375, 375, 63)  # rows of clips of 30 s and 5 s in one pass of the encoder
PROMPTS, STEP, DRAFT = ragged(400, 70), ragged(*[1] * 64), ragged(9)
HALF = torch.float16


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor that has a shape and no memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


def places(offsets: Any) -> torch.Tensor:
    """Slots or starts."""
    return empty(len(offsets) - 1, dtype=torch.int32)


def centred(taps: int, channels: int) -> None:
    """The conformer's convolution, and others like it."""
    short_conv.short_conv(empty(813, channels), empty(taps, channels), CLIPS, empty(channels), "silu")


def causal(taps: int, gates: int, offsets: Any) -> None:
    """LFM2's mixer with three gates, Mamba's with one."""
    bias, activation = (None, None) if gates == 3 else (empty(WIDTH), "silu")
    x, state = empty(int(offsets[-1]), gates * WIDTH), empty(65, taps - 1, WIDTH)
    short_conv.short_conv(x, empty(taps, WIDTH), offsets, bias, activation, state, places(offsets))  # type: ignore[arg-type]


def relative(products: torch.dtype) -> None:
    """The encoder's attention."""
    q, p, u = empty(813, HEADS, HEAD), empty(749, HEADS, HEAD), empty(HEADS, HEAD)
    rel_attention.rel_attention(q, q, q, p, u, u, CLIPS, products=products)


def cached(offsets: Any, cache: torch.dtype, products: torch.dtype) -> None:
    """The decoder's attention."""
    n = int(offsets[-1])
    q, k, keys = empty(n, 32, HEAD), empty(n, 8, HEAD), empty(65, 1024, 8, HEAD, dtype=cache)
    attention.attention(q, k, k, keys, keys, offsets, places(offsets), places(offsets), products=products)


def looked() -> None:
    """Where words are heard."""
    keys, rows = empty(2, 1024, 8, HEAD, dtype=HALF), np.array([[10, 385]], np.int32)
    every = np.arange(32, dtype=np.int32)
    attention.attention_weights(empty(9, 32, HEAD), keys, DRAFT, places(DRAFT), places(DRAFT), every, rows)


def subsampling(frames: int, mels: int, into: int) -> None:
    """The subsampler's convolutions: from one channel, then depthwise."""
    conv2d.conv2d(empty(813, frames, mels), CLIPS, empty(into, 3, 3), empty(into), "relu" if mels == 1 else None)


def weight(name: str, rows: int = WIDTH) -> Weight:
    """A matrix of the decoder's width."""
    format_, many = by_name(name), torch.bfloat16 if name == "BF16" else HALF
    data = (
        empty(rows, WIDTH, dtype=PLAIN[name])
        if name in PLAIN
        else empty(rows * format_.row_bytes(WIDTH), dtype=torch.uint8)
    )
    return Weight((rows, WIDTH), format_, data, many)


def product(name: str, rows: int) -> None:
    """Few or some rows by a weight."""
    linear.linear(empty(rows, WIDTH), weight(name), empty(WIDTH), "silu", Copies(0))


def unpacked(name: str) -> None:
    """All values of a weight, and a token's."""
    weight(name).rows(dtype=HALF)
    weight(name).rows(empty(4, dtype=torch.int32))


def normed() -> None:
    """Rows of either width, and heads."""
    norms.layer_norm(empty(813, 512), empty(512), empty(512), 1e-5)
    norms.rms_norm(empty(64, WIDTH), empty(WIDTH), 1e-5)
    norms.rms_norm(empty(64, 32, HEAD), empty(HEAD), 1e-5)


def gated() -> None:
    """Either network's gates."""
    pointwise.glu(empty(813, 1024))
    pointwise.swiglu(empty(64, WIDTH), empty(64, WIDTH))


def turned() -> None:
    """Heads by their positions."""
    rope.rope(empty(64, 32, HEAD), empty(64, dtype=torch.int32), 1e6)


def picked() -> None:
    """With a mask and without."""
    pick.pick(empty(64, 65_536))
    pick.pick(empty(64, 65_536), empty(64, 65_536, dtype=torch.bool))


CALLS: dict[str, Callable[[], None]] = {
    **{f"linear {name}, 1 row": partial(product, name, 1) for name in (*PLAIN, *unpack.ROWS)},
    **{f"linear {name}, 64 rows": partial(product, name, 64) for name in unpack.ROWS},
    **{f"weight {name}": partial(unpacked, name) for name in unpack.ROWS},
    "norms": normed,
    "gates": gated,
    "rope": turned,
    "pick": picked,
    "short_conv centred 3, 512": lambda: centred(3, 512),
    "short_conv centred 9, 512": lambda: centred(9, 512),
    "short_conv centred 9, 500": lambda: centred(9, 500),
    "short_conv centred 15, 512": lambda: centred(15, 512),
    "short_conv causal 3, gated": lambda: causal(3, 3, PROMPTS),
    "short_conv causal 3, gated, step": lambda: causal(3, 3, STEP),
    "short_conv causal 4, silu": lambda: causal(4, 1, PROMPTS),
    "short_conv causal 4, silu, step": lambda: causal(4, 1, STEP),
    "short_conv causal 9, silu": lambda: causal(9, 1, PROMPTS),
    "conv2d from one channel": lambda: subsampling(128, 1, 256),
    "conv2d depthwise": lambda: subsampling(64, 256, 256),
    "rel_attention float32": lambda: relative(torch.float32),
    "rel_attention float16": lambda: relative(HALF),
    "rel_attention bfloat16": lambda: relative(torch.bfloat16),
    "attention prompt, float32": lambda: cached(PROMPTS, HALF, torch.float32),
    "attention prompt, float16": lambda: cached(PROMPTS, HALF, HALF),
    "attention prompt, bfloat16": lambda: cached(PROMPTS, HALF, torch.bfloat16),
    "attention draft, float32": lambda: cached(DRAFT, HALF, torch.float32),
    "attention step": lambda: cached(STEP, HALF, torch.float32),
    "attention step, float32 cache": lambda: cached(STEP, torch.float32, torch.float32),
    "attention_weights": looked,
}


class _Elsewhere:
    """A driver of Triton's for a GPU that isn't here: it has a target and runs nothing."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        """What is compiled for."""
        return self._target

    def get_current_device(self) -> int:
        """The key of Triton's table of kernels."""
        return self._target.arch

    def get_current_stream(self, device: int) -> int:
        """None is used."""
        return 0


@contextmanager
def compiling(capability: int, kernels: list[Any]) -> Iterator[None]:
    """Within, a launch compiles its kernel for this target, into the list, and runs nothing."""

    def launch(kernel: JITFunction[Any], grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: kernels.append(kernel.run(*args, grid=grid, warmup=True, **kwargs))

    before = JITFunction.__getitem__
    triton.runtime.driver.set_active(_Elsewhere(capability))
    JITFunction.__getitem__ = launch
    try:
        yield
    finally:
        JITFunction.__getitem__ = before


@dataclass(frozen=True)
class Use:
    """What a kernel takes of a multiprocessor."""

    registers: int  # a thread
    spilled: int  # bytes a thread
    shared: int  # bytes a program
    warps: int  # of a program

    @property
    def resident(self) -> int:
        """Programs that 65,536 registers, 227 kB, 64 warps and 32 places of a multiprocessor of sm_90 hold."""
        registers = -(-self.registers // 8) * 8 * 32 * self.warps
        return min(65536 // registers, 64 // self.warps, 32, (227 << 10) // (self.shared + 1024))


def use(kernel: Any) -> Use:
    """From the machine code, by the tool that Triton brings."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        told = subprocess.run(
            [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", told)}
    return Use(found["REG"], max(found["STACK"], found["LOCAL"]), kernel.metadata.shared, kernel.metadata.num_warps)


def keep(folder: Path, label: str, kernel: Any, capability: int) -> None:
    """PTX and machine code, to be read."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / re.sub(r"\W+", "-", f"{label} {kernel.metadata.name} sm_{capability}")
    stem.with_suffix(".ptx").write_text(kernel.asm["ptx"])
    stem.with_suffix(".cubin").write_bytes(kernel.asm["cubin"])


def main() -> int:
    """The table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=int, nargs="+", default=[80, 90], help="compute capabilities")
    parser.add_argument("--only", default="", help="calls whose name holds this")
    parser.add_argument("--assembly", type=Path, help="a folder for PTX and machine code")
    options = parser.parse_args()
    print(f"Triton {triton.__version__}\n")
    print("| call | kernel | target | registers | spilled | shared | warps | resident |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    spills = 0
    for capability in options.target:
        for label, call in CALLS.items():
            kernels: list[Any] = []
            with compiling(capability, kernels):
                if options.only in label:
                    call()
            for kernel in kernels:
                u = use(kernel)
                spills += u.spilled > 0
                numbers = (u.registers, u.spilled, u.shared, u.warps, u.resident)
                cells = (label, kernel.metadata.name, f"sm_{capability}", *numbers)
                print("|", *(f"{cell} |" for cell in cells), flush=True)
                if options.assembly:
                    keep(options.assembly, label, kernel, capability)
    return int(spills > 0)


if __name__ == "__main__":
    sys.exit(main())
