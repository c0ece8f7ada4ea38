"""What is done of a long job, so that a killed one goes on: a small SQLite file beside the outputs.

A recording is known by its content, not by its name, together with the model and the wishes it was transcribed with.
Its result is kept whole before any output is written: what is finished is never transcribed again, and outputs that
are missing are written from it, in whatever format is wanted by then.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from eardrop.audio import name_of
from eardrop.engine import Model
from eardrop.errors import OptionError
from eardrop.printable import printable
from eardrop.transcribe.options import Options
from eardrop.transcript import Output, Result

NAME = ".eardrop-journal.sqlite"
SCHEMA = 1
CHUNK = 1 << 20

_TABLES = """
create table if not exists done (key text primary key, result text not null);
create table if not exists named (source text primary key, number integer, attempt integer, paths text not null);
create table if not exists seen (path text primary key, size integer, changed integer, content text not null);
"""


class Journal:
    """The results of a folder's job. One process at a time.

    job  what a result depends on besides the recording: see `job_of`
    """

    def __init__(self, folder: Path, job: str) -> None:
        self.path, self._job = folder / NAME, job
        with self._explained():
            self._base = sqlite3.connect(self.path, isolation_level=None, timeout=0.5)
            self._base.execute("pragma locking_mode = exclusive")
            self._base.execute("pragma journal_mode = wal")
            (version,) = self._base.execute("pragma user_version").fetchone()
            if version not in (0, SCHEMA):
                raise OptionError(f"{printable(str(self.path))} is of another version of eardrop; remove it")
            self._base.executescript(_TABLES)
            self._base.execute(f"pragma user_version = {SCHEMA}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What the database can't do is about the folder, and no bug: it is locked, damaged, or the disk is full."""
        try:
            yield
        except sqlite3.Error as error:
            raise OptionError(
                f"{printable(str(self.path))} can't be used ({error}): another eardrop may be writing there, or the"
                " disk is full; wait for it, make room, choose another folder, or remove the file to begin anew"
            ) from None

    def _ask(self, command: str, *values: object) -> list[Any]:
        """Rows."""
        with self._explained():
            return self._base.execute(command, values).fetchall()

    def find(self, recording: Path) -> Result | None:
        """The finished result of a recording with this content, under this one's name."""
        found = self._ask("select result from done where key = ?", self._key(recording))
        return replace(Result.from_json(found[0][0]), source=name_of(recording)) if found else None

    def keep(self, recording: Path, result: Result) -> None:
        """A recording is finished. It is on the disk when this returns."""
        self._ask("insert or replace into done values (?, ?)", self._key(recording), result.to_json())

    def outputs(self) -> dict[str, Output]:
        """Which files belong to which recordings, as it was decided before."""
        rows = self._ask("select source, number, attempt, paths from named")
        return {
            source: Output(number, attempt, {form: Path(path) for form, path in json.loads(paths).items()})
            for source, number, attempt, paths in rows
        }

    def keep_outputs(self, outputs: Mapping[str, Output]) -> None:
        """Remember that."""
        rows = [
            (source, one.number, one.attempt, json.dumps({form: str(path) for form, path in one.paths.items()}))
            for source, one in outputs.items()
        ]
        with self._explained():
            self._base.executemany("insert or replace into named values (?, ?, ?, ?)", rows)

    def remove(self) -> None:
        """Everything is done: leave nothing behind."""
        self.close()
        for path in (self.path, *(self.path.with_name(NAME + suffix) for suffix in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def _key(self, recording: Path) -> str:
        return f"{self._content(recording)} {self._job}"

    def _content(self, recording: Path) -> str:
        """The digest of a file; remembered for as long as its size and time of change stay."""
        facts = recording.stat()
        place = os.fsdecode(recording.resolve())
        now = (facts.st_size, facts.st_mtime_ns)
        for size, changed, known in self._ask("select size, changed, content from seen where path = ?", place):
            if (size, changed) == now:
                return str(known)
        content = hashlib.blake2b(digest_size=20)
        with recording.open("rb") as file:
            while chunk := file.read(CHUNK):
                content.update(chunk)
        digest = content.hexdigest()
        self._ask("insert or replace into seen values (?, ?, ?, ?)", place, *now, digest)
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def job_of(model: Model, options: Options) -> str:
    """What a result depends on besides the recording: the model's files, and wishes that change the text."""
    files = [(file.path.name, file.path.stat().st_size) for file in model.files]
    facts: Mapping[str, object] = {"model": files, "options": vars(options)}
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=10).hexdigest()
