"""Values that others published for the real models (`reference.json`), and the recordings they belong to.

Facts alone: no weights, no recordings. docs/verify.md says where they come from and how they are compared.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

ANY = "any"  # a fact that holds for every model of the family


@dataclass(frozen=True)
class Fact:
    """One published value.

    model   the key of a model, or ANY
    clip    the recording it was made from, if any
    doubt   why the value may be wrong itself: where it differs, nobody has failed
    inputs  what else its computation needs (a layer, positions, a system prompt)
    """

    id: str
    what: str
    model: str
    sources: tuple[str, ...]
    value: Any
    clip: str | None = None
    doubt: str = ""
    note: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """A recording, known by its samples: `sha256` is over them as 16-bit little-endian integers, at its own rate."""

    id: str
    about: str
    licence: str
    rate: int
    samples: int
    sha256: str
    addresses: tuple[str, ...] = ()  # tried in this order
    note: str = ""


@dataclass(frozen=True)
class Reference:
    """Everything in one file."""

    models: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, Mapping[str, str]]
    clips: Mapping[str, Clip]
    facts: Mapping[str, Fact]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Reference":
        """The reference in a parsed reference.json."""
        return cls(
            models=document["models"],
            sources=document["sources"],
            clips={id_: Clip(id_, **_tupled(row, "addresses")) for id_, row in document["clips"].items()},
            facts={id_: _fact(id_, row) for id_, row in document["facts"].items()},
        )

    def source(self, name: str) -> str:
        """Where a value can be looked up, in a line."""
        row = self.sources[name]
        return ", ".join(row[key] for key in ("repository", "file", "thread", "files", "revision") if key in row)


@lru_cache(maxsize=1)
def published() -> Reference:
    """The reference that ships with the package."""
    text = resources.files("eardrop.tools").joinpath("reference.json").read_text(encoding="utf-8")
    return Reference.from_json(json.loads(text))


_OWN = ("what", "model", "sources", "value", "clip", "doubt", "note")


def _fact(id_: str, row: Mapping[str, Any]) -> Fact:
    own = {key: row[key] for key in _OWN if key in row}
    inputs = {key: value for key, value in row.items() if key not in _OWN}
    return Fact(id_, **{**_tupled(own, "sources"), "value": _read(row["value"])}, inputs=inputs)


def _tupled(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {**row, key: tuple(row[key])}


def _read(value: Any) -> Any:
    """A value with its arrays read."""
    if not isinstance(value, dict):
        return value
    if "float32_le_base64" in value:
        raw = base64.b64decode(value["float32_le_base64"], validate=True)
        return np.frombuffer(raw, "<f4").reshape(value["shape"])
    return {key: _read(part) for key, part in value.items()}
