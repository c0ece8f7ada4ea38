"""What is particular to a model family, as one row: front end, prompt, stop rules, limits.

A successor enters as another row and its own equations, not as branches.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from eardrop.audio.log_mel import LFM2, MelConfig

_JAPANESE = re.compile(r"(?<![A-Za-z])(JP|Japanese)(?![A-Za-z])", re.IGNORECASE)


@dataclass(frozen=True)
class WindowSeconds:
    """What a recording is cut into for a model, unless somebody wants others: see `transcribe.windows`."""

    target: float  # of a window, usually
    longest: float  # and at most
    skip: float  # longer silences are left out


@dataclass(frozen=True)
class Architecture:
    """One family of speech models."""

    name: str
    front_end: MelConfig
    prompts: Mapping[str, str]  # language → the system's turn that makes it transcribe; the first is the usual one
    ends_text: tuple[str, ...]  # control tokens with which it leaves text, besides the vocabulary's own ends
    least_seconds: float  # shorter audio holds no word: transcribed as nothing
    most_seconds: float  # of one window
    windows: WindowSeconds
    tokens_per_second: float  # more text than that is no transcript: the limit of a window
    tokens_beside: int  # allowed on top, for the shortest clips

    def languages(self, facts: Mapping[str, object], file: str) -> tuple[str, ...]:
        """The languages that a text model writes, its own first: its names say so, then `general.languages`.

        The published Japanese files differ from the English ones in their weights and in a JP in their names.
        """
        names = [file, *(facts.get(f"general.{key}") for key in ("name", "basename", "finetune"))]
        named = ("ja",) if any(isinstance(name, str) and _JAPANESE.search(name) for name in names) else ()
        listed = facts.get("general.languages")
        told = tuple(code for code in self.prompts if isinstance(listed, list) and code in listed)
        return tuple(dict.fromkeys((*named, *told))) or tuple(self.prompts)[:1]

    def token_limit(self, seconds: float) -> int:
        """The most tokens that a transcript of so much audio may have."""
        return self.tokens_beside + int(seconds * self.tokens_per_second)


LFM2_AUDIO = Architecture(
    name="LFM2-Audio",
    front_end=LFM2,
    prompts={"en": "Perform ASR.", "ja": "Perform ASR in japanese."},  # the model cards' words
    ends_text=("<|audio_start|>",),  # it wants to speak now (spec §8.2)
    least_seconds=0.02,
    most_seconds=327.84,  # llama.cpp's limit for these files: 2 · 16,392 + 1 mel frames (golden README)
    windows=WindowSeconds(target=20.0, longest=30.0, skip=2.0),
    tokens_per_second=12.5,  # one per encoder row; fast English speech needs half of it
    tokens_beside=16,
)

DEMONSTRATION_WINDOWS = WindowSeconds(target=1.0, longest=14.0, skip=0.5)  # a sentence is what the small model knows
