"""The prompt: turns of a conversation as token ids, with places for recordings among them.

It is built here, for the one chat form we know (ChatML). The template in a model file is a stranger's program: it is
looked at, never run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from eardrop.dialect import Dialect
from eardrop.errors import ModelFileError, OptionError
from eardrop.text.tokenizer import Tokenizer

MARKER = "<__media__>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"


class Media(Enum):
    """The place of a recording in a prompt; there is one value, MEDIA."""

    MEDIA = "media"

    def __repr__(self) -> str:
        return self.name


MEDIA = Media.MEDIA
Part = NDArray[np.int32] | Media


class After(Enum):
    """What the context holds when a user turn comes."""

    NOTHING = "nothing"
    SYSTEM = "a system turn"
    ANSWER = "an answer, without the token that ended it"


# Chat forms by what their templates contain, the first match wins: two others borrow ChatML's token.
_OURS = "ChatML"
_FORMS = (
    ("<|im_sep|>", "Phi-4"),
    ("<end_of_utterance>", "SmolVLM"),
    (TURN_START, _OURS),
    ("<|start_header_id|>", "Llama 3"),
    ("<|header_start|>", "Llama 4"),
    ("[INST]", "Llama 2 or Mistral"),
    ("<start_of_turn>", "Gemma"),
    ("<|START_OF_TURN_TOKEN|>", "Command R"),
    ("<|start_of_role|>", "Granite"),
    ("<|channel|>", "gpt-oss"),
    ("<｜User｜>", "DeepSeek"),
    ("[gMASK]", "ChatGLM"),
    ("<|user|>", "Phi-3 or Zephyr"),
    ("### Instruction:", "Alpaca"),
    ("USER: ", "Vicuna"),
)


def check_template(template: object, source: str) -> None:
    """Refuse a model whose chat form isn't ours.

    template  `tokenizer.chat_template` of the file, None where it has none
    source    the file's name, for the message
    """
    form = "nothing"
    if isinstance(template, str):
        form = next((name for token, name in _FORMS if token in template), "a form unknown here")
    if form != _OURS:
        expected = f"expected {_OURS}, with {TURN_START}, found {form}"
        raise ModelFileError(f"{source}: tokenizer.chat_template: {expected}; give an LFM2-Audio model")


def split_markers(text: str, audios: int) -> list[str | Media]:
    """A user's text with its markers turned into places for recordings.

    text    may hold MARKER once per recording; if it holds none, the recordings come before it
    audios  the recordings there are
    """
    texts = text.split(MARKER) if MARKER in text else ["" for _ in range(audios)] + [text]
    if len(texts) - 1 != audios:
        found = f"number of media markers ({len(texts) - 1}) does not match number of recordings ({audios})"
        raise OptionError(f"{found}; write {MARKER} once for each, or not at all")
    parts = [part for text in texts for part in (text, MEDIA)][:-1]
    return [part for part in parts if part != ""]


@dataclass(frozen=True)
class _Piece:
    """A stretch of a turn: of the chat form itself, or what somebody said."""

    text: str
    form: bool = True


@dataclass(frozen=True, kw_only=True)
class Conversation:
    r"""The turns of one conversation as parts of a prompt: arrays of ids (n,) int32, and MEDIA between them.

    parse_special  lets what is said spell control tokens; always so under a dialect whose turns are one text

    What the context holds is told with each turn, not remembered: a turn may fail and be sent again.

    llama.cpp formats the whole history twice, with the new message and without, and sends the difference (spec
    §7.1, §8.1). Two oddities follow, and its dialect has them: every user turn but the first of all begins with a
    newline of its own; and the end of an answer, `<|im_end|>\n`, is part of both formatted histories, so it never
    reaches the context. To the token, what it sends after an answer is what it sends after a system turn:
    `\n<|im_start|>user\n…<|im_end|>\n<|im_start|>assistant\n`.
    """

    tokenizer: Tokenizer
    dialect: Dialect
    parse_special: bool = False

    def __post_init__(self) -> None:
        for token in (TURN_START, TURN_END):
            if self.tokenizer.written(token) is None:
                expected = f"expected the token {token}, found none"
                raise ModelFileError(f"{self.tokenizer.source}: {expected}; give an LFM2-Audio model")

    def system_turn(self, text: str) -> list[Part]:
        """The first turn of a conversation, start token included. It has no place for a recording."""
        said = [_Piece(part, form=False) for part in split_markers(text, 0) if isinstance(part, str)]
        return self._parts([_Piece(f"{TURN_START}system\n"), *said, _Piece(f"{TURN_END}\n")], first=True)

    def user_turn(self, parts: Sequence[str | Media], *, after: After) -> list[Part]:
        """A user's turn and the head of the answer to it; the start token too where it is the first turn."""
        said = [part if isinstance(part, Media) else _Piece(part, form=False) for part in parts]
        head, tail = _Piece(f"{TURN_START}user\n"), _Piece(f"{TURN_END}\n{TURN_START}assistant\n")
        return self._parts([*self._between(after), head, *said, tail], first=after is After.NOTHING)

    def _between(self, after: After) -> list[_Piece]:
        """What comes between a user turn and what was there before."""
        between = []
        if after is After.ANSWER and self.dialect.answer_is_closed:
            between.append(_Piece(f"{TURN_END}\n"))
        if after is not After.NOTHING and self.dialect.newline_between_turns:
            between.append(_Piece("\n"))
        return between

    def _parts(self, pieces: Sequence[_Piece | Media], *, first: bool) -> list[Part]:
        start = [self.tokenizer.bos] if first and self.tokenizer.bos is not None else []
        parts: list[Part] = []
        for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, _Piece)):
            if is_text:
                ids = self._encode([piece for piece in group if isinstance(piece, _Piece)])
                parts.append(np.array(start + ids, np.int32))
                start = []
            else:
                parts += [MEDIA for _ in group]
        return parts

    def _encode(self, pieces: Sequence[_Piece]) -> list[int]:
        if self.dialect.turn_is_one_text:
            return self.tokenizer.encode("".join(piece.text for piece in pieces), special=True)
        return [
            token
            for piece in pieces
            for token in self.tokenizer.encode(piece.text, special=piece.form or self.parse_special)
        ]


def prompt(
    tokenizer: Tokenizer,
    *,
    system: str | None,
    user: Sequence[str | Media],
    dialect: Dialect,
    parse_special: bool = False,
) -> list[Part]:
    """The prompt of a conversation that begins: ids | MEDIA | ids, no two arrays next to each other.

    system         None for no system turn
    user           texts and the places of recordings among them
    parse_special  lets system and user spell control tokens (always so under llama.cpp's dialect)
    """
    conversation = Conversation(tokenizer=tokenizer, dialect=dialect, parse_special=parse_special)
    if system is None:
        return conversation.user_turn(user, after=After.NOTHING)
    before, turn = conversation.system_turn(system), conversation.user_turn(user, after=After.SYSTEM)
    seam = [part for part in (*before, *turn[:1]) if not isinstance(part, Media)]
    return [np.concatenate(seam), *turn[1:]]
