"""What the GPU can do at most, and what a piece of work launches: for benchmarks."""

import time
from collections.abc import Callable
from typing import Any

import torch

PASSES = 7
COPIED = 4 << 30  # bytes, where there are as many
PRODUCT = 8192  # rows and columns


def bandwidth(place: torch.device, size: int = COPIED) -> list[float]:
    """Bytes a second of a large copy, those read and those written, pass after pass."""
    if place.type == "cuda":
        size = min(size, torch.cuda.mem_get_info()[0] // 4)
    source = torch.randn(size // 4, device=place)
    target = torch.empty_like(source)
    return [2 * source.nbytes / seconds for seconds in _seconds(lambda: target.copy_(source), place)]


def product_peak(place: torch.device, size: int = PRODUCT) -> list[float]:
    """Operations a second of a large product of random halves, sums in float32, pass after pass."""
    half = torch.float16 if place.type == "cuda" else torch.float32  # the host's halves are no measure of anything
    a, b = (torch.randn(size, size, device=place).to(half) for _ in range(2))
    return [2 * size**3 / seconds for seconds in _seconds(lambda: a @ b, place)]


def launches(place: torch.device, work: Callable[[], Any]) -> int | None:
    """Kernels that it launches, those of a replayed graph one by one; None where there is no GPU to count them."""
    if place.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    return sum(int(event.count) for event in profile.key_averages() if "memcpy" not in event.key.lower())


def name(place: torch.device) -> str:
    """What it is called."""
    return str(torch.cuda.get_device_name(place)) if place.type == "cuda" else "no GPU: Triton's interpreter"


def _seconds(work: Callable[[], Any], place: torch.device) -> list[float]:
    """Of each pass but the first, from an idle device until it is idle again."""
    wait = torch.cuda.synchronize if place.type == "cuda" else lambda: None
    found = []
    for _ in range(PASSES + 1):
        wait()
        started = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - started)
    return found[1:]
