"""Everything that changes while the decoder listens, for several sequences at once.

    slot     0        1        2      …  spare
    keys     rows 0 … position of each slot are valid; the rest is garbage that nobody may read
    windows  the last K − 1 gated inputs of each short convolution, zeros at the start

Sequences join and leave between steps. Attention can be cut back to any earlier row; a convolution can't, so there
is no rewind: `save` and `restore` only, and after a prefill `keep`. The spare slot belongs to nobody: a step is
captured on it, where what it writes does no harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eardrop.errors import ContextFull
from eardrop.model.shape import AttentionShape, DecoderShape
from eardrop.ops import Array, Int32, ragged
from eardrop.ops.backend import Backend


@dataclass
class KVCache:
    """Keys and values of one attention layer, (slots + 1, rows, KV, d)."""

    keys: Array
    values: Array


@dataclass
class ConvState:
    """The windows of one short convolution, (slots + 1, K − 1, D)."""

    window: Array


@dataclass(frozen=True)
class Gaze:
    """Whose attention is asked for, and to what: rows of one sequence, absorbed alone."""

    first: int  # of the call's rows that look; those behind it do too
    rows: tuple[int, int]  # first and last + 1 of the sequence's rows that are looked at


@dataclass(frozen=True)
class Places:
    """Where the packed rows of one call belong."""

    offsets: Int32  # (B + 1,) on the host
    slots: Array  # (B,)
    starts: Array  # (B,) rows each slot held before
    positions: Array  # (N,) of each row
    gaze: Gaze | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A moment of one slot. Good until the slot goes back behind it or leaves."""

    slot: int
    position: int
    windows: tuple[Array, ...]


@dataclass
class _Revisable:
    """A prefill that may be cut back: where it began, and each convolution's gated inputs since."""

    began: Checkpoint
    gated: list[list[Array]] = field(default_factory=list)  # per convolution, one part per chunk


class Streams:
    """The state of up to `slots` sequences of up to `rows` rows.

    Owns    caches and windows of every layer, allocated here; `reserve` alone makes them longer.
    Always  position[slot] rows of a slot are valid in every layer.
    Never   forgets on its own: a sequence that doesn't fit raises ContextFull, and nothing has changed.
    """

    def __init__(self, shape: DecoderShape, backend: Backend, *, slots: int, rows: int, kv: str | None = None) -> None:
        self.shape, self.slots, self.rows, self.spare = shape, slots, rows, slots
        self.position: Int32 = np.zeros(slots + 1, np.int32)
        self._ops, self._kv = backend, kv or backend.kv_types[0]
        self.layers = tuple(self._layer(mixer, rows) for mixer in shape.mixers)
        self._free = list(range(slots))[::-1]
        self._saved: dict[int, list[Checkpoint]] = {}
        self._revisable: dict[int, _Revisable] = {}

    def _layer(self, mixer: object, rows: int) -> KVCache | ConvState:
        ops, count = self._ops, self.slots + 1
        if isinstance(mixer, AttentionShape):
            size = (count, rows, mixer.kv_heads, mixer.head_width)
            return KVCache(ops.zeros(size, self._kv), ops.zeros(size, self._kv))
        return ConvState(ops.zeros((count, mixer.taps - 1, self.shape.width), np.float32))  # type: ignore[attr-defined]

    @property
    def windows(self) -> tuple[Array, ...]:
        """The windows of all short convolutions, in order."""
        return tuple(layer.window for layer in self.layers if isinstance(layer, ConvState))

    def join(self) -> int:
        """A free slot, cleared, for a new sequence."""
        assert self._free, f"all {self.slots} slots are taken"
        slot = self._free.pop()
        self.position[slot] = 0
        for window in self.windows:
            self._ops.write(window[slot], 0.0)
        return slot

    def leave(self, slot: int) -> None:
        """Give a slot back; its checkpoints are void."""
        assert slot not in self._free, f"slot {slot} is free already"
        self._saved.pop(slot, None)
        self._revisable.pop(slot, None)
        self._free.append(slot)

    def room(self, slot: int) -> int:
        """Rows that still fit."""
        return self.rows - int(self.position[slot])

    def places(self, slots: Sequence[int], lengths: Sequence[int]) -> Places:
        """Where the next `lengths` rows of these slots go. Raises ContextFull before anything is written."""
        for slot, length in zip(slots, lengths, strict=True):
            if length > self.room(slot):
                raise ContextFull(
                    f"{self.position[slot] + length:,} rows are needed, and there is room for {self.rows:,};"
                    " cut the recording, or allow a larger context"
                )
        starts = self.position[list(slots)]
        positions = np.concatenate([np.arange(a, a + n, dtype=np.int32) for a, n in zip(starts, lengths, strict=True)])
        upload = self._ops.upload
        return Places(ragged(*lengths), upload(np.array(slots, np.int32)), upload(starts), upload(positions))

    def advance(self, slots: Sequence[int], lengths: Sequence[int]) -> None:
        """The rows of `places` have been written."""
        for slot, length in zip(slots, lengths, strict=True):
            self.position[slot] += length

    def reserve(self, rows: int) -> None:
        """Make room for this many rows in each slot; what they hold stays. Steps captured before are void."""
        if rows <= self.rows:
            return
        before = self.rows
        for layer, mixer in zip(self.layers, self.shape.mixers, strict=True):
            if isinstance(layer, KVCache):
                longer = self._layer(mixer, rows)
                assert isinstance(longer, KVCache)
                for old, new in ((layer.keys, longer.keys), (layer.values, longer.values)):
                    self._ops.write(new[:, :before], old)
                layer.keys, layer.values = longer.keys, longer.values
        self.rows = rows  # last: where memory ends on the way, some caches are longer than they need be

    def save(self, slot: int) -> Checkpoint:
        """Remember this moment of a slot: its windows are copied, its keys only grow."""
        copies = tuple(self._ops.upload(self._ops.download(window[slot])) for window in self.windows)
        checkpoint = Checkpoint(slot, int(self.position[slot]), copies)
        self._saved.setdefault(slot, []).append(checkpoint)
        return checkpoint

    def restore(self, at: Checkpoint) -> None:
        """Go back to a saved moment; moments saved after it are void, for their keys will be overwritten."""
        saved = self._saved.get(at.slot, [])
        assert at in saved, "this moment is gone: its slot left, or went back behind it"
        del saved[saved.index(at) + 1 :]
        self._put(at.slot, at.position, at.windows)

    def revisable(self, slot: int) -> None:
        """From here on `keep` can cut back, until the next call or the end: gated inputs are kept in memory."""
        moment = Checkpoint(slot, int(self.position[slot]), self.save(slot).windows)
        self._saved[slot].pop()
        self._revisable[slot] = _Revisable(moment, [[] for _ in self.windows])

    def note_gated(self, slots: Sequence[int], offsets: Int32, convolution: int, gated: Array) -> None:
        """A convolution's gated inputs of one call; kept for the slots that asked."""
        for index, slot in enumerate(slots):
            if slot in self._revisable:
                self._revisable[slot].gated[convolution].append(gated[int(offsets[index]) : int(offsets[index + 1])])

    def keep(self, slot: int, rows: int) -> None:
        """Cut a slot back to the first `rows` rows since `revisable`."""
        noted = self._revisable[slot]
        end = noted.began.position + rows
        assert noted.began.position <= end <= self.position[slot], f"{rows} rows were not written since"
        windows = []
        for before, parts in zip(noted.began.windows, noted.gated, strict=True):
            seen = self._ops.concatenate([before, *parts])
            windows.append(seen[rows : rows + before.shape[0]])
        saved = self._saved.get(slot, [])
        saved[:] = [moment for moment in saved if moment.position <= noted.began.position]
        self._put(slot, end, tuple(windows))

    def _put(self, slot: int, position: int, windows: tuple[Array, ...]) -> None:
        self.position[slot] = position
        for window, values in zip(self.windows, windows, strict=True):
            self._ops.write(window[slot], values)
