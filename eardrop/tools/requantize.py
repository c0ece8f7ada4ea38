"""A GGUF file → the same model in another mix of formats, text or projector, and what that cost each weight.

Tensors stream from file to file in slabs of rows: read, quantised, read again and compared, on as many threads as
asked for (NumPy computes outside the interpreter's lock). The new file appears under its name when it is complete.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eardrop.errors import ModelFileError, OptionError
from eardrop.gguf import BlockFormat, Fact, GgufFile, GgufTensor, PlannedTensor, open_gguf, u32, write_gguf
from eardrop.gguf.mixes import Choice, Mix, choose
from eardrop.gguf.quantize import quantize
from eardrop.model.kinds import Kind, kind_of
from eardrop.printable import printable
from eardrop.tools.keep import Keep, wished

SLAB = 1 << 18  # values of a task: some megabytes of scratch for each thread


@dataclass
class Change:
    """What became of one tensor.

    squares  Σ (new − old)² and Σ old² over its values; of a tensor that stays what it is the first is 0
    why      where its format isn't the mix's own choice
    """

    tensor: GgufTensor
    format: BlockFormat
    why: str = ""
    squares: tuple[float, float] = (0.0, 0.0)

    @property
    def changed(self) -> bool:
        """Whether it has another format than before."""
        return self.format is not self.tensor.format

    @property
    def nbytes(self) -> int:
        """The size of the new blocks."""
        return self.tensor.size // self.format.block * self.format.block_bytes

    @property
    def rmse(self) -> float:
        """The root mean square error of its values."""
        return float((self.squares[0] / max(1, self.tensor.size)) ** 0.5)

    @property
    def relative(self) -> float:
        """The same as a share of the root mean square of its values."""
        return float((self.squares[0] / self.squares[1]) ** 0.5) if self.squares[1] else 0.0


@dataclass(frozen=True)
class Report:
    """What became of a file; sizes in bytes.

    twice  how many weights were quantised before, so that two errors add up
    """

    mix: Mix
    changes: list[Change]
    size_before: int
    size_after: int

    @property
    def twice(self) -> int:
        return sum(change.changed and change.tensor.format.block > 1 for change in self.changes)


def requantize(
    source: Path,
    target: Path,
    mix: Mix,
    *,
    keep: Sequence[Keep] = (),
    force: bool = False,
    threads: int = 1,
    progress: Callable[[float], None] = lambda share: None,
) -> Report:
    """Write the model of one file into another, its matrices in the formats that the mix, or a wish, says.

    source    a text model or a projector; of a split one the first part: the target is one file
    force     replace a file that is there
    progress  told the share of the values that are done, 0 to 1

    Needs some megabytes for each thread. Raises ModelFileError for a file that is damaged, another kind of model, or
    holds what isn't a number; OptionError for wishes that can't be met. In either case nothing is left behind.
    """
    with open_gguf(source) as file:
        _check(file, target, force=force)
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        choices = choose(mix, shapes) | wished(keep, shapes)
        changes = [_change(tensor, choices) for tensor in file.tensors.values()]
        with ThreadPoolExecutor(threads) as pool:
            in_order, done = partial(_in_order, pool, threads), _counted(changes, progress)
            plans = [_planned(file, change, in_order, done) for change in changes]
            write_gguf(target, _facts(file, mix), plans)
        return Report(mix, changes, file.total_bytes, target.stat().st_size)


_KINDS = (Kind.TEXT, Kind.PROJECTOR)


def _check(file: GgufFile, target: Path, *, force: bool) -> None:
    """Refuse what could only fail after minutes."""
    shown = printable(str(target))
    if (kind := kind_of(file)) not in _KINDS:
        raise ModelFileError(
            f"{printable(str(file.path))}: this is {kind.value}; give a text model or a projector of LFM2-Audio"
        )
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise OptionError(f"{shown} {'is a folder' if target.is_dir() else 'lies in no folder'}; name a file to write")
    if target.exists() and any(map(target.samefile, file.paths)):
        raise OptionError(f"{shown} is the file to read; name another one to write")
    if target.exists() and not force:
        raise OptionError(f"{shown} exists; name another file, or --force to replace it")


def _change(tensor: GgufTensor, choices: dict[str, Choice]) -> Change:
    choice = choices.get(tensor.name, Choice(tensor.format))
    return Change(tensor, choice.format, choice.why)


_SPLIT = ("split.no", "split.count", "split.tensors.count")


def _facts(file: GgufFile, mix: Mix) -> dict[str, Fact]:
    """What the file says of itself, but for its formats, and in how many parts it came."""
    facts = {key: fact for key, fact in file.typed_facts.items() if key not in _SPLIT}
    return facts | {"general.file_type": u32(mix.file_type), "general.quantization_version": u32(2)}


def _counted(changes: list[Change], progress: Callable[[float], None]) -> Callable[[int], None]:
    """What is told how many values more are done, and tells their share of all."""
    total, sofar = max(1, sum(change.tensor.size for change in changes)), 0

    def done(values: int) -> None:
        nonlocal sofar
        sofar += values
        progress(sofar / total)

    return done


class _Slab(NamedTuple):
    """The new blocks of some rows, and their part of `Change.squares`."""

    raw: NDArray[np.uint8]
    squares: tuple[float, float]


InOrder = Callable[[Callable[[slice], _Slab], Iterable[slice]], Iterator[_Slab]]


def _in_order(pool: Executor, threads: int, work: Callable[[slice], _Slab], slabs: Iterable[slice]) -> Iterator[_Slab]:
    """The same as `map`, on threads, and never many slabs ahead of who takes them."""
    coming = iter(slabs)
    waiting = deque(pool.submit(work, slab) for slab in islice(coming, 2 * threads))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(work, slab) for slab in islice(coming, 1))


def _planned(file: GgufFile, change: Change, in_order: InOrder, done: Callable[[int], None]) -> PlannedTensor:
    def pieces() -> Iterator[NDArray[Any]]:
        file.check_unchanged()
        rows = len(change.tensor.raw)
        step = max(1, SLAB * rows // max(1, change.tensor.size))
        for slab in in_order(partial(_requantized, file, change), (slice(k, k + step) for k in range(0, rows, step))):
            change.squares = (change.squares[0] + slab.squares[0], change.squares[1] + slab.squares[1])
            yield slab.raw
            done(len(slab.raw) * change.tensor.size // rows)
        file.check_unchanged()  # or parts of two models may have met

    return PlannedTensor(change.tensor.name, change.tensor.shape, change.format, pieces)


def _requantized(file: GgufFile, change: Change, rows: slice) -> _Slab:
    tensor = change.tensor
    if tensor.format.dequantize is None and not change.changed:
        return _Slab(tensor.raw[rows], (0.0, 0.0))
    old, raw = tensor.dequantize_rows(rows), tensor.raw[rows]
    new = old
    if change.changed:
        raw = quantize(old, change.format)
        new = GgufTensor(tensor.name, old.shape, change.format, raw).dequantize()
    with np.errstate(invalid="ignore"):
        error = np.subtract(new, old, dtype=np.float64)
        squares = float(np.square(error, out=error).sum()), float(np.square(old, dtype=np.float64).sum())
    if not np.isfinite(sum(squares)):
        raise _refused(file, change, old)
    return _Slab(raw, squares)


def _refused(file: GgufFile, change: Change, old: NDArray[np.float32]) -> ModelFileError:
    name = printable(change.tensor.name)
    if np.isfinite(old).all():
        what = f"holds {np.abs(old).max():g}, too much for {change.format.name}; add --keep '{name}=BF16'"
    else:
        what = "holds NaN or infinities; fetch it again, or convert the model anew"
    return ModelFileError(f"{printable(str(file.path))}: tensor {name} {what}")
