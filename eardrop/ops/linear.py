"""y = f(x · Wᵀ + b): the operation that almost all time is spent in."""

from collections.abc import Iterator

import numpy as np

from eardrop.gguf import FORMATS, GgufTensor
from eardrop.ops.activations import ACTIVATIONS, Activation, activated
from eardrop.ops.record import SUMMED, Arithmetic, Case, Cost, Float32, Op, Tolerance, normal


def reference(x: Float32, w: Float32, bias: Float32 | None = None, activation: Activation | None = None) -> Float32:
    """x (N, K), w (M, K) as the file's values, bias (M,) → (N, M)."""
    y = x @ w.T
    return activated(y if bias is None else y + bias, activation)


# Formats whose random blocks are sound numbers; each unpacks differently, so each is a case.
BLOCKED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")


def random_weight(rng: "np.random.Generator", name: str, rows: int, columns: int) -> GgufTensor:
    """A weight of any format with finite values: random bits, but scales that are sane halves."""
    format_ = next(f for f in FORMATS.values() if f.name == name)
    if format_.block == 1:
        return GgufTensor.from_array("w", normal(rng, rows, columns), format_)
    blocks = np.frombuffer(rng.bytes(rows * columns // format_.block * format_.block_bytes), format_.layout).copy()
    for part in format_.layout.names or ():
        if blocks[part].dtype == np.float16:
            blocks[part] = rng.uniform(-0.01, 0.01, blocks[part].shape)
    return GgufTensor("w", (rows, columns), format_, blocks.view(np.uint8).reshape(rows, -1))


def cases(rng: "np.random.Generator") -> Iterator[Case]:
    """Odd sizes in float, then every block format; then what may stand behind, for few rows and for many."""
    for n, m, k in ((1, 1, 1), (1, 7, 31), (2, 13, 64), (3, 5, 127), (7, 61, 96), (17, 129, 320), (1, 256, 2048)):
        w = GgufTensor.from_array("w", normal(rng, m, k), FORMATS[0])
        yield Case(f"F32 {n}x{m}x{k}", {"x": normal(rng, n, k), "w": w, "bias": normal(rng, m)})
    for name in ("F16", "BF16"):
        w = random_weight(rng, name, 33, 96)
        yield Case(f"{name} 5x33x96", {"x": normal(rng, 5, 96), "w": w})
    for name in BLOCKED:
        for n in (1, 3):
            w = random_weight(rng, name, 19, 512)
            yield Case(f"{name} {n}x19x512", {"x": normal(rng, n, 512), "w": w})
    for activation in ACTIVATIONS:
        for name, n, m in (("F32", 3, 33), ("F32", 40, 67), ("F16", 40, 64), ("Q8_0", 40, 64)):
            w = random_weight(rng, name, m, 256)
            given = {"x": normal(rng, n, 256), "w": w, "bias": normal(rng, m), "activation": activation}
            yield Case(f"{name} {n}x{m}x256 {activation}", given)


def cost(x: Float32, w: Float32, bias: Float32 | None = None, activation: Activation | None = None) -> Cost:
    """Two flops a product; the weight as it lies (a backend's `nbytes`), inputs and outputs once."""
    (n, k), (m, _) = x.shape, w.shape
    return Cost(2.0 * n * m * k, w.nbytes + 4.0 * (n * k + n * m))


LINEAR = Op(
    "linear",
    reference,
    cases,
    {
        Arithmetic.FLOAT32: SUMMED,
        Arithmetic.FLOAT16: Tolerance(2.0**-10, "both operands rounded to 11 bits: √2 · 2⁻¹² of a sum's deviation"),
        Arithmetic.BFLOAT16: Tolerance(2.0**-7, "both operands rounded to 8 bits: √2 · 2⁻⁹ of a sum's deviation"),
        Arithmetic.INT8: Tolerance(2.0**-5, "activations in 8 bits: 0.53 to 0.7 % rms (spec, numerics), four sigma"),
    },
    cost,
)
