"""What an installation takes: bytes that are downloaded, bytes on disk, eardrop's wheel with its model among them.

    python benchmarks/install.py        builds the wheel, installs it into a fresh environment, from the package index

download  every wheel that pip takes, eardrop's own among them
disk      blocks of a fresh virtual environment after the installation, less those before it
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from eardrop.bench.machine import describe, versions

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"download": 160e6, "disk": 450e6}  # bytes
LARGEST = 6  # wheels that are named


def main() -> int:
    """Measure and print a table; 1 where a limit is exceeded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = _built(folder / "own")
        downloads = _downloaded(wheel, folder / "wheels")
        measured = {"download": sum(downloads.values()), "disk": _installed(folder / "environment", folder / "wheels")}
    known = describe() | versions()
    print(f"{known['system']}, Python {known['python']}, {datetime.now(UTC).date()}\n")
    print("| | measured | limit |\n| --- | ---: | ---: |")
    for what, size in measured.items():
        print(f"| {what} | {size / 1e6:.0f} MB | {LIMITS[what] / 1e6:.0f} MB |")
    largest = sorted(downloads.items(), key=lambda one: -one[1])[:LARGEST]
    print("\n" + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in largest))
    return int(any(size > LIMITS[what] for what, size in measured.items()))


def _pip(python: str | Path, *words: str | Path) -> None:
    command: Sequence[str | Path] = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True)


def _built(folder: Path) -> Path:
    _pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _downloaded(wheel: Path, folder: Path) -> dict[str, int]:
    """Bytes by the name of what pip takes."""
    _pip(sys.executable, "download", "--dest", folder, wheel)
    return {path.name.partition("-")[0]: path.stat().st_size for path in folder.iterdir()}


def _installed(environment: Path, wheels: Path) -> int:
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    before = _blocks(environment)
    _pip(environment / "bin" / "python", "install", "--no-index", "--find-links", wheels, "eardrop")
    return _blocks(environment) - before


def _blocks(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_symlink())


if __name__ == "__main__":
    sys.exit(main())
