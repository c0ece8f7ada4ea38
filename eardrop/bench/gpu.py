"""A model on a GPU: its stages under the two roofs, launches of a token, and many streams together.

Stages of a transcription end on the host while the GPU still computes. Here each is a part of the model by itself
(`warm.py`), waited for; what it can't do without, in bytes and operations, is by the operations' own records.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from eardrop.backends import Spent, cost_of, observed
from eardrop.bench.noise import figure
from eardrop.bench.warm import Warm
from eardrop.engine import Model
from eardrop.ops import Float32, Op

PROMPT = 512  # rows of the prefill
STREAMS = (1, 8, 64, 256)


@dataclass(frozen=True)
class Roof:
    """What the GPU can do at most."""

    name: str
    bandwidth: Sequence[float]  # bytes a second of a copy, read and written, pass after pass
    products: Sequence[float]  # operations a second, of halves


def roof(model: Model) -> Roof:
    """Of the GPU that a model lies on."""
    from eardrop.backends.cuda import measure  # imported when one is measured: torch comes with it

    place = model.backend.device  # type: ignore[attr-defined]
    return Roof(measure.name(place), measure.bandwidth(place), measure.product_peak(place))


def measured(model: Model, mel: Float32, under: Roof, *, tokens: int, runs: int) -> dict[str, Any]:
    """The section `gpu` of a review.

    mel  (T, M) frames that the encoder is measured on
    """
    return {
        "name": under.name,
        "copies": figure(under.bandwidth, "bytes/s", "higher"),
        "products": figure(under.products, "operations/s", "higher"),
        "stages": stages(model, mel, under, tokens=tokens, runs=runs),
        "streams": sweep(model, under, tokens=tokens, runs=runs),
        "launches of a token": launches(model),
    }


def stages(model: Model, mel: Float32, under: Roof, *, tokens: int, runs: int) -> list[dict[str, Any]]:
    """Encoder, prefill and token, each with its shares of both roofs."""
    parts: dict[str, tuple[Callable[[Warm], float], Callable[[Model], Spent]]] = {
        "encoder": (partial(Warm.encode, mel=mel), partial(cost, call=partial(Warm.encode, mel=mel))),
        "prefill": (partial(Warm.prefill, rows=PROMPT), partial(cost, call=partial(Warm.prefill, rows=PROMPT))),
        "token": (partial(_step, tokens=tokens), step_cost),
    }
    return [
        {"stage": name, **_under(under, _repeated(model, call, runs), spent(model))}
        for name, (call, spent) in parts.items()
    ]


def sweep(model: Model, under: Roof, *, tokens: int, runs: int) -> list[dict[str, Any]]:
    """Tokens a second of many streams together, as many as memory bears."""
    found: list[dict[str, Any]] = []
    for streams in STREAMS:
        try:
            seconds = _repeated(model, partial(_step, tokens=tokens, streams=streams), runs)
        except MemoryError:
            break
        rate = figure([streams / each for each in seconds], "tokens/s", "higher")
        found.append({"streams": streams, "rate": rate, **_under(under, seconds, step_cost(model, streams))})
    return found


def launches(model: Model) -> float | None:
    """Kernels of one step; what a prompt launches before it is taken off."""
    from eardrop.backends.cuda import measure

    warm, place = Warm(model), model.backend.device  # type: ignore[attr-defined]
    warm.decode(2)
    few, many = (measure.launches(place, partial(warm.decode, tokens)) for tokens in (2, 6))
    return None if few is None or many is None else (many - few) / 4


def cost(model: Model, call: Callable[[Warm], Any]) -> Spent:
    """What the operations of a call can't do without."""
    total = Spent()

    def around(op: Op, compute: Callable[..., Any], given: dict[str, Any]) -> Any:
        needed = cost_of(model.backend, op, given)
        total.calls, total.flops, total.bytes = total.calls + 1, total.flops + needed.flops, total.bytes + needed.bytes
        return compute(**given)

    call(Warm(replace(model, backend=observed(model.backend, around))))
    return total


def step_cost(model: Model, streams: int = 1) -> Spent:
    """Of one step: two less one."""
    one, two = (cost(model, partial(Warm.decode, tokens=tokens, streams=streams)) for tokens in (1, 2))
    return Spent(two.calls - one.calls, flops=two.flops - one.flops, bytes=two.bytes - one.bytes)


def _step(warm: Warm, *, tokens: int, streams: int = 1) -> float:
    """Seconds of one."""
    return warm.decode(tokens, streams=streams) / tokens


def _repeated(model: Model, call: Callable[[Warm], float], runs: int) -> list[float]:
    """Seconds of each run but the first."""
    warm = Warm(model)
    return [call(warm) for _ in range(runs + 1)][1:]


def _under(under: Roof, seconds: Sequence[float], spent: Spent) -> dict[str, Any]:
    """Seconds, and the shares of the best that the GPU did."""
    memory, products = (
        [need / each / max(most) for each in seconds]
        for need, most in ((spent.bytes, under.bandwidth), (spent.flops, under.products))
    )
    return {
        "seconds": figure(seconds, "s", "lower"),
        "of memory": figure(memory, "share", "higher"),
        "of products": figure(products, "share", "higher"),
    }
