"""When a stream ends, and why."""

from dataclasses import dataclass
from enum import StrEnum


class Finish(StrEnum):
    """Why a text ended."""

    STOP = "stop"  # the model said it is done
    LENGTH = "length"  # as many tokens as were allowed
    CONTEXT = "context"  # no row was left
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Stop:
    """The rule of one stream."""

    tokens: frozenset[int]  # end the text and aren't part of it
    limit: int | None = None  # tokens; None: as many as fit

    def before(self, token: int, said: int) -> Finish | None:
        """Whether the text ends without this token, `said` tokens having been said."""
        if token in self.tokens:
            return Finish.STOP
        return Finish.LENGTH if self.limit is not None and said >= self.limit else None
