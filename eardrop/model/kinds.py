"""Which of the files around these models a GGUF is: only two of the four in a repository recognise speech."""

from enum import Enum

from eardrop.errors import ModelFileError
from eardrop.gguf import GgufFile
from eardrop.printable import printable


class Kind(Enum):
    """What a file is for; the value is how a message calls it."""

    TEXT = "the text model"
    PROJECTOR = "the projector (mmproj)"
    SPEECH_TOKENIZER = "the tokenizer file, which turns speech codes into sound"
    VOCODER = "the vocoder file, which speaks"
    OTHER = "another model"


PROJECTOR_TYPE = "lfm2a"


def kind_of(file: GgufFile) -> Kind:
    """Tell the files of the published repositories apart by what they hold, not by their names (spec §2.2, §3)."""
    architecture = file.fact("general.architecture", str, "")
    if architecture == "clip":
        return Kind.PROJECTOR if projector_type(file) == PROJECTOR_TYPE else Kind.OTHER
    if architecture == "lfm2":
        spoken = "tokenizer.ggml.tokens" not in file.facts or "lfm2.embedding_length_out" in file.facts
        return Kind.SPEECH_TOKENIZER if spoken else Kind.TEXT
    speaks = any(name.startswith(("depth", "audio_embedding")) for name in file.tensors)
    return Kind.VOCODER if speaks or file.path.name.startswith(("vocoder-", "audiodecoder-")) else Kind.OTHER


def projector_type(file: GgufFile) -> str:
    """The kind of a clip file; some say it under another key."""
    return file.fact("clip.projector_type", str, "") or file.fact("clip.audio.projector_type", str, "")


_NEXT = {
    Kind.TEXT: "give the text model of the repository, as LFM2-Audio-1.5B-F16.gguf, with -m",
    Kind.PROJECTOR: "give the projector of the repository, as mmproj-LFM2-Audio-1.5B-F16.gguf, with --mmproj",
}


def require(file: GgufFile, wanted: Kind) -> None:
    """Raise ModelFileError, naming what the file is instead and what to give, unless it is `wanted`."""
    found = kind_of(file)
    if found is wanted:
        return
    what = found.value if found is not Kind.OTHER else _other(file)
    raise ModelFileError(f"{printable(str(file.path))}: this is {what}, expected {wanted.value}; {_NEXT[wanted]}")


def _other(file: GgufFile) -> str:
    architecture = printable(file.fact("general.architecture", str, "not named"), most=40)
    if architecture == "clip":
        return f"a projector of the type '{printable(projector_type(file), most=40)}', not '{PROJECTOR_TYPE}'"
    return f"a model of the architecture '{architecture}'"
