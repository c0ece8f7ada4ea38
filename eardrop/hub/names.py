"""What names say: of a repository on the hub, and of the GGUF files in a folder or a repository.

    LiquidAI/LFM2.5-Audio-1.5B-GGUF:Q4_0          a repository and a weight type, llama.cpp's spelling
    LiquidAI/LFM2.5-Audio-1.5B-GGUF@c362a06:Q4_0  at a revision: branch, tag or commit

    LFM2.5-Audio-1.5B-Q4_0.gguf                   a text model
    mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf            its projector
    vocoder-…, tokenizer-…, audiodecoder-…        for speech output; recognition needs none of them

No file is opened here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from eardrop.errors import OptionError
from eardrop.printable import printable

KNOWN = ("LiquidAI/LFM2.5-Audio-1.5B-GGUF", "LiquidAI/LFM2-Audio-1.5B-GGUF", "LiquidAI/LFM2.5-Audio-1.5B-JP-GGUF")
TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "F16", "BF16", "F32")  # of texts, where none was asked for
PROJECTOR_TYPES = ("Q8_0", "F16", "BF16", "F32")  # where there is none of the text's own type

_NAME = re.compile(  # a revision becomes a path in the cache: it may not climb
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>(?!\S*\.\.)\w[\w./-]*))?(?::(?P<weights>\w+))?",
    re.ASCII,
)
_PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)
_OTHERS = re.compile(r"mmproj|vocoder|tokenizer|audiodecoder", re.IGNORECASE)
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_WEIGHTS = re.compile(r"[-_.](F32|F16|BF16|I?Q\d\w*)$", re.IGNORECASE)
_WHISPERS = re.compile(
    r"(whisper-|distil-)?((tiny|base|small|medium)(\.en)?|large(-v[\d.]+)?(-turbo)?|turbo)", re.IGNORECASE
)
_SAFE = re.compile(r"(?!.*(?:^|/)\.\.?(?:/|$))[^\x00-\x1f\\:/][^\x00-\x1f\\:]*")  # a path that stays below its folder


@dataclass(frozen=True)
class HubName:
    """A model on the hub."""

    repo: str  # user/repository
    weights: str = ""  # the weight type, as Q4_0; empty: the first of TYPES that there is
    revision: str = "main"

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{self.repo}{revision}{':' * bool(self.weights)}{self.weights}"


@dataclass(frozen=True)
class Chosen:
    """A pair among the files of a repository."""

    texts: tuple[str, ...]  # one file, or all parts of a split one
    projector: str
    weights: str  # the text's weight type


def parse(text: str) -> HubName | None:
    """The name that a text spells; None for what is none, and for whatever ends in .gguf, which is a file."""
    said = _NAME.fullmatch(text)
    if said is None or text.lower().endswith(".gguf"):
        return None
    return HubName(said["repo"], (said["weights"] or "").upper(), said["revision"] or "main")


def require_name(text: str) -> HubName:
    """The name that a text must spell. Raises OptionError."""
    name = parse(text)
    if name is None:
        raise OptionError(f"{printable(text)!r} names no repository; expected USER/REPO[:TYPE], as {KNOWN[0]}:Q4_0")
    return name


def choose(files: Iterable[str], name: HubName) -> Chosen:
    """The text model of the wanted type among a repository's files, and its projector.

    The projector lies in the text's folder or one above, and has the text's weight type, or the first of
    PROJECTOR_TYPES. Raises OptionError where there is no such type (it lists those there are), no text or no
    projector, or where several texts fit.
    """
    safe = sorted(file for file in files if file.endswith(".gguf") and _SAFE.fullmatch(file))
    text = _text([file for file in safe if is_text(_base(file))], name)
    weights = parts(_base(text))[1]
    return Chosen(_all_parts(text, safe), _projector(text, weights, safe, name), weights)


def types(files: Iterable[str]) -> list[str]:
    """The weight types of the text models among these files."""
    return sorted({parts(_base(file))[1] for file in files if file.endswith(".gguf") and is_text(_base(file))})


def is_text(base: str) -> bool:
    """Whether a file of this name is a text model, whole or the first part of one."""
    split = _SPLIT.search(base)
    return not _OTHERS.search(base) and (split is None or int(split[1]) == 1)


def is_whispers(name: str) -> bool:
    """Whether a name that isn't a file's is what whisper calls one of its models."""
    return _WHISPERS.fullmatch(name) is not None


def is_projector(base: str) -> bool:
    """Whether a file of this name is a projector."""
    return _PROJECTOR.search(base) is not None


def parts(base: str) -> tuple[str, str]:
    """What a file's name says of the model, and of the type of its weights."""
    stem = _SPLIT.sub("", base).removesuffix(".gguf")
    weights = _WEIGHTS.search(stem)
    model = _WEIGHTS.sub("", stem).lower().replace("mmproj-", "").replace("audioencoder-", "").replace("-mmproj", "")
    return model, weights[1].upper() if weights else ""


def _base(file: str) -> str:
    return PurePosixPath(file).name


def _text(texts: list[str], name: HubName) -> str:
    if not texts:
        other = "" if name.repo.upper().endswith("GGUF") else f"; try {name.repo}-GGUF"
        raise OptionError(f"{name.repo} holds no text model in GGUF{other}")
    there = types(texts)
    wanted = name.weights or next((kind for kind in TYPES if kind in there), there[0])
    fitting = [text for text in texts if parts(_base(text))[1] == wanted]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        listed = printable(", ".join(fitting), most=200)
        raise OptionError(f"{name.repo} holds several text models of type {wanted} ({listed}); download one, then -m")
    listed = printable(", ".join(kind or "(unnamed)" for kind in there), most=200)
    raise OptionError(f"{name.repo} holds no text model of type {printable(wanted)}; there are {listed}")


def _projector(text: str, weights: str, files: list[str], name: HubName) -> str:
    for folder in PurePosixPath(text).parents:
        near = [file for file in files if PurePosixPath(file).parent == folder and is_projector(_base(file))]
        same = [file for file in near if parts(_base(file))[0] == parts(_base(text))[0]] or near
        by_type = {parts(_base(file))[1]: file for file in reversed(same)}  # of equals the first
        if by_type:
            return by_type[next((kind for kind in (weights, *PROJECTOR_TYPES) if kind in by_type), min(by_type))]
    raise OptionError(f"{name.repo} holds no projector (mmproj-….gguf), so its model can't hear; name another")


def _all_parts(first: str, files: list[str]) -> tuple[str, ...]:
    split = _SPLIT.search(first)
    if split is None:
        return (first,)
    expected = [f"{first[: split.start()]}-{part:05}-of-{split[2]}.gguf" for part in range(1, int(split[2]) + 1)]
    missing = [part for part in expected if part not in files]
    if missing:
        raise OptionError(f"{printable(missing[0])} is missing, which {printable(first)} needs; name another type")
    return tuple(expected)
