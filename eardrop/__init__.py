"""eardrop: local speech recognition with LFM2-Audio models, from the GGUF files that llama.cpp runs.

import eardrop

asr = eardrop.load("LFM2-Audio-1.5B-F16.gguf")
print(asr.transcribe("talk.mp3").text)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eardrop.version import __version__

if TYPE_CHECKING:
    from eardrop.audio import LFM2, WHISPER, MelConfig, log_mel
    from eardrop.audio import read as read_audio
    from eardrop.errors import (
        AudioError,
        AudioTooLong,
        Cancelled,
        ContextFull,
        EardropError,
        EngineClosed,
        FetchError,
        Incomplete,
        MissingExtra,
        ModelFileError,
        OptionError,
    )
    from eardrop.gguf import open_gguf
    from eardrop.loading import load
    from eardrop.transcribe import Live, Options, Progress, Recognizer, Score
    from eardrop.transcript import Lines, Result, Segment, Word

# Where each public name lives. They are imported when they are first used: `eardrop --version` needs none.
_HOMES = {
    **dict.fromkeys(("LFM2", "WHISPER", "MelConfig", "log_mel"), "eardrop.audio"),
    **dict.fromkeys(
        (
            "AudioError",
            "AudioTooLong",
            "Cancelled",
            "ContextFull",
            "EardropError",
            "EngineClosed",
            "FetchError",
            "Incomplete",
            "MissingExtra",
            "ModelFileError",
            "OptionError",
        ),
        "eardrop.errors",
    ),
    "open_gguf": "eardrop.gguf",
    "load": "eardrop.loading",
    **dict.fromkeys(("Live", "Options", "Progress", "Recognizer", "Score"), "eardrop.transcribe"),
    **dict.fromkeys(("Lines", "Result", "Segment", "Word"), "eardrop.transcript"),
}

__all__ = [
    "LFM2",
    "WHISPER",
    "AudioError",
    "AudioTooLong",
    "Cancelled",
    "ContextFull",
    "EardropError",
    "EngineClosed",
    "FetchError",
    "Incomplete",
    "Lines",
    "Live",
    "MelConfig",
    "MissingExtra",
    "ModelFileError",
    "OptionError",
    "Options",
    "Progress",
    "Recognizer",
    "Result",
    "Score",
    "Segment",
    "Word",
    "__version__",
    "load",
    "log_mel",
    "open_gguf",
    "read_audio",
]


def __getattr__(name: str) -> Any:
    if name == "read_audio":
        return import_module("eardrop.audio").read
    if name not in _HOMES:
        raise AttributeError(f"module 'eardrop' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
