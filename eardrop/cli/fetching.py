"""A download that people see: what is taken from where, then a bar with its speed, on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eardrop.cli.terminal import NOTES, Voice, console
from eardrop.hub import Files, HubName, Plan, ask, take


def fetch_shown(name: HubName, voice: Voice) -> Files:
    """The pair of this name, fetched; says which files it chose. Nothing is taken twice."""
    plan = ask(name)
    missing = plan.missing()
    if missing:
        files = " and ".join(file.path for file in missing)
        voice.note(f"fetching {files} ({size(sum(file.bytes for file in missing))}) of {_origin(plan)}")
    with _bar(plan, shown=bool(missing) and voice.level >= NOTES) as told:
        return take(plan, told)


def size(bytes_: int) -> str:
    """Bytes, as people say them."""
    return f"{bytes_ / 1e9:.2f} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:.1f} MB"


def _origin(plan: Plan) -> str:
    return f"{plan.name.repo}, commit {plan.commit[:10]}"


@contextmanager
def _bar(plan: Plan, *, shown: bool) -> Iterator[Callable[[int], None]]:
    if not (shown and sys.stderr.isatty()):
        yield lambda bytes_: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task("fetching", total=plan.bytes)
        yield lambda bytes_: progress.update(task, completed=bytes_)
