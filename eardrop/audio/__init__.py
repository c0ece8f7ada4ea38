"""Sound: bytes become samples, samples become mel frames."""

from eardrop.audio.log_mel import LFM2, WHISPER, MelConfig, log_mel
from eardrop.audio.rate import SAMPLE_RATE
from eardrop.audio.read import DAY, Blocks, RawPCM, Reading, Source, blocks, channels, name_of, read

__all__ = [
    "DAY",
    "LFM2",
    "SAMPLE_RATE",
    "WHISPER",
    "Blocks",
    "MelConfig",
    "RawPCM",
    "Reading",
    "Source",
    "blocks",
    "channels",
    "log_mel",
    "name_of",
    "read",
]
