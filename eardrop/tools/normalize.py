"""What is compared when words are counted: texts without what two careful listeners write differently.

`english` and `basic` follow the Whisper normaliser (Radford et al. 2022, appendix C; openai/whisper,
whisper/normalizers), rule by rule and in its order, because published word error rates were counted with it.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources

from eardrop.tools.numbers import digits

_BRACKETS = re.compile(r"[<\[][^>\]]*[>\]]")
_PARENTHESES = re.compile(r"\(([^)]+?)\)")
_HESITATIONS = re.compile(r"\b(hmm|mm|mhm|mmm|uh|um)\b")

_CONTRACTIONS = {
    r"\bwon't\b": "will not", r"\bcan't\b": "can not", r"\blet's\b": "let us", r"\bain't\b": "aint",
    r"\by'all\b": "you all", r"\bwanna\b": "want to", r"\bkinda\b": "kind of", r"\bsorta\b": "sort of",
    r"\bdunno\b": "do not know", r"\bgotta\b": "got to", r"\bgonna\b": "going to", r"\bi'ma\b": "i am going to",
    r"\bimma\b": "i am going to", r"\bwoulda\b": "would have", r"\bcoulda\b": "could have",
    r"\bshoulda\b": "should have", r"\bcause\b": "because", r"\bma'am\b": "madam",
}  # fmt: skip
_TITLES = {
    "mr": "mister", "mrs": "missus", "st": "saint", "dr": "doctor", "prof": "professor", "capt": "captain",
    "gov": "governor", "ald": "alderman", "gen": "general", "sen": "senator", "rep": "representative",
    "pres": "president", "rev": "reverend", "hon": "honorable", "asst": "assistant", "assoc": "associate",
    "lt": "lieutenant", "col": "colonel", "jr": "junior", "sr": "senior", "esq": "esquire",
}  # fmt: skip
_ENDINGS = {
    r"'d been\b": " had been", r"'s been\b": " has been", r"'d gone\b": " had gone", r"'s gone\b": " has gone",
    r"'d done\b": " had done", r"'s got\b": " has got", r"n't\b": " not", r"'re\b": " are", r"'s\b": " is",
    r"'d\b": " would", r"'ll\b": " will", r"'t\b": " not", r"'ve\b": " have", r"'m\b": " am",
}  # fmt: skip
_LONG_FORMS = [  # in this order: a later rule sees what an earlier one wrote
    (re.compile(pattern), long)
    for pattern, long in (
        _CONTRACTIONS | {rf"\b{short}\b": f"{title} " for short, title in _TITLES.items()} | _ENDINGS
    ).items()
]

_NUMERIC = ".%$¢€£"  # symbols that belong to numbers
_LETTERS = {  # that NFKD doesn't take apart
    "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "ß": "ss", "ẞ": "SS", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "th", "ł": "l", "Ł": "L",
}  # fmt: skip


def english(text: str) -> str:
    """Lower case, no punctuation, long forms, digits, American spelling; words separated by single spaces."""
    text = _HESITATIONS.sub("", _without_asides(text.lower()))
    text = re.sub(r"\s+'", "'", text)
    for pattern, long in _LONG_FORMS:
        text = pattern.sub(long, text)
    text = re.sub(r"(\d),(\d)", r"\1\2", text)
    text = re.sub(r"\.([^0-9]|$)", r" \1", text)
    text = digits(_without_diacritics(text))
    text = " ".join(_spellings().get(word, word) for word in text.split())
    text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
    text = re.sub(r"([^0-9])%", r"\1 ", text)
    return " ".join(text.split())


def basic(text: str) -> str:
    """For other languages: lower case, marks, symbols and punctuation become spaces (NFKC)."""
    text = unicodedata.normalize("NFKC", _without_asides(text.lower()))
    return " ".join("".join(" " if unicodedata.category(c)[0] in "MSP" else c for c in text).lower().split())


def unspaced(text: str) -> str:
    """`basic` without any space, for languages that have none: what counts there are characters."""
    return basic(text).replace(" ", "")


def verbatim(text: str) -> str:
    """Every word as it is written."""
    return " ".join(text.split())


NORMALIZERS: Mapping[str, Callable[[str], str]] = {
    "english": english,
    "basic": basic,
    "unspaced": unspaced,
    "none": verbatim,
}


def _without_asides(text: str) -> str:
    """Without what stands in brackets: [laughter], <unk>, (unclear)."""
    return _PARENTHESES.sub("", _BRACKETS.sub("", text))


def _without_diacritics(text: str) -> str:
    return "".join(_plain(character) for character in unicodedata.normalize("NFKD", text))


def _plain(character: str) -> str:
    if character in _NUMERIC:
        return character
    if character in _LETTERS:
        return _LETTERS[character]
    category = unicodedata.category(character)
    return "" if category == "Mn" else " " if category[0] in "MSP" else character


@lru_cache(maxsize=1)
def _spellings() -> dict[str, str]:
    """British → American, from the file that names its source and licence."""
    text = resources.files("eardrop.tools").joinpath("spellings.txt").read_text(encoding="utf-8")
    pairs = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {british: american for british, american in pairs}  # noqa: C416  # what is what
