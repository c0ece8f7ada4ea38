"""What somebody wishes for single weights, whatever the mix says: `--keep PATTERN=TYPE` of `eardrop quantize`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from eardrop.errors import OptionError
from eardrop.gguf import BlockFormat, by_name
from eardrop.gguf.mixes import Choice, Shapes, is_matrix
from eardrop.gguf.quantize import QUANTIZERS
from eardrop.printable import printable


class Keep(NamedTuple):
    """A wish: the weights whose names match the pattern (as in a shell) get this format."""

    pattern: str
    format: BlockFormat

    @classmethod
    def parse(cls, text: str) -> "Keep":
        """PATTERN=TYPE."""
        pattern, equals, name = text.rpartition("=")
        if not (pattern and equals):
            raise OptionError(f"--keep {text!r}: expected PATTERN=TYPE, as 'blk.0.*=Q8_0'")
        if name.upper() not in QUANTIZERS:
            raise OptionError(f"--keep {text!r}: no type is called {name!r}; there are {', '.join(QUANTIZERS)}")
        return cls(pattern, by_name(name))

    def matches(self, name: str) -> bool:
        return fnmatchcase(name, self.pattern)


def wished(keep: Sequence[Keep], shapes: Shapes) -> dict[str, Choice]:
    """The format of every matrix among these tensors that a wish is about; of several the first counts.

    Raises OptionError for a wish that matches none, or whose blocks its rows don't fill.
    """
    widths = {name: shape[1] for name, shape in shapes.items() if is_matrix(name, shape)}
    for wish in keep:
        if not any(map(wish.matches, widths)):
            raise OptionError(f"--keep: no matrix is called {wish.pattern!r}; eardrop info FILE --tensors lists them")
    first = {name: next((wish for wish in keep if wish.matches(name)), None) for name in widths}
    return {name: _fitting(wish, name, widths[name]) for name, wish in first.items() if wish}


def _fitting(wish: Keep, name: str, width: int) -> Choice:
    if width % wish.format.block:
        raise OptionError(
            f"--keep: {printable(name)} has rows of {width} values, no whole blocks of {wish.format.name}"
            f" ({wish.format.block}); wish for another type"
        )
    return Choice(wish.format, "as wished")
