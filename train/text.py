"""What is said in training: sentences of a closed domain and of everyday prose, as a seed draws them.

They are written as LFM2-Audio writes, with capitals and punctuation; numbers in words. One sentence in fifty, chosen by
its own letters, is for tests and is never trained on, whatever the seed.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from train.debian import FORTUNES, WORDNET

HELD_OUT = 50  # one sentence in so many is for tests
MOST_WORDS = 16  # about six seconds


@dataclass(frozen=True)
class Sentence:
    """kind: a row of KINDS; text: as it is to be written; spoken: as a speech engine must be given it."""

    kind: str
    text: str
    spoken: str


def is_held_out(text: str) -> bool:
    """Whether a sentence is for tests."""
    return zlib.crc32(re.sub(r"\W", "", text.lower()).encode()) % HELD_OUT == 0


# The grammar


@cache
def grammar() -> Mapping[str, tuple[str, ...]]:
    """The alternatives of each name in grammar.txt."""
    lines = Path(__file__).with_name("grammar.txt").read_text(encoding="utf-8").splitlines()
    rules = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name: tuple(part.strip() for part in alternatives.split(" | ")) for name, _, alternatives in rules}


def expand(name: str, random: Random) -> str:
    """One sentence of a name, all names in it expanded."""
    said = random.choice(grammar()[name])
    while found := re.search(r"\{(\w+)\}", said):
        said = said[: found.start()] + random.choice(grammar()[found[1]]) + said[found.end() :]
    return written(said)


def written(said: str) -> str:
    """Capitals where they belong, "an" before a vowel, one space between words, one stop at the end."""
    said = re.sub(r"\s+", " ", said).strip()
    said = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", said)
    said = re.sub(r"\bi\b(?!\.)", "I", said)
    said = re.sub(r"\.\.+$", ".", said)
    return re.sub(r"^(\W*)(\w)", lambda match: match[1] + match[2].upper(), said)


# Numbers

# fmt: off
_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
    "eighteen", "nineteen",
]
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# fmt: on


def number_words(n: int) -> str:
    """0 … 999,999,999 in words, without hyphens."""
    for size, name in ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred")):
        if n >= size:
            rest = f" {number_words(n % size)}" if n % size else ""
            return f"{number_words(n // size)} {name}{rest}"
    if n < 20:
        return _UNITS[n]
    return _TENS[n // 10] + (f" {_UNITS[n % 10]}" if n % 10 else "")


def _number(random: Random) -> str:
    said = number_words(random.randrange(10 ** random.choice((2, 3, 3, 4, 4, 5, 6))))
    forms = ("{}.", "{}.", "{}.", "{} percent.", "{} dollars.", "{} point {}.", "number {}.", "{} people.", "minus {}.")
    return written(random.choice(forms).format(said, random.choice(_UNITS[:10])))


def _digits(random: Random) -> str:
    names = _UNITS[:10] if random.random() < 0.7 else ["oh", *_UNITS[1:10]]
    return written(" ".join(random.choice(names) for _ in range(random.choice((1, 2, 3, 3, 4, 4, 5, 6, 7, 8)))) + ".")


def _letters(random: Random) -> str:
    letters = " ".join(random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(random.choice((1, 2, 3, 3, 4, 5, 6))))
    forms = ("{}.", "{}.", "{}.", "{}.", "It is spelled {}.", "The code is {}.", "The letter {}.", "{} {}.")
    return random.choice(forms).format(letters, written(random.choice(_UNITS[:10])).lower())


# Prose of others


@cache
def prose() -> tuple[str, ...]:
    """Everyday sentences, each once, in a fixed order: WordNet's examples and short fortunes."""
    found = [*_wordnet_examples(), *_fortunes()]
    tidy = (_tidied(text) for text in found)
    return tuple(sorted({text for text in tidy if text}))


def _wordnet_examples() -> Iterator[str]:
    for path in sorted(WORDNET.glob("data.*")):
        for line in path.read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):
                yield from re.findall(r'"([^"]+)"', line.partition("|")[2])


def _fortunes() -> Iterator[str]:
    for name in ("fortunes", "wisdom", "platitudes", "people", "work", "kids", "food", "love", "men-women", "pets"):
        path = FORTUNES / name
        if path.exists():
            for entry in path.read_text(encoding="utf-8", errors="replace").split("\n%\n"):
                body = re.sub(r"\s+", " ", entry.partition("--")[0])
                yield from re.findall(r"(?:^|(?<=[.?!] ))[A-Z][^.?!]+[.?!](?= |$)", body)


def _tidied(text: str) -> str | None:
    """A sentence with a capital and a stop; None for what has figures, foreign signs, or too few or many words."""
    text = re.sub(r"\s+", " ", text).strip().replace("`", "'")
    if not re.fullmatch(r"[A-Za-z][A-Za-z',;:?! -]*[A-Za-z][.?!]?", text) or re.search(r"[A-Z]{2}|''|--| '|' ", text):
        return None
    if not 3 <= len(text.split()) <= MOST_WORDS:
        return None
    return written(text if text[-1] in ".?!" else text + ".")


@cache
def plain_prose() -> tuple[str, ...]:
    """The prose that has none but frequent words: those of the grammar, and the thousand most frequent beside them."""
    counts: dict[str, int] = {}
    for text in prose():
        for word in re.findall(r"[a-z']+", text.lower()):
            counts[word] = counts.get(word, 0) + 1
    known = set(re.findall(r"[a-z']+", " ".join(" ".join(part) for part in grammar().values()).lower()))
    known |= set(sorted(counts, key=lambda word: (-counts[word], word))[:1000])
    return tuple(text for text in prose() if all(word in known for word in re.findall(r"[a-z']+", text.lower())))


# The kinds


KINDS: Mapping[str, Callable[[Random], str]] = {
    "digits": _digits,
    "number": _number,
    "letters": _letters,
    "date": lambda random: expand("date", random),
    "time": lambda random: expand("time_of_day", random),
    "command": lambda random: expand("command", random),
    "sentence": lambda random: expand("sentence", random),
    "plain": lambda random: random.choice(plain_prose()),
    "prose": lambda random: random.choice(prose()),
}
CLOSED = {
    "digits": 10, "number": 9, "letters": 11, "date": 8, "time": 7, "command": 12, "sentence": 33, "plain": 10
}  # fmt: skip
WIDE = {
    "digits": 6, "number": 5, "letters": 6, "date": 4, "time": 4, "command": 6, "sentence": 24, "plain": 15, "prose": 30
}  # fmt: skip

PROSE = {
    "digits": 3, "number": 3, "letters": 4, "date": 1, "time": 1, "command": 3, "sentence": 10, "plain": 20, "prose": 55
}  # fmt: skip


def sentences(random: Random, mix: Mapping[str, int], *, held_out: bool = False) -> Iterator[Sentence]:
    """Sentences without end, of the kinds and in the shares of `mix`; for training, or held out for tests."""
    kinds, weights = list(mix), list(mix.values())
    while True:
        kind = random.choices(kinds, weights)[0]
        text = KINDS[kind](random)
        if len(text.split()) <= MOST_WORDS and is_held_out(text) == held_out:
            yield Sentence(kind, text, spoken(kind, text))


# Letters that engines would read as words, and what they say as the letter.
_LETTER_NAMES = {"A": "ay", "I": "eye"}


def spoken(kind: str, text: str) -> str:
    """What an engine must be given to say this: letters one by one, halves of the day by their letters."""
    if kind != "letters":
        return text.replace("a.m.", "ay M.").replace("p.m.", "P M.").replace("..", ".")
    return re.sub(
        r"\b([A-Z])\b(?=( ?))", lambda found: _LETTER_NAMES.get(found[1], found[1]) + "," * len(found[2]), text
    )
