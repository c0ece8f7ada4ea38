"""What every kernel of attention does: products of rounded operands, and softmax over keys that come block by block.

The softmax is the online one of FlashAttention (arXiv 2205.14135 §3.1), in powers of two: scores come multiplied by
log2(e). No matrix of rows by keys is ever in memory.
"""

import math

import torch
import triton
import triton.language as tl

from eardrop.backends.cuda.device import interpreted

LOG2_E = math.log2(math.e)
INTERPRETED = tl.constexpr(interpreted())
KINDS = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@triton.jit
def product(a, b, KIND: tl.constexpr):
    """a · b in float32, of operands rounded to KIND; float32 ones are taken apart into three tf32 products."""
    a, b = a.to(KIND), b.to(KIND)
    if INTERPRETED:  # whose products of halves are rounded on the way
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def absorb(scores, values, highest, total, acc, KIND: tl.constexpr):
    """Take in a block of keys: (rows, keys) scores, −∞ where a key isn't seen, and its (keys, d) values.

    highest, total, acc  of the rows so far: the largest score, Σ 2^(score − highest), and that sum over values. A row
                         must see a key of the first block.
    """
    higher = tl.maximum(highest, tl.max(scores, 1))
    kept, weights = tl.exp2(highest - higher), tl.exp2(scores - higher[:, None])
    acc = acc * kept[:, None] + product(weights, values, KIND)
    return higher, total * kept + tl.sum(weights, 1), acc
