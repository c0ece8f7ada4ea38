"""`eardrop models`: which models are here; fetch them from the hub, choose a default, remove them."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from eardrop.cli.fetching import fetch_shown, size
from eardrop.cli.flags import Parser
from eardrop.cli.sheet import show
from eardrop.cli.terminal import NOTES, Voice
from eardrop.errors import EardropError, OptionError
from eardrop.gguf import open_gguf
from eardrop.hub import KNOWN, Cached, HubName, every, remove, require_name, standing, use, use_none
from eardrop.model.kinds import Kind, kind_of
from eardrop.printable import printable

ABOUT = """\
The models on this machine: list, fetch, use, remove. A name is USER/REPO[@REVISION][:TYPE], as on the hub; without
a type it is Q8_0, or what comes nearest. They lie in the hub's own cache, which HF_HOME names.

The model of a command is, in order: -m or -hf, EARDROP_MODEL, the default set by `eardrop models use`, the pair that
ships with eardrop, which only demonstrates. Only -m, -hf and fetch ever download."""

EXAMPLES = f"""\
  eardrop models                                                what is here, and what is known
  eardrop models fetch {KNOWN[0]}:Q4_0     a pair, checked; goes on where it was interrupted
  eardrop models use {KNOWN[0]}:Q4_0       commands without -m take it
  eardrop models use models/                                    so can a folder, or a file
  eardrop models use --none                                     no default any more
  eardrop models remove {KNOWN[0]}         all of its types
"""


def main(words: Sequence[str]) -> int:
    """Do what the first word says; a bare `eardrop models` lists."""
    if not words or words[0] == "--json":
        return _list(words)
    if words[0] in ACTIONS:
        return ACTIONS[words[0]](words[1:])
    parser = Parser("models", ABOUT, EXAMPLES, f"[{'|'.join(ACTIONS)}] [options]")
    parser.add_argument("action", choices=list(ACTIONS), help="what to do (default: list)")
    parser.parse(words)
    raise OptionError(f"say what to do first: eardrop models {' or '.join(ACTIONS)}")


def _list(words: Sequence[str]) -> int:
    parser = Parser("models list", "The pairs in the cache, and the published ones.", EXAMPLES, "[--json]")
    parser.add_argument("--json", action="store_true", help="for programs")
    wishes = parser.parse(words)
    chosen = standing()
    here = [_line(model, chosen) for model in every() if _hears(model)]
    told = {
        "models": here,
        "known": [repo for repo in KNOWN if not any(line["model"].startswith(repo) for line in here)],
        "default": None if chosen is None else {"model": chosen[0], "by": chosen[1]},
    }
    if wishes.json:
        print(json.dumps(told, indent=2))
    else:
        _print(told)
    return 0


def _line(model: Cached, chosen: tuple[str, str] | None) -> dict[str, Any]:
    name = str(model.name)
    return {
        "model": name,
        "bytes": model.bytes,
        "commit": model.commit,
        "text": str(model.files.text),
        "projector": str(model.files.projector),
        "default": chosen is not None and chosen[0] == name,
    }


def _hears(model: Cached) -> bool:
    """Whether a pair in the cache, which others fill too, is one of ours."""
    if model.files.projector is None:
        return False
    try:
        with open_gguf(model.files.projector) as file:
            return kind_of(file) is Kind.PROJECTOR
    except EardropError:
        return False


def _print(told: dict[str, Any]) -> None:
    here = [
        {"model": line["model"], "size": size(line["bytes"]), "commit": line["commit"][:10]} for line in told["models"]
    ]
    default = told["default"]
    show(
        {
            "in the cache": here,
            "to be fetched": {f"eardrop models fetch {repo}": "" for repo in told["known"]},
            "default": {default["model"]: f"by {default['by']}"} if default else {},
        }
    )


def _fetch(words: Sequence[str]) -> int:
    voice = Voice(NOTES)
    for name in _names("fetch", "Fetch pairs from the hub, or a newer revision of one.", words):
        files = fetch_shown(name, voice)
        print(printable(str(files.text)))
        voice.note(f"its projector is {files.projector.name if files.projector else 'beside it'}")
        if standing() is None:
            voice.note(f"to make it the default: eardrop models use {name}")
    return 0


def _use(words: Sequence[str]) -> int:
    parser = Parser("models use", "Choose the model of commands that name none.", EXAMPLES, "MODEL | --none")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a name in the cache, a file, or a folder")
    parser.add_argument("--none", action="store_true", help="forget the default")
    wishes = parser.parse(words)
    if wishes.none == (wishes.model is not None):
        raise OptionError("give a model, or --none to forget the default; see eardrop models use --help")
    if wishes.none:
        use_none()
    else:
        print(printable(use(wishes.model)))
    return 0


def _remove(words: Sequence[str]) -> int:
    for name in _names("remove", "Take models out of the cache.", words):
        freed = remove(name)
        print(f"{name}: {size(freed)} are free again")
        chosen = standing()
        if chosen is not None and chosen[0].startswith(str(name)):
            Voice(NOTES).note(f"{chosen[0]} is still the default, by {chosen[1]}; fetch it again, or choose another")
    return 0


def _names(action: str, about: str, words: Sequence[str]) -> Iterator[HubName]:
    parser = Parser(f"models {action}", about, EXAMPLES, "USER/REPO[@REVISION][:TYPE]…")
    parser.add_argument("names", nargs="*", metavar="NAME", help="USER/REPO[@REVISION][:TYPE]")
    wishes = parser.parse(words)
    if not wishes.names:
        raise OptionError(f"no model was given; name it as eardrop models {action} {KNOWN[0]}")
    yield from [require_name(text) for text in wishes.names]


ACTIONS: dict[str, Callable[[Sequence[str]], int]] = {"list": _list, "fetch": _fetch, "use": _use, "remove": _remove}
