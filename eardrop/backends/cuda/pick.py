"""The likeliest token of each row, in one pass over the vocabulary, part by part.

Of each part four numbers are kept: the best logit, whose it is, the next one, and `rest`, the sum of exp(logit − best)
of all but the best. That its own term, 1, stands apart is what makes the logarithm of a sum near 1 exact.
"""

import torch
import triton
import triton.language as tl

PART = 4096  # words of a program of the first pass: sixteen programs a row of the real vocabulary
STRETCH = 1024  # of them at a time

Picks = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@triton.jit
def joined(best, which, second, rest, best2, which2, second2, rest2):
    """Two parts of a vocabulary as one; of equals the lower one is the first."""
    first = (best > best2) | ((best == best2) & (which < which2))
    most, beaten = tl.where(first, best, best2), tl.where(first, best2, best)
    return (
        most,
        tl.where(first, which, which2),
        tl.maximum(beaten, tl.where(first, second, second2)),
        tl.where(first, rest, rest2) + (1 + tl.where(first, rest2, rest)) * shrunk(beaten, most),
    )


@triton.jit
def shrunk(values, most):
    """exp(values − most): what they count beside the most; 0 of what isn't allowed, and where nothing is."""
    return tl.exp(values - tl.where(most == float("-inf"), 0.0, most))


@triton.jit
def numbers_of(values, index, MOST: tl.constexpr):
    """The four numbers of a stretch."""
    best = tl.max(values, axis=0)
    which = tl.min(tl.where(values == best, index, MOST), axis=0)
    chosen = index == which
    second = tl.max(tl.where(chosen, float("-inf"), values), axis=0)
    return best, which, second, tl.sum(tl.where(chosen, 0.0, shrunk(values, best)), axis=0)


@triton.jit
def parts(logits, allowed, numbers, ids, V, PARTS, PART: tl.constexpr, STRETCH: tl.constexpr, MOST: tl.constexpr):
    """Programs are (row, part): numbers (B, PARTS, 3) and ids (B, PARTS) of each."""
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    best, which = tl.full((), float("-inf"), tl.float32), tl.full((), MOST, tl.int32)
    second, rest = tl.full((), float("-inf"), tl.float32), tl.full((), 0.0, tl.float32)
    for start in range(0, PART, STRETCH):
        index = part * PART + start + tl.arange(0, STRETCH)
        inside = index < V
        if allowed is not None:
            inside = inside & (tl.load(allowed + row * V + index, mask=inside, other=0) != 0)
        values = tl.load(logits + row * V + index, mask=inside, other=float("-inf"))
        best2, which2, second2, rest2 = numbers_of(values, index, MOST)
        best, which, second, rest = joined(best, which, second, rest, best2, which2, second2, rest2)
    at = row * PARTS + part
    tl.store(numbers + 3 * at, best)
    tl.store(numbers + 3 * at + 1, second)
    tl.store(numbers + 3 * at + 2, rest)
    tl.store(ids + at, which)


@triton.jit
def whole(numbers, ids, best_ids, logprobs, margins, V, PARTS, WIDTH: tl.constexpr, MOST: tl.constexpr):
    """Programs are rows: their parts become one."""
    row, part = tl.program_id(0), tl.arange(0, WIDTH)
    inside, at = part < PARTS, row * PARTS + part
    best = tl.load(numbers + 3 * at, mask=inside, other=float("-inf"))
    second = tl.load(numbers + 3 * at + 1, mask=inside, other=float("-inf"))
    rest = tl.load(numbers + 3 * at + 2, mask=inside, other=0.0)
    which = tl.load(ids + at, mask=inside, other=MOST)
    most = tl.max(best, axis=0)
    chosen = tl.min(tl.where(best == most, which, MOST), axis=0)
    beaten = tl.max(tl.where(which == chosen, second, best), axis=0)
    others = tl.sum(tl.where(which == chosen, rest, (1 + rest) * shrunk(best, most)), axis=0)
    tl.store(best_ids + row, tl.minimum(chosen, V - 1))
    # in float64, near 1; infinite logits are no numbers, and most − most says so
    tl.store(logprobs + row, (most - most) - tl.log(1 + others.to(tl.float64)).to(tl.float32))
    tl.store(margins + row, most - beaten)


MOST = 2**31 - 1  # no token


def pick(logits: torch.Tensor, allowed: torch.Tensor | None = None) -> Picks:
    """logits (B, V), allowed (B, V) bool → ids (B,) int32, log-probabilities (B,), margins (B,)."""
    (rows, words), device = logits.shape, logits.device
    count = triton.cdiv(words, PART)
    numbers = torch.empty((rows, count, 3), dtype=torch.float32, device=device)
    which = torch.empty((rows, count), dtype=torch.int32, device=device)
    ids = torch.empty(rows, dtype=torch.int32, device=device)
    logprobs, margins = torch.empty((2, rows), dtype=torch.float32, device=device)
    if rows:
        mask = None if allowed is None else allowed.view(torch.uint8)
        parts[rows, count](logits, mask, numbers, which, words, count, PART, STRETCH, MOST)
        padded = triton.next_power_of_2(count)
        whole[(rows,)](numbers, which, ids, logprobs, margins, words, count, padded, MOST)
    return ids, logprobs, margins
