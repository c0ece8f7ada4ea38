"""The one list of what eardrop reads: containers, told by their first bytes, and codecs, told by FFmpeg's name.

FFmpeg knows some 350 demuxers and 500 decoders, among them playlists that open other files. Here a recording's
first bytes choose one row of CONTAINERS, that row's demuxer is the only one FFmpeg may use, and CODECS are the only
decoders. Everything else is refused, by a row of REFUSALS where we know what it is.
"""

import re
from dataclasses import dataclass, field

from eardrop.errors import AudioError, OptionError

HEAD = 4096  # bytes that tell a container; the longest pattern, MPEG-TS, needs 389
ID3_HEADER = 10
ID3_LIMIT = 16 << 20  # a tag with a cover picture is large; beyond this it is no tag of a recording


@dataclass(frozen=True)
class Container:
    """One row: how a container begins, who reads it, and whether that needs more than reading forward."""

    name: str
    demuxer: str  # FFmpeg's name
    begins: str  # a pattern over Latin-1: one character is one byte, "." is any
    seeks: bool = False  # the index may stand at the end: a pipe is spooled to a temporary file first
    exact: bool = True  # FFmpeg gives the length that the header states, not an estimate
    options: dict[str, str] = field(default_factory=dict)  # for the demuxer


# After the sync of MPEG layers II and III: a bit rate (not 15) and a sample rate (not 3). Layer I is left out: nobody
# has it, and it would take UTF-16 text (which begins FF FE) for sound.
_MPEG_RATES = "[" + "".join(rf"\x{high:x}0-\x{high:x}b" for high in range(15)) + "]"

CONTAINERS = (
    Container("WAV", "wav", r"(RIFF|RIFX|RF64|BW64)....WAVE", exact=False),
    Container("Wave64", "w64", r"riff\x2e\x91\xcf\x11"),
    Container("AIFF", "aiff", r"FORM....AIF[FC]", seeks=True),
    Container("AU", "au", r"\.snd"),
    Container("CAF", "caf", r"caff", seeks=True),
    Container("FLAC", "flac", r"fLaC"),
    Container("Ogg", "ogg", r"OggS"),
    Container("Matroska or WebM", "matroska", r"\x1a\x45\xdf\xa3"),
    Container("MP4 or QuickTime", "mov", r"....(ftyp|moov|mdat|wide|free|skip|pnot)", seeks=True),
    Container("AVI", "avi", r"RIFF....AVI ", seeks=True),
    Container("Windows Media", "asf", r"\x30\x26\xb2\x75\x8e\x66\xcf\x11", seeks=True),
    Container("MPEG-TS", "mpegts", r"\x47.{187}\x47.{187}\x47", exact=False),
    Container("AC-3", "ac3", r"\x0b\x77...[\x00-\x57]", exact=False),
    Container("AAC", "aac", r"\xff[\xf0\xf1\xf8\xf9]", exact=False),
    Container("MP3", "mp3", r"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]" + _MPEG_RATES, exact=False),
)

# fmt: off
CODECS = frozenset({
    "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
    "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "adpcm_ima_wav", "adpcm_ms", "gsm_ms",
    "flac", "alac", "mp2", "mp3float", "aac", "vorbis", "opus", "speex", "wmav1", "wmav2", "ac3", "eac3",
})
RAW_FORMATS = frozenset({
    "alaw", "mulaw", "u8", "s8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le",
    "f64be",
})
# fmt: on

# What strangers hand over by mistake or by malice, and what to do instead.
REFUSALS = (
    (r"(\xef\xbb\xbf)?\s*#EXTM3U", "is a playlist (HLS), which names other files: give the recording itself"),
    (r"(\xef\xbb\xbf)?\s*(<\?xml|<MPD)", "is an XML text (a DASH playlist?), not sound: give the recording itself"),
    (r"ffconcat|\[playlist\]", "is a playlist, which names other files: give the recording itself"),
    (r"(https?|ftp|file|data|concat|subfile|crypto)[:,]", "holds an address, not sound: fetch it and give the file"),
    (r"GGUF", "is a model file, not sound: give it with -m or --mmproj"),
    (r"MThd|RIFF....RMID", "is MIDI, notes without sound: render it to WAV first"),
    (r"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM....\x00\x00\x00\x00", "is a picture, not sound: give a recording"),
    (r"%PDF", "is a PDF, not sound: give a recording"),
    (r"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf", "is an archive: unpack it and give the recording in it"),
    (r"[\t\n\r\x20-\x7e]{16}[\t\n\r\x20-\x7e\x80-\xff]*$", "is a text, not sound: give a recording"),
)
KNOWN = "WAV, FLAC, MP3, M4A, MP4, Ogg, Opus, WebM, AAC, AIFF or another of eardrop.audio.containers"


@dataclass(frozen=True)
class RawPCM:
    """How to read samples without a header: nothing in the bytes could tell.

    rate      samples a second
    format    one of RAW_FORMATS, FFmpeg's names: s16le is signed, 16 bits, low byte first
    channels  interleaved
    """

    rate: int
    format: str = "s16le"
    channels: int = 1

    def __post_init__(self) -> None:
        if self.format not in RAW_FORMATS:
            raise OptionError(f"raw format is {self.format!r}, expected one of: {' '.join(sorted(RAW_FORMATS))}")
        if self.rate < 1 or self.channels < 1:
            raise OptionError(
                f"raw samples have a rate and channels of at least 1, not {self.rate} and {self.channels}"
            )

    def container(self) -> Container:
        """The row that reads them: chosen by the caller, where others are told by their bytes."""
        settings = {"sample_rate": str(self.rate), "ch_layout": f"{self.channels}C"}
        return Container("headerless samples", self.format, "", options=settings)


def id3_length(head: bytes) -> int:
    """Bytes of the ID3v2 tag that may precede MP3, AAC and FLAC; 0 where there is none."""
    if head[:3] != b"ID3" or len(head) < ID3_HEADER:
        return 0
    size = 0
    for byte in head[6:10]:  # seven bits in each byte, so that no byte looks like a sync
        size = size << 7 | byte & 0x7F
    return ID3_HEADER + size


def riff_length(head: bytes) -> int | None:
    """Bytes of the file as a RIFF header announces them; None for another, and for one that a pipe left open.

    FFmpeg trusts the length of the file instead, which hides that a recording is cut off.
    """
    size = int.from_bytes(head[4:8], "little")
    return size + 8 if head[:4] == b"RIFF" and 0 < size < 0x7FFF0000 else None


def sniff(head: bytes, title: str) -> Container:
    """The container whose pattern the first bytes (without an ID3 tag) match; AudioError that says what else they are.

    title  how to call the recording in the message
    """
    text = head.decode("latin-1")
    for container in CONTAINERS:
        if re.match(container.begins, text, re.DOTALL):
            return container
    raise AudioError(f"{title} {_refusal(text)}")


def _refusal(text: str) -> str:
    if not text:
        return "is empty: it has 0 bytes; give a recording"
    for begins, reason in REFUSALS:
        if re.match(begins, text, re.DOTALL):
            return reason
    found = text[:8].encode("latin-1").hex(" ")
    return (
        f"begins like no container eardrop knows: expected {KNOWN}, found the bytes {found}; "
        "convert it to WAV (in Python raw=RawPCM(rate=16000, format='s16le') reads samples without a header)"
    )
