"""A checkpoint as it is published: a folder with config.json, weights in safetensors, maybe in shards, a tokenizer.

config.json                        the shape
model.safetensors                  all weights, or
model.safetensors.index.json       {"weight_map": {name of a tensor: name of a file beside the index}}
tokenizer.json …                   see tokenizer_json.py
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from eardrop.errors import ModelFileError
from eardrop.printable import printable
from eardrop.tools.safetensors import Json, StoredTensor, read_header, read_json, refuse

MOST = 2**31 - 1  # of whole numbers, none of which is near it
ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"

T = TypeVar("T")
_KINDS = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Section:
    """Keys of one JSON object; what they hold is checked when they are asked for.

    prefix  of the keys in messages, as "lfm."
    """

    path: Path
    values: Mapping[str, Any] = field(repr=False)
    prefix: str = ""

    def get(self, key: str, kind: type[T], absent: T | None = None) -> T:
        """The value of a key. Raises ModelFileError where it is missing (unless `absent` is given) or of another kind.

        A whole number is a float, too; null is as good as nothing.
        """
        value = self.values.get(key)
        if value is None and absent is not None:
            return absent
        if kind is float and type(value) is int and abs(value) <= MOST:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = "nothing" if value is None else printable(repr(value), most=60)
            raise self.refusal(key, _KINDS[kind], found)
        return value

    def size(self, key: str) -> int:
        """A whole number of at least one."""
        value = self.get(key, int)
        if not 1 <= value <= MOST:
            raise self.refusal(key, f"1 to {MOST}", printable(repr(value), most=60))
        return value

    def section(self, key: str, absent: Json | None = None) -> "Section":
        """The object under a key."""
        return Section(self.path, self.get(key, dict, absent), f"{self.prefix}{key}.")

    def refusal(self, key: str, expected: str, found: str) -> ModelFileError:
        """What is wrong with a key."""
        return refuse(self.path, f"{self.prefix}{key}: expected {expected}, found {found}")

    def require(self, expected: Mapping[str, Any]) -> None:
        """Refuse a key that says something else; one that is missing may mean what is expected."""
        for key, value in expected.items():
            found = self.values.get(key, value)
            if found != value:
                move = "this network computes something that eardrop can't"
                raise self.refusal(key, repr(value), f"{printable(repr(found), most=60)}; {move}")


@dataclass(frozen=True)
class Checkpoint:
    """An opened folder; of the weights only the headers are read."""

    folder: Path
    config: Section
    tensors: Mapping[str, StoredTensor] = field(repr=False)


def open_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder. Raises ModelFileError for what is missing, damaged, or lies outside of it."""
    if not folder.is_dir():
        raise refuse(folder, "no such folder; give the folder of a published checkpoint")
    config = Section(folder / "config.json", read_json(folder / "config.json"))
    index = folder / INDEX
    sharded = index.is_file() and not (folder / ONE_FILE).exists()
    return Checkpoint(folder, config, _sharded(index) if sharded else read_header(folder / ONE_FILE))


def _sharded(index: Path) -> dict[str, StoredTensor]:
    """The tensors of all shards, each where the index has it."""
    homes = Section(index, read_json(index)).get("weight_map", dict)
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted({_file_name(index, home) for home in homes.values()}):
        for name, tensor in read_header(index.parent / shard).items():
            if name in tensors:
                other = tensors[name].path.name
                raise refuse(tensor.path, f"tensor {printable(name)} is in {printable(other)}, too; fetch them again")
            tensors[name] = tensor
    _check_homes(index, homes, tensors)
    return tensors


def _file_name(index: Path, home: object) -> str:
    """The name of a file beside the index, and nothing that leads elsewhere."""
    if not isinstance(home, str) or home in ("", ".", "..") or any(letter in home for letter in "/\\:\0"):
        raise refuse(index, f"names the file {printable(repr(home), most=80)}, expected one that lies beside it")
    return home


def _check_homes(index: Path, homes: Json, tensors: Mapping[str, StoredTensor]) -> None:
    found = {name: tensor.path.name for name, tensor in tensors.items()}
    for name in sorted(homes.keys() | found.keys()):
        if (stated := homes.get(name)) != found.get(name):
            where = (printable(home) if home else "nowhere" for home in (stated, found.get(name)))
            raise refuse(
                index, "tensor {} should be in {}, but is in {}; fetch them again".format(printable(name), *where)
            )
