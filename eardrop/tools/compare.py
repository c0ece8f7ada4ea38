"""How a value is compared with a published one: what differs, by how much, and whether that is too much.

A comparison is a function of (what this engine has, the fact); those that depend on a tolerance are made by `within`,
`likeliest` and `tokens`, so that the table of checks reads as a table.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.tools.measures import Spoken, first_difference
from eardrop.tools.published import Fact
from eardrop.transcript import align

Numbers: TypeAlias = npt.NDArray[np.floating[Any]]


class NotComparable(Exception):
    """The value says nothing about the published one; the message says why."""


@dataclass(frozen=True)
class Comparison:
    """The two values as people read them, and what lies between."""

    value: str
    expected: str
    distance: str
    passed: bool
    note: str = ""


Compare: TypeAlias = Callable[[Any, Fact], Comparison]


def equal(value: Any, fact: Fact) -> Comparison:
    """The same, entry by entry: a number, a list, or a dict of such."""
    mine, theirs = _entries(value), _entries(fact.value)
    wrong = [key for key in theirs if mine.get(key) != theirs[key]]
    wrong += [key for key in mine if key not in theirs]
    if len(theirs) == 1 and len(mine) == 1:
        (got,), (expected,) = mine.values(), theirs.values()
        return Comparison(_shown(got), _shown(expected), _gap(got, expected), not wrong)
    note = f"{_shown(wrong[0])}: {_shown(mine.get(wrong[0]))}, expected {_shown(theirs.get(wrong[0]))}" if wrong else ""
    same = len(theirs) - sum(key in theirs for key in wrong)
    return Comparison(f"{same} of {len(theirs)}", f"{len(theirs)}", f"{len(wrong)} differ", not wrong, note)


def contains(value: Sequence[int], fact: Fact) -> Comparison:
    """All that was published is there; there may be more."""
    missing = [entry for entry in fact.value if entry not in value]
    note = f"{_shown(missing)} missing" if missing else ""
    return Comparison(_shown(sorted(value)), _shown(fact.value), f"{len(missing)} missing", not missing, note)


def _entries(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    return dict(enumerate(value)) if isinstance(value, list) else {0: value}


def _gap(got: Any, expected: Any) -> str:
    if isinstance(got, int | float) and isinstance(expected, int | float):
        return f"{got - expected:+,}" if got != expected else "0"
    return "0" if got == expected else "differs"


def _shown(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if len(text) <= 48 else text[:47] + "…"


@dataclass(frozen=True)
class Limit:
    """A way to measure a distance, and the most of it that passes."""

    most: float
    unit: str
    distance: Callable[[Numbers, Numbers], Numbers]


def absolute(most: float) -> Limit:
    """Each value, as it is."""
    return Limit(most, "absolute", lambda got, expected: np.abs(got - expected))


def relative(most: float) -> Limit:
    """Each value, as a part of the expected one."""
    return Limit(most, "relative", lambda got, expected: np.abs(got - expected) / np.maximum(np.abs(expected), 1e-30))


def norms(most: float) -> Limit:
    """The norm of each row, as a part of the expected one."""

    def distance(got: Numbers, expected: Numbers) -> Numbers:
        mine, theirs = (np.atleast_1d(np.linalg.norm(x, axis=-1)) for x in (got, expected))
        return np.asarray(np.abs(mine - theirs) / np.maximum(theirs, 1e-30))

    return Limit(most, "of a row's norm", distance)


def within(limit: Limit | None = None, /, **parts: Limit) -> Compare:
    """Arrays, each part within its limit; parts without one aren't compared. A limit alone: the value has no parts."""
    limits = parts if limit is None else {"": limit}

    def compare(value: Any, fact: Fact) -> Comparison:
        mine, theirs = ({"": x} if limit is not None else x for x in (value, fact.value))
        measured = [_measured(name, mine[name], theirs[name], each) for name, each in limits.items()]
        share, note = max(measured, key=lambda row: np.inf if np.isnan(row[0]) else row[0])
        passed = share <= 1.0  # a NaN is not
        return Comparison(_sketch(mine), _sketch(theirs), note, passed)

    return compare


def _measured(name: str, got: Any, expected: Any, limit: Limit) -> tuple[float, str]:
    """The largest distance as a part of the limit, and in words."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        raise NotComparable(f"{name or 'the value'} has the shape {got.shape}, the published one {expected.shape}")
    distance = limit.distance(got, expected)
    worst = float(np.max(distance)) if distance.size else 0.0
    where = f" ({name})" if name else ""
    return worst / limit.most, f"{worst:.1e} {limit.unit} {_sign(worst, limit.most)} {limit.most:.0e}{where}"


def _sign(found: float, most: float) -> str:
    return "≤" if found <= most else ">"  # a NaN is more than anything


def _sketch(parts: Mapping[str, Any]) -> str:
    """The first numbers of the first part."""
    numbers = np.asarray(next(iter(parts.values())), np.float64).reshape(-1)
    return " ".join(f"{number:.6g}" for number in numbers[:3]) + (" …" if len(numbers) > 3 else "")


def likeliest(most: float) -> Compare:
    """The same tokens in the same order, log-probabilities within a limit. Value: the logits of all tokens."""

    def compare(value: Numbers, fact: Fact) -> Comparison:
        scores = np.asarray(value, np.float64)
        scores = scores - (scores.max() + np.log(np.exp(scores - scores.max()).sum()))
        ids, chances = (list(column) for column in zip(*fact.value, strict=True))
        mine = np.argsort(-scores, kind="stable")[: len(ids)].tolist()
        far = float(np.max(np.abs(scores[ids] - chances)))
        note = "" if mine == ids else f"the order is {mine}, published {ids}"
        distance = f"{far:.1e} in log-probability {_sign(far, most)} {most:.0e}"
        return Comparison(_shown(mine), _shown(ids), distance, mine == ids and far <= most, note)

    return compare


def tokens(close: float) -> Compare:
    """The same ids. A published token whose logit is closer than `close` to the best is a near tie: rounding."""

    def compare(value: Spoken, fact: Fact) -> Comparison:
        mine, theirs = value.ids, list(fact.value)
        if mine == theirs:
            return Comparison(f"{len(mine)} ids", f"{len(theirs)} ids", "0 differ", passed=True)
        step = first_difference(mine, theirs)
        note = f"token {step} is {_at(mine, step)}, published {_at(theirs, step)}, whose logit is {value.gap:.3g} lower"
        if value.gap < close:
            raise NotComparable(f"near tie: {note}; closer than {close:g} rounding decides")
        return Comparison(f"{len(mine)} ids", f"{len(theirs)} ids", f"from token {step} on", passed=False, note=note)

    return compare


def _at(ids: Sequence[int], step: int) -> str:
    return str(ids[step]) if step < len(ids) else "the end"


def text(value: str, fact: Fact) -> Comparison:
    """The same text, or one of several published ones."""
    return _text(value, fact, str.strip)


def words(value: str, fact: Fact) -> Comparison:
    """The same words, whatever the case and the punctuation."""
    return _text(value, fact, lambda said: " ".join(_spoken(said)))


def _text(value: str, fact: Fact, form: Callable[[str], str]) -> Comparison:
    choices = fact.value if isinstance(fact.value, list) else [fact.value]
    expected = min(choices, key=lambda choice: _edits(value, choice))
    passed = any(form(value) == form(choice) for choice in choices)
    edits = _edits(value, expected)
    distance = f"{edits} of {len(_spoken(expected))} words" if edits or passed else "the same words, written otherwise"
    note = "" if passed else "a greedy text may change where two candidates are nearly equal"
    return Comparison(_shown(value), _shown(expected), distance, passed, note)


def _spoken(said: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", said.lower().replace("’", "'"))


def _edits(said: str, expected: str) -> int:
    """Words put in, left out or exchanged."""
    return align.distance(_spoken(expected), _spoken(said))
