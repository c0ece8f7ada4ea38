"""When each word was said: from where the decoder looked when it wrote the word, and from where there was sound.

A head that listens looks at the audio of the token it is about to write, so that its attention, token by token, is a
diagonal. The window is cut into pause, word, pause, word, …, pause in the one way that is worth most: a word is worth
the share of its tokens' attention that falls on its stretch, a pause the seconds of it without sound, less those with
sound. Dynamic programming finds that cut in steps of 10 ms, though attention comes in rows of 80 ms. Which heads listen
is found for each window anew: those whose own attention can be cut best. What else was measured is in docs/words.md.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from eardrop.audio import SAMPLE_RATE
from eardrop.engine import Token
from eardrop.ops import Float32
from eardrop.text import Detokenizer
from eardrop.transcript import Word

WORDS_BY = "attention of the decoder to the audio, and pauses of the sound"  # for `Result.words_by`

Float64 = npt.NDArray[np.float64]

ROW = 0.08  # seconds of audio in a row of the encoder
CELL = 0.01  # seconds in which words are placed
LISTENING = 0.8  # of the best head's worth: heads that have it listen, too
MOST_HEADS = 8
SHORTEST = 5  # cells of a word, where there is room
PAUSE = 0.4  # a row without sound is worth so much between words, less so much with sound

SPLITS = {"ja": r"[「『（(]*\w[^\w\s「『（(]*|\S"}  # languages that put no space between words: sign by sign


def words_of(
    tokens: Sequence[Token], looked: Float32, samples: Float32, *, start: float = 0.0, language: str = "en"
) -> tuple[Word, ...]:
    """The words of a window's text, with estimated times.

    tokens   of the text, as `Engine` gave them
    looked   (tokens, heads of all layers, R), `Handle.looked` of that text
    samples  (N,) of the window, mono, 16 kHz
    start    seconds of the recording before the window
    returns  words in order, split at spaces, marks with the word they stand at; none overlaps the next, all within
             the window
    """
    split = list(spelled([token.piece for token in tokens], language))
    if not split:
        return ()
    seconds = len(samples) / SAMPLE_RATE
    spans = _spans([_sounding(tokens, members) for _, members in split], looked, samples)
    return tuple(
        Word(
            round(start + min(begun, seconds), 3),
            round(start + min(ended, seconds), 3),
            text,
            _probability(tokens, members),
        )
        for (text, members), (begun, ended) in zip(split, spans, strict=True)
    )


def spelled(pieces: Sequence[bytes], language: str) -> Iterator[tuple[str, list[int]]]:
    """Each word and the tokens that spell it; a mark that stands alone goes with the word before, else behind."""
    text, ends = _detokenized(pieces)
    starts = [0, *ends[:-1]]
    held: tuple[str, list[int]] | None = None
    for found in re.finditer(SPLITS.get(language, r"\S+"), text):
        members = [i for i, at in enumerate(starts) if at < found.end() and max(ends[i], at + 1) > found.start()]
        if held is not None and not (_has_letter(held[0]) and _has_letter(found[0])):
            held = f"{held[0]} {found[0]}", [*held[1], *members]
            continue
        if held is not None:
            yield held
        held = found[0], members
    if held is not None:
        yield held


def _detokenized(pieces: Sequence[bytes]) -> tuple[str, list[int]]:
    """The text, and how much of it was there after each token: a character is there with its last byte."""
    detokenizer, text, ends = Detokenizer(), "", []
    for piece in pieces:
        text += detokenizer.push(piece)
        ends.append(len(text))
    return text + detokenizer.flush(), ends


def _has_letter(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _sounding(tokens: Sequence[Token], members: list[int]) -> list[int]:
    """The tokens of a word that have a sound: marks have none, as long as there is anything else."""
    return [i for i in members if _has_letter(tokens[i].piece.decode(errors="replace"))] or members


def _probability(tokens: Sequence[Token], members: Sequence[int]) -> float:
    """That all of its tokens are right: better calibrated than the least of theirs or their mean (docs/words.md)."""
    return float(np.exp(sum(tokens[i].logprob for i in members)))


def _spans(members: Sequence[Sequence[int]], looked: Float32, samples: Float32) -> list[tuple[float, float]]:
    """Seconds (start, end) of each word in its window, from where its tokens looked.

    members  the tokens of each word
    looked   (tokens, heads, R); samples (N,) of the window
    """
    share = listened(looked)
    worth = np.stack([share[list(tokens)].mean(axis=0) for tokens in members])
    cells = round(worth.shape[1] * ROW / CELL)
    pause = _summed(PAUSE * CELL / ROW * (1 - 2 * sound(samples, cells)))
    states = np.empty((2 * len(members) + 1, cells + 1))
    states[0::2], states[1::2] = pause, _summed(_fine(worth, cells))
    shortest = np.zeros(len(states), np.int64)
    shortest[1::2] = min(SHORTEST, cells // len(members))
    cuts = cut(states, shortest)[0] * CELL
    return [(float(cuts[2 * i + 1]), float(cuts[2 * i + 2])) for i in range(len(members))]


def listened(looked: Float32) -> Float64:
    """Where the heads that listen looked, (tokens, R), each row a distribution: their mean.

    looked  (tokens, heads, R)
    """
    worth = np.array([cut(_summed(_shares(looked, head)))[1] for head in range(looked.shape[1])])
    best = np.argsort(-worth, kind="stable")[:MOST_HEADS]
    mean: Float64 = np.mean([_shares(looked, head) for head in best if worth[head] >= LISTENING * worth.max()], axis=0)
    return mean


def _shares(looked: Float32, head: int) -> Float64:
    """Each row of one head as a distribution over the audio alone."""
    share = looked[:, head].astype(np.float64) + 1e-12  # where it saw none of it, all rows alike
    share /= share.sum(axis=1, keepdims=True)
    return share


def cut(states: Float64, shortest: npt.NDArray[np.int64] | None = None) -> tuple[npt.NDArray[np.int64], float]:
    """Cut a line into stretches, one for each state in order, so that they are worth most.

    states    (S, G + 1): what each state is worth from the line's begin to its begin and the end of each of its G cells
    shortest  (S,) cells that each state has at least, no more than G in all; none by default
    returns   (S + 1,) where the stretches begin and the last one ends, 0 to G; what they are worth in all
    """
    count, places = states.shape
    at, back = np.arange(places), np.zeros(states.shape, np.int64)
    best = np.where(at == 0, -states[0], -np.inf)  # of each cell, if the state in turn begins there
    for state, least in enumerate(np.zeros(count, np.int64) if shortest is None else shortest):
        begins = np.maximum.accumulate(np.where(best >= np.maximum.accumulate(best), at, 0))[: places - least]
        back[state, least:] = begins  # of each cell, the best begin of a state that ends there
        ends = np.full(places, -np.inf)
        ends[least:] = best[begins] + states[state, least:]
        best = ends - states[state + 1] if state + 1 < count else ends
    cuts = [places - 1]
    for begins in back[::-1]:
        cuts.append(begins[cuts[-1]])
    return np.array(cuts[::-1]), float(best[-1])


def _summed(share: Float64) -> Float64:
    """Sums from the begin: (…, R) → (…, R + 1)."""
    return np.concatenate([np.zeros((*share.shape[:-1], 1)), np.cumsum(share, axis=-1)], axis=-1)


def _fine(share: Float64, cells: int) -> Float64:
    """Rows of 80 ms → cells of 10 ms, on straight lines between the rows' middles: (words, R) → (words, cells)."""
    middles = (np.arange(cells) + 0.5) * CELL / ROW - 0.5
    return np.stack([np.interp(middles, np.arange(len(line)), line) for line in share]) * CELL / ROW


def sound(samples: Float32, cells: int) -> Float64:
    """How much each cell of 10 ms sounds like somebody speaking, 0 to 1, by its level alone.

    samples  (N,); cells  how many are wanted, those beyond the recording are as its end
    returns  (cells,), ½ where the level is three tenths of the way from the recording's quiet to its loud cells, and
             nearer to it everywhere where these are less than 12 dB apart
    """
    centred = samples.astype(np.float64) - samples.mean()
    sums, starts = _summed(centred**2), np.minimum(np.arange(cells) * round(CELL * SAMPLE_RATE), len(samples) - 1)
    low, high = (np.clip(starts + edge, 0, len(samples)) for edge in (-120, 280))  # 25 ms around it
    level = 10 * np.log10((sums[high] - sums[low]) / (high - low) + 1e-10)
    loud = np.percentile(level, 95)
    quiet = max(np.percentile(level, 5), loud - 50)
    height, known = (level - quiet) / max(loud - quiet, 1e-3), min((loud - quiet) / 12, 1)
    return np.asarray(1 / (1 + np.exp(known * (0.3 - height) / 0.1)))
