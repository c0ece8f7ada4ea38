"""Which files a command or `load` takes, from what was said: a path, a name on the hub, or nothing at all."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from eardrop.errors import FetchError, OptionError
from eardrop.hub.beside import find_text
from eardrop.hub.cache import Files, cached
from eardrop.hub.download import fetch
from eardrop.hub.names import KNOWN, HubName, parse, parts
from eardrop.knobs import MODEL

BUNDLED = Path(__file__).parent.parent / "data"  # the pair that ships
DEMONSTRATION = f"this is a small model for demonstration; for a real one: eardrop models fetch {KNOWN[0]}"


def locate(
    model: str | os.PathLike[str] | HubName | None,
    projector: str | os.PathLike[str] | None = None,
    *,
    bundled: bool = True,
    fetched: Callable[[HubName], Files] = fetch,
) -> Files:
    """The files of a model.

    model      a text model or a folder with a pair; a name on the hub, USER/REPO[@REVISION][:TYPE]; None is
               EARDROP_MODEL, else the default set with `eardrop models use`, else the pair that ships
    projector  taken instead of the model's own
    bundled    False: None is never the pair that ships
    fetched    brings what isn't in the cache

    What exists under a name here is never looked for elsewhere, what is in the cache is taken from there, and what
    was chosen once and for all is never fetched. Raises ModelFileError, FetchError, and OptionError for None where
    there is nothing to take.
    """
    chosen = None if projector is None else Path(projector)
    name, bring = (_named(model), fetched) if model is not None else (_standing(bundled), not_fetched)
    found = (cached(name) or bring(name)) if isinstance(name, HubName) else Files(find_text(name), None)
    return found if chosen is None else Files(found.text, chosen)


def is_bundled(text: Path) -> bool:
    """Whether a text model is the one that ships, which only demonstrates."""
    return BUNDLED.resolve() in text.resolve().parents


def standing() -> tuple[str, str] | None:
    """The model of commands that name none, and where it was chosen; None where nothing was."""
    said = MODEL.read()
    if said:
        return said, MODEL.name
    try:
        said = _file().read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return (said, "eardrop models use") if said else None


def use(model: str) -> str:
    """Make a model the default: a name whose files are in the cache, or a path, kept whole. Gives what is kept."""
    name = _named(model)
    if isinstance(name, HubName):
        files = cached(name) or not_fetched(name)
        kept = str(replace(name, weights=parts(files.text.name)[1]))
    else:
        find_text(name)
        kept = str(name.resolve())
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    part.write_text(f"{kept}\n", encoding="utf-8")
    part.replace(file)
    return kept


def use_none() -> None:
    """Forget the default."""
    _file().unlink(missing_ok=True)


def _file() -> Path:
    from platformdirs import user_config_path  # not at the start: files that are named need no settings

    return user_config_path("eardrop") / "model"


def _named(model: str | os.PathLike[str] | HubName) -> Path | HubName:
    """A path, unless it can be none: what begins with a folder that is here is meant to be here."""
    if isinstance(model, HubName):
        return model
    name, path = parse(os.fspath(model)), Path(model)
    return path if name is None or path.exists() or Path(path.parts[0]).exists() else name


def _standing(bundled: bool) -> Path | HubName:
    chosen = standing()
    if chosen is not None:
        return _named(chosen[0])
    if bundled and BUNDLED.is_dir():
        return BUNDLED
    raise OptionError(
        f"no model was given; name its text file with -m, or a repository with -hf {KNOWN[0]}, or set {MODEL.name}, or"
        " choose a default with `eardrop models use`"
    )


def not_fetched(name: HubName) -> NoReturn:
    """Fetch nothing: say how it is done."""
    raise FetchError(f"{name} isn't in the cache; `eardrop models fetch {name}` brings it")
