"""The text model: LFM2, a hybrid of short convolutions and grouped-query attention, as equations (spec §6).

Shapes: N packed rows of B sequences, D the width, V the vocabulary. A row is a token's embedding or one of the
encoder's; each takes one position. Prefill absorbs many rows, a step one of each stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.model.state import ConvState, Gaze, KVCache, Places, Streams
from eardrop.model.weights import Attention, Decoder, DecoderLayer, ShortConv, SwiGlu
from eardrop.ops import Array, Float32, Int32, spans, tap
from eardrop.ops.backend import Backend

CHUNK = 512  # rows of a prefill that are computed at once: beyond that, time a row no longer falls

EXACT = 16  # rows at most whose logits have the bits of a step's, whatever the rows beside them

Picks: TypeAlias = tuple[Array, Array, Array]  # ids, log-probabilities, margins, (B,) each


@dataclass
class Looks:
    """Where the rows of one sequence looked whose logits were wanted: what every head of every layer attended to.

    rows  first and last + 1 of the sequence's rows that are looked at: the audio's
    seen  (n, heads of all layers, last − first) of each `prefill`, parts of a softmax over all rows before
    """

    rows: tuple[int, int]
    seen: list[Float32] = field(default_factory=list)


def embed(w: Decoder, parts: Sequence[Int32 | Array], ops: Backend) -> Array:
    """A prompt's rows (P, D), in order: each part is token ids, (n,) int32, or rows that the encoder made."""
    return ops.concatenate([part if part.ndim == 2 else ops.embed(ops.upload(part), w.embedding) for part in parts])


def prefill(
    w: Decoder,
    inputs: Sequence[Array],
    streams: Streams,
    slots: Sequence[int],
    ops: Backend,
    *,
    logits_for: Sequence[Sequence[int]] | None = None,
    looks: Looks | None = None,
    chunk: int = CHUNK,
) -> Array:
    """Absorb the rows of several sequences, `chunk` of each at a time.

    inputs      (n, D) each, n ≥ 1, from `embed`; slots: where each goes on
    logits_for  rows of each input whose logits are wanted, ascending; by default its last
    looks       is given where those rows looked; of one input alone, whose rows they are from the first of them on
    returns     (rows wanted, V), sequence after sequence

    Raises ContextFull before anything has changed.
    """
    lengths = [len(x) for x in inputs]
    streams.places(slots, lengths)  # all of it must fit before the first chunk is written
    wanted = [[n - 1] for n in lengths] if logits_for is None else logits_for
    kept: list[list[Array]] = [[] for _ in inputs]
    for start in range(0, max(lengths), chunk):
        going = [i for i, n in enumerate(lengths) if n > start]
        parts = [inputs[i][start : start + chunk] for i in going]
        here = [[row - start for row in wanted[i] if start <= row < start + chunk] for i in going]
        gaze = Gaze(here[0][0], looks.rows) if looks and here[0] else None
        with ops.ahead():
            hidden, seen = _absorb(w, parts, streams, [slots[i] for i in going], here, ops, gaze)
        for i, mine in zip(going, hidden, strict=True):
            kept[i] += mine
        if looks and seen:
            looks.seen.append(np.concatenate([ops.download(part) for part in seen], axis=1))
    return logits(w, ops.concatenate([row for rows in kept for row in rows]), ops)


def _absorb(
    w: Decoder, parts: Sequence[Array], streams: Streams, slots: Sequence[int], wanted: Sequence[Sequence[int]],
    ops: Backend, gaze: Gaze | None,
) -> tuple[list[list[Array]], list[Array]]:  # fmt: skip
    """Each part's wanted rows behind the last layer; of each layer that attends, where those asked for looked.

    What follows the last mixer is computed of those rows alone: states are complete before.
    """
    assert gaze is None or len(parts) == 1, "one sequence is watched at a time"
    lengths = [len(part) for part in parts]
    places = replace(streams.places(slots, lengths), gaze=gaze)
    x, seen = ops.concatenate(parts), []
    convolution, last = 0, len(w.layers) - 1
    for index, (layer, state) in enumerate(zip(w.layers, streams.layers, strict=True)):
        x, beside = mixed(w, layer, x, state, places, ops, f"lfm.layers.{index}")
        if isinstance(state, ConvState):
            streams.note_gated(slots, places.offsets, convolution, beside)
            convolution += 1
        elif beside is not None:
            seen.append(beside)
        if index < last:
            x = fed(w, layer, x, ops, f"lfm.layers.{index}")
    streams.advance(slots, lengths)
    rows = [part.start + row for part, mine in zip(spans(places.offsets), wanted, strict=True) for row in mine]
    if not rows:
        return [[] for _ in parts], seen
    x = fed(w, w.layers[last], ops.concatenate([x[row : row + 1] for row in rows]), ops, f"lfm.layers.{last}")
    ends = accumulate(map(len, wanted), initial=0)
    return [[x[row : row + 1] for row in range(*span)] for span in pairwise(ends)], seen


def logits(w: Decoder, x: Array, ops: Backend) -> Array:
    """Rows behind the last layer (n, D) → (n, V)."""
    final = tap("lfm.embedding_norm", ops.rms_norm(x, w.final_norm, w.shape.epsilon))
    return tap("logits", ops.linear(final, w.head))


class Step:
    """One token for each of up to B streams, captured once and replayed; rows that are left over serve nobody.

    What changes between steps (ids, slots, positions, the mask) lies in arrays that are overwritten; their shapes
    never change. Void after `Streams.reserve`.
    """

    def __init__(self, w: Decoder, streams: Streams, count: int, ops: Backend, *, masked: bool = False) -> None:
        self._w, self._streams, self._ops, self._count = w, streams, ops, count
        self._offsets = np.arange(count + 1, dtype=np.int32)
        self._ids = ops.upload(np.zeros(count, np.int32))
        self._slots = ops.upload(np.full(count, streams.spare, np.int32))
        self._starts = ops.upload(np.zeros(count, np.int32))
        self._allowed = ops.upload(np.ones((count, w.shape.vocabulary), np.bool_)) if masked else None
        self._replay = ops.capture(self._run, self._ids, self._slots, self._starts)

    def _run(self, ids: Array, slots: Array, starts: Array) -> tuple[Array, Picks]:
        w, ops = self._w, self._ops
        places, x = Places(self._offsets, slots, starts, starts), ops.embed(ids, w.embedding)
        for index, (layer, state) in enumerate(zip(w.layers, self._streams.layers, strict=True)):
            x, _ = decoder_layer(w, layer, x, state, places, ops, f"lfm.layers.{index}")
        scores = logits(w, x, ops)
        return scores, ops.pick(scores, self._allowed)

    def allow(self, row: int, allowed: npt.NDArray[np.bool_] | None) -> None:
        """Which tokens stream `row` of this step may say; None for all."""
        assert self._allowed is not None, "this step was captured without a mask"
        self._ops.write(self._allowed[row], True if allowed is None else allowed)

    def __call__(self, ids: Sequence[int], slots: Sequence[int]) -> tuple[Array, Picks]:
        """Absorb one token of each of n streams: logits (n, V) and the picks. Every slot must have room for a row."""
        n, left_over = len(slots), self._count - len(slots)
        places = [*slots, *[self._streams.spare] * left_over]
        self._ops.write(self._ids, [*ids, *[0] * left_over])
        self._ops.write(self._slots, places)
        self._ops.write(self._starts, self._streams.position[places])
        scores, picks = self._replay()
        self._streams.advance(slots, [1] * n)
        return (scores[:n], tuple(column[:n] for column in picks)) if left_over else (scores, picks)


def decoder_layer(
    w: Decoder, layer: DecoderLayer, x: Array, state: KVCache | ConvState, places: Places, ops: Backend, name: str
) -> tuple[Array, Array | None]:
    """A mixer and a feed-forward, each on the normed rows and added; and what `mixed` gives beside."""
    x, beside = mixed(w, layer, x, state, places, ops, name)
    return fed(w, layer, x, ops, name), beside


def mixed(
    w: Decoder, layer: DecoderLayer, x: Array, state: KVCache | ConvState, places: Places, ops: Backend, name: str
) -> tuple[Array, Array | None]:
    """Rows with what their mixer adds.

    Gives, beside the rows, a convolution's gated inputs, or where the rows looked that places.gaze asks for.
    """
    normed = ops.rms_norm(x, layer.norm_mixer, w.shape.epsilon)
    if isinstance(layer.mixer, Attention) and isinstance(state, KVCache):
        added, beside = attention(w, layer.mixer, normed, state, places, ops)
        tap(f"{name}.self_attn", added)
    else:
        assert isinstance(layer.mixer, ShortConv)
        assert isinstance(state, ConvState)
        added, beside = short_conv(layer.mixer, normed, state, places, ops)
        tap(f"{name}.conv", added)
    return ops.add(x, added), beside


def fed(w: Decoder, layer: DecoderLayer, x: Array, ops: Backend, name: str) -> Array:
    """Rows with what their feed-forward adds."""
    return tap(name, ops.add(x, feed_forward(layer.ffn, ops.rms_norm(x, layer.norm_ffn, w.shape.epsilon), ops)))


def attention(
    w: Decoder, layer: Attention, x: Array, cache: KVCache, places: Places, ops: Backend
) -> tuple[Array, Array | None]:
    """Norm each head of q and k, turn it by its position, attend to all rows so far; and where those asked for did."""
    shape, epsilon, base = layer.shape, w.shape.epsilon, w.shape.rope_base
    q = ops.linear(x, layer.q).reshape(-1, shape.heads, shape.head_width)
    k, v = (ops.linear(x, part).reshape(-1, shape.kv_heads, shape.head_width) for part in (layer.k, layer.v))
    q = ops.rope(ops.rms_norm(q, layer.q_norm, epsilon), places.positions, base)
    k = ops.rope(ops.rms_norm(k, layer.k_norm, epsilon), places.positions, base)
    seen = ops.attention(q, k, v, cache.keys, cache.values, places.offsets, places.slots, places.starts)
    looked = None if places.gaze is None else _looked(q, cache, places, places.gaze, ops)
    return ops.linear(seen.reshape(-1, shape.heads * shape.head_width), layer.out), looked


def _looked(q: Array, cache: KVCache, places: Places, gaze: Gaze, ops: Backend) -> Array:
    """(n, H, W): what all heads of the rows from gaze.first on saw in gaze.rows."""
    offsets, heads = np.array([0, len(q) - gaze.first], np.int32), np.arange(q.shape[1], dtype=np.int32)
    starts, rows = places.starts + gaze.first, np.array([gaze.rows], np.int32)
    return ops.attention_weights(q[gaze.first :], cache.keys, offsets, places.slots, starts, heads, rows)


def short_conv(layer: ShortConv, x: Array, state: ConvState, places: Places, ops: Backend) -> tuple[Array, Array]:
    """C · conv(B · x), projected out; and B · x."""
    bcx = ops.linear(x, layer.expand)
    mixed, gated = ops.short_conv(bcx, layer.taps, places.offsets, state=state.window, slots=places.slots)
    return ops.linear(mixed, layer.contract), gated


def feed_forward(w: SwiGlu, x: Array, ops: Backend) -> Array:
    """down(silu(gate(x)) · up(x))."""
    return ops.linear(ops.swiglu(ops.linear(x, w.gate), ops.linear(x, w.up)), w.down)
