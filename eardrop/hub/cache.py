"""The hub's cache on this machine, in the layout that huggingface_hub and llama.cpp share:

    models--USER--REPO/
      refs/main                      the commit that a branch or tag stood at when it was fetched
      snapshots/COMMIT/FILE.gguf     links into …
      blobs/SHA256                   … the bytes; SHA256.incomplete is a download that was interrupted

HF_HOME and HF_HUB_CACHE say where it is. Looking into it writes nothing and needs no network.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from eardrop.errors import OptionError
from eardrop.hub.names import HubName, choose, parts, types

_COMMIT = re.compile(r"[0-9a-f]{7,40}")  # or its beginning


class Files(NamedTuple):
    """A pair on this machine; a projector that is None lies beside the text model."""

    text: Path
    projector: Path | None


@dataclass(frozen=True)
class Cached:
    """A model in the cache."""

    name: HubName  # which finds it again
    commit: str
    files: Files
    bytes: int  # of both


def repository(repo: str) -> Path:
    """The folder of a repository."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def cached(name: HubName) -> Files | None:
    """The pair of this name as far as it was fetched; None where no whole pair is there."""
    folder = snapshot(name)
    if folder is None:
        return None
    try:
        chosen = choose(_files(folder), name)
    except OptionError:
        return None
    return Files(folder / chosen.texts[0], folder / chosen.projector)


def snapshot(name: HubName) -> Path | None:
    """The folder of a name's files; a revision is a branch, a tag, or the beginning of a commit."""
    whole = repository(name.repo)
    with suppress(OSError, ValueError):
        commit = (whole / "refs" / name.revision).read_text(encoding="ascii").strip()
        return whole / "snapshots" / commit if commit.isalnum() else None
    if not _COMMIT.fullmatch(name.revision):
        return None
    commits = list((whole / "snapshots").glob(f"{name.revision}*"))
    return commits[0] if len(commits) == 1 else None


def every() -> Iterator[Cached]:
    """All pairs in the cache, by name; that they are models for speech, only their files can say."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots/*")):
        whole, commit = folder.parent.parent, folder.name
        plain = HubName(whole.name.removeprefix("models--").replace("--", "/"))
        named = plain if snapshot(plain) == folder else replace(plain, revision=commit[:10])
        for weights in types(_files(folder)):
            name = replace(named, weights=weights)
            files = cached(name)
            if files is not None:
                yield Cached(name, commit, files, sum(path.stat().st_size for path in files if path))


def link(blob: Path, pointer: Path) -> None:
    """A file of a snapshot, from its bytes; where links can't be, the bytes move there."""
    from huggingface_hub import constants

    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)
    if not constants.HF_HUB_DISABLE_SYMLINKS:
        with suppress(OSError):  # where links are not allowed, as on Windows for most
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
            return
    blob.replace(pointer)


def remember(name: HubName, commit: str) -> None:
    """Where the name's revision stands now."""
    if commit.startswith(name.revision):
        return
    ref = repository(name.repo) / "refs" / name.revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    part = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
    part.write_text(commit, encoding="ascii")
    part.replace(ref)


def remove(name: HubName) -> int:
    """Take a model out of the cache: its text model, and its projector unless another text needs it.

    Without a weight type all models of the revision go, and what was left of interrupted downloads. Gives the bytes
    that are free now. Raises OptionError for what isn't there.
    """
    whole = repository(name.repo)
    doomed = _doomed(name)
    if not doomed and (name.weights or not _leftovers(whole)):
        raise OptionError(f"{name} isn't in the cache; `eardrop models` lists what is")
    before = _held(whole)
    for pointer in doomed:
        pointer.unlink()
    for blob in _orphans(whole) + ([] if name.weights else _leftovers(whole)):
        blob.unlink()
    if not any(path.is_file() for path in (whole / "snapshots").rglob("*")):
        shutil.rmtree(whole)
    return before - _held(whole)


def _doomed(name: HubName) -> list[Path]:
    """The files that go: of every snapshot, or of the revision that was named."""
    folder = snapshot(name)
    if folder is None:
        return []
    files = _files(folder)
    if not name.weights:
        return [folder / file for file in files if file.endswith(".gguf")]
    mine = [file for file in files if file.endswith(".gguf") and parts(Path(file).name)[1] == name.weights]
    staying = [file for file in files if file not in mine]
    needed = _projectors(name, staying + mine, [kind for kind in types(files) if kind != name.weights])
    return [folder / file for file in mine if file not in needed]


def _projectors(name: HubName, files: list[str], weights: list[str]) -> set[str]:
    """What the text models of these types hear with."""
    found = set()
    for kind in weights:
        with suppress(OptionError):
            found.add(choose(files, replace(name, weights=kind)).projector)
    return found


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _leftovers(whole: Path) -> list[Path]:
    return list((whole / "blobs").glob("*.incomplete"))


def _orphans(whole: Path) -> list[Path]:
    """Bytes that no snapshot names any more."""
    named = {path.resolve() for path in (whole / "snapshots").rglob("*") if path.is_symlink()}
    return [
        blob for blob in (whole / "blobs").glob("*") if blob.suffix != ".incomplete" and blob.resolve() not in named
    ]


def _held(whole: Path) -> int:
    paths = (*(whole / "blobs").glob("*"), *(whole / "snapshots").rglob("*"))
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())
