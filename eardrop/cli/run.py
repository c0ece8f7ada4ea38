"""`eardrop run`: prompt the model with text and recordings, with llama-mtmd-cli's flags (run_flags.py)."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

from eardrop.cli.chat import Chat
from eardrop.cli.flags import Parser, chosen_backend, find_model
from eardrop.cli.run_flags import LLAMA_FLAGS, Ignored, Refused, add_flags, unescaped
from eardrop.cli.talk import Page, Session, Talk
from eardrop.cli.terminal import WARNINGS, Screen, Voice, bar
from eardrop.dialect import LLAMA_CPP, REFERENCE
from eardrop.engine import Engine, Model
from eardrop.errors import OptionError
from eardrop.hub import Files
from eardrop.loading import load_model
from eardrop.search import Greedy, Sample, Search

EXAMPLES = """\
  eardrop run -m LFM2-Audio-1.5B-F16.gguf --audio talk.wav -sys "Perform ASR."
  eardrop run -m text.gguf --mmproj mmproj.gguf -n 30 --audio talk.wav -sys "Perform ASR." -p "<__media__>"
  eardrop run -m text.gguf -p "Name three harbours." --temp 0.7 --seed 1
  eardrop run -m text.gguf                        a conversation: /audio FILE, /clear, /help, /quit
"""
RANDOM_SEEDS = (-1, 2**32 - 1)  # llama.cpp's ways to ask for another seed each time


def main(words: Sequence[str]) -> int:
    """One turn where there is a prompt or a recording, else a conversation."""
    wishes = _parser().parse(words)
    voice = Voice(wishes.level)
    search, kv = _search(wishes), _kv(wishes)
    files = find_model(wishes, voice)
    _tell_what_differs(wishes, voice)
    with Engine(_model(files, wishes, voice), kv=kv) as engine:
        session = _session(engine, search, wishes, voice)
        if wishes.prompt or wishes.audio:
            return _answer(session, wishes)
        return Chat(session).run()


def _parser() -> Parser:
    parser = Parser(
        "run",
        "Prompt the model with text and recordings, with llama-mtmd-cli's flags.\n"
        "With a prompt or a recording it answers once; with neither it holds a conversation.",
        EXAMPLES + _others(),
        "[-m FILE | -hf USER/REPO[:TYPE]] [--audio FILE] [-sys TEXT] [-p TEXT] [options]",
    )
    add_flags(parser)
    return parser


def _others() -> str:
    """The flags that are there for the sake of commands written for llama-mtmd-cli."""
    kinds = {"accepted without effect": Ignored, "refused": Refused}
    lists = (f"\n{what} (docs/command-line.md says why):\n  {_names(kind)}\n" for what, kind in kinds.items())
    return "".join(lists)


def _names(kind: type) -> str:
    names = [flag.names[0] for flag in LLAMA_FLAGS if isinstance(flag, kind)]
    return "\n  ".join(" ".join(names[start : start + 8]) for start in range(0, len(names), 8))


def _tell_what_differs(wishes: argparse.Namespace, voice: Voice) -> None:
    if wishes.ignored:
        voice.note(f"without effect here: {', '.join(dict.fromkeys(wishes.ignored))}")
    if wishes.temperature is None:
        voice.note("greedy (llama-mtmd-cli draws at 0.2; --temp 0.2 for that)")


def _search(wishes: argparse.Namespace) -> Search:
    if (wishes.temperature or 0.0) <= 0:
        return Greedy()
    seed = None if wishes.seed in RANDOM_SEEDS else wishes.seed
    if seed is not None and seed < 0:
        raise OptionError(f"--seed is {seed}, expected 0 or more, or -1 for another each time")
    return Sample(wishes.temperature, wishes.top_k, wishes.top_p, wishes.min_p, seed)


def _kv(wishes: argparse.Namespace) -> str | None:
    """The type of keys and values, which is one; None is the backend's own."""
    kinds = {kind for kind in (wishes.keys, wishes.values) if kind is not None}
    if len(kinds) > 1:
        raise OptionError("-ctk and -ctv differ, but keys and values have one type here; give one of the two")
    return kinds.pop() if kinds else None


def _model(files: Files, wishes: argparse.Namespace, voice: Voice) -> Model:
    """The model on its backend, with the context that was asked for."""
    started = time.perf_counter()
    with bar("loading", shown=voice.level >= WARNINGS) as progress:
        model = load_model(files.text, files.projector, chosen_backend(wishes), progress)
    voice.time(f"loaded {model.name} in {time.perf_counter() - started:.2f} s")
    return _limited(model, wishes.context, voice)


def _limited(model: Model, rows: int, voice: Voice) -> Model:
    """The model with a context of so many rows; 0 is its own."""
    own = model.decoder.shape.context
    if rows < 0:
        raise OptionError(f"--ctx-size is {rows}, expected a number of rows, or 0 for the model's {own:,}")
    if rows > own:
        voice.warn(f"--ctx-size {rows:,} is more than the model's {own:,}, which is what there is")
    if not 0 < rows < own:
        return model
    return replace(model, decoder=replace(model.decoder, shape=replace(model.decoder.shape, context=rows)))


def _session(engine: Engine, search: Search, wishes: argparse.Namespace, voice: Voice) -> Session:
    dialect = LLAMA_CPP if wishes.llama_compat else REFERENCE
    limit = wishes.predict if wishes.predict >= 0 else None
    talk = Talk(engine, dialect, search, limit, system=wishes.system or None, parse_special=wishes.parse_special)
    page = Page(Screen(raw=dialect.raw_output), engine.model.tokenizer, dialect)
    if talk.system is not None:
        page.turn()
    return Session(talk, page, voice, wishes.max_seconds)


def _answer(session: Session, wishes: argparse.Namespace) -> int:
    """The one turn of a command that has a prompt or a recording."""
    for path in wishes.audio:
        session.listen(path)
    text = wishes.prompt or ""
    session.answer(unescaped(text) if wishes.escape else text)
    return 0
