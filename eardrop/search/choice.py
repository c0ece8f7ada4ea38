"""How the next token is chosen: a value of the request, not a flag of the loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from eardrop.ops import Float32

Mask: TypeAlias = npt.NDArray[np.bool_]  # (V,) the tokens that may be said
Logits: TypeAlias = Callable[[], Float32]  # (V,), fetched from the backend only when asked for


@dataclass(frozen=True)
class Choice:
    """One token, how likely the model held it, and how far the best logit stood above the second."""

    token: int
    logprob: float
    margin: float


class Chooser(Protocol):
    """The search of one stream, with whatever it remembers."""

    def choose(self, best: Choice, logits: Logits, allowed: Mask | None) -> Choice:
        """The next token, given the likeliest one that is allowed."""


class Search(Protocol):
    """A way to search; `begin` makes the chooser of one stream."""

    def begin(self) -> Chooser:
        """A chooser that remembers nothing yet."""
