"""A corpus on many machines: a callable for Ray Data, and a job around it that writes Parquet and can go on.

`Transcribe` is what actors run; `transcribe_corpus` is the job. Importing this module needs the extra `ray`.
"""

import math
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from eardrop.audio import recordings_in
from eardrop.cores import usable_cores
from eardrop.engine import STREAMS
from eardrop.errors import EardropError, EngineClosed, MissingExtra, OptionError
from eardrop.loading import load
from eardrop.printable import printable
from eardrop.transcribe import Options, Outcome
from eardrop.transcribe.options import Wishes

try:
    import pyarrow as pa
    import ray.data
    from pyarrow import csv, json, parquet
    from ray.data.block import BlockAccessor
except ImportError:
    raise MissingExtra("a cluster needs Ray; install it on every node with: pip install 'eardrop[ray]'") from None

PATH = "path"
HEARD = pa.schema(
    {
        "text": pa.string(),
        "duration": pa.float64(),  # seconds
        "language": pa.string(),
        "model": pa.string(),
        "coverage": pa.float64(),  # of the speech heard, the share whose text is there and not known to be incomplete
        "warnings": pa.list_(pa.string()),
        "error": pa.string(),  # why all the others are null
        "json": pa.string(),  # for `Result.from_json`
    }
)

_MOST_ROWS = 64  # recordings in a file of the output: what is lost at most, for each recogniser, when a job is killed
_UNFINISHED = ".part"
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: how Python spells bytes of a name that are no UTF-8
_LEAST_FILES = 4  # for each recogniser, so that none waits long for the last


class Transcribe:
    """Recordings become texts, for `Dataset.map_batches`: one recogniser for each actor.

        each = ActorPoolStrategy(min_size=1, max_size=4)
        ds = ray.data.read_parquet("corpus.parquet").map_batches(
            Transcribe, fn_constructor_kwargs={"model": "/models/"}, batch_size=64, compute=each, num_cpus=8
        )

    model, …  as `eardrop.load` has them; files are looked for on the actor's node, and names fetched there once
    threads   None: as many as the actor's CPUs, as Ray counts them, and no more than the node has cores
    column    the recordings: paths as the node sees them, or the bytes of whole files
    options   the fields of `Options`

    Of a batch come the columns it has, less the bytes, and those of `HEARD`. The recordings of a batch are decoded
    together. One that fails is a row with its error; raised is what concerns all: ModelFileError, FetchError,
    OptionError for wishes that can't be met, EngineClosed.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        projector: str | os.PathLike[str] | None = None,
        backend: str = "auto",
        threads: int | None = None,
        precision: str = "float32",
        gpu_memory: int | None = None,
        streams: int = STREAMS,
        column: str = PATH,
        **options: Unpack[Wishes],
    ) -> None:
        Options(**options)  # wrong wishes are known before the model is loaded
        self._options, self._column = options, column
        self._asr = load(
            model, projector=projector, backend=backend, threads=threads or _own_cores(), precision=precision,
            gpu_memory=gpu_memory, streams=streams,
        )  # fmt: skip

    def __call__(self, batch: "pa.Table | Mapping[str, Any]") -> "pa.Table":
        table = batch if isinstance(batch, pa.Table) else pa.table(dict(batch))
        if self._column not in table.column_names:
            raise OptionError(f"the table has no column {self._column!r}: {', '.join(table.column_names)}")
        sources = table[self._column].to_pylist()
        kept = table.drop_columns([self._column]) if any(isinstance(one, bytes) for one in sources) else table
        if both := set(kept.column_names) & set(HEARD.names):
            raise OptionError(f"the table has columns that are to be written: rename {', '.join(sorted(both))}")
        outcomes = self._asr.transcribe_many((one or b"" for one in sources), **self._options)
        heard = pa.Table.from_pylist([_row(outcome) for outcome in outcomes], schema=HEARD)
        for field in HEARD:
            kept = kept.append_column(field, heard[field.name])
        return kept


def _own_cores() -> int | None:
    """What Ray lends this actor; None for what it doesn't count in whole processors."""
    lent = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0))
    return min(lent, usable_cores()) or None


def _row(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, EngineClosed):
        raise outcome  # this recogniser hears nothing any more
    if isinstance(outcome, EardropError):
        return {"error": str(outcome)}
    row = {name: getattr(outcome, name) for name in HEARD.names if hasattr(outcome, name)}
    return row | {"warnings": list(outcome.warnings), "json": outcome.to_json()}


def recordings(source: Path, column: str = PATH) -> list[str]:
    """The recordings of a corpus: absolute paths, each once.

    source  a folder, or a table whose paths are its own folder's where they aren't absolute
    column  of the table

    Raises OptionError that names the table and what is wrong with it.
    """
    where = printable(str(source))
    found = recordings_in(source) if source.is_dir() else _listed(source, column)
    beside = Path() if source.is_dir() else source.parent
    paths = list(dict.fromkeys(str(Path(beside, path).absolute()) for path in found))
    if not paths:
        raise OptionError(f"{where}: no recording is in there; name a folder or a table that has some")
    if odd := next((path for path in paths if _SURROGATE.search(path)), None):
        raise OptionError(f"{printable(odd)}: a table can't hold this name, which is no UTF-8; rename the file")
    return paths


def _csv(file: Path, column: str) -> "pa.Table":
    return csv.read_csv(
        file, convert_options=csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
    )


def _json_lines(file: Path, column: str) -> "pa.Table":
    return json.read_json(file)


def _parquet(file: Path, column: str) -> "pa.Table":
    return parquet.read_table(file, columns=[column])


TABLES: Mapping[str, Callable[[Path, str], "pa.Table"]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".json": _json_lines,
}


def _listed(file: Path, column: str) -> list[str]:
    """A column of paths."""
    where = printable(str(file))
    if file.suffix.lower() not in TABLES:
        raise OptionError(f"{where}: expected a folder or a table, whose name ends in {', '.join(TABLES)}")
    try:
        table = TABLES[file.suffix.lower()](file, column)
    except (pa.ArrowException, OSError) as error:
        why = printable(str(error).partition("\n")[0], most=200)
        raise OptionError(f"{where}: can't be read as a table with the column {printable(column)!r}: {why}") from None
    if column not in table.column_names:
        raise OptionError(f"{where}: has no column {printable(column)!r}; name the one with the paths")
    paths: list[Any] = table[column].to_pylist()
    for number, path in enumerate(paths):
        if not isinstance(path, str) or not path:
            raise OptionError(f"{where}: row {number + 1} has no path in the column {printable(column)!r}")
    return paths


@contextmanager
def connected() -> Iterator[None]:
    """With the cluster that RAY_ADDRESS names or that runs on this machine; without one Ray starts its own meanwhile.

    Ray tells its makers how it is used unless it is told not to; here it is, where nobody has said otherwise.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init()
    except (ConnectionError, ValueError) as error:
        why = printable(str(error).partition("\n")[0], most=200)
        raise OptionError(f"no cluster answers: {why}; check RAY_ADDRESS, or `ray start` one") from None
    try:
        yield
    finally:
        ray.shutdown()


def transcribe_corpus(
    paths: Iterable[str],
    output: Path,
    *,
    threads: int | None = None,
    gpus: float = 0,
    recognizers: int | None = None,
    **wishes: Any,
) -> None:
    """Transcribe recordings on the cluster that Ray is connected to, into Parquet files in a folder.

    paths        as every node sees them; those that the output has already are left out
    output       a folder that every node sees; each file in it is whole from the moment it is there
    threads      processors of each recogniser; None: the smallest node's, or its share for each of its GPUs
    gpus         of each recogniser
    recognizers  at most; None: as many as the cluster has room for now
    wishes       the other keywords of `Transcribe`

    Batches of a lost node are transcribed anew on others. Raises what `Transcribe` raises, and OptionError where no
    node has room for a recogniser.
    """
    for name, wish, least in (("threads", threads, 1), ("gpus", gpus, 0), ("recognizers", recognizers, 1)):
        if wish is not None and wish < least:
            raise OptionError(f"{name} is {wish:g}, expected at least {least}")
    output = output.absolute()  # actors work in another folder
    output.mkdir(parents=True, exist_ok=True)
    for part in output.glob(f"*{_UNFINISHED}"):
        part.unlink(missing_ok=True)
    there = {path for file in output.glob("*.parquet") for path in _listed(file, PATH)}
    left = [path for path in paths if path not in there]
    if not left:
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = threads or _share(nodes, gpus)
    most = recognizers or _room(nodes, {"CPU": cpus, "GPU": gpus})
    rows = min(_MOST_ROWS, math.ceil(len(left) / (_LEAST_FILES * most)))
    blocks = [pa.table({PATH: left[at : at + rows]}) for at in range(0, len(left), rows)]
    heard = ray.data.from_arrow(blocks).map_batches(
        Transcribe,
        fn_constructor_kwargs={"threads": threads, **wishes},
        batch_size=None,  # a block
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),  # restarted, and given again what they had
        num_cpus=cpus,
        num_gpus=gpus,
    )
    try:
        heard.write_datasink(_Files(output), ray_remote_args={"num_cpus": 0})  # recognisers have all processors
    except ray.exceptions.RayError as error:
        why = printable(str(error).strip().rpartition("\n")[2], most=200)
        raise _ours(error) or EardropError(f"Ray gave up: {why}; what is written stays, try again to go on") from None


def counted(output: Path) -> tuple[int, int]:
    """How many recordings an output has, and how many of them failed."""
    errors = [parquet.read_table(file, columns=["error"])["error"] for file in output.glob("*.parquet")]
    return sum(len(error) for error in errors), sum(len(error) - error.null_count for error in errors)


def _share(nodes: Sequence[Mapping[str, float]], gpus: float) -> int:
    """Processors for each recogniser, so that the smallest node has room for one, or for one to each of its GPUs."""
    shares = [
        int(node["CPU"] // (max(1, node["GPU"] // gpus) if gpus else 1))
        for node in nodes
        if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= gpus
    ]
    return max(1, min(shares, default=1))


def _room(nodes: Sequence[Mapping[str, float]], needs: Mapping[str, float]) -> int:
    """How many recognisers fit."""
    each = [min(int(node.get(kind, 0) // count) for kind, count in needs.items() if count) for node in nodes]
    if not sum(each):
        wanted = " and ".join(f"{count:g} {kind}" for kind, count in needs.items() if count)
        raise OptionError(f"no node of the cluster has {wanted} for a recogniser; ask for less, or add nodes")
    return sum(each)


def _ours(error: BaseException) -> EardropError | None:
    """What a recogniser raised, out of what Ray has put around it."""
    for inner in (getattr(error, "cause", None), *error.args, error.__cause__):
        if isinstance(inner, BaseException) and (found := _ours(inner)):
            return found
    return error if isinstance(error, EardropError) else None


class _Files(ray.data.Datasink):
    """A Parquet file for each block, named when it is whole: a task that is tried again replaces its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._job = folder, uuid.uuid4().hex[:12]

    def write(self, blocks: Iterable[Any], ctx: Any) -> None:
        table = pa.concat_tables([BlockAccessor.for_block(block).to_arrow() for block in blocks])
        part = self._folder / f".{uuid.uuid4().hex}{_UNFINISHED}"
        with part.open("wb") as file:
            parquet.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / f"{self._job}-{ctx.task_idx:06}.parquet")
