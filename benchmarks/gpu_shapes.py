"""Random shapes through every operation of the CUDA backend, against the references: on a GPU, or without one.

    python -m benchmarks.gpu_shapes [--seed 1] [--cases 1000] [--only short_conv] [--first 0]

Every case comes from the seed, its operation's name and its number alone, so that one that fails can be run again:
`--only NAME --first NUMBER --cases 1`. Without a GPU, Triton's interpreter runs the kernels: a thousand cases of every
operation take hours there. The log names the seed, the machine and every case that failed; those make the exit code 1.
"""

import argparse
import datetime
import os
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from eardrop.audio import LFM2
from eardrop.gguf import GgufTensor, by_name
from eardrop.ops import OPS, Case, Op, outputs, ragged
from eardrop.ops.activations import ACTIVATIONS
from eardrop.ops.backend import Backend
from eardrop.ops.check import arithmetic_of, difference, meant, placed
from eardrop.ops.linear import BLOCKED, random_weight
from eardrop.ops.record import Float32, Int32, Tolerance, normal

Rng = np.random.Generator


def size(rng: Rng, most: int) -> int:
    """1 … most, small ones as often as large ones, and the edges of blocks now and then."""
    if rng.random() < 0.25:
        edge = 1 << int(rng.integers(0, most.bit_length()))
        return int(np.clip(edge + rng.integers(-1, 2), 1, most))
    return int(np.exp(rng.uniform(0, np.log(most + 1))))


def lengths(rng: Rng, most: int) -> list[int]:
    """Of one to four sequences; of steps, each 1."""
    count = int(rng.integers(1, 5))
    return [1] * count if rng.random() < 0.25 else [size(rng, most) for _ in range(count)]


def activation(rng: Rng) -> Any:
    """One of them, or none."""
    return rng.choice([None, *ACTIVATIONS])


def places(rng: Rng, slots: int, count: int) -> Int32:
    """Different slots."""
    return rng.permutation(slots)[:count].astype(np.int32)


def short_conv(rng: Rng) -> dict[str, Any]:
    """Three, four and nine taps most often; any from 2 to 16; empty sequences too."""
    taps = int(rng.choice([3, 4, 9])) if rng.random() < 0.6 else int(rng.integers(2, 17))
    many, channels, gates = lengths(rng, 80), size(rng, 200), int(rng.choice([1, 3]))
    if rng.random() < 0.1:
        many.insert(int(rng.integers(0, len(many) + 1)), 0)
    state = rng.random() < 0.6
    return {
        "x": normal(rng, sum(many), gates * channels),
        "taps": normal(rng, taps, channels),
        "offsets": ragged(*many),
        "bias": normal(rng, channels) if rng.random() < 0.5 else None,
        "activation": activation(rng),
        "state": normal(rng, len(many) + 2, taps - 1, channels) if state else None,
        "slots": places(rng, len(many) + 2, len(many)) if state else None,
    }


def log_mel(rng: Rng) -> dict[str, Any]:
    """Clips of nothing and of seconds, loud and silent."""
    many = [0 if rng.random() < 0.1 else size(rng, 40_000) for _ in lengths(rng, 1)]
    samples, offsets = normal(rng, sum(many)), ragged(*many)
    for first in offsets[:-1]:
        samples[first:] *= np.float32(rng.choice([0.0, 1e-4, 0.1, 1.0]))
    return {"samples": samples, "offsets": offsets, "config": replace(LFM2, mels=int(rng.choice([40, 80, 128])))}


def conv2d(rng: Rng) -> dict[str, Any]:
    """From one channel and depthwise."""
    many, channels, f = lengths(rng, 9), size(rng, 150), size(rng, 40)
    return {
        "x": normal(rng, sum(many), f, channels if rng.random() < 0.5 else 1),
        "offsets": ragged(*many),
        "weight": normal(rng, channels, 3, 3),
        "bias": normal(rng, channels),
        "activation": activation(rng),
    }


def rel_attention(rng: Rng) -> dict[str, Any]:
    """Tables of positions as long as needed, and longer."""
    many, heads, d = lengths(rng, 100), int(rng.integers(1, 4)), size(rng, 80)
    q, k, v = (normal(rng, sum(many), heads, d) for _ in "qkv")
    p = normal(rng, 2 * (max(many) + int(rng.integers(0, 9))) - 1, heads, d)
    bias_u, bias_v = normal(rng, heads, d), normal(rng, heads, d)
    return {"q": q, "k": k, "v": v, "p": p, "bias_u": bias_u, "bias_v": bias_v, "offsets": ragged(*many)}


def attention(rng: Rng) -> dict[str, Any]:
    """Steps, drafts and prompts, into caches of both types with and without room for parts."""
    many, kv, group, d = lengths(rng, 90), int(rng.integers(1, 4)), int(rng.integers(1, 6)), size(rng, 70)
    starts = [int(rng.choice([0, size(rng, 200)])) for _ in many]
    rows, slots, n = max(a + b for a, b in zip(starts, many, strict=True)) + size(rng, 300), len(many) + 1, sum(many)
    dtype = rng.choice([np.float32, np.float16])
    return {
        "q": normal(rng, n, kv * group, d),
        "k": normal(rng, n, kv, d),
        "v": normal(rng, n, kv, d),
        "keys": normal(rng, slots, rows, kv, d).astype(dtype),
        "values": normal(rng, slots, rows, kv, d).astype(dtype),
        "offsets": ragged(*many),
        "slots": places(rng, slots, len(many)),
        "starts": np.array(starts, np.int32),
    }


def attention_weights(rng: Rng) -> dict[str, Any]:
    """Ranges inside, empty, and past what a stream holds."""
    given = attention(rng)
    q, rows = given["q"], given["keys"].shape[1]
    ranges = np.sort(rng.integers(0, rows + 1, (len(given["slots"]), 2)), axis=1).astype(np.int32)
    heads = rng.integers(0, q.shape[1], int(rng.integers(1, 4))).astype(np.int32)
    kept = {name: given[name] for name in ("q", "keys", "offsets", "slots", "starts")}
    return {**kept, "heads": heads, "rows": ranges}


def weight(rng: Rng, most_rows: int) -> Any:
    """Of any format that is computed."""
    format_ = by_name(str(rng.choice(["F32", "F16", "BF16", *BLOCKED])))
    columns = size(rng, 600) if format_.block == 1 else format_.block * int(rng.integers(1, 4))
    return random_weight(rng, format_.name, size(rng, most_rows), columns)


def linear(rng: Rng) -> dict[str, Any]:
    """Few rows and many, of every format."""
    w = weight(rng, 150)
    bias = normal(rng, w.shape[0]) if rng.random() < 0.5 else None
    return {"x": normal(rng, size(rng, 150), w.shape[1]), "w": w, "bias": bias, "activation": activation(rng)}


def embed(rng: Rng) -> dict[str, Any]:
    """Repeats included."""
    w = weight(rng, 90)
    return {"ids": rng.integers(0, w.shape[0], int(rng.integers(0, 9))).astype(np.int32), "w": w}


def matrix(rng: Rng) -> Float32:
    """Rows by values."""
    return normal(rng, size(rng, 40), size(rng, 3000))


def layer_norm(rng: Rng) -> dict[str, Any]:
    """Of rows whose mean isn't 0."""
    x = matrix(rng) + np.float32(rng.normal())
    return {"x": x, "weight": normal(rng, x.shape[1]), "bias": normal(rng, x.shape[1]), "epsilon": 1e-5}


def rms_norm(rng: Rng) -> dict[str, Any]:
    """Rows of every width."""
    x = matrix(rng)
    return {"x": x, "weight": normal(rng, x.shape[1]), "epsilon": 1e-5}


def glu(rng: Rng) -> dict[str, Any]:
    """Two halves."""
    return {"x": normal(rng, size(rng, 40), 2 * size(rng, 1500))}


def swiglu(rng: Rng) -> dict[str, Any]:
    """A gate and what passes it."""
    gate = matrix(rng)
    return {"gate": gate, "up": normal(rng, *gate.shape)}


def add(rng: Rng) -> dict[str, Any]:
    """With the scales of the networks."""
    x = matrix(rng)
    return {"x": x, "y": normal(rng, *x.shape), "scale": float(rng.choice([1.0, 0.5]))}


def flatten(rng: Rng) -> dict[str, Any]:
    """Three sizes."""
    return {"x": normal(rng, size(rng, 20), size(rng, 30), size(rng, 200))}


def rope(rng: Rng) -> dict[str, Any]:
    """Positions up to the real context."""
    n, heads, d = size(rng, 40), int(rng.integers(1, 9)), 2 * size(rng, 64)
    return {
        "x": normal(rng, n, heads, d),
        "positions": rng.integers(0, 4096, n).astype(np.int32),
        "base": float(rng.choice([1e4, 1e6])),
    }


def pick(rng: Rng) -> dict[str, Any]:
    """With and without a mask that leaves few."""
    logits = 5 * normal(rng, size(rng, 8), size(rng, 5000))
    allowed = rng.random(logits.shape) < rng.choice([0.01, 0.9])
    allowed[np.arange(len(logits)), rng.integers(0, logits.shape[1], len(logits))] = True
    return {"logits": logits, "allowed": allowed if rng.random() < 0.7 else None}


SHAPES: dict[str, Callable[[Rng], dict[str, Any]]] = {
    shape.__name__: shape
    for shape in (
        *(short_conv, log_mel, conv2d, rel_attention, attention, attention_weights, linear, embed, layer_norm),
        *(rms_norm, glu, swiglu, add, flatten, rope, pick),
    )
}


def drawn(op: Op, seed: int, number: int) -> Case:
    """The case of this number."""
    rng = np.random.default_rng([seed, zlib.crc32(op.name.encode()), number])
    return Case(f"{op.name} {number}", SHAPES[op.name](rng))


def wrong(backend: Backend, op: Op, case: Case) -> str | None:
    """What is wrong with what the backend gives or changes; None where it is what the reference means."""
    arguments = placed(backend, op, case)
    result = getattr(backend, op.name)(**arguments)
    changed = (arguments[name] for name in op.changes if arguments.get(name) is not None)
    got = [backend.download(value) for value in (*outputs(result), *changed)]
    own = {name: x.dequantize() if isinstance(x, GgufTensor) else x for name, x in case.arguments.items()}
    tolerance, expected = op.tolerance[arithmetic_of(backend, op, case.arguments)], meant(op, own)
    if op.name == "linear":
        tolerance = of_few(tolerance, own, expected[0])
    differences = [difference(a, b, tolerance) for a, b in zip(got, expected, strict=True)]
    found = [said for said in differences if said]
    return f"{found[0]}; {_shapes(case)}" if found else None


def of_few(tolerance: Tolerance, given: dict[str, Any], y: Float32) -> Tolerance:
    """A product's tolerance where it has so few outputs that the largest isn't, as in many, three deviations of a sum.

    One output may be anything, or be next to nothing behind its activation; its rounding stays that of the sum.
    """
    sums = np.square(given["x"], dtype=np.float64) @ np.square(given["w"], dtype=np.float64).T
    usual, largest = 3 * float(np.sqrt(sums).max(initial=0.0)), float(np.abs(y).max(initial=0.0))
    return replace(tolerance, of_largest=tolerance.of_largest * max(1.0, usual / largest)) if largest else tolerance


def _shapes(case: Case) -> str:
    def said(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return x.tolist() if x.dtype == np.int32 and x.size < 12 else f"{x.dtype}{list(x.shape)}"
        return f"{x.format.name}{list(x.shape)}" if isinstance(x, GgufTensor) else x

    return ", ".join(f"{name} {said(x)}" for name, x in case.arguments.items())


def _machine() -> str:
    import torch
    import triton

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: Triton's interpreter"
    return f"{where}; torch {torch.__version__}, Triton {triton.__version__}, NumPy {np.__version__}"


def main() -> int:
    """The campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=1000, help="of each operation")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", default="", help="operations, with commas between them; all of them")
    options = parser.parse_args()
    backend = _backend()
    print(f"{datetime.date.today()}, seed {options.seed}, {options.cases} cases each; {_machine()}", flush=True)
    failed = 0
    for name in options.only.split(",") if options.only else SHAPES:
        if name in backend.lacking:
            print(f"{name}: the backend has no kernel for it, its reference runs")
            continue
        started, mine = time.perf_counter(), 0
        for number in range(options.first, options.first + options.cases):
            case = drawn(OPS[name], options.seed, number)
            said = wrong(backend, OPS[name], case)
            if said:
                mine += 1
                print(f"  {case.label}: {said}", flush=True)
        failed += mine
        print(f"{name}: {mine} of {options.cases} wrong, {time.perf_counter() - started:.0f} s", flush=True)
    return int(failed > 0)


def _backend() -> Backend:
    """CUDA, interpreted where there is no GPU: decided before Triton is imported."""
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    from eardrop.backends import choose

    return choose("cuda")


if __name__ == "__main__":
    sys.exit(main())
