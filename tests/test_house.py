"""The house: a room imports only the rooms before it (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "eardrop"

# Each room and the rooms it may know. FOR_ALL may be known by all.
ROOMS: dict[str, set[str]] = {
    "gguf": set(),
    "audio": set(),
    "text": {"gguf"},
    "ops": {"gguf", "audio"},
    "backends": {"gguf", "audio", "ops"},
    "model": {"gguf", "ops"},
    "search": {"ops", "model"},
    "architecture": {"audio"},
    "engine": {"gguf", "audio", "text", "ops", "model", "search", "architecture"},
    "transcript": {"audio"},  # a page draws and plays the recording
    "transcribe": {"audio", "text", "ops", "search", "architecture", "engine", "transcript"},
    "hub": set(),  # nothing of a model: it knows files by their names
    "loading": {"gguf", "text", "ops", "backends", "model", "architecture", "engine", "transcribe", "hub"},
    "ray": {"audio", "engine", "transcribe", "loading"},
    "bench": {"gguf", "audio", "ops", "backends", "model", "engine", "transcript", "transcribe", "loading"},
    "tools": {"gguf", "audio", "text", "ops", "backends", "model", "engine", "transcript", "transcribe", "loading"},
}
FOR_ALL = {"errors", "knobs", "version", "printable", "dialect", "stages", "cores"}
FACADES = {"__init__", "__main__", "cli"}  # may know everything


def rooms_imported(path: Path) -> set[str]:
    """The rooms of eardrop that a file imports, relative and `from eardrop import x` forms resolved."""
    package = ["eardrop", *path.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            targets = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name.split(".")[1] for name in targets if name.startswith("eardrop.")}
    return {room for room in found if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_knows_only_the_rooms_before_it(path: Path) -> None:
    room = room_of(path)
    if room in FACADES | FOR_ALL:
        return
    assert room in ROOMS, f"{room} is no room of the house: give it a place in docs/architecture.md and here"
    unknown = rooms_imported(path) - ROOMS[room] - FOR_ALL - {room}
    assert not unknown, f"{path.relative_to(PACKAGE)} knows {', '.join(sorted(unknown))}, which come after {room}"


def test_no_room_knows_the_command_line() -> None:
    for path in FILES:
        if room_of(path) not in FACADES:
            assert "cli" not in rooms_imported(path), path


def test_every_file_fits_in_the_head() -> None:
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, f"{path}: rebuild it as two"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{path.relative_to(PACKAGE)}: {node.name} has {length} lines; 60 are the limit"
