"""Finding and fetching the recordings that published values belong to: by their samples, whatever the file."""

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from platformdirs import user_cache_path

from eardrop.audio.containers import HEAD, sniff
from eardrop.audio.decode import decoded
from eardrop.audio.samples import Findings, Piece, mean_of
from eardrop.audio.source import name_of, opened, rewindable
from eardrop.errors import AudioError, EardropError, OptionError
from eardrop.printable import printable
from eardrop.tools.published import Clip

MOST_BYTES = 16 << 20  # of a download or a file that is looked into: the largest clip has 1.6 MB
PATIENCE = 30.0  # seconds that an address may be silent


class NotFetched(EardropError):
    """A recording couldn't be fetched: give it from a folder."""


def clip_folder() -> Path:
    """Where fetched recordings are kept."""
    return user_cache_path("eardrop") / "verify"


def identified(path: Path, clips: Iterable[Clip]) -> Clip | None:
    """Which of the clips a file holds. Decodes no more than the longest clip has, and nothing at a rate that none has.

    The samples are compared as 16-bit integers at the file's own rate: a WAV and its FLAC are the same recording.
    """
    known = {(clip.rate, clip.samples, clip.sha256): clip for clip in clips}
    most = {rate: max(n for r, n, _ in known if r == rate) for rate, _, _ in known}
    digest, rate, count = hashlib.sha256(), 0, 0
    try:
        with closing(_pieces(path)) as pieces:
            for rate, samples in pieces:
                count += len(samples)
                if count > most.get(rate, 0):
                    return None
                digest.update(np.rint(samples * 32768.0).clip(-32768, 32767).astype("<i2").tobytes())
    except AudioError:  # no recording, or a damaged one
        return None
    return known.get((rate, count, digest.hexdigest()))


def _pieces(path: Path) -> Generator[Piece, None, None]:
    """The samples of a file at its own rate, mixed to one channel; every clip has one."""
    title = name_of(path)
    with opened(path) as handed:
        container = sniff(handed.peek(HEAD), title)
        with rewindable(handed, title) as file:
            yield from decoded(file, container, track=None, mix=mean_of, title=title, found=Findings())


def find(folder: Path, clips: Iterable[Clip]) -> dict[str, Path]:
    """The files of a folder, and of those inside it, that hold clips: id → path.

    Raises OptionError where there is no such folder.
    """
    if not folder.is_dir():
        raise OptionError(f"--audio: {printable(str(folder))} is no folder; give one that holds the recordings")
    wanted, found = list(clips), dict[str, Path]()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            continue
        clip = identified(path, wanted)
        if clip is not None:
            found.setdefault(clip.id, path)
    return found


def fetch(clip: Clip, folder: Path, addresses: Mapping[str, Sequence[str]] | None = None) -> Path:
    """A clip in `folder`, fetched from its public address unless it is there already.

    addresses  other addresses than the clip's own, by its id

    A file appears under its name only when it is whole and its samples are the published ones. Raises NotFetched.
    """
    path = folder / clip.id
    if path.is_file() and identified(path, [clip]):
        return path
    reasons: dict[str, None] = {}  # in order, each once
    for address in (addresses or {}).get(clip.id, clip.addresses):
        try:
            return _fetched(clip, address, path)
        except (NotFetched, OSError, ValueError) as error:  # of urllib all are OSErrors
            reasons[f"{urlsplit(address).netloc}: {getattr(error, 'reason', None) or error}"] = None
    found = "; ".join(reasons) or "no address of it is known"
    raise NotFetched(f"the clip {clip.id} couldn't be fetched ({printable(found)}); give it with --audio")


def _fetched(clip: Clip, address: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _answer(address) as answer, tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        try:
            for piece in _capped(iter(lambda: answer.read(1 << 16), b"")):
                part.write(piece)
            part.close()
            if identified(Path(part.name), [clip]) is None:
                raise NotFetched("it holds another recording than the published one")
            os.replace(part.name, path)  # noqa: PTH105
        finally:
            Path(part.name).unlink(missing_ok=True)
    return path


def _answer(address: str):  # type: ignore[no-untyped-def]  # urllib's response, which typeshed calls Any
    if not address.startswith(("https://", "http://127.0.0.1:")):  # the tests' own server
        raise NotFetched("not an https address")
    return urllib.request.urlopen(address, timeout=PATIENCE)


def _capped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    taken = 0
    for piece in pieces:
        taken += len(piece)
        if taken > MOST_BYTES:
            raise NotFetched(f"it is larger than {MOST_BYTES:,} bytes")
        yield piece
