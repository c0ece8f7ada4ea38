"""Where Debian's packages are: the system, or the folder EARDROP_ENGINES into which they were unpacked."""

import os
from pathlib import Path

ROOT = Path(os.environ.get("EARDROP_ENGINES", "/"))
LIBRARIES = ROOT / "usr/lib/x86_64-linux-gnu"
WORDNET = ROOT / "usr/share/wordnet"  # wordnet-base; its examples are everyday sentences
FORTUNES = ROOT / "usr/share/games/fortunes"  # fortunes, fortunes-min
