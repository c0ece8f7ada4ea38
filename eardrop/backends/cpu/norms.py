"""Layer norm and root-mean-square norm: a row is read from memory once, then twice from the cache."""

import math
from typing import Any

from eardrop.backends.cpu.flow import Variable, kernel, loop
from eardrop.backends.cpu.maths import fma, total
from eardrop.backends.cpu.operations import sqrt
from eardrop.backends.cpu.rooms import empty
from eardrop.backends.cpu.running import Floats, Run, chunk
from eardrop.backends.cpu.strips import LANES, strips
from eardrop.backends.cpu.types import F32, I64, PTR
from eardrop.backends.cpu.vector import Value, zero


@kernel("rms_norm", y=PTR, x=PTR, weight=PTR, d=I64, epsilon=F32)
def rms_norm_rows(p: Any, lo: Value, hi: Value) -> None:
    """y = x / √(mean x² + ε) · weight; items are rows of d."""
    for row in loop(lo, hi):
        x, y = p.x + row * p.d * 4, p.y + row * p.d * 4
        power = Variable(zero(F32 * LANES))
        for strip in strips(0, p.d):
            power.value = fma(strip.load(x), strip.load(x), power.value)
        deviation = sqrt(total(power.value) / p.d.to(F32) + p.epsilon)
        for strip in strips(0, p.d):
            strip.store(y, strip.load(x) / deviation * strip.load(p.weight))


@kernel("layer_norm", y=PTR, x=PTR, weight=PTR, bias=PTR, d=I64, epsilon=F32)
def layer_norm_rows(p: Any, lo: Value, hi: Value) -> None:
    """y = (x − mean) / √(variance + ε) · weight + bias; items are rows of d."""
    for row in loop(lo, hi):
        x, y = p.x + row * p.d * 4, p.y + row * p.d * 4
        sums, power = Variable(zero(F32 * LANES)), Variable(zero(F32 * LANES))
        for strip in strips(0, p.d):
            sums.value = sums.value + strip.load(x)
        mean = total(sums.value) / p.d.to(F32)
        for strip in strips(0, p.d):
            centred = strip.load(x, beyond=mean) - mean
            power.value = fma(centred, centred, power.value)
        deviation = sqrt(total(power.value) / p.d.to(F32) + p.epsilon)
        for strip in strips(0, p.d):
            centred = strip.load(x) - mean
            strip.store(y, centred / deviation * strip.load(p.weight) + strip.load(p.bias))


def rms_norm(run: Run, x: Floats, weight: Floats, epsilon: float) -> Floats:
    """As the operation of this name."""
    y, d = empty(x.shape), x.shape[-1]
    run(rms_norm_rows, [y, x, weight, d, float(epsilon)], math.prod(x.shape[:-1]), chunk(d))
    return y


def layer_norm(run: Run, x: Floats, weight: Floats, bias: Floats, epsilon: float) -> Floats:
    """As the operation of this name."""
    y, d = empty(x.shape), x.shape[-1]
    run(layer_norm_rows, [y, x, weight, bias, d, float(epsilon)], math.prod(x.shape[:-1]), chunk(d))
    return y
