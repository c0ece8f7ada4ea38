"""Flags of whisper and whisper.cpp that people type from habit: what they mean here, or why they mean nothing.

They are left out of --help, which has our own names; docs/command-line.md lists them.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eardrop.cli.flags import Group, as_typed, clock
from eardrop.errors import OptionError

Meaning = Callable[[Any], Mapping[str, Any]]  # a value → what it changes among the wishes


@dataclass(frozen=True)
class Flag:
    """names; what a value means; how it is read, None for a flag without a value."""

    names: tuple[str, ...]
    meaning: Meaning
    read: Callable[[str], Any] | None = str


def only(wanted: Any, reason: str) -> Meaning:
    """One value is what happens anyway; others can't be had, for a reason."""

    def meaning(value: Any) -> Mapping[str, Any]:
        if value != wanted:
            raise OptionError(f"expected {wanted}, found {value}: {reason}")
        return {}

    return meaning


def refused(reason: str) -> Meaning:
    """Nothing here is like it."""

    def meaning(value: Any) -> Mapping[str, Any]:
        raise OptionError(reason)

    return meaning


def truth(text: str) -> bool:
    """whisper's True and False."""
    if text not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")
    return text == "True"


def _clip(text: str) -> Mapping[str, Any]:
    times = text.split(",")
    if len(times) > 2:
        raise OptionError("one stretch can be transcribed at a time: give its start and its end")
    return dict(zip(("start", "end"), map(clock, times), strict=False))


GREEDY = "the likeliest token is always taken"
ANYWAY: Meaning = lambda value: {}  # noqa: E731

FLAGS = (
    Flag(("--task",), only("transcribe", "these models write what they hear, they don't translate")),
    Flag(("--translate", "-tr"), refused("these models write what they hear, they don't translate"), None),
    Flag(("--word-timestamps",), lambda on: {"words": on}, truth),
    Flag(("--verbose",), lambda on: {} if on else {"quiet": True}, truth),
    Flag(("--no-prints", "-np"), lambda on: {"quiet": True}, None),
    Flag(("--print-progress", "-pp"), lambda on: {"progress": "lines"}, None),
    Flag(("--no-timestamps", "-nt"), ANYWAY, None),
    Flag(("--device",), lambda name: {"backend": name}),
    Flag(("--no-gpu", "-ng"), lambda on: {"backend": "cpu"}, None),
    Flag(("-l",), lambda language: {"language": language}),
    Flag(("--offset-t", "-ot"), lambda ms: {"start": ms / 1000}, int),
    Flag(("--duration", "-d"), lambda ms: {"duration": ms / 1000}, int),
    Flag(("--clip-timestamps",), _clip),
    Flag(("--temperature", "-tp"), only(0.0, GREEDY), float),
    Flag(("--best-of", "-bo"), only(1, GREEDY), int),
    Flag(("--beam-size", "-bs"), only(1, GREEDY), int),
    Flag(("--fp16",), ANYWAY, truth),
    Flag(("--condition-on-previous-text",), only(False, "each window is heard for itself"), truth),
    Flag(("--initial-prompt", "--prompt"), refused("these models were trained with a prompt of their own alone")),
    Flag(("--vad",), ANYWAY, None),
)  # fmt: skip


def add_whisper(parser: Group) -> None:
    """All of them."""
    for flag in FLAGS:
        how: dict[str, Any] = {"action": "store_true"} if flag.read is None else {"type": flag.read}
        parser.add_argument(
            *flag.names, dest=f"whisper {flag.names[0]}", default=argparse.SUPPRESS, help=argparse.SUPPRESS, **how
        )


def translated(wishes: argparse.Namespace, words: Sequence[str]) -> argparse.Namespace:
    """The wishes with what whisper's flags mean among ours; ours win. A refusal has the flag as `words` spell it."""
    meant: dict[str, Any] = {}
    for flag in FLAGS:
        if hasattr(wishes, name := f"whisper {flag.names[0]}"):
            try:
                meant |= flag.meaning(getattr(wishes, name))
            except (OptionError, argparse.ArgumentTypeError) as error:
                raise OptionError(f"{as_typed('/'.join(flag.names), words)}: {error}") from None
    if (duration := meant.pop("duration", None)) is not None:
        meant["end"] = meant.get("start", 0.0) + duration
    return argparse.Namespace(**{**vars(wishes), **meant})
