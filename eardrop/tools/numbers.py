"""Number words become digits, as the Whisper normaliser writes them: "twenty one dollars" is "$21".

The rules are those of EnglishNumberNormalizer (openai/whisper, whisper/normalizers/english.py), its oddities included:
scores can be compared only where the rules are the same. Each word that may belong to a number is a row of `_WORDS`.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeAlias

_ZEROS = ("o", "oh", "zero")
_ONES = {
    word: value
    for value, word in enumerate(
        (
            "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
            "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
        ),
        start=1,
    )
}  # fmt: skip
_TENS = {
    word: 10 * place
    for place, word in enumerate(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), start=2
    )
}
_MULTIPLIERS = {"hundred": 100} | {
    word: 1000**power
    for power, word in enumerate(
        (
            "thousand", "million", "billion", "trillion", "quadrillion", "quintillion", "sextillion", "septillion",
            "octillion", "nonillion", "decillion",
        ),
        start=1,
    )
}  # fmt: skip
_ORDINALS = {"zeroth": (0, "th"), "first": (1, "st"), "second": (2, "nd"), "third": (3, "rd"), "fifth": (5, "th")}
_ORDINALS |= {"twelfth": (12, "th")}
_ORDINALS |= {
    word + ("h" if word.endswith("t") else "th"): (value, "th")
    for word, value in _ONES.items()
    if value > 3 and value not in (5, 12)
}
_SUFFIXED = {"sixes" if word == "six" else word + "s": (value, "s") for word, value in _ONES.items()} | _ORDINALS
_TENS_SUFFIXED = {
    word.removesuffix("y") + ending: (value, suffix)
    for ending, suffix in (("ies", "s"), ("ieth", "th"))
    for word, value in _TENS.items()
}
_MULTIPLIERS_SUFFIXED = {
    word + suffix: (value, suffix) for suffix in ("s", "th") for word, value in _MULTIPLIERS.items()
}
_SIGNS = {"minus": "-", "negative": "-", "plus": "+", "positive": "+"}
_CURRENCIES = {"pound": "£", "euro": "€", "dollar": "$", "cent": "¢"}
_CURRENCIES |= {word + "s": sign for word, sign in _CURRENCIES.items()}
_DECIMALS = {*_ONES, *_TENS, *_ZEROS}  # what may follow "point"

_PREFIXES = {*_SIGNS.values(), *_CURRENCIES.values()}
_DIGITS = re.compile(r"\d+(\.\d+)?")
LONGEST = 1000  # digits of a number that is reckoned with; a longer row of them stays as it is


def digits(text: str) -> str:
    """Lower-case text without punctuation other than `.%$¢€£`, its number words written as digits."""
    return _tidied(" ".join(_Reader(_separated(text).split()).read()))


def _separated(text: str) -> str:
    """Numbers and letters apart, "and a half" in a form that `_Reader` knows."""
    *before, last = re.split(r"\band\s+a\s+half\b", text)
    parts = []
    for part in before:
        if part.strip():
            counted = part.split()[-1] in _DECIMALS | _MULTIPLIERS.keys()
            parts += [part, "point five" if counted else "and a half"]
    if last.strip():
        parts.append(last)
    text = re.sub(r"([a-z])([0-9])", r"\1 \2", " ".join(parts))
    text = re.sub(r"([0-9])([a-z])", r"\1 \2", text)
    return re.sub(r"([0-9])\s+(st|nd|rd|th|s)\b", r"\1\2", text)


def _tidied(text: str) -> str:
    """Cents joined to their dollars; "one" for 1, which is hardly ever a number."""
    text = re.sub(r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b", lambda m: f"{m[1]}{m[2]}.{int(m[3]):02d}", text)
    text = re.sub(r"[€£$]0.([0-9]{1,2})\b", lambda m: f"¢{int(m[1])}", text)  # whisper's dot is any character
    return re.sub(r"\b1(s?)\b", r"one\1", text)


def _amount(text: str) -> Fraction | None:
    """The number that digits spell; None for what is none, or absurdly long."""
    try:
        return Fraction(text) if len(text) <= LONGEST else None
    except ValueError:  # "1.2.3", "5."
        return None


_Value: TypeAlias = int | str | None  # a number that may still grow; a string where digits were said one by one


class _Reader:
    """Reads words from left to right and holds back the number that is being said."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._said: list[str] = []
        self._prefix = ""
        self._value: _Value = None
        self._skipped = False  # whether the next word was read along with this one
        self._before: str | None = None
        self._after: str | None = None

    def read(self) -> list[str]:
        """The words, numbers among them as digits."""
        for index, word in enumerate(self._words):
            if self._skipped:
                self._skipped = False
                continue
            self._before = self._words[index - 1] if index else None
            self._after = self._words[index + 1] if index + 1 < len(self._words) else None
            self._take(word)
        self._finish()
        return self._said

    def _take(self, word: str) -> None:
        bare = word[1:] if word[0] in _PREFIXES else word
        number = _amount(bare) if _DIGITS.fullmatch(bare) else None
        if number is not None:
            self._figure(word, bare, number)
        elif word in _WORDS:
            _WORDS[word](self, word)
        else:
            self._finish()
            self._say(word)

    def _say(self, text: str) -> None:
        self._said.append(self._prefix + text)
        self._value, self._prefix = None, ""

    def _finish(self) -> None:
        """Say the number that was held back."""
        if self._value is not None:
            self._say(str(self._value))

    def _say_apart(self, word: str) -> None:
        self._finish()
        self._say(word)

    def _appended(self, digits: str) -> str:
        return str(self._value or "") + digits  # a 0 that was held back is lost, as whisper loses it

    def _figure(self, word: str, bare: str, number: Fraction) -> None:
        """Digits as they stand, perhaps with a sign or currency."""
        if isinstance(self._value, str) and self._value.endswith("."):
            self._value += word
            return
        self._finish()
        self._prefix = word[0] if bare != word else self._prefix
        self._value = number.numerator if number.denominator == 1 else bare

    def _joined(self, amount: int, room: int) -> int | str:
        """The number held back with this amount, which fits into its last places (`room`) or stands behind it."""
        if self._value is None:
            return amount
        if isinstance(self._value, str) and self._before in _TENS and amount < 10:
            return self._value[:-1] + str(amount)
        if isinstance(self._value, str) or self._before in _ONES or self._value % room:
            return str(self._value) + str(amount)
        return self._value + amount

    def _zero(self, word: str) -> None:
        self._value = self._appended("0")

    def _one(self, word: str) -> None:
        self._value = self._joined(_ONES[word], 10 if _ONES[word] < 10 else 100)

    def _suffixed(self, word: str) -> None:
        amount, suffix = _SUFFIXED[word]
        self._say(f"{self._joined(amount, 10 if amount < 10 else 100)}{suffix}")

    def _ten(self, word: str) -> None:
        self._value = self._joined(_TENS[word], 100)

    def _ten_suffixed(self, word: str) -> None:
        amount, suffix = _TENS_SUFFIXED[word]
        self._say(f"{self._joined(amount, 100)}{suffix}")

    def _multiplier(self, word: str) -> None:
        self._value = self._multiplied(_MULTIPLIERS[word])

    def _multiplier_suffixed(self, word: str) -> None:
        amount, suffix = _MULTIPLIERS_SUFFIXED[word]
        self._say(f"{self._multiplied(amount)}{suffix}")

    def _multiplied(self, factor: int) -> int:
        """Factor times what was held back, of an integer its last three places; what can't be multiplied is said."""
        if self._value is None:
            return factor
        if isinstance(self._value, int) and self._value != 0:
            thousands, rest = divmod(self._value, 1000)
            return thousands * 1000 + rest * factor
        number = _amount(str(self._value))
        if number is not None and (number * factor).denominator == 1:
            return (number * factor).numerator
        self._finish()
        return factor

    def _sign(self, word: str) -> None:
        self._finish()
        if self._number_follows():
            self._prefix = _SIGNS[word]
        else:
            self._say(word)

    def _currency(self, word: str) -> None:
        if self._value is None:
            self._say(word)
        else:
            self._prefix = _CURRENCIES[word]
            self._finish()

    def _percent(self, word: str) -> None:
        whole = word == "percent" or self._after == "cent"
        if self._value is None or not whole:
            self._say_apart(word)
        else:
            self._say(f"{self._value}%")
            self._skipped = word == "per"

    def _and(self, word: str) -> None:
        """Left out of "two hundred and one"."""
        if not self._number_follows() or self._before not in _MULTIPLIERS:
            self._say_apart(word)

    def _repeated(self, word: str) -> None:
        """double seven, triple zero"""
        after = self._after or ""
        if after in _ONES or after in _ZEROS:
            self._value = self._appended(str(_ONES.get(after, 0)) * (2 if word == "double" else 3))
            self._skipped = True
        else:
            self._say_apart(word)

    def _point(self, word: str) -> None:
        if not self._number_follows():
            self._say_apart(word)
        elif self._after in _DECIMALS or _DIGITS.fullmatch(self._after or ""):
            self._value = self._appended(".")

    def _number_follows(self) -> bool:
        return self._after in _WORDS or _DIGITS.fullmatch(self._after or "") is not None


_KINDS: tuple[tuple[Sequence[str], Callable[[_Reader, str], None]], ...] = (
    (_ZEROS, _Reader._zero),
    (list(_ONES), _Reader._one),
    (list(_SUFFIXED), _Reader._suffixed),
    (list(_TENS), _Reader._ten),
    (list(_TENS_SUFFIXED), _Reader._ten_suffixed),
    (list(_MULTIPLIERS), _Reader._multiplier),
    (list(_MULTIPLIERS_SUFFIXED), _Reader._multiplier_suffixed),
    (list(_SIGNS), _Reader._sign),
    (list(_CURRENCIES), _Reader._currency),
    (("per", "percent"), _Reader._percent),
    (("and",), _Reader._and),
    (("double", "triple"), _Reader._repeated),
    (("point",), _Reader._point),
)
_WORDS = {word: read for words, read in _KINDS for word in words}
