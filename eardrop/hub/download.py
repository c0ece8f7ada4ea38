"""Models from the hub: ask what a repository holds, choose a pair, take its files; only because somebody asked.

huggingface_hub says where the hub and the cache are, whose token is sent, and what an answer means, so that
HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE do what they always do. The bytes are taken by us: its own download
begins anew after an interruption of the program, and asks the hub which programs to report as callers. Ours goes on
where it stopped, and a file gets its name only when its checksum is the one that the hub told.
"""

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from eardrop.errors import FetchError
from eardrop.hub.cache import Files, link, remember, repository
from eardrop.hub.names import Chosen, HubName, choose
from eardrop.printable import printable
from eardrop.version import __version__

PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)  # seconds before it is tried again, while nothing comes
PIECE = 1 << 20  # bytes
_BUSY = (408, 429, 500, 502, 503, 504)  # statuses that may be others in a moment
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class HubFile(NamedTuple):
    """One file of a repository."""

    path: str
    bytes: int
    digest: str  # SHA-256, or Git's SHA-1 for small files


@dataclass(frozen=True)
class Plan:
    """What a download takes: the projector first, so that a text model that is there has one."""

    name: HubName
    commit: str
    chosen: Chosen
    files: tuple[HubFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    def missing(self) -> list[HubFile]:
        """What isn't in the cache yet."""
        return [file for file in self.files if not _whole(self._pointer(file), file)]

    def files_here(self) -> Files:
        """The pair, when all of it is there."""
        folder = self._folder
        return Files(folder / self.chosen.texts[0], folder / self.chosen.projector)

    @property
    def _folder(self) -> Path:
        return repository(self.name.repo) / "snapshots" / self.commit

    def _pointer(self, file: HubFile) -> Path:
        return self._folder / file.path


def ask(name: HubName) -> Plan:
    """What the hub holds under this name. Raises FetchError, and OptionError where there is no such type."""
    with _plainly(name):
        commit, files = _listing(_asked(name), name)
    chosen = choose(files, name)
    return Plan(name, commit, chosen, tuple(files[path] for path in (chosen.projector, *chosen.texts)))


def take(plan: Plan, told: Callable[[int], None] = lambda got: None) -> Files:
    """The files of a plan, in the cache.

    told  given the bytes that are here so far

    An interrupted download goes on where it stopped, also in another process. Raises FetchError.
    """
    with _plainly(plan.name):
        _require_space(plan)
        here = plan.bytes - sum(file.bytes for file in plan.missing())
        told(here)
        for file in plan.missing():
            _take(plan, file, partial(_add, told, here))
            here += file.bytes
            told(here)
        remember(plan.name, plan.commit)
    return plan.files_here()


def fetch(name: HubName, told: Callable[[int, int], None] = lambda here, of: None) -> Files:
    """The pair of this name, asked for and taken.

    told  given the bytes that are here so far, and those of both files
    """
    plan = ask(name)
    return take(plan, lambda here: told(here, plan.bytes))


def _add(told: Callable[[int], None], before: int, got: int) -> None:
    told(before + got)


def _asked(name: HubName) -> Any:
    from huggingface_hub import constants, get_session, hf_raise_for_status

    revision = quote(name.revision, safe="")
    answer = get_session().get(
        f"{constants.ENDPOINT}/api/models/{name.repo}/revision/{revision}",
        params={"blobs": "true"},
        headers=_headers(),
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    )
    hf_raise_for_status(answer)
    return answer.json()


def _listing(told: Any, name: HubName) -> tuple[str, dict[str, HubFile]]:
    """The commit, and the files by their paths; those without a checksum are left out."""
    try:
        commit = str(told["sha"])
        files = [_file(entry) for entry in told["siblings"]]
    except (AttributeError, TypeError, KeyError, ValueError):
        commit, files = "", []
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise FetchError(f"{_host()} told nothing of {name} that we understand; is HF_ENDPOINT a hub?")
    return commit, {file.path: file for file in files if _DIGEST.fullmatch(file.digest) and file.bytes > 0}


def _file(entry: Any) -> HubFile:
    large = entry.get("lfs") or {}
    return HubFile(
        str(entry["rfilename"]),
        int(large.get("size") or entry.get("size") or 0),
        str(large.get("sha256") or entry.get("blobId") or ""),
    )


def _take(plan: Plan, file: HubFile, told: Callable[[int], None]) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    whole = repository(plan.name.repo)
    blob, part = whole / "blobs" / file.digest, whole / "blobs" / f"{file.digest}.incomplete"
    lock = Path(constants.HF_HUB_CACHE) / ".locks" / whole.name / f"{file.digest}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # of two processes the second finds what the first has brought
        if not _whole(blob, file):
            _bring(plan, file, part, told)
            part.replace(blob)
        link(blob, plan._pointer(file))


def _bring(plan: Plan, file: HubFile, part: Path, told: Callable[[int], None]) -> None:
    """The whole file, checked, under its provisional name."""
    from huggingface_hub import constants

    address = f"{constants.ENDPOINT}/{plan.name.repo}/resolve/{plan.commit}/{quote(file.path)}"
    if _length(part) > file.bytes:
        part.unlink()
    _pour_all(address, file, part, told)
    if _digest(part, file) != file.digest:
        part.unlink()
        raise FetchError(f"{printable(file.path)}: what came has another checksum than the hub told; fetch it again")


def _pour_all(address: str, file: HubFile, part: Path, told: Callable[[int], None]) -> None:
    """Append until all is there; a connection that breaks is opened again as long as something comes."""
    from httpx2 import TransportError
    from huggingface_hub.errors import HfHubHTTPError

    fruitless = 0
    while (had := _length(part)) < file.bytes:
        try:
            _pour(address, file, part, told)
        except (TransportError, HfHubHTTPError) as error:
            final = isinstance(error, HfHubHTTPError) and error.response.status_code not in _BUSY
            fruitless = 0 if _length(part) > had else fruitless + 1
            if final or fruitless >= len(PAUSES):
                raise
            time.sleep(PAUSES[fruitless])


def _pour(address: str, file: HubFile, part: Path, told: Callable[[int], None]) -> None:
    from huggingface_hub import constants, get_session, hf_raise_for_status

    had = _length(part)
    headers = {**_headers(), "Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
    patience = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", address, headers=headers, timeout=patience, follow_redirects=True) as answer:
        hf_raise_for_status(answer)
        goes_on = answer.status_code == 206
        got = had if goes_on else 0
        with part.open("ab" if goes_on else "wb") as out:
            for piece in answer.iter_bytes():
                got += len(piece)
                if got > file.bytes:
                    raise FetchError(f"{printable(file.path)}: more came than the hub told; fetch it again")
                out.write(piece)
                told(got)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _whole(path: Path, file: HubFile) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes


def _digest(path: Path, file: HubFile) -> str:
    digest = hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(b"blob %d\0" % file.bytes)
    with path.open("rb") as bytes_:
        for piece in iter(lambda: bytes_.read(PIECE), b""):
            digest.update(piece)
    return digest.hexdigest()


def _require_space(plan: Plan) -> None:
    blobs = repository(plan.name.repo) / "blobs"
    needed = sum(file.bytes - _length(blobs / f"{file.digest}.incomplete") for file in plan.missing())
    place = next(folder for folder in (blobs, *blobs.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        found = f"{plan.name} needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free in {printable(str(place))}"
        raise FetchError(f"{found}; make room, or name another folder with HF_HOME")


def _headers() -> dict[str, str]:
    """Who asks; the token goes to the hub alone, as the client drops it where it is sent elsewhere."""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return {"user-agent": f"eardrop/{__version__}"} | ({"authorization": f"Bearer {token}"} if token else {})


def _host() -> str:
    from huggingface_hub import constants

    return printable(urlsplit(constants.ENDPOINT).netloc or constants.ENDPOINT)


@contextmanager
def _plainly(name: HubName) -> Iterator[None]:
    """What went wrong, in one line: what it was and what to do."""
    import httpx2

    try:
        yield
    except (OSError, httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise FetchError(_reason(error, name)) from error


def _reason(error: Exception, name: HubName) -> str:
    """The first row of the table that fits; a subclass stands before its base."""
    from huggingface_hub import constants, errors

    host, page = _host(), f"{constants.ENDPOINT}/{name.repo}"
    code = getattr(getattr(error, "response", None), "status_code", None)
    what = printable(str(error) or type(error).__name__, most=160)
    reasons: tuple[tuple[bool | type[Exception], str], ...] = (
        (
            errors.OfflineModeIsEnabled,
            f"{name} can't be fetched while HF_HUB_OFFLINE is set; unset it, or copy the files here and give -m",
        ),
        (errors.GatedRepoError, f"{name.repo} is gated: accept its terms at {page}, then set HF_TOKEN"),
        (
            errors.RepositoryNotFoundError,
            f"{host} has no repository {name.repo}, or it is private: check the name; for a private one set HF_TOKEN",
        ),
        (errors.RevisionNotFoundError, f"{name.repo} has no revision {name.revision}: name a branch, tag or commit"),
        (code in (401, 403), f"{host} refused us {name.repo} ({code}); check HF_TOKEN, and its rights at {page}"),
        (errors.HfHubHTTPError, f"{host} answered {code} when asked for {name}; try again later"),
        (
            getattr(error, "errno", None) == errno.ENOSPC,
            "the disk is full; make room, or name another folder with HF_HOME; what came is kept",
        ),
        (
            type(error).__module__.startswith("httpx"),
            f"{host} can't be reached for {name} ({what}); check the network and try again: what came is kept",
        ),
        (OSError, f"the cache can't be written ({what}); name another folder with HF_HOME"),
        (ValueError, f"{host} told nothing of {name} that we understand ({what}); is HF_ENDPOINT a hub?"),
    )
    return next(told for test, told in reasons if (test if isinstance(test, bool) else isinstance(error, test)))
