"""Arguments as people type them: underscores for hyphens, values that begin with a hyphen, errors of one line."""

import argparse
import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from eardrop.cli.fetching import fetch_shown
from eardrop.cli.terminal import NOTES, Voice, bar
from eardrop.errors import OptionError
from eardrop.hub import DEMONSTRATION, Files, HubName, is_bundled, locate, not_fetched, require_name

if TYPE_CHECKING:
    from eardrop.ops.backend import Backend
    from eardrop.transcribe import Recognizer

Group: TypeAlias = "argparse.ArgumentParser | argparse._ArgumentGroup"

MODEL_HELP = "text model (GGUF), a folder with the pair, or USER/REPO[:TYPE] (default: see eardrop models --help)"
HUB_HELP = "a model on the hub and its weight type, as Q4_0; fetched unless it is in the cache"
OFFLINE_HELP = "take what is in the cache, and fetch nothing"
GPU_MEMORY_HELP = (
    "of the GPU's, for weights in half precision beside their blocks: as 2G, or 0 (default: 1/4 of the free)"
)


class Parser(argparse.ArgumentParser):
    """argparse, but: `--max_tokens` is `--max-tokens`, no abbreviations, and errors are OptionErrors."""

    def __init__(self, command: str, about: str, examples: str, usage: str) -> None:
        super().__init__(
            prog=f"eardrop {command}",
            usage=f"eardrop {command} {usage}",
            description=about,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            exit_on_error=False,  # `parse` tells
        )
        self.register("type", int, _whole)
        self.register("type", float, _finite)

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The wishes in these words."""
        try:
            wishes, unknown = self.parse_known_args(self._spelt(words))
        except argparse.ArgumentError as error:
            self.error(f"{as_typed(error.argument_name, words)}: {error.message}")
        if unknown:
            from difflib import get_close_matches

            name = unknown[0].partition("=")[0]
            meant = get_close_matches(name, self._option_string_actions, n=1)
            self.error(f"no option is called {name!r}" + (f", did you mean {meant[0]}?" if meant else ""))
        return wishes

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}; see {self.prog} --help")

    def _spelt(self, words: Sequence[str]) -> list[str]:
        """The words with known names in our spelling, and each value tied to its flag: `-p "-5 °C"` is a text."""
        spelt: list[str] = []
        for index, word in enumerate(words):
            if word == "--":
                return spelt + list(words[index:])
            word = self._hyphened(word)
            if spelt and word in ("True", "False") and self._is_switch(spelt[-1]):  # as whisper has it
                spelt[-1] = spelt[-1] if word == "True" else f"--no-{spelt[-1].removeprefix('--')}"
            elif spelt and self._wants_value(spelt[-1]) and word not in self._option_string_actions:
                spelt[-1] += f"={words[index]}"
            else:
                spelt.append(word)
        return spelt

    def _hyphened(self, word: str) -> str:
        name, equals, value = word.partition("=")
        known = name.replace("_", "-")
        return known + equals + value if known.startswith("--") and known in self._option_string_actions else word

    def _is_switch(self, word: str) -> bool:
        return isinstance(self._option_string_actions.get(word), argparse.BooleanOptionalAction)

    def _wants_value(self, word: str) -> bool:
        action = self._option_string_actions.get(word)
        return action is not None and action.nargs is None


def as_typed(names: str | None, words: Sequence[str]) -> str:
    """Of an option's names, a/b/c, the one that was typed."""
    known = (names or "").split("/")
    typed = (word.partition("=")[0] for word in words)
    return next((word for word in typed if word in known or word.replace("_", "-") in known), names or "")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}")
    return number


def clock(text: str) -> float:
    """Seconds, or minutes and hours before them: 62.5, 1:02.5, 0:01:02.5."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text):
        raise argparse.ArgumentTypeError(f"expected seconds or h:m:s, found {text!r}")
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def memory(text: str) -> int:
    """Bytes: 0, 1073741824, 512M, 1.5G; the letters are powers of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"expected a size as 512M or 1.5G, found {text!r}")
    return round(float(found[1]) * _UNITS[found[2]])


_READERS: dict[type, Callable[[str], Any]] = {int: int, float: float, str: str}


def add_options(parser: Group, options: type) -> None:
    """A flag for each field of a dataclass of wishes: its name, type, and `help` of its metadata."""
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=field.name,
            default=argparse.SUPPRESS,  # only what was asked for is handed on: defaults have one home
            help=field.metadata["help"],
            **({"type": clock, "metavar": "TIME"} if "clock" in field.metadata else _reading(hints[field.name])),
        )


def given(wishes: argparse.Namespace, options: type) -> dict[str, Any]:
    """The fields of `options` that were asked for."""
    names = {field.name for field in dataclasses.fields(options)}
    return {name: value for name, value in vars(wishes).items() if name in names}


def _reading(hint: Any) -> dict[str, Any]:
    """How argparse reads a field of this type; `int | None` is read as int."""
    if typing.get_origin(hint) is typing.Literal:
        return {"choices": typing.get_args(hint)}
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(kind for kind in kinds if kind is not types.NoneType)
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": _READERS[kind], "metavar": {int: "N", float: "X"}.get(kind, "TEXT")}


def add_model(parser: Group) -> None:
    """Which model, and what it runs on."""
    from eardrop.backends import BACKENDS, PRECISIONS

    parser.add_argument("-m", "--model", metavar="FILE", help=MODEL_HELP)
    parser.add_argument("-hf", "-hfr", "--hf-repo", metavar="USER/REPO[:TYPE]", help=HUB_HELP)
    parser.add_argument("--offline", action="store_true", help=OFFLINE_HELP)
    parser.add_argument(
        "-mm", "--mmproj", metavar="FILE", help="projector (GGUF); default: the one that lies beside the model"
    )
    parser.add_argument("-t", "--threads", type=int, metavar="N", help="threads that compute (default: physical cores)")
    parser.add_argument(
        "--backend", default="auto", metavar="NAME", help=f"auto, {', '.join(BACKENDS)} (default: the fastest here)"
    )
    parser.add_argument("--precision", default=PRECISIONS[0], metavar="NAME", help=precision_help())
    parser.add_argument("--gpu-memory", type=memory, metavar="SIZE", help=GPU_MEMORY_HELP)


def precision_help() -> str:
    """What the flag of that name does."""
    from eardrop.backends import PRECISIONS

    return f"of F32, F16 and BF16 weights: {' or '.join(PRECISIONS)}, faster and less exact (default: {PRECISIONS[0]})"


def computed(wishes: argparse.Namespace) -> dict[str, Any]:
    """How it is computed, as `load` takes it."""
    return {
        "backend": wishes.backend,
        "threads": wishes.threads,
        "precision": wishes.precision,
        "gpu_memory": wishes.gpu_memory,
    }


def chosen_backend(wishes: argparse.Namespace) -> "Backend":
    """The backend as the flags have it."""
    from eardrop.backends import choose

    wanted = computed(wishes)
    return choose(wanted.pop("backend"), **wanted)


def named_model(wishes: argparse.Namespace) -> HubName | str | None:
    """The model that was named; None where none was."""
    if wishes.model and wishes.hf_repo:
        raise OptionError("-m names files and -hf a repository: give one of the two")
    if wishes.mmproj == "":
        raise OptionError("--mmproj is empty; name the projector, or leave the flag out to find it beside the model")
    return require_name(wishes.hf_repo) if wishes.hf_repo else wishes.model or None


def loaded(wishes: argparse.Namespace, voice: Voice, **more: Any) -> "Recognizer":
    """A recogniser of the model that was named, as the flags have it; `more` for `load`. A bar shows how it loads."""
    from eardrop.loading import load

    model, projector = find_model(wishes, voice)
    with bar("loading", shown=voice.level >= NOTES) as progress:
        return load(model, projector=projector, progress=progress, **computed(wishes), **more)


def find_model(wishes: argparse.Namespace, voice: Voice, *, bundled: bool = True) -> Files:
    """The files of the model that was named, or of the one that commands take which name none; fetched if need be."""
    bring = not_fetched if wishes.offline else partial(fetch_shown, voice=voice)
    files = locate(named_model(wishes), wishes.mmproj, bundled=bundled, fetched=bring)
    if is_bundled(files.text):
        voice.note(DEMONSTRATION)
    return files
