"""A step recorded once as a CUDA graph and replayed: one launch a token instead of some hundred.

The step runs twice before: Triton compiles on the first run, tables are copied to the device and memory is found. What
it allocates while it is recorded stays the graph's: results lie where they lay, with new values.
"""

from collections.abc import Callable
from typing import Any

import torch


def captured(step: Callable[..., Any], slots: tuple[torch.Tensor, ...], device: torch.device) -> Callable[[], Any]:
    """The replay of `step(*slots)`; on the host the step itself."""
    if device.type != "cuda":
        return lambda: step(*slots)
    _warm_up(step, slots, device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may copy meanwhile
        result = step(*slots)

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def _warm_up(step: Callable[..., Any], slots: tuple[torch.Tensor, ...], device: torch.device) -> None:
    """Two runs on a stream of their own, as torch asks for."""
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(2):
            step(*slots)
    torch.cuda.current_stream(device).wait_stream(aside)
