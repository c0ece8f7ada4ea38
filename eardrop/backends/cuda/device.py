"""What there is to compute on: torch, Triton, a driver, a GPU; or Triton's interpreter, which needs no GPU.

`missing` answers without importing torch, which takes a second or two: every command asks it. It asks the driver's
management library, not CUDA: a process that once began CUDA can't be forked any more.
"""

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from eardrop.errors import EardropError, MissingExtra, OptionError
from eardrop.knobs import TRITON_INTERPRET

if TYPE_CHECKING:
    import torch

LEAST_CAPABILITY = (8, 0)  # tensor cores that multiply bfloat16


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the host; decided when Triton is imported."""
    return TRITON_INTERPRET.level() == 1


def missing() -> EardropError | None:
    """Why nothing can be computed here, or None."""
    absent = [name for name in ("torch", "triton") if find_spec(name) is None]
    if absent:
        return MissingExtra(f"{' and '.join(absent)} not installed; install with: pip install 'eardrop[cuda]'")
    if interpreted():
        return None
    if not _torch_has_cuda():
        return MissingExtra("torch is installed without CUDA; install the wheel for CUDA: pytorch.org/get-started")
    return _no_gpu()


def _torch_has_cuda() -> bool:
    """Whether the wheel is one for CUDA, by what lies in it."""
    found = find_spec("torch")
    return bool(found and found.origin and (Path(found.origin).parent / "lib" / "libtorch_cuda.so").exists())


def _no_gpu() -> OptionError | None:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return OptionError("CUDA_VISIBLE_DEVICES hides every GPU; name one, or unset it")
    try:
        driver = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return OptionError("no NVIDIA driver is installed; install one, or choose --backend cpu")
    count = ctypes.c_uint(0)
    if driver.nvmlInit_v2() != 0 or driver.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0 or not count.value:
        return OptionError("the NVIDIA driver finds no GPU; see what nvidia-smi says, or choose --backend cpu")
    return None


def chosen() -> "torch.device":
    """Where arrays live: the first GPU that is visible, current on every thread; or the host for the interpreter.

    Products and sums are fused where a kernel doesn't say otherwise: unset, Triton warns that it will once leave that.

    Raises OptionError where torch finds no GPU, or one too old.
    """
    import torch

    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

    if interpreted():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise OptionError(
            f"torch {torch.__version__} finds no GPU that it can use; its CUDA may be newer than the driver's:"
            " compare with nvidia-smi, or choose --backend cpu"
        )
    capability = torch.cuda.get_device_capability(0)
    if capability < LEAST_CAPABILITY:
        found, least = (".".join(map(str, each)) for each in (capability, LEAST_CAPABILITY))
        raise OptionError(f"the GPU has compute capability {found}, expected {least} or higher; choose --backend cpu")
    return torch.device("cuda", 0)
