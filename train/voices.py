"""Who speaks: the engines and voices, whether the model trains on them, and under which terms their speech may be used.

    seen      trained on
    near      another variant of a trained engine, never trained on: tests
    held-out  an engine that is never trained on: tests

A voice is in this table only if its terms allow giving away a model that was trained on its speech.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Group = Literal["seen", "near", "held-out"]


@dataclass(frozen=True)
class Engine:
    """A program of Debian that speaks, its package and the terms of its voices."""

    package: str
    terms: str


ENGINES: Mapping[str, Engine] = {
    "espeak": Engine(
        "libespeak-ng1 espeak-ng-data",
        "GPL-3.0-or-later for the program and its data; speech is output, formants computed by rule, of no recording",
    ),
    "flite": Engine(
        "libflite1", "Carnegie Mellon University, BSD-like: use, copy, modify, sell; names and notices kept"
    ),
    "pico": Engine("ttspico, of the package index, with SVOX Pico and its voices", "SVOX AG, Apache-2.0"),
    "festival": Engine(
        "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts",
        "University of Edinburgh and Carnegie Mellon University, MIT-like; the HTS voice BSD-3-clause",
    ),
}


@dataclass(frozen=True)
class Voice:
    """weight: its share of the training speech, in parts of the sum; of a test group, of that group."""

    engine: str
    name: str
    group: Group
    weight: float


# espeak-ng joins an accent and a variant, a set of formants and a source. Whispered and distorted ones are left out.
_ACCENTS = {
    "en-us": 10, "en": 6, "en-gb-x-rp": 4, "en-gb-scotland": 2, "en-gb-x-gbclan": 1, "en-gb-x-gbcwmd": 1, "en-029": 1,
    "en-us-nyc": 3,
}  # fmt: skip
# fmt: off
_VARIANTS = [
    "", "m1", "m2", "m3", "m4", "m5", "m6", "m8", "f1", "f2", "f3", "f4", "klatt", "klatt2", "klatt3", "klatt5",
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Mario",
    "Michael", "Mike", "Nguyen", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david",
    "ed", "edward", "grandma", "gustave", "iven", "john", "kaukovalta", "marcelo", "max", "michel", "miguel",
    "norbert", "pablo", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph2", "victor", "zac",
]
# fmt: on
_NEAR_VARIANTS = ["m7", "f5", "klatt4", "Gene2", "Marco", "edward2", "linda", "paul", "steph3", "travis"]


def _espeak(variants: Sequence[str], group: Group, whole: float) -> list[Voice]:
    part = whole / (len(variants) * sum(_ACCENTS.values()))
    return [
        Voice("espeak", f"{accent}+{variant}".rstrip("+"), group, part * weight)
        for accent, weight in _ACCENTS.items()
        for variant in variants
    ]


VOICES: tuple[Voice, ...] = (
    *_espeak(_VARIANTS, "seen", 60),
    *(Voice("flite", name, "seen", weight) for name, weight in (("kal", 4), ("kal16", 8))),  # kal at 8 kHz
    *(Voice("flite", name, "seen", weight) for name, weight in (("awb", 9), ("rms", 9), ("slt", 10))),
    *(Voice("pico", name, "seen", 25) for name in ("en-US", "en-GB")),
    *_espeak(_NEAR_VARIANTS, "near", 1),
    # its third voice, kal_diphone, speaks from the recordings of flite's kal
    Voice("festival", "ked_diphone", "held-out", 1),
    Voice("festival", "cmu_us_slt_arctic_hts", "held-out", 1),
)


# How often a clip of a voice is heard, beside once: diphones are what models mishear most, and few voices are of them.
OFTEN: Mapping[str, int] = {"flite/kal": 3, "flite/kal16": 3}


def draw_voice(random: Random, group: Group) -> Voice:
    """A voice of a group, by weight."""
    among = [voice for voice in VOICES if voice.group == group]
    return random.choices(among, [voice.weight for voice in among])[0]
