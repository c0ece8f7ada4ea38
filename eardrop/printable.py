r"""Strings of strangers, made safe to show: names and messages from files must not steer a terminal.

A model file may call a tensor `\x1b]0;owned\x07` or turn a line around with U+202E. What controls a terminal or
the order of text is replaced by a visible escape; every letter of every script stays.
"""

import re

# C0 and C1 controls and DEL; marks, embeddings, overrides and isolates of bidirectional text; line and paragraph
# separators; lone surrogates, which no encoder accepts.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, keep: str = "", most: int | None = None) -> str:
    r"""The text with its control characters spelt out, as `\x1b`.

    keep  characters to leave as they are, as "\n\t" for text of several lines
    most  characters to show; a longer text is cut and ends in …
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
