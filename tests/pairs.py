"""The random pair of the tests and llama.cpp's records for it, from the repository alone."""

import functools
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from eardrop.bench.pairs import write_pair
from eardrop.gguf import F16, GgufTensor, open_gguf, write_gguf
from eardrop.ops import Arithmetic
from eardrop.ops.backend import Backend

DATA = Path(__file__).parent / "data" / "micro"
CLIPS = ("ms20", "ms100", "chirp1", "silence1", "speech3")
CACHE = user_cache_path("eardrop") / "tests"


@functools.cache
def pair(name: str = "micro") -> tuple[Path, Path]:
    """The text model and projector of this name, made where they are missing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return write_pair(name, CACHE)


def pcm16(path: Path) -> np.ndarray:
    """The samples of a 16-bit WAV, read without our own reader."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


@dataclass(frozen=True)
class Record:
    """What llama.cpp made of one clip with the micro pair (16-bit run, and float32 run where there is one)."""

    samples: np.ndarray
    mel: np.ndarray  # (T, M)
    arrays: dict[str, np.ndarray]

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.arrays[name]
        except KeyError:
            raise AttributeError(name) from None


@functools.cache
def record(clip: str) -> Record:
    with np.load(DATA / f"{clip}.npz") as f:
        arrays = dict(f)
    with np.load(DATA / f"{clip}.mel.npz") as f:
        arrays["mel_frames"], mel = f["frames"], f["mel"].T
    return Record(pcm16(DATA / f"{clip}.wav"), mel, arrays)


def rewritten(
    source: Path,
    target: Path,
    *,
    facts: Mapping[str, Any] = MappingProxyType({}),
    tensors: Mapping[str, GgufTensor | None] = MappingProxyType({}),
) -> Path:
    """A copy of a GGUF file with some facts and tensors replaced, added, or, where None is given, left out."""
    with open_gguf(source) as file:
        told = {key: value for key, value in {**file.facts, **facts}.items() if value is not None}
        held = {name: tensor for name, tensor in {**file.tensors, **tensors}.items() if tensor is not None}
        write_gguf(target, told, held.values())
    return target


@functools.cache
def float32_pair() -> tuple[Path, Path]:
    """The micro pair with the same values in float32: what a backend multiplies exactly that rounds for halves."""
    return (_expanded(pair()[0], CACHE / "micro-f32.gguf"), _expanded(pair()[1], CACHE / "mmproj-micro-f32.gguf"))


def _expanded(source: Path, target: Path) -> Path:
    if not target.exists():
        with open_gguf(source) as file:
            tensors = {name: GgufTensor.from_array(name, tensor.dequantize()) for name, tensor in file.tensors.items()}
        rewritten(source, target, tensors=tensors)
    return target


def sharp_pair(backend: Backend) -> tuple[Path, Path]:
    """The micro pair, so that this backend takes its products in float32."""
    return pair() if backend.arithmetic(F16) is Arithmetic.FLOAT32 else float32_pair()
