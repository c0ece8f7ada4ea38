"""Damaged files by the thousand: the reader refuses with ModelFileError, quickly and in little memory, or reads.

The loop runs in a process of its own, so that a signal (a touched page that isn't there) is seen as one; under a
memory limit, so that an allocation the file never justified fails. This file is also the program of that process:

    python tests/gguf/test_fuzz.py SEED COUNT FOLDER        repeats a run; the mutant that failed stays in FOLDER
"""

import json
import random
import struct
import subprocess
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eardrop.errors import ModelFileError
from eardrop.gguf import FORMATS, GgufTensor, open_gguf, u16, write_gguf

MEMORY_BYTES = 1 << 30  # of address space, beyond what the interpreter has mapped when the loop begins
SECONDS_EACH = 2.0
NUMBERS = [0, 1, 2, 3, 7, 8, 12, 31, 32, 255, 256, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40]
NUMBERS += [(1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 32, (1 << 64) - 1]


# --- the program


def healthy(folder: Path) -> list[bytes]:
    """Some good files: every format, every kind of fact, many strings, no tensors, the first of a split."""
    rng = np.random.default_rng(0)
    every_format = [
        GgufTensor(f"t.{f.name}", (2, f.block), f, rng.integers(0, 256, (2, f.block_bytes), np.uint8))
        for f in FORMATS.values()
    ]
    plain = [GgufTensor.from_array("scalar", 1.0), GgufTensor.from_array("none", np.zeros((0, 3)))]
    facts = {"general.architecture": "lfm2", "general.alignment": 32, "n": 5, "x": 0.5, "yes": True, "small": u16(3)}
    arrays = {"numbers": np.arange(9), "reals": np.ones(3, np.float32), "flags": np.array([True, False])}
    words = {"words": [f"Ġword{k}" for k in range(300)]}
    files = []
    for number, (some, tensors) in enumerate(
        [
            (facts | arrays, plain),
            (facts, every_format),
            (words | arrays, plain[:1]),
            ({"split.no": u16(0), "split.count": u16(1), "split.tensors.count": 1}, plain[:1]),
            ({}, []),
        ]
    ):
        path = folder / f"healthy{number}.gguf"
        write_gguf(path, some, tensors)
        files.append(path.read_bytes())
    return files


def flip(rng: random.Random, content: bytearray, _: bytes) -> None:
    for _ in range(rng.randint(1, 6)):
        content[_place(rng, content)] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, content: bytearray, _: bytes) -> None:
    for _ in range(rng.randint(1, 2)):
        number = rng.choice(NUMBERS).to_bytes(8, "little")[: rng.choice([1, 4, 8])]
        at = _place(rng, content)
        content[at : at + len(number)] = number


def cut(rng: random.Random, content: bytearray, _: bytes) -> None:
    del content[rng.randrange(len(content)) :]


def remove(rng: random.Random, content: bytearray, _: bytes) -> None:
    at = _place(rng, content)
    del content[at : at + rng.randint(1, 64)]


def insert(rng: random.Random, content: bytearray, _: bytes) -> None:
    at = _place(rng, content)
    content[at:at] = rng.randbytes(rng.randint(1, 64))


def repeat(rng: random.Random, content: bytearray, _: bytes) -> None:
    at, size = _place(rng, content), rng.randint(1, 200)
    content[at:at] = content[at : at + size] * rng.randint(1, 3)


def splice(rng: random.Random, content: bytearray, other: bytes) -> None:
    content[_place(rng, content) :] = other[rng.randrange(len(other)) :]


MUTATIONS: list[Callable[[random.Random, bytearray, bytes], None]] = [
    flip,
    overwrite,
    cut,
    remove,
    insert,
    repeat,
    splice,
]


def _place(rng: random.Random, content: bytearray) -> int:
    """Anywhere, but mostly in the header, and often in its first line."""
    return rng.randrange(min(len(content), rng.choice([24, 400, 1600, 1 << 30])))


def mutant(rng: random.Random, files: list[bytes]) -> bytes:
    content = bytearray(rng.choice(files))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if content:
            rng.choice([overwrite, overwrite, *MUTATIONS])(rng, content, rng.choice(files))
    return bytes(content)


def read_all(path: Path) -> bool:
    """Open a file and touch every byte and value of it; whether it was accepted."""
    try:
        file = open_gguf(path)
    except ModelFileError as refusal:
        return expect_one_line(str(refusal))
    with file:
        file.check_unchanged()
        for tensor in file.tensors.values():
            int(tensor.raw.sum(dtype=np.uint64))
            assert tensor.raw.shape[0] < 1 << 61
            if tensor.format.dequantize is not None:
                assert tensor.dequantize().shape == tensor.shape
    return True


def expect_one_line(message: str) -> bool:
    assert message.isprintable(), message
    return False


def limit_memory() -> None:
    """On Linux, where a process can ask how much it has."""
    if sys.platform != "linux":
        return
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))


def run(seed: int, count: int, folder: Path) -> dict[str, float]:
    files, path, accepted, slowest, peak = healthy(folder), folder / "mutant.gguf", 0, 0.0, 0.0
    limit_memory()
    tracemalloc.start()
    for number in range(count):
        content = mutant(random.Random(f"{seed}/{number}"), files)
        path.write_bytes(content)
        tracemalloc.reset_peak()
        before, start = tracemalloc.get_traced_memory()[0], time.perf_counter()
        accepted += read_all(path)
        slowest = max(slowest, time.perf_counter() - start)
        peak = max(peak, (tracemalloc.get_traced_memory()[1] - before - 100_000) / (len(content) + 1))
        assert slowest < SECONDS_EACH, f"mutant {number} took {slowest:.1f} s"
        assert peak < 40, f"mutant {number} of {len(content)} bytes took {peak:.0f} times its size"
    return {"accepted": accepted, "slowest": slowest, "peak": peak}


def main() -> int:
    seed, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    try:
        json.dump(run(seed, count, folder), sys.stdout)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


# --- the tests


def fuzz(seed: int, count: int, folder: Path, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, str(seed), str(count), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    story = f"seed {seed}, {count} mutants: status {done.returncode} (negative: a signal)\n{done.stderr}"
    assert done.returncode == 0, story + f"\nrepeat with: {' '.join(command)}"
    result: dict[str, float] = json.loads(done.stdout)
    return result


def test_mutants_are_refused_or_read_within_time_and_memory(tmp_path: Path) -> None:
    count = 4000
    result = fuzz(1, count, tmp_path, seconds=60)
    # a fuzzer that is always refused at the door tests only the door
    assert 0.05 * count < result["accepted"] < 0.9 * count


def test_the_loop_sees_a_signal(tmp_path: Path) -> None:
    """A mapping that lost its file kills the process; the loop must say so, not pass."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_fuzz, os; from pathlib import Path\n"
        "folder = Path(sys.argv[2]); path = folder / 'm.gguf'\n"
        "from eardrop.gguf import *; import numpy as np\n"
        "write_gguf(path, {}, [GgufTensor.from_array('w', np.ones(100_000))])\n"
        "file = open_gguf(path); os.truncate(path, 4096); print(file.changed(), flush=True)\n"
        "file.tensor('w').dequantize().sum()\n"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "True", done.stderr
    assert done.returncode < 0


@given(
    st.lists(st.tuples(st.sampled_from(["<B", "<I", "<Q", "text", "bytes"]), st.sampled_from(NUMBERS)), max_size=30),
    st.sampled_from([0, 1, 2, 5]),
    st.sampled_from([0, 1, 2, 5]),
    st.randoms(use_true_random=False),
)
@example([], 0, 0, random.Random(0))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_behind_the_magic_are_refused_or_read(
    tmp_path: Path, pieces: list[tuple[str, int]], n_tensors: int, n_facts: int, rng: random.Random
) -> None:
    content = b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_facts)
    for code, number in pieces:
        if code == "text":
            content += struct.pack("<Q", 3) + b"abc"
        elif code == "bytes":
            content += rng.randbytes(number % 40)
        else:
            content += struct.pack(code, number % (1 << 8 * struct.calcsize(code)))
    path = tmp_path / "any.gguf"
    path.write_bytes(content)
    read_all(path)


if __name__ == "__main__":
    sys.exit(main())
