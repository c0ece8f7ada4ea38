"""The parts of a model that is in use, each by itself: what a step, a prefill and the encoder take.

No process is born, no file is read and no text made meanwhile. What is measured is what llama.cpp's own programs
measure, so that the two can take turns.
"""

import time
from collections.abc import Sequence

import numpy as np

from eardrop.engine import Model
from eardrop.model.conformer import encode
from eardrop.model.decoder import Step, embed, prefill
from eardrop.model.state import Streams
from eardrop.ops import Float32

SEED = 1  # of the tokens
TOKENS = 256  # they are drawn from the first so many: every vocabulary has these


class Warm:
    """A loaded model without an engine: what it computes, it computes on the caller's thread."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._drawn = np.random.default_rng(SEED)

    def prefill(self, rows: int) -> float:
        """Seconds that a prompt of so many tokens takes, to the logits of its last."""
        streams = self._streams(1, rows)
        started = time.perf_counter()
        self._absorb(streams, rows, [streams.join()])
        return time.perf_counter() - started

    def decode(self, tokens: int, *, prompt: int = 1, streams: int = 1) -> float:
        """Seconds that so many tokens of each stream take, all streams together, behind prompts of so many rows."""
        state = self._streams(streams, prompt + tokens)
        slots = [state.join() for _ in range(streams)]
        self._absorb(state, prompt, slots)
        step = Step(self.model.decoder, state, streams, self.model.backend)
        ids: Sequence[int] = [0] * streams
        started = time.perf_counter()
        for _ in range(tokens):
            _, picks = step(ids, slots)
            ids = self.model.backend.download(picks[0]).tolist()
        return time.perf_counter() - started

    def encode(self, mel: Float32) -> float:
        """Seconds that the encoder takes for mel frames (T, M)."""
        started = time.perf_counter()
        rows, _ = encode(self.model.encoder, [self.model.backend.upload(mel)], self.model.backend)
        self.model.backend.download(rows)
        return time.perf_counter() - started

    def _streams(self, slots: int, rows: int) -> Streams:
        return Streams(self.model.decoder.shape, self.model.backend, slots=slots, rows=rows)

    def _absorb(self, state: Streams, rows: int, slots: Sequence[int]) -> None:
        decoder, ops = self.model.decoder, self.model.backend
        for slot in slots:
            ids = self._drawn.integers(0, TOKENS, rows, np.int32)
            ops.download(prefill(decoder, [embed(decoder, [ids], ops)], state, [slot], ops))
