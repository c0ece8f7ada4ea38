"""Names become files. For now: a text model on disk, and the projector that belongs to it."""

import os
import re
from pathlib import Path

from eardrop.errors import ModelFileError, OptionError
from eardrop.printable import printable

_KIND = re.compile(r"mmproj", re.IGNORECASE)
_OTHERS = re.compile(r"mmproj|vocoder|tokenizer|audiodecoder", re.IGNORECASE)
_SPLIT_REST = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")
_SIZE = re.compile(r"[-_.](F32|F16|BF16|I?Q\d\w*)$", re.IGNORECASE)


def find_text(model: str | os.PathLike[str]) -> Path:
    """The text model: a GGUF, or the only one in a folder.

    Nothing is opened. Raises ModelFileError for what isn't there, OptionError listing the candidates of a folder that
    doesn't hold one.
    """
    text = _existing(Path(model))
    return _only(_models(text), f"{printable(str(text))} holds", "text models", "-m") if text.is_dir() else text


def find_projector(text: Path, projector: str | os.PathLike[str] | None = None) -> Path:
    """The projector of a text model.

    projector  a projector GGUF; None looks beside the text model, then in the folder above

    Nothing is opened. Raises ModelFileError for what isn't there, OptionError listing the candidates where more
    than one fits.
    """
    if projector is not None:
        return _existing(Path(projector))
    for folder in (text.parent, text.parent.resolve().parent):  # resolved: "." has no folder above, by its name
        candidates = _closest(text, [path for path in _files(folder) if _KIND.search(path.name)])
        if candidates:
            return _only(candidates, f"beside {printable(text.name)} are", "projectors", "--mmproj")
    name = printable(text.name)
    raise ModelFileError(f"no projector (mmproj-….gguf) lies beside {name} or a folder above; give it with --mmproj")


def _existing(path: Path) -> Path:
    try:
        path.stat()
    except (FileNotFoundError, ValueError):  # ValueError: a zero byte in it
        raise ModelFileError(f"{printable(str(path))}: no such file or folder; check the path") from None
    except OSError as error:
        raise ModelFileError(f"{printable(str(path))}: can't be opened: {error.strerror}; check the path") from None
    return path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.gguf") if path.is_file())


def _models(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if not _OTHERS.search(path.name) and not _SPLIT_REST.search(path.name)]


def _closest(text: Path, projectors: list[Path]) -> list[Path]:
    """Those of the same model; among them those of the same weight type, if there are any."""
    name, size = _parts(text)
    same = [path for path in projectors if _parts(path)[0] == name] or projectors
    return [path for path in same if _parts(path)[1] == size] or same


def _parts(path: Path) -> tuple[str, str]:
    """What a file name says of the model, and of the type of its weights."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", path.name.removesuffix(".gguf"))
    size = _SIZE.search(stem)
    base = _SIZE.sub("", stem).lower().replace("mmproj-", "").replace("audioencoder-", "").replace("-mmproj", "")
    return base, size[1].upper() if size else ""


def _only(paths: list[Path], where: str, what: str, flag: str) -> Path:
    if len(paths) == 1:
        return paths[0]
    names = ", ".join(printable(path.name) for path in paths) or "none"
    raise OptionError(f"{where} {len(paths)} {what} ({names}); name one with {flag}")
