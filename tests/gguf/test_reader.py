"""The reader on files built here byte by byte: what it gives, and everything it must refuse."""

import os
import re
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eardrop.errors import ModelFileError
from eardrop.gguf import GgufFile, GgufTensor, open_gguf, write_gguf

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
HUGE = (1 << 63) - 1


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def fact(key: str | bytes, kind: int, payload: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + payload


def u32(key: str, value: int) -> bytes:
    return fact(key, U32, struct.pack("<I", value))


def u16(key: str, value: int) -> bytes:
    return fact(key, U16, struct.pack("<H", value))


def array(key: str, kind: int, count: int, payload: bytes) -> bytes:
    return fact(key, ARRAY, struct.pack("<IQ", kind, count) + payload)


def entry(name: str | bytes, ne: Sequence[int], form: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(ne)}qIQ", len(ne), *ne, form, offset)


def model(
    facts: Sequence[bytes] = (),
    entries: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    alignment: int = 32,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    n_entries, n_facts = counts or (len(entries), len(facts))
    header = struct.pack("<4sIqq", b"GGUF", version, n_entries, n_facts) + b"".join([*facts, *entries])
    return header + bytes(-len(header) % alignment) + data


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], GgufFile]:
    def write_and_open(content: bytes) -> GgufFile:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return open_gguf(path)

    return write_and_open


Opened = Callable[[bytes], GgufFile]
A_FLOAT = struct.pack("<f", 1.5)


# --- what it gives


@pytest.mark.parametrize("version", [2, 3])
def test_every_kind_of_fact_arrives_as_its_python_type(opened: Opened, version: int) -> None:
    plain = {
        "u8": (U8, "<B", 255), "i8": (I8, "<b", -128), "u16": (U16, "<H", 65535), "i16": (I16, "<h", -32768),
        "u32": (U32, "<I", 2**32 - 1), "i32": (I32, "<i", -(2**31)), "u64": (U64, "<Q", 2**64 - 1),
        "i64": (I64, "<q", -(2**63)), "f32": (F32, "<f", 0.5), "f64": (F64, "<d", 0.1), "bool": (BOOL, "<?", True),
    }  # fmt: skip
    stored = [fact(key, kind, struct.pack(code, value)) for key, (kind, code, value) in plain.items()]
    file = opened(model([*stored, fact("text", STRING, string("Ġ今"))], version=version))
    assert dict(file.facts) == {key: value for key, (_, _, value) in plain.items()} | {"text": "Ġ今"}
    assert {key: type(value) for key, value in file.facts.items()} == {
        key: {"f32": float, "f64": float, "bool": bool, "text": str}.get(key, int) for key in file.facts
    }


def test_arrays_arrive_as_lists_of_str_or_arrays_of_their_dtype(opened: Opened) -> None:
    file = opened(
        model(
            [
                array("tokens", STRING, 3, string("a") + string("") + string("Ġb")),
                array("types", I32, 2, struct.pack("<2i", 3, -1)),
                array("flags", BOOL, 3, b"\x00\x01\x02"),
                array("nothing", F64, 0, b""),
                array("no strings", STRING, 0, b""),
                u32("after", 7),
            ]
        )
    )
    assert file.facts["tokens"] == ["a", "", "Ġb"]
    assert file.facts["no strings"] == []
    expected: dict[str, tuple[type, list[Any]]] = {
        "types": (np.int32, [3, -1]),
        "flags": (np.bool_, [False, True, True]),
        "nothing": (np.float64, []),
    }
    for key, (dtype, values) in expected.items():
        found = file.fact(key, np.ndarray)
        assert (found.dtype, found.tolist()) == (dtype, values)
        assert not found.flags.writeable
    assert file.facts["after"] == 7


def test_tensors_keep_their_order_and_turn_their_dimensions(opened: Opened) -> None:
    data = np.arange(48, dtype="<f4").tobytes()
    entries = [entry("z", [2, 3], 0, 0), entry("a", [1, 1, 2, 2], 0, 32), entry("s", [], 0, 64), entry("v", [5], 1, 96)]
    file = opened(model([], entries, data))
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == {
        "z": (2 + 1, 2),
        "a": (2, 2, 1, 1),
        "s": (),
        "v": (5,),
    }
    assert list(file.tensors) == ["z", "a", "s", "v"]
    assert file.tensor("z").raw.shape == (3, 8)
    assert file.tensor("z").dequantize().tolist() == [[0, 1], [2, 3], [4, 5]]
    assert file.tensor("a").dequantize().ravel().tolist() == [8, 9, 10, 11]
    assert file.tensor("s").dequantize() == 16
    assert file.tensor("v").dequantize().dtype == np.float32


def test_a_tensor_is_a_view_nobody_can_write_through(opened: Opened) -> None:
    tensor = opened(model([], [entry("w", [4])], np.ones(4, "<f4").tobytes())).tensor("w")
    assert np.shares_memory(tensor.dequantize(), tensor.raw)
    for view in (tensor.raw, tensor.dequantize()):
        with pytest.raises(ValueError, match="read-only"):
            view[:] = 0


@pytest.mark.parametrize("alignment", [1, 2, 64, 65536])
def test_data_are_found_at_any_lawful_alignment(opened: Opened, alignment: int) -> None:
    second = -(-12 // alignment) * alignment
    data = np.arange(3, dtype="<f4").tobytes().ljust(second, b"\0") + np.array([9], "<f4").tobytes()
    file = opened(
        model(
            [u32("general.alignment", alignment)],
            [entry("a", [3]), entry("b", [1], 0, second)],
            data,
            alignment=alignment,
        )
    )
    assert file.tensor("a").dequantize().tolist() == [0, 1, 2]
    assert file.tensor("b").dequantize().tolist() == [9]


@pytest.mark.parametrize("ne", [[0], [0, 5], [5, 0], [32, 0, 3], [0, 1 << 40]])
@pytest.mark.parametrize("form", [0, 8])
def test_a_tensor_may_have_no_values(opened: Opened, ne: list[int], form: int) -> None:
    if form == 8:
        ne = [32 * ne[0], *ne[1:]]
    file = opened(model([], [entry("none", ne, form), entry("one", [1])], A_FLOAT))
    assert file.tensor("none").dequantize().shape == tuple(reversed(ne))
    assert file.tensor("one").dequantize().tolist() == [1.5]


def test_a_file_of_facts_alone_needs_no_padding_at_its_end(opened: Opened) -> None:
    assert opened(model([u32("a", 1)], alignment=1)).facts == {"a": 1}


def test_kinds_and_formats_stay_known(opened: Opened) -> None:
    file = opened(model([u16("k", 5)], [entry("w", [32], 8)], bytes(34)))
    assert file.typed_facts["k"].kind.name == "u16"
    assert file.tensor("w").format.name == "Q8_0"
    assert file.total_bytes == file.path.stat().st_size


def test_tensors_and_facts_outlive_the_file(opened: Opened) -> None:
    with opened(model([array("n", U32, 1, struct.pack("<I", 4))], [entry("w", [1])], A_FLOAT)) as file:
        tensor = file.tensor("w")
        numbers = file.fact("n", np.ndarray)
    assert tensor.dequantize().tolist() == [1.5]
    assert numbers.tolist() == [4]
    with pytest.raises(ModelFileError, match="closed"):
        file.tensor("w")


# --- asking for facts and tensors


def test_a_fact_has_the_type_asked_for_or_an_error_says_what_it_is(opened: Opened) -> None:
    file = opened(model([u32("n", 16), fact("yes", BOOL, b"\1"), array("a", I32, 1, bytes(4))]))
    assert file.fact("n", int) == 16
    assert file.fact("yes", bool) is True
    assert file.fact("absent", int, 3) == 3
    assert file.fact("absent", str, default=None) is None
    with pytest.raises(ModelFileError, match=r"model\.gguf: has no key lfm2\.block_count"):
        file.fact("lfm2.block_count", int)
    for key, type_, message in [
        ("n", str, r"key n should be a string, found a whole number: 16"),
        ("yes", int, r"key yes should be a whole number, found a boolean: True"),
        ("a", int, r"key a should be a whole number, found an array: \[0\]"),
        ("n", bool, r"key n should be a boolean, found a whole number"),
    ]:
        with pytest.raises(ModelFileError, match=message):
            file.fact(key, type_)


def test_a_tensor_has_the_shape_asked_for_or_an_error_says_which_it_has(opened: Opened) -> None:
    file = opened(model([], [entry("w", [2, 1])], bytes(8)))
    assert file.tensor("w", (1, 2)).name == "w"
    with pytest.raises(ModelFileError, match=r"model\.gguf: tensor w is \(1, 2\), expected \(2, 1\); convert"):
        file.tensor("w", (2, 1))
    with pytest.raises(ModelFileError, match=r"has no tensor blk\.0\.w; give another file"):
        file.tensor("blk.0.w")


# --- what it refuses

TWICE = [u32("k", 1), u32("k", 2)]
HOSTILE: dict[str, tuple[bytes, str]] = {
    "version 1": (model(version=1), "GGUF version 1, expected 2 or 3"),
    "version 4": (model(version=4), "GGUF version 4, expected 2 or 3"),
    "big-endian": (b"GGUF" + struct.pack(">Iqq", 3, 0, 0), "big-endian"),
    "only the magic": (b"GGUF", "version needs 4 bytes .* file ends at 4"),
    "endless tensors": (model(counts=(HUGE, 0)), "9,223,372,036,854,775,807 tensors"),
    "endless facts": (model(counts=(0, HUGE)), "9,223,372,036,854,775,807 facts"),
    "less than no facts": (model(counts=(0, -1)), "claims -1 facts"),
    "more tensors than anyone has": (model([], [bytes(24)] * 65537), "65,537 tensors .* at most 65,536"),
    "an endless key": (model([struct.pack("<Q", HUGE) + bytes(16)]), "a key claims 9,2.* at most 65,535"),
    "a key past the end": (model([struct.pack("<Q", 9999) + bytes(16)]), "a key needs 9,999 bytes"),
    "a nameless key": (model([u32("", 1)]), "key without a name"),
    "a key twice": (model(TWICE), "key k appears twice"),
    "a key that is not UTF-8": (model([fact(b"\xff\xfe", U8, b"\0")]), "a key is not UTF-8"),
    "an unknown kind": (model([fact("k", 13, bytes(8))]), "key k is of the unknown kind 13"),
    "an endless string": (model([fact("k", STRING, struct.pack("<Q", HUGE))]), "key k claims 9,2"),
    "a string past the end": (model([fact("k", STRING, struct.pack("<Q", 4096))]), "key k needs 4,096 bytes"),
    "a string that is not UTF-8": (model([fact("k", STRING, string(b"a\xc3"))]), "key k is not UTF-8: .* at byte 1"),
    "a surrogate": (model([fact("k", STRING, string(b"\xed\xa0\x80"))]), "key k is not UTF-8"),
    "an array of arrays": (model([array("k", ARRAY, 1, bytes(12))]), "key k is an array of arrays"),
    "an array of the unknown": (model([array("k", 99, 1, bytes(8))]), "key k is of the unknown kind 99"),
    "endless numbers": (model([array("k", U8, 2**64 - 1, b"")]), "key k needs 18,446,744,073,709,551,615 bytes"),
    "numbers past the end": (model([array("k", F64, 100, bytes(99))]), "key k needs 800 bytes"),
    "endless strings": (model([array("k", STRING, HUGE, string("a") * 3)]), "key k "),
    "an endless string of two": (model([array("k", STRING, 2, string("a") + b"\x7f" * 8)]), "key k claims 9,187"),
    "an array not UTF-8": (model([array("k", STRING, 2, string("a") + string(b"\xff"))]), "key k is not UTF-8"),
    "alignment 0": (model([u32("general.alignment", 0)]), r"alignment is 0 \(u32\); expected a u32, a power of two"),
    "alignment 48": (model([u32("general.alignment", 48)]), "alignment is 48"),
    "alignment 128 KiB": (model([u32("general.alignment", 1 << 17)]), "alignment is 131072"),
    "alignment of another kind": (model([u16("general.alignment", 32)]), r"alignment is 32 \(u16\)"),
    "alignment in words": (model([fact("general.alignment", STRING, string("32"))]), r"alignment is 32 \(string\)"),
    "a long name": (model([], [entry("n" * 64, [1])], A_FLOAT), "name claims 64 bytes; at most 63"),
    "a name that is not UTF-8": (model([], [entry(b"\x80", [1])], A_FLOAT), "name is not UTF-8"),
    "a name twice": (model([], [entry("w", [0]), entry("w", [0])]), "tensor w appears twice"),
    "five dimensions": (model([], [entry("w", [1] * 5)], A_FLOAT), "tensor w has 5 dimensions; at most 4"),
    "endless dimensions": (model([], [string("w") + struct.pack("<IQ", 2**32 - 1, 0)]), "4,294,967,295 dimensions"),
    "a negative size": (model([], [entry("w", [-1])], A_FLOAT), r"tensor w has the impossible size \[-1\]"),
    "two negative sizes": (model([], [entry("w", [-4, -4])], bytes(64)), "impossible size"),
    "an overflowing size": (model([], [entry("w", [1 << 32, 1 << 32])], A_FLOAT), "impossible size"),
    "an overflow hidden by a zero": (model([], [entry("w", [0, 1 << 62, 1 << 62])]), "impossible size"),
    "a size that wraps to 4 bytes": (model([], [entry("w", [(1 << 62) + 1])], A_FLOAT), "impossible size"),
    "half a block": (model([], [entry("w", [48, 2], 8)], bytes(99)), "rows of 48 values, Q8_0 needs a multiple of 32"),
    "a scalar of blocks": (model([], [entry("w", [], 12)], bytes(144)), "rows of 1 values, Q4_K needs"),
    "an unknown format": (model([], [entry("w", [1], 43)], A_FLOAT), "tensor w is of the unknown format 43"),
    "a removed format": (model([], [entry("w", [32], 31)], bytes(18)), "w is Q4_0_4_4, a format llama.cpp gave up"),
    "a gap": (model([], [entry("a", [1]), entry("b", [1], 0, 64)], bytes(68)), "b lies at offset 64 .* expected 32"),
    "an overlap": (model([], [entry("a", [1]), entry("b", [1], 0, 0)], bytes(68)), "b lies at offset 0 .* expected 32"),
    "an endless offset": (model([], [entry("w", [1], 0, 2**64 - 32)], A_FLOAT), "expected 0"),
    "data past the end": (model([], [entry("w", [2])], A_FLOAT), r"w \(F32, \(2,\)\) ends at byte .* it is cut off"),
    "no data": (model([], [entry("w", [1])], alignment=1), "cut off"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_that_names_it(opened: Opened, name: str) -> None:
    content, message = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=message) as raised:
            opened(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "model.gguf" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert peak < 4 * len(content) + 200_000


FOREIGN = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a": "Git LFS pointer.*git lfs pull",
    b"\n<!DOCTYPE html><html>": "a web page",
    b"<HTML><body>Access denied": "a web page",
    b'\x40\x00\x00\x00\x00\x00\x00\x00{"__metadata__":': "safetensors",
    b"PK\x03\x04\x00\x00": "zip archive",
    b"\x80\x02}q\x00": "pickle",
    b"lmgg\x01\x00": "older than GGUF",
    b"\x1f\x8b\x08": "gzip",
    bytes(64): "not finished",
    b"RIFF\x24\x00\x00\x00WAVEfmt ": "something else",
    b"GG": "something else",
}


@pytest.mark.parametrize("content", FOREIGN, ids=FOREIGN.values())
def test_a_foreign_file_is_told_what_it_looks_like(opened: Opened, content: bytes) -> None:
    with pytest.raises(ModelFileError, match=f"is no GGUF file but looks like .*{FOREIGN[content]}"):
        opened(content)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").touch()
    messages = {
        "absent.gguf": r"absent\.gguf: can't be opened: No such file",
        ".": "is a folder",
        "empty.gguf": r"empty\.gguf: is empty",
        "zero\0byte": r"zero\\x00byte: can't be opened",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.gguf")
        messages["pipe.gguf"] = "is no regular file"
    for name, message in messages.items():
        with pytest.raises(ModelFileError, match=message):
            open_gguf(tmp_path / name)


def test_a_file_cut_anywhere_is_refused(opened: Opened) -> None:
    content = model(
        [
            u32("a", 1),
            array("tokens", STRING, 3, string("x") * 3),
            array("n", I32, 2, bytes(8)),
            fact("f", F64, bytes(8)),
        ],
        [entry("w", [2, 2]), entry("v", [32], 8, 32)],
        bytes(32) + bytes(34),
    )
    assert opened(content).tensors
    for end in range(len(content)):
        with pytest.raises(ModelFileError):
            opened(content[:end])


def test_a_name_cannot_steer_the_terminal_through_a_message(opened: Opened) -> None:
    evil = "\x1b]0;owned\x07\n\u202etxt"
    with pytest.raises(ModelFileError) as raised:
        opened(model([], [entry(evil, [1], 99)], A_FLOAT))
    assert str(raised.value).isprintable()
    with pytest.raises(ModelFileError) as raised:
        opened(model([fact(evil * 2000, 77, b"\0")]))
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 600


def test_a_header_has_a_limit_of_its_own(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    content = model([array("k", U8, 400, bytes(400))])
    assert opened(content).facts["k"] is not None
    monkeypatch.setattr("eardrop.gguf.header.MOST_HEADER_BYTES", 200)
    with pytest.raises(ModelFileError, match="the header must end at 200"):
        opened(content)


# --- what it costs


def test_a_real_vocabulary_opens_in_little_memory(opened: Opened) -> None:
    tokens = b"".join(string(f"Ġtoken{k}") for k in range(65536))
    merges = b"".join(string(f"Ġab{k} cd{k}") for k in range(63683))
    content = model(
        [
            array("tokens", STRING, 65536, tokens),
            array("types", I32, 65536, bytes(4 * 65536)),
            array("merges", STRING, 63683, merges),
        ]
    )
    file = opened(content)
    assert file.fact("merges", list)[-1] == "Ġab63682 cd63682"
    tracemalloc.start()
    open_gguf(file.path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(content)


def test_opening_reads_no_data(opened: Opened) -> None:
    content = model([], [entry("w", [1024, 8192])], bytes(32 << 20))
    tracemalloc.start()
    file = opened(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.tensor("w").nbytes == 32 << 20
    assert peak < 1 << 20


# --- a file that changes under us


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 32)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, 12345))


def _replace(path: Path) -> None:
    before = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def _delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [_truncate, _append, _touch, _replace, _delete])
def test_a_file_that_changed_is_refused_before_it_is_used(opened: Opened, change: Callable[[Path], None]) -> None:
    file = opened(model([], [entry("w", [8])], bytes(32)))
    file.check_unchanged()
    assert not file.changed()
    change(file.path)
    assert file.changed()
    with pytest.raises(ModelFileError, match=r"model\.gguf: (has changed|was opened and is gone).*load it again"):
        file.check_unchanged()


# --- models in several files


def split(number: int, count: int, total: int, names: Sequence[str], extra: Sequence[bytes] = ()) -> bytes:
    facts = [
        u16("split.no", number),
        u16("split.count", count),
        fact("split.tensors.count", I32, struct.pack("<i", total)),
    ]
    entries = [entry(name, [1], 0, 32 * k) for k, name in enumerate(names)]
    return model([*facts, *extra], entries, b"".join(struct.pack("<f28x", number + k / 10) for k in range(len(names))))


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"model-{k:05}-of-00003.gguf" for k in (1, 2, 3)]
    paths[0].write_bytes(split(0, 3, 4, ["a", "b"], [u32("x", 1)]))
    paths[1].write_bytes(split(1, 3, 4, ["c"], [u32("x", 2)]))
    paths[2].write_bytes(split(2, 3, 4, ["d"]))
    return paths


def test_a_split_model_is_one_model_with_the_facts_of_its_first_part(parts: list[Path]) -> None:
    file = open_gguf(parts[0])
    assert list(file.tensors) == ["a", "b", "c", "d"]
    assert file.tensor("d").dequantize().tolist() == [2]
    assert file.facts["x"] == 1
    assert file.total_bytes == sum(path.stat().st_size for path in parts)


def test_a_change_of_any_part_is_noticed(parts: list[Path]) -> None:
    file = open_gguf(parts[0])
    _touch(parts[2])
    with pytest.raises(ModelFileError, match="model-00003-of-00003"):
        file.check_unchanged()


def test_a_later_part_refers_to_the_first(parts: list[Path]) -> None:
    with pytest.raises(ModelFileError, match=r"is part 2 of 3 of a split model; give model-00001-of-00003\.gguf"):
        open_gguf(parts[1])


SPLIT_FAULTS: dict[str, tuple[int, bytes | None, str]] = {
    "a part is missing": (1, None, r"model-00002-of-00003\.gguf: can't be opened"),
    "a part is another part": (1, split(2, 3, 4, ["c"]), r"00002.*split\.count = \(2, 3\), expected \(1, 3\)"),
    "a part is of another number": (1, split(1, 2, 4, ["c"]), r"00002.*= \(1, 2\), expected \(1, 3\)"),
    "a part is no part": (1, model([], [entry("c", [1])], A_FLOAT), r"00002.*= \(-1, -1\), expected \(1, 3\)"),
    "a part is damaged": (2, b"GGUF", "00003.*version needs 4 bytes"),
    "a tensor is there twice": (2, split(2, 3, 4, ["b"]), "00003.*tensor b is in model-00001-of-00003.gguf, too"),
    "a tensor is lacking": (2, split(2, 3, 4, []), r"00001.*split\.tensors\.count = 4, found 3"),
    "the total isn't a number": (
        0, model([u16("split.count", 3), u16("split.no", 0), fact("split.tensors.count", STRING, string("4"))]),
        r"00001.*split\.tensors\.count should be a whole number, found 4",
    ),
    "the count isn't a number": (0, model([fact("split.count", STRING, string("3"))]), "split.count should be a whole"),
    "the count is a truth": (0, model([fact("split.count", BOOL, b"\1")]), "split.count should be a whole"),
    "the count differs from the name": (0, split(0, 4, 4, ["a"]), r"its name must end in -00001-of-00004\.gguf"),
    "the count is absurd": (0, model([fact("split.count", U64, struct.pack("<Q", 2**63))]), "its name must end in"),
}  # fmt: skip


@pytest.mark.parametrize("fault", SPLIT_FAULTS)
def test_a_faulty_set_of_parts_is_refused(parts: list[Path], fault: str) -> None:
    number, content, message = SPLIT_FAULTS[fault]
    parts[number].unlink()
    if content is not None:
        parts[number].write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        open_gguf(parts[0])


def test_a_first_part_under_another_name_is_refused(parts: list[Path]) -> None:
    renamed = parts[0].rename(parts[0].with_name("model.gguf"))
    with pytest.raises(
        ModelFileError, match=r"must end in -00001-of-00003\.gguf; name the parts as they were published"
    ):
        open_gguf(renamed)


def test_a_split_of_one_is_whole(opened: Opened) -> None:
    assert list(opened(split(0, 1, 1, ["a"])).tensors) == ["a"]


def resident(path: Path) -> int:
    """Bytes of the file's mappings that this process holds."""
    blocks = re.split(r"^(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    return sum(
        int(re.search(r"^Rss: +(\d+) kB", block, re.MULTILINE)[1]) << 10 for block in blocks if str(path) in block
    )


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this system doesn't say what is resident")
def test_memory_that_was_read_can_be_given_back_and_comes_again(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((512, 1024), dtype=np.float32)
    path = tmp_path / "m.gguf"
    write_gguf(path, {}, [GgufTensor.from_array("w", values)])
    with open_gguf(path) as file:
        tensor = file.tensor("w")
        np.testing.assert_array_equal(tensor.dequantize(), values)
        assert resident(path) > values.nbytes // 2
        file.give_back()
        assert resident(path) < values.nbytes // 8
        np.testing.assert_array_equal(tensor.dequantize(), values)
