"""tokenizer.json and the files around it → the tokenizer's facts in a GGUF file (spec §3.1).

    tokenizer.json             tokens, merges, added tokens, what stands before a text
    tokenizer_config.json      which tokens start, end and fill; maybe the chat template
    special_tokens_map.json    the same three tokens
    chat_template.jinja        the chat template, where the configuration doesn't hold it

The tokens' ids are places in a list; one that nothing has is called [PADid] and UNUSED.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from eardrop.gguf import Fact, Value
from eardrop.printable import printable
from eardrop.text import Tokenizer, check_template
from eardrop.text.vocabulary import TokenKind
from eardrop.tools.checkpoint import Section
from eardrop.tools.safetensors import Json, read_json, refuse

Facts = dict[str, Value | Fact]

# Where splitters of the GPT family differ: both ways to split must give the same ids here.
_TRIALS = (
    "DON'T you think it's 12345 or 3.14159?",
    "  leading spaces,\ttabs\nand\n\nnewlines  ",
    "私はあの先生に日本語を習っています。",
    "emoji 😀 and café naïve",
    "e.g. U.S.A. -- well...",
)


def tokenizer_facts(folder: Path, text: Section) -> Facts:
    """The `tokenizer.` facts of a checkpoint.

    text  the configuration of the text model: vocab_size, and the special tokens where no other file has them

    Raises ModelFileError for a tokenizer that isn't LFM2's kind, or whose parts contradict each other.
    """
    path = folder / "tokenizer.json"
    source = Section(path, read_json(path))
    _require_kind(source)
    ids = _ids(source, text.size("vocab_size"))
    specials = _special_tokens(folder, source, text)
    facts: Facts = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "lfm2",
        "tokenizer.ggml.tokens": [token for token, _ in ids],
        "tokenizer.ggml.token_type": np.array([kind for _, kind in ids], np.int32),
        "tokenizer.ggml.merges": _merges(source.section("model")),
        **{f"tokenizer.ggml.{name}_token_id": token for name, token in specials.items()},
        **_added_around(source),
        **_chat_template(folder),
    }
    _try_out(path, facts)
    return facts


def _require_kind(source: Section) -> None:
    """Byte pairs; that they are bytes, and how they are split, the trials show."""
    model = source.section("model")
    if (kind := model.get("type", str, "BPE")) != "BPE":
        raise model.refusal("type", "BPE", _shown(kind))


def _ids(source: Section, vocabulary: int) -> list[tuple[str, TokenKind]]:
    """Each id's token and kind."""
    added = {entry["content"]: (entry["id"], _kind(entry)) for entry in _added(source)}
    normal = source.section("model").get("vocab", dict)
    taken: dict[int, tuple[str, TokenKind]] = {}
    for token, (number, kind) in {**{token: (n, TokenKind.NORMAL) for token, n in normal.items()}, **added}.items():
        if type(number) is not int or not 0 <= number < vocabulary:
            raise source.refusal("model.vocab", f"ids below {vocabulary}", f"{number} for {_shown(token)}")
        if number in taken:
            found = f"{number} for {_shown(taken[number][0])} and for {_shown(token)}"
            raise source.refusal("model.vocab", "an id for each token alone", found)
        taken[number] = token, kind
    return [taken.get(number, (f"[PAD{number}]", TokenKind.UNUSED)) for number in range(vocabulary)]


def _added(source: Section) -> list[Json]:
    """The tokens that are matched as written."""
    entries = source.get("added_tokens", list, [])
    for entry in entries:
        if not (isinstance(entry, dict) and isinstance(entry.get("content"), str) and type(entry.get("id")) is int):
            raise source.refusal("added_tokens", "tokens with content and id", _shown(entry))
    return entries


def _kind(entry: Json) -> TokenKind:
    """CONTROL for those that say so or look like it."""
    marked = entry["content"].startswith("<|") and entry["content"].endswith("|>")
    return TokenKind.CONTROL if entry.get("special") or marked else TokenKind.USER_DEFINED


def _merges(model: Section) -> list[str]:
    """Old files have "left right", new ones ["left", "right"]."""
    merges = [" ".join(pair) if _is_pair(pair) else pair for pair in model.get("merges", list)]
    strange = next((merge for merge in merges if not isinstance(merge, str)), None)
    if strange is not None:
        raise model.refusal("merges", "pairs of tokens", _shown(strange))
    return merges


def _is_pair(merge: object) -> bool:
    return isinstance(merge, list) and all(isinstance(side, str) for side in merge)


def _special_tokens(folder: Path, source: Section, text: Section) -> dict[str, int]:
    """The ids of the tokens that start, end and fill: by name in a file of the tokenizer, else in the configuration."""
    ids = {entry["content"]: entry["id"] for entry in _added(source)}
    named = [_optional(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json")]
    found: dict[str, int] = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("padding", "pad")):
        texts = (_content(file.get(f"{key}_token")) for file in named)
        token = next((ids[content] for content in texts if content in ids), None)
        if token is None and (key != "pad" or text.values.get("pad_token_id") is not None):
            token = text.get(f"{key}_token_id", int)
        if token is not None and not 0 <= token < text.size("vocab_size"):
            raise text.refusal(f"{key}_token_id", f"a token below {text.size('vocab_size')}", str(token))
        if token is not None:
            found[name] = token
    return found


def _content(entry: Any) -> str:
    """A special token's text; files have it plain, or as an object that tells more of it."""
    content = entry.get("content") if isinstance(entry, dict) else entry
    return content if isinstance(content, str) else ""


def _added_around(source: Section) -> Facts:
    """Whether a start or an end token belongs around every text, which the post-processor says."""
    special = ["SpecialToken" in piece for piece in _template(source.get("post_processor", dict, {}))]
    return {
        # without a template: the prompts of this family begin with the start token, whoever adds it
        "tokenizer.ggml.add_bos_token": special[0] if special else True,
        "tokenizer.ggml.add_sep_token": False,
        "tokenizer.ggml.add_eos_token": special[-1] if len(special) > 1 else False,
    }


def _template(processor: Json) -> list[Json]:
    """What stands around a text and the text itself, one object each."""
    match processor:
        case {"single": [*pieces]}:
            return [piece for piece in pieces if isinstance(piece, dict)]
        case {"processors": [*steps]}:
            return next((found for step in steps if (found := _template(step))), [])
    return []


def _chat_template(folder: Path) -> Facts:
    template = _optional(folder / "tokenizer_config.json").get("chat_template")
    jinja = folder / "chat_template.jinja"
    if template is None and jinja.is_file():
        try:
            template = jinja.read_bytes().decode()  # as it is: reading text would turn every line's end into \n
        except UnicodeDecodeError as error:
            raise refuse(jinja, f"is no UTF-8: {error}; fetch it again") from None
    check_template(template, printable(str(jinja)))
    assert isinstance(template, str)
    return {"tokenizer.chat_template": template.encode(errors="replace").decode()}  # JSON may hold half characters


def _optional(path: Path) -> Json:
    return read_json(path) if path.is_file() else {}


def _try_out(path: Path, facts: Mapping[str, Any]) -> None:
    """Read the facts as a user of the file will, and let both tokenizers split the trials."""
    ours = Tokenizer.from_facts(facts, printable(str(path)))
    try:
        theirs = tokenizers.Tokenizer.from_str(path.read_bytes().decode())
    except Exception as error:  # the library knows no other class
        raise refuse(path, f"is no tokenizer: {printable(str(error), most=100)}; fetch it again") from None
    for trial in _TRIALS:
        expected, found = ours.encode(trial, special=True), _encoded(theirs, trial)
        if found != expected:
            raise refuse(
                path, f"splits {trial!r} into {found}, as LFM2's tokenizer would into {expected}; it is of another kind"
            )


def _encoded(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    ids: Iterable[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return list(ids)


def _shown(value: object) -> str:
    return printable(repr(value), most=60)
