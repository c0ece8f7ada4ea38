"""Batches: clips of about one length, as the tensors that the network and its losses take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from eardrop.audio import SAMPLE_RATE, log_mel
from eardrop.dialect import LLAMA_CPP, REFERENCE
from eardrop.text import MEDIA, Tokenizer, prompt
from train.augment import Clip, silent_clip, spoken_clip
from train.speech import Corpus
from train.vocabulary import EOS, PAD

SYSTEM = "Perform ASR."
ROW = SAMPLE_RATE * 8 // 100  # samples to an encoder row
NOWHERE = -100  # a label that counts for no loss
POOL = 400  # utterances that are sorted by length at a time
JOINED, SILENT = 0.35, 0.04  # shares of clips of several sentences, and without any, once all is hard
SHORT, SHORT_HOURS = 2.5, 1.5  # at first only sentences of so many seconds, until so many hours were heard
EASY_HOURS, HARD_HOURS = 3.0, 12.0  # nothing is worsened before the first; from the second on, anything may be
LONGEST = 20.0  # seconds of a clip


@dataclass(frozen=True)
class Batch:
    """B clips; T frames, R rows, P rows of prompt and answer of the longest.

    mel, frames     (B, T, M) and how many of T each has
    pieces, counts  the texts' tokens, one after the other, and how many each has
    flat            (B, R) the tokens spread evenly over the rows in which they are said
    tokens, places  as `Lfm2Audio.answer` takes them
    labels          (B, P) the token that follows a row, where that is one of the answer
    """

    mel: Tensor
    frames: Tensor
    pieces: Tensor
    counts: Tensor
    flat: Tensor
    tokens: Tensor
    places: Tensor
    labels: Tensor
    seconds: float

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: x.to(device, non_blocking=True) for name, x in tensors.items() if isinstance(x, Tensor)}
        return replace(self, **moved)


def prompts(tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
    """What stands before and after a recording, in both forms of the prompt."""
    made = (prompt(tokenizer, system=SYSTEM, user=[MEDIA], dialect=dialect) for dialect in (REFERENCE, LLAMA_CPP))
    return [(np.asarray(before).tolist(), np.asarray(after).tolist()) for before, _, after in made]


def collate(clips: Sequence[Clip], tokenizer: Tokenizer, form: tuple[list[int], list[int]]) -> Batch:
    """A batch of clips under one form of the prompt."""
    mels = [log_mel(clip.samples) for clip in clips]
    frames = np.array([len(mel) for mel in mels])
    texts = [tokenizer.encode(clip.text, special=False) for clip in clips]
    mel = np.zeros((len(mels), frames.max(), mels[0].shape[1]), np.float32)
    for row, one in zip(mel, mels, strict=True):
        row[: len(one)] = one
    rows = -(-frames // 8)
    tokens, places, labels = _sequences(texts, rows, form)
    return Batch(
        mel=torch.from_numpy(mel),
        frames=torch.from_numpy(frames),
        pieces=torch.tensor([token for text in texts for token in text], dtype=torch.long),
        counts=torch.tensor([len(text) for text in texts]),
        flat=torch.from_numpy(
            np.stack([_flat(clip, tokenizer, int(n), int(rows.max())) for clip, n in zip(clips, rows, strict=True)])
        ),
        tokens=tokens,
        places=places,
        labels=labels,
        seconds=float(sum(len(clip.samples) for clip in clips)) / SAMPLE_RATE,
    )


def _sequences(
    texts: Sequence[Sequence[int]], rows: np.ndarray, form: tuple[list[int], list[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, places and labels of a batch."""
    before, after = form
    tokens = [PAD, *before, *after, *(token for text in texts for token in text)]
    longest_rows = int(rows.max())
    lengths = [len(before) + int(n) + len(after) + len(text) for n, text in zip(rows, texts, strict=True)]
    places = np.zeros((len(texts), max(lengths)), np.int64)
    labels = np.full(places.shape, NOWHERE)
    head, tail = np.arange(1, 1 + len(before)), np.arange(1 + len(before), 1 + len(before) + len(after))
    at = 1 + len(before) + len(after)
    for index, (n, text) in enumerate(zip(rows, texts, strict=True)):
        audio = len(tokens) + index * longest_rows + np.arange(int(n))
        said = np.arange(at, at + len(text))
        places[index, : lengths[index]] = np.concatenate([head, audio, tail, said])
        labels[index, lengths[index] - len(text) - 1 : lengths[index]] = [*text, EOS]
        at += len(text)
    return torch.tensor(tokens), torch.from_numpy(places), torch.from_numpy(labels)


def _flat(clip: Clip, tokenizer: Tokenizer, rows: int, longest: int) -> np.ndarray:
    """(longest,) a token for each row, as if all lasted equally long; the blank where nobody speaks."""
    target = np.full(longest, NOWHERE)
    target[:rows] = PAD
    for span in clip.spans:
        text = tokenizer.encode(span.text, special=False)
        first, last = span.start // ROW, max(span.start // ROW + 1, min(rows, span.stop // ROW))
        target[first:last] = np.array(text)[np.arange(last - first) * len(text) // (last - first)]
    return target


def hardness(hours: float) -> float:
    """The share of clips that may be worsened when so many hours were heard."""
    return float(np.clip((hours - EASY_HOURS) / (HARD_HOURS - EASY_HOURS), 0, 1))


class Clips(IterableDataset[Batch]):
    """Batches without end, other ones in each worker and from each `start`.

    start, hours  steps made and audio heard before; what is easy comes first
    prose         the share of sentences that are everyday prose; None is as much as there is
    """

    def __init__(
        self, folder: Path, tokenizer: Tokenizer, *, seed: int, start: int, hours: float, seconds: float,
        prose: float | None = None,
    ) -> None:  # fmt: skip
        self._corpus, self._tokenizer = Corpus(folder), tokenizer
        self._seed, self._start, self._hours, self._seconds = seed, start, hours, seconds
        self._prose = prose

    def __iter__(self) -> Iterator[Batch]:
        """Refreshes the corpus with each pool, so that new shards are heard."""
        worker = get_worker_info()
        draw = np.random.default_rng((self._seed, self._start, worker.id if worker else 0))
        share = worker.num_workers if worker else 1
        forms = prompts(self._tokenizer)
        while True:
            self._corpus.refresh()
            for clips in self._batches(draw):
                batch = collate(clips, self._tokenizer, forms[int(draw.integers(len(forms)))])
                self._hours += batch.seconds * share / 3600
                yield batch

    def _batches(self, draw: np.random.Generator) -> list[list[Clip]]:
        """A pool of clips, cut into batches of about equal length, in random order."""
        clips = sorted((self._clip(draw) for _ in range(POOL)), key=lambda clip: len(clip.samples))
        batches: list[list[Clip]] = [[]]
        for clip in clips:
            if (len(batches[-1]) + 1) * len(clip.samples) > self._seconds * SAMPLE_RATE and batches[-1]:
                batches.append([])
            batches[-1].append(clip)
        return [batches[at] for at in draw.permutation(len(batches))]

    def _clip(self, draw: np.random.Generator) -> Clip:
        hard = hardness(self._hours)
        if draw.random() < SILENT * hard:
            return silent_clip(draw)
        parts = [self._corpus.draw(draw, self._prose)]
        while self._hours < SHORT_HOURS and len(parts[0][0]) > SHORT * SAMPLE_RATE:
            parts = [self._corpus.draw(draw, self._prose)]
        while draw.random() < JOINED * hard:
            more = self._corpus.draw(draw, self._prose)
            if sum(len(samples) for samples, _ in (*parts, more)) > (LONGEST - 2) * SAMPLE_RATE:
                break
            parts.append(more)
        return spoken_clip(parts, draw, hardness=hard)


def loader(clips: Clips, workers: int) -> Iterator[Batch]:
    """Batches of `clips`, made by so many processes beside this one; 0 makes them here."""
    return iter(DataLoader(clips, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None))
