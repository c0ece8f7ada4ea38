"""llama-mtmd-cli's flags, one row each: honoured, accepted without effect, or refused; and eardrop's own.

From these rows come the parser of `eardrop run` and the table in docs/command-line.md (`markdown`).
"""

import argparse
import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from eardrop.audio import DAY
from eardrop.backends import BACKENDS, PRECISIONS
from eardrop.cli.flags import GPU_MEMORY_HELP, HUB_HELP, MODEL_HELP, OFFLINE_HELP, memory, precision_help
from eardrop.cli.terminal import ERRORS, EVERYTHING, NOTES
from eardrop.errors import OptionError


@dataclass(frozen=True)
class Honoured:
    """A flag that does what it does there."""

    names: tuple[str, ...]
    help: str
    to: str  # the wish it sets
    value: str = ""  # how help calls its value; none for a switch
    read: Callable[[str], Any] = str
    sets: Any = True  # what a switch sets
    default: Any = None
    action: str = "store"

    kind: ClassVar[str] = "honoured"

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Enter it into a parser."""
        how: dict[str, Any] = {"action": self.action, "type": self.read, "metavar": self.value}
        if not self.value:
            how = {"action": "store_const", "const": self.sets}
        parser.add_argument(*self.names, dest=self.to, default=self.default, help=self.help, **how)


@dataclass(frozen=True)
class Ignored:
    """A flag that is accepted and changes nothing; `help` says why."""

    names: tuple[str, ...]
    help: str
    value: str = ""

    kind: ClassVar[str] = "no effect"

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Enter it into a parser; those that are given are listed under `ignored`."""
        parser.add_argument(
            *self.names, dest="ignored", default=[], help=argparse.SUPPRESS, nargs=None if self.value else 0,
            action=_Ignore,
        )  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """A flag that would change the answer, or that we don't have; `help` says what to do instead."""

    names: tuple[str, ...]
    help: str
    but: str = ""  # the one value that asks for what we do anyway

    kind: ClassVar[str] = "refused"

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Enter it into a parser, which will raise OptionError."""
        parser.add_argument(
            *self.names, dest="refused", default=None, help=argparse.SUPPRESS, nargs="?", const="", action=_Refuse,
            metavar=self.but, type=str,
        ).refusal = self  # type: ignore[attr-defined]  # fmt: skip

    def check(self, name: str, value: str) -> None:
        """Raise, unless the value is the harmless one."""
        if not self.but or not _same(value, self.but):
            found = f"{name} {value}".strip()
            raise OptionError(f"{found} is refused: {self.help}" + (f" (only {self.but} is)" if self.but else ""))


Flag = Honoured | Ignored | Refused


class _Ignore(argparse.Action):
    def __call__(self, parser: Any, wishes: argparse.Namespace, values: Any, name: str | None = None) -> None:
        wishes.ignored = [*wishes.ignored, name]


class _Refuse(argparse.Action):
    refusal: Refused

    def __call__(self, parser: Any, wishes: argparse.Namespace, values: Any, name: str | None = None) -> None:
        self.refusal.check(str(name), str(values))


def _same(value: str, expected: str) -> bool:
    try:
        return float(value) == float(expected)
    except ValueError:
        return value == expected


MOST_PROMPT = 1 << 20  # characters of a file: far more than any context holds

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|[nrt'\"\\])")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"'": b"'", b'"': b'"', b"\\": b"\\"}


def unescaped(text: str) -> str:
    r"""A text with \n \r \t \' \" \\ and \xHH, which is a byte, put in; other backslashes stay."""
    written = text.encode("utf-8", "surrogateescape")
    said = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1]) or bytes([int(found[1][1:], 16)]), written)
    try:
        return said.decode("utf-8")
    except UnicodeDecodeError as error:
        expected = f"expected UTF-8, found the byte {said[error.start]:#04x} at {error.start}"
        raise OptionError(f"the prompt: {expected}; --no-escape leaves backslashes alone") from None


def _paths(listed: str) -> list[str]:
    """A comma-separated list; a name that holds a comma is put in double quotes."""
    try:
        return [path for path in next(csv.reader([listed]), []) if path]
    except csv.Error:  # a line break outside quotes
        raise argparse.ArgumentTypeError("a name that holds a line break is put in double quotes") from None


def _text_of(path: str) -> str:
    """The text in a file, without the newline at its end."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MOST_PROMPT + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8"
        raise argparse.ArgumentTypeError(f"{path}: {why}") from None
    if len(text) > MOST_PROMPT:
        raise argparse.ArgumentTypeError(f"{path}: expected at most {MOST_PROMPT:,} characters; give a shorter prompt")
    return text.removesuffix("\n")


KV_TYPES = {"f32": "float32", "f16": "float16"}


def _kv(name: str) -> str:
    if name not in KV_TYPES:
        raise argparse.ArgumentTypeError(f"keys and values are kept as {' or '.join(KV_TYPES)}, not as {name}")
    return KV_TYPES[name]


_ALONE = "audio alone is read"
_BY_REPOSITORY = "models are fetched by their repository, with -hf; other files with a browser, then -m and --mmproj"
_OTHER_ANSWER = "it changes what the model computes, and eardrop computes what the files say"
_NO_PENALTY = "eardrop draws by temperature, top-k, top-p and min-p alone"
_FORM = "the prompt is built for the one chat form of these models"
_THREADS = "-t is for prompts and recordings, too"
_MEMORY = "weights are mapped from the file, caches grow as they are needed"
_DEVICE = "--backend chooses where to compute"
_LOG = "standard error has one form, and colours only on a terminal"

_HONOURED = (
    Honoured(("-m", "--model"), MODEL_HELP, "model", "FILE"),
    Honoured(("-hf", "-hfr", "--hf-repo"), HUB_HELP, "hf_repo", "USER/REPO[:TYPE]"),
    Honoured(("--offline",), OFFLINE_HELP, "offline", default=False),
    Honoured(
        ("-mm", "--mmproj"), "projector (GGUF); default: the one that lies beside the model", "mmproj", "FILE"
    ),
    Honoured(
        ("--audio",), "recordings, separated by commas; may be repeated", "audio", "FILE[,FILE…]", _paths, default=[],
        action="extend",
    ),
    Honoured(("-p", "--prompt"), "what the user says; <__media__> marks the places of recordings", "prompt", "TEXT"),
    Honoured(("-f", "--file"), "a file with the prompt; one newline at its end is cut", "prompt", "FILE", _text_of),
    Honoured(
        ("-e", "--escape"), r"\n \t \" \\ \xHH in the prompt are what they stand for (default)", "escape",
        default=True,
    ),
    Honoured(("--no-escape",), "backslashes in the prompt are backslashes", "escape", sets=False, default=True),
    Honoured(("-sys", "--system-prompt"), 'what the system says; "Perform ASR." makes it transcribe', "system", "TEXT"),
    Honoured(
        ("-n", "--predict", "--n-predict"), "most tokens of an answer (default: -1, as many as fit)", "predict", "N",
        int, default=-1,
    ),
    Honoured(
        ("-c", "--ctx-size"), "rows of context, prompt and answer together (default: 0, the model's)", "context", "N",
        int, default=0,
    ),
    Honoured(("-t", "--threads"), "threads that compute (default: physical cores)", "threads", "N", int),
    Honoured(
        ("--temp", "--temperature"), "temperature (default: 0, greedy; llama-mtmd-cli draws at 0.2)", "temperature",
        "X", float,
    ),
    Honoured(("--top-k",), "draw from the K likeliest (default: 40; 0 or less: all)", "top_k", "K", int, default=40),
    Honoured(
        ("--top-p",), "draw from the likeliest that make up P (default: 0.95; 1: all)", "top_p", "P", float,
        default=0.95,
    ),
    Honoured(
        ("--min-p",), "draw from those at least P times as likely as the likeliest (default: 0.05; 0: all)", "min_p",
        "P", float, default=0.05,
    ),
    Honoured(("-s", "--seed"), "seed of the draws (default: -1, another each time)", "seed", "N", int, default=-1),
    Honoured(
        ("-ctk", "--cache-type-k"), "f32 or f16 (default: the backend's own); values take the same", "keys", "TYPE",
        _kv,
    ),
    Honoured(("-ctv", "--cache-type-v"), "the same, for values", "values", "TYPE", _kv),
    Honoured(
        ("-v", "--verbose", "--log-verbose"), "tell everything on standard error", "level", sets=EVERYTHING,
        default=NOTES,
    ),
    Honoured(
        ("-lv", "--verbosity", "--log-verbosity"), "what to tell: 1 errors, 2 warnings, 3 notes, 4 times (default: 3)",
        "level", "N", int, default=NOTES,
    ),
    Honoured(
        ("--log-disable",), "tell errors alone; there it silences the answer, too", "level", sets=ERRORS,
        default=NOTES,
    ),
)  # fmt: skip

_IGNORED = (
    Ignored(("-tb", "--threads-batch"), _THREADS, "N"),
    Ignored(("-b", "--batch-size"), "a prompt is absorbed in pieces of our own size", "N"),
    Ignored(("-ub", "--ubatch-size"), "a prompt is absorbed in pieces of our own size", "N"),
    Ignored(("-ngl", "--gpu-layers", "--n-gpu-layers"), _DEVICE, "N"),
    Ignored(("-fa", "--flash-attn"), "attention has one form", "on|off|auto"),
    Ignored(("--no-mmproj-offload",), _DEVICE),
    Ignored(("--mmproj-offload",), _DEVICE),
    Ignored(("--no-warmup",), "there is no warm-up"),
    Ignored(("--warmup",), "there is no warm-up"),
    Ignored(("--jinja",), _FORM),
    Ignored(("--no-jinja",), _FORM),
    Ignored(("--mlock",), _MEMORY),
    Ignored(("--mmap",), _MEMORY),
    Ignored(("--no-mmap",), _MEMORY),
    Ignored(("-nkvo", "--no-kv-offload"), _DEVICE),
    Ignored(("--no-repack", "-nr"), _MEMORY),
    Ignored(("-fit", "--fit"), _MEMORY, "on|off"),
    Ignored(("--keep",), "a conversation is never cut; where it is full, it ends", "N"),
    Ignored(("--numa",), "left to the system", "TYPE"),
    Ignored(("--prio",), "left to the system", "N"),
    Ignored(("--poll",), "nothing polls", "N"),
    Ignored(("--perf",), "-v tells times"),
    Ignored(("--no-perf",), "-v tells times"),
    Ignored(("-co", "--color"), _LOG),
    Ignored(("--log-colors",), _LOG, "on|off|auto"),
    Ignored(("--log-prefix",), _LOG),
    Ignored(("--log-timestamps",), _LOG),
    Ignored(("--verbose-prompt",), "-v tells the prompt's length"),
)

_REFUSED = (
    Refused(("--image",), _ALONE),
    Refused(("--video",), _ALONE),
    Refused(("-hff", "--hf-file"), "name the weight type, as -hf USER/REPO:Q4_0"),
    Refused(("-hft", "--hf-token"), "every user of a machine sees its commands; set HF_TOKEN"),
    Refused(("-mu", "--model-url"), _BY_REPOSITORY),
    Refused(("-mmu", "--mmproj-url"), _BY_REPOSITORY),
    Refused(("-dr", "--docker-repo"), _BY_REPOSITORY),
    Refused(("--no-mmproj",), "without its projector the model hears nothing"),
    Refused(("--chat-template",), _FORM, but="chatml"),
    Refused(("--grammar",), "answers are free text"),
    Refused(("--grammar-file",), "answers are free text"),
    Refused(("-j", "--json-schema"), "answers are free text"),
    Refused(("-bf", "--binary-file"), "give the prompt as UTF-8 with -f"),
    Refused(("--samplers",), _NO_PENALTY),
    Refused(("--sampling-seq", "--sampler-seq"), _NO_PENALTY),
    Refused(("--repeat-penalty",), _NO_PENALTY, but="1.0"),
    Refused(("--repeat-last-n",), _NO_PENALTY, but="64"),
    Refused(("--presence-penalty",), _NO_PENALTY, but="0.0"),
    Refused(("--frequency-penalty",), _NO_PENALTY, but="0.0"),
    Refused(("--dry-multiplier",), _NO_PENALTY, but="0.0"),
    Refused(("--typical",), _NO_PENALTY, but="1.0"),
    Refused(("--top-nsigma",), _NO_PENALTY, but="-1.0"),
    Refused(("--xtc-probability",), _NO_PENALTY, but="0.0"),
    Refused(("--dynatemp-range",), _NO_PENALTY, but="0.0"),
    Refused(("--mirostat",), _NO_PENALTY, but="0"),
    Refused(("-l", "--logit-bias"), _NO_PENALTY),
    Refused(("--ignore-eos",), "an answer ends where the model ends it"),
    Refused(("--lora",), _OTHER_ANSWER),
    Refused(("--lora-scaled",), _OTHER_ANSWER),
    Refused(("--control-vector",), _OTHER_ANSWER),
    Refused(("--override-kv",), _OTHER_ANSWER),
    Refused(("--rope-scaling",), _OTHER_ANSWER),
    Refused(("--rope-scale",), _OTHER_ANSWER),
    Refused(("--rope-freq-base",), _OTHER_ANSWER),
    Refused(("--rope-freq-scale",), _OTHER_ANSWER),
    Refused(("-dev", "--device"), _DEVICE),
    Refused(("-mmdev", "--mmproj-device"), _DEVICE),
    Refused(("--rpc",), "one machine computes"),
    Refused(("--log-file",), "redirect standard error: 2> FILE"),
)

LLAMA_FLAGS: tuple[Flag, ...] = (*_HONOURED, *_IGNORED, *_REFUSED)

OWN_FLAGS: tuple[Honoured, ...] = (
    Honoured(
        ("--llama-compat",),
        "llama.cpp's prompt, arithmetic and output, byte for byte (default: liquid-audio's)",
        "llama_compat",
        default=False,
    ),
    Honoured(
        ("--parse-special",), "what is said may spell control tokens, as it always may there", "parse_special",
        default=False,
    ),
    Honoured(
        ("--backend",), f"auto, {', '.join(BACKENDS)} (default: the fastest here)", "backend", "NAME", default="auto"
    ),
    Honoured(("--precision",), precision_help(), "precision", "NAME", default=PRECISIONS[0]),
    Honoured(("--gpu-memory",), GPU_MEMORY_HELP, "gpu_memory", "SIZE", memory),
    Honoured(
        ("--max-seconds",), "refuse longer recordings, counted while decoding", "max_seconds", "X", float,
        default=DAY,
    ),
)  # fmt: skip


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Every row into a parser."""
    for flag in (*LLAMA_FLAGS, *OWN_FLAGS):
        flag.add(parser)


def markdown() -> str:
    """The tables in docs/command-line.md."""
    ours = [(_spelt(flag), _meaning(flag)) for flag in OWN_FLAGS]
    theirs = [(_spelt(flag), flag.kind, _meaning(flag)) for flag in LLAMA_FLAGS]
    return f"{_table(('flag', '', 'meaning, or why not'), theirs)}\n\neardrop's own:\n\n{_table(('flag', ''), ours)}\n"


def _spelt(flag: Flag) -> str:
    value = "" if isinstance(flag, Refused) else flag.value
    return f"`{', '.join(flag.names)}{' ' * bool(value)}{value}`"


def _meaning(flag: Flag) -> str:
    help_ = re.sub(r"([\\<_])", r"\\\1", flag.help)  # Markdown's own signs
    return f"{help_}; `{flag.but}` is accepted" if isinstance(flag, Refused) and flag.but else help_


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
