"""What `eardrop info` says of this machine: what there is, what can compute here, and how it was told to."""

import os
import platform
import re
from importlib import metadata
from typing import Any

from eardrop.backends import BACKENDS
from eardrop.bench.machine import memory_bytes, processor
from eardrop.cli.sheet import Section
from eardrop.cores import usable_processors
from eardrop.knobs import KNOBS
from eardrop.ops import OPS
from eardrop.version import __version__


def describe() -> dict[str, Section]:
    """The sections."""
    return {
        "eardrop": {"version": __version__, "python": platform.python_version(), **_libraries()},
        "machine": {"system": platform.platform(), "processor": processor(), "cores": _cores(), "memory": _memory()},
        "backends": [
            {"name": name, "runs here": reason is None, "why not": reason and str(reason), "about": choice.about}
            for name, choice in BACKENDS.items()
            for reason in (choice.missing(),)
        ],
        "operations": _operations(),
        "knobs": [
            {"name": knob.name, "value": knob.read(), "set": bool(os.environ.get(knob.name)), "meaning": knob.meaning}
            for knob in KNOBS
        ],
    }


def _operations() -> list[dict[str, Any]]:
    """Each operation, and for each backend that runs here whether it is its own or falls back to the reference."""
    usable = {name: choice.make() for name, choice in BACKENDS.items() if choice.missing() is None}
    return [
        {"name": op, **{name: "reference" if op in made.lacking else "its own" for name, made in usable.items()}}
        for op in OPS
    ]


def _libraries() -> dict[str, str]:
    """The versions of what eardrop requires."""
    try:
        required = metadata.requires("eardrop") or []
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return {}
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _cores() -> str:
    """Processors this process may use, of all."""
    return f"{usable_processors()} of {os.cpu_count()}"


def _memory() -> str | None:
    size = memory_bytes()
    return None if size is None else f"{size / 2**30:.1f} GiB"
