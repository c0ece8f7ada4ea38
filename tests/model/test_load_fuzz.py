"""Models with mutated headers load, or are refused with our error: never another exception, never a hang."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from eardrop.backends.numpy import NumpyBackend
from eardrop.engine import Engine
from eardrop.errors import EardropError
from eardrop.gguf import open_gguf
from eardrop.loading import load_model
from eardrop.transcribe import Recognizer
from tests.pairs import pair, record, rewritten

SEED = 20261123
MUTANTS = 6000 if os.environ.get("EARDROP_TEST_LONG") else 150
NUMBERS = (0, 1, 2, 3, 7, 8, 255, 2**31 - 1, 2**32 - 1)


def header_bytes(path: Path) -> int:
    """Where the tensors begin: what comes before is what a mutant lies about."""
    with open_gguf(path) as file:
        return file.total_bytes - sum(-(-t.nbytes // 32) * 32 for t in file.tensors.values())


def mutated(header: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, a number replaced by an odd one, or text by other text."""
    out = bytearray(header)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(24, len(out) - 8))
        kind = rng.integers(3)
        if kind == 0:
            out[at] = int(rng.integers(256))
        elif kind == 1:
            out[at : at + 4] = struct.pack("<I", int(rng.choice(NUMBERS)))
        else:
            out[at : at + 4] = out[at + 4 : at + 8]
    return bytes(out)


@pytest.mark.parametrize("which", [0, 1], ids=["text", "projector"])
def test_mutated_headers_are_refused_by_name_or_load(tmp_path: Path, which: int) -> None:
    paths = list(pair())
    whole = paths[which].read_bytes()
    end, rng, refusals = header_bytes(paths[which]), np.random.default_rng(SEED + which), []
    target = tmp_path / paths[which].name
    target.write_bytes(whole)
    paths[which] = target
    for _ in range(MUTANTS):
        with target.open("r+b") as file:
            file.write(mutated(whole[:end], rng))
        try:
            load_model(*paths, NumpyBackend())
        except EardropError as error:
            refusals.append(str(error))
    assert len(refusals) > MUTANTS / 10
    assert all(refusal.isprintable() for refusal in refusals)


ODD = (None, 0, 7, 2**31, -1, float("nan"), 2.5, "", ["a"], np.zeros(3, np.int32))


def used(paths: list[Path]) -> None:
    """Load, and say a token."""
    with Engine(load_model(*paths, NumpyBackend()), streams=1) as engine:
        list(Recognizer(engine).generate("", system="Perform ASR.", audio=record("ms20").samples, max_tokens=1))


@pytest.mark.parametrize("which", [0, 1], ids=["text", "projector"])
def test_odd_facts_are_refused_by_name_or_do_no_harm(tmp_path: Path, which: int) -> None:
    with open_gguf(pair()[which]) as file:
        keys = [key for key in file.facts if not key.startswith("general.") or key == "general.architecture"]
    refusals = []
    for key in keys:
        for value in ODD:
            paths = list(pair())
            paths[which] = rewritten(pair()[which], tmp_path / f"{which}.gguf", facts={key: value})
            try:
                used(paths)
            except EardropError as error:
                refusals.append(str(error))
    assert len(refusals) > len(keys)
    assert all(refusal.isprintable() for refusal in refusals)
