"""Random weights that are the same bytes on every machine, made in pieces of any size.

The bits come from Philox, a generator that can start at any place of its sequence; its key is the SHA-256 of a seed
and the tensor's name. They become numbers by operations that are exact or correctly rounded, so neither the platform
nor the size of the pieces shows in the result.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eardrop.gguf import BlockFormat, PlannedTensor
from eardrop.gguf.formats import six_bit_bytes
from eardrop.gguf.quantize import quantize

Fields: TypeAlias = dict[str, NDArray[Any]]  # of blocks, by the names of the format's layout

PIECE = 1 << 18  # values made at a time: some megabytes of scratch
_WORD = 8  # bytes the generator gives at a time


class Draws:
    """Random fields for the blocks [start, stop) of n; start is a multiple of 8.

    Each draw takes one field of all n blocks from the sequence, whole words, and gives the rows asked for. Whoever
    draws the same fields in the same order for another range gets the other rows of the same weights.
    """

    def __init__(self, key: int, n: int, start: int, stop: int) -> None:
        assert start % _WORD == 0  # a field of start blocks is then whole words, whatever its width
        self._key, self._n, self._start, self._stop = key, n, start, stop
        self._word = 0

    def _raw(self, row_bytes: int) -> NDArray[np.uint8]:
        first = self._word + self._start * row_bytes // _WORD
        self._word += -(-self._n * row_bytes // _WORD)
        size = (self._stop - self._start) * row_bytes
        bits = np.random.Philox(key=self._key)
        bits.advance(first // 4)  # one step of the counter gives four words
        words = bits.random_raw(first % 4 + -(-size // _WORD))[first % 4 :]
        return words.astype("<u8").view(np.uint8)[:size]

    def bytes(self, width: int) -> NDArray[np.uint8]:
        """(rows, width), each 0 … 255."""
        return self._raw(width).reshape(-1, width)

    def ints(self, low: int, high: int, width: int) -> NDArray[np.int64]:
        """(rows, width), each low … high; the modulo's bias of 1e-8 is nothing to a test model."""
        words = self._raw(4 * width).view("<u4").reshape(-1, width)
        return words.astype(np.int64) % (high - low + 1) + low

    def uniform(self) -> NDArray[np.float32]:
        """(rows,) in [−1, 1), multiples of 2**−23: exact."""
        steps = (self._raw(4).view("<u4") >> 8).astype(np.int32) - (1 << 23)
        return steps.astype(np.float32) * np.float32(2.0**-23)

    def scale(self, centre: float) -> NDArray[np.float16]:
        """(rows,) halves within 25 % of the centre."""
        return self._near(centre).astype(np.float16)

    def signed_scale(self, centre: float) -> NDArray[np.float16]:
        """The same of either sign."""
        near = self._near(centre)
        return (near * self._sign(1)[:, 0].astype(np.float32)).astype(np.float16)

    def signed(self, low: int, high: int, width: int) -> NDArray[np.int64]:
        """(rows, width), low … high in size and of either sign."""
        return self.ints(low, high, width) * self._sign(width)

    def _near(self, centre: float) -> NDArray[np.float32]:
        return np.float32(centre) * (np.float32(1) + np.float32(0.25) * self.uniform())

    def _sign(self, width: int) -> NDArray[np.int64]:
        return 1 - 2 * self.ints(0, 1, width)


def _packed_pairs(draws: Draws) -> NDArray[np.uint8]:
    """Eight scales and eight minima of six bits in twelve bytes, the minima near the scales."""
    scales = draws.ints(18, 63, 8)
    minima = np.clip(scales + draws.ints(-4, 4, 8), 0, 63)
    return six_bit_bytes(scales.astype(np.uint8), minima.astype(np.uint8))


def _q4_k(draws: Draws, std: float) -> Fields:
    scale = std / (4.61 * 42.5)
    pairs: Fields = {"scales": _packed_pairs(draws)}
    return pairs | {"scale": draws.scale(scale), "minimum": draws.scale(scale * 7.5), "q": draws.bytes(128)}


def _q5_k(draws: Draws, std: float) -> Fields:
    scale = std / (9.23 * 42.5)
    pairs: Fields = {"scales": _packed_pairs(draws)}
    pairs |= {"scale": draws.scale(scale), "minimum": draws.scale(scale * 15.5)}
    return pairs | {"high": draws.bytes(32), "q": draws.bytes(128)}


def _iq4_xs(draws: Draws, std: float) -> Fields:
    scales = draws.ints(0, 63, 8)
    high = ((scales >> 4).reshape(-1, 2, 4) << np.array([0, 2, 4, 6])).sum(axis=2)
    low = scales[:, 0::2] & 15 | (scales[:, 1::2] & 15) << 4
    fields: Fields = {"scales_high": high, "scales_low": low, "scale": draws.scale(std / (70.5 * 18.5))}
    return fields | {"q": draws.bytes(128)}


# How to draw blocks whose values have a standard deviation of about `std`. The fields are drawn in the order written.
_BLOCKS: dict[str, Callable[[Draws, float], Fields]] = {
    "Q8_0": lambda d, std: {"scale": d.scale(std / 73.3), "q": d.ints(-127, 127, 32)},
    "Q4_0": lambda d, std: {"scale": d.signed_scale(std / 4.64), "q": d.bytes(16)},
    "Q4_1": lambda d, std: {"scale": d.scale(std / 4.61), "minimum": d.scale(-7.5 * std / 4.61), "q": d.bytes(16)},
    "Q5_0": lambda d, std: {"scale": d.signed_scale(std / 9.25), "high": d.bytes(4), "q": d.bytes(16)},
    "Q5_1": lambda d, std: {
        "scale": d.scale(std / 9.23), "minimum": d.scale(-15.5 * std / 9.23), "high": d.bytes(4), "q": d.bytes(16)
    },
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": lambda d, std: {
        "scales": d.signed(24, 127, 16), "q": d.bytes(128), "high": d.bytes(64), "scale": d.scale(std / (18.5 * 81))
    },
    "IQ4_NL": lambda d, std: {"scale": d.signed_scale(std / 70.5), "q": d.bytes(16)},
    "IQ4_XS": _iq4_xs,
}  # fmt: skip


@dataclass(frozen=True)
class RandomWeight:
    """A weight to be: its values have about this deviation and mean (a mean only in the plain formats)."""

    name: str
    shape: tuple[int, ...]
    format: BlockFormat
    deviation: float
    mean: float = 0.0

    def planned(self, seed: int) -> PlannedTensor:
        return PlannedTensor(self.name, self.shape, self.format, lambda: self._pieces(seed))

    def _pieces(self, seed: int) -> Iterator[NDArray[Any]]:
        digest = hashlib.sha256(f"{seed}/{self.name}".encode()).digest()
        n, step = int(np.prod(self.shape)) // self.format.block, PIECE // self.format.block
        for start in range(0, n, step):
            yield self._piece(Draws(int.from_bytes(digest[:16], "little"), n, start, min(start + step, n)))

    def _piece(self, draws: Draws) -> NDArray[Any]:
        if self.format.block == 1:
            values = draws.uniform() * np.float32(self.deviation * 1.7320508) + np.float32(self.mean)
            return quantize(values[None], self.format)
        fields = _BLOCKS[self.format.name](draws, self.deviation)
        blocks = np.empty(len(fields["scale"]), self.format.layout)
        for name, values in fields.items():
            blocks[name] = values
        return blocks
