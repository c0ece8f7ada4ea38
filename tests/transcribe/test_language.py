"""Which language a model is asked to write, and how a Japanese one is known."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import eardrop
from eardrop.architecture import LFM2_AUDIO
from eardrop.cli.main import main
from eardrop.dialect import REFERENCE
from eardrop.errors import OptionError
from eardrop.text import MEDIA, prompt
from eardrop.transcribe import Recognizer
from tests.pairs import DATA, pair, rewritten

CLIP = DATA / "ms100.wav"


@pytest.mark.parametrize(
    ("facts", "file", "languages"),
    [
        ({}, "LFM2.5-Audio-1.5B-Q8_0.gguf", ("en",)),
        ({"general.languages": ["en"]}, "m.gguf", ("en",)),
        ({"general.languages": ["fr"]}, "m.gguf", ("en",)),
        ({"general.languages": ["ja"]}, "m.gguf", ("ja",)),
        ({"general.languages": ["ja", "en"]}, "m.gguf", ("en", "ja")),
        ({}, "LFM2.5-Audio-1.5B-JP-Q8_0.gguf", ("ja",)),
        ({"general.languages": ["en", "ja"]}, "LFM2.5-Audio-1.5B-JP-F16.gguf", ("ja", "en")),
        ({"general.name": "LFM2.5 Audio 1.5B JP"}, "m.gguf", ("ja",)),
        ({"general.basename": "LFM2.5-Audio-JP"}, "m.gguf", ("ja",)),
        ({"general.finetune": "Japanese"}, "m.gguf", ("ja",)),
        ({"general.name": 7, "general.languages": "ja"}, "jpeg-JPEG.gguf", ("en",)),
    ],
)
def test_names_say_which_language_a_model_writes(facts, file, languages):
    assert LFM2_AUDIO.languages(facts, file) == languages


@pytest.fixture(scope="module")
def japanese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("japanese")
    text, projector = pair()
    shutil.copy(projector, folder / "mmproj-m.gguf")
    return rewritten(text, folder / "m.gguf", facts={"general.name": "LFM2.5 Audio 1.5B JP"})


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list:
    """The prompts that reach an engine."""
    seen = []
    submit = eardrop.engine.Engine.submit

    def watched(self, request):
        seen.append(request.prompt)
        return submit(self, request)

    monkeypatch.setattr("eardrop.engine.Engine.submit", watched)
    return seen


def same(found, asr: Recognizer, system: str) -> bool:
    expected = prompt(asr.model.tokenizer, system=system, user=[MEDIA], dialect=REFERENCE)
    return len(found) == len(expected) and all(
        a is b or np.array_equal(a, b) for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("wish", [{"language": "ja"}, {}])
def test_a_japanese_model_is_prompted_in_its_way(japanese, prompts, wish):
    with eardrop.load(japanese) as asr:
        result = asr.transcribe(CLIP, max_tokens=1, **wish)
        assert same(prompts[0], asr, "Perform ASR in japanese.")
    assert result.language == "ja"


@pytest.mark.parametrize("wish", [{"language": "en"}, {}])
def test_an_english_model_is_prompted_as_ever(prompts, wish):
    with eardrop.load(pair()[0]) as asr:
        result = asr.transcribe(CLIP, max_tokens=1, **wish)
        assert same(prompts[0], asr, "Perform ASR.")
    assert result.language == "en"


def test_a_language_that_a_model_lacks_is_refused(japanese):
    for model, wish, writes in ((japanese, "en", "ja"), (pair()[0], "ja", "en"), (pair()[0], "d\x1be", "en")):
        with eardrop.load(model) as asr, pytest.raises(OptionError, match=f"writes {writes}; take another model"):
            asr.transcribe(CLIP, language=wish)


def test_the_command_refuses_it_once_for_all_recordings(capsys):
    assert main(["transcribe", "-m", str(pair()[0]), "--language", "de", str(CLIP), str(CLIP)]) == 2
    assert capsys.readouterr().err == "eardrop: the language is 'de', and micro writes en; take another model\n"


def test_the_command_s_json_names_the_language(japanese, capsys):
    words = ["transcribe", "-m", str(japanese), "--language", "ja", "-f", "json", "--max-tokens", "1", str(CLIP)]
    assert main(words) == 0
    assert '"language": "ja"' in capsys.readouterr().out
