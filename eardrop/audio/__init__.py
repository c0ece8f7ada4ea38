"""Sound: bytes become samples, samples become mel frames."""

from eardrop.audio.folders import is_recording, recordings_in
from eardrop.audio.log_mel import LFM2, WHISPER, MelConfig, log_mel
from eardrop.audio.opus import OPUS_BIT_RATE, encode_opus
from eardrop.audio.rate import SAMPLE_RATE
from eardrop.audio.read import DAY, Blocks, RawPCM, Reading, Source, blocks, channels, name_of, one_window, read

__all__ = [
    "DAY",
    "LFM2",
    "OPUS_BIT_RATE",
    "SAMPLE_RATE",
    "WHISPER",
    "Blocks",
    "MelConfig",
    "RawPCM",
    "Reading",
    "Source",
    "blocks",
    "channels",
    "encode_opus",
    "is_recording",
    "log_mel",
    "name_of",
    "one_window",
    "read",
    "recordings_in",
]
