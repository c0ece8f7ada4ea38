"""Files that lie on this machine: a text model, and the projector that belongs to it."""

import os
from pathlib import Path

from eardrop.errors import ModelFileError, OptionError
from eardrop.hub.names import is_projector, is_text, is_whispers, parts
from eardrop.printable import printable


def find_text(model: str | os.PathLike[str]) -> Path:
    """The text model: a GGUF, or the only one in a folder.

    Nothing is opened. Raises ModelFileError for what isn't there, OptionError listing the candidates of a folder that
    doesn't hold one.
    """
    text = _existing(Path(model))
    if not text.is_dir():
        return text
    models = _models(text)
    if not models:
        raise OptionError(f"the folder {printable(str(text))} holds no text model (….gguf); name another, or the file")
    return _only(models, f"{printable(str(text))} holds", "text models", "give one of them, not the folder")


def find_projector(text: Path, projector: str | os.PathLike[str] | None = None) -> Path:
    """The projector of a text model.

    projector  a projector GGUF; None looks beside the text model, then in the folder above

    Nothing is opened. Raises ModelFileError for what isn't there, OptionError listing the candidates where more
    than one fits.
    """
    if projector is not None:
        return _existing(Path(projector))
    for folder in (text.parent, text.parent.resolve().parent):  # resolved: "." has no folder above, by its name
        candidates = _closest(text, [path for path in _files(folder) if is_projector(path.name)])
        if candidates:
            return _only(candidates, f"beside {printable(text.name)} are", "projectors", "name one with --mmproj")
    name = printable(text.name)
    raise ModelFileError(f"no projector (mmproj-….gguf) lies beside {name} or a folder above; give it with --mmproj")


def _existing(path: Path) -> Path:
    try:
        path.stat()
    except (FileNotFoundError, ValueError):  # ValueError: a zero byte in it
        raise ModelFileError(f"{printable(str(path))}: {_why_missing(path)}") from None
    except OSError as error:
        raise ModelFileError(f"{printable(str(path))}: can't be opened: {error.strerror}; check the path") from None
    return path


def _why_missing(path: Path) -> str:
    if is_whispers(str(path)):
        return "that is a model of whisper, which doesn't run here; eardrop models lists those that do"
    return "no such file or folder; check the path"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.gguf") if path.is_file())


def _models(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if is_text(path.name)]


def _closest(text: Path, projectors: list[Path]) -> list[Path]:
    """Those of the same model; among them those of the same weight type, if there are any."""
    model, weights = parts(text.name)
    same = [path for path in projectors if parts(path.name)[0] == model] or projectors
    return [path for path in same if parts(path.name)[1] == weights] or same


def _only(paths: list[Path], where: str, what: str, do: str) -> Path:
    if len(paths) == 1:
        return paths[0]
    names = ", ".join(printable(path.name) for path in paths)
    raise OptionError(f"{where} {len(paths)} {what} ({names}); {do}")
