"""Which projector belongs to a text model."""

from pathlib import Path

import pytest

from eardrop.errors import ModelFileError, OptionError
from eardrop.hub import find_projector, find_text


def find_pair(model: Path, projector: Path | None = None) -> tuple[Path, Path]:
    text = find_text(model)
    return text, find_projector(text, projector)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_only_projector_beside_the_model_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "model.gguf", "mmproj-any.gguf", "vocoder-model.gguf", "tokenizer-model.gguf")
    assert find_pair(tmp_path / "model.gguf") == (tmp_path / "model.gguf", tmp_path / "mmproj-any.gguf")


def test_among_several_the_same_model_and_weight_type_wins(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("LFM2.5-Audio-1.5B-Q4_0.gguf", "mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf", "mmproj-LFM2.5-Audio-1.5B-F16.gguf"),
        *("mmproj-audioencoder-LFM2-Audio-1.5B-Q4_0.gguf", "LFM2-Audio-1.5B-Q4_0.gguf"),
    )
    assert find_pair(tmp_path / "LFM2.5-Audio-1.5B-Q4_0.gguf")[1].name == "mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf"
    assert find_pair(tmp_path / "LFM2-Audio-1.5B-Q4_0.gguf")[1].name == "mmproj-audioencoder-LFM2-Audio-1.5B-Q4_0.gguf"


def test_candidates_are_listed_where_several_fit(tmp_path: Path) -> None:
    touch(tmp_path, "m-Q8_0.gguf", "mmproj-m-F16.gguf", "mmproj-m-F32.gguf")
    with pytest.raises(OptionError, match=r"mmproj-m-F16\.gguf, mmproj-m-F32\.gguf.*--mmproj"):
        find_pair(tmp_path / "m-Q8_0.gguf")


def test_the_folder_above_is_looked_at_next(tmp_path: Path) -> None:
    touch(tmp_path, "q8/m.gguf", "mmproj-m.gguf")
    assert find_pair(tmp_path / "q8" / "m.gguf")[1] == tmp_path / "mmproj-m.gguf"


def test_the_folder_above_is_above_whatever_the_path_is_written_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "q8/m.gguf", "q8/deep/other.txt", "mmproj-m.gguf")
    for folder, model in (("q8", "m.gguf"), ("q8/deep", "../m.gguf"), (".", "q8/m.gguf")):
        monkeypatch.chdir(tmp_path / folder)
        assert find_pair(Path(model))[1].resolve() == tmp_path / "mmproj-m.gguf"


def test_a_name_too_long_for_the_system_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="too long"):
        find_pair(tmp_path / ("a" * 300))


def test_a_folder_stands_for_the_pair_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj-m.gguf", "vocoder-m.gguf")
    assert [path.name for path in find_pair(tmp_path)] == ["m-00001-of-00002.gguf", "mmproj-m.gguf"]
    touch(tmp_path, "other.gguf")
    with pytest.raises(OptionError, match=r"2 text models.*give one of them"):
        find_pair(tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "m.gguf")
    with pytest.raises(ModelFileError, match=r"beside m\.gguf.*--mmproj"):
        find_pair(tmp_path / "m.gguf")
    with pytest.raises(ModelFileError, match=r"nowhere\.gguf: no such file"):
        find_pair(tmp_path / "nowhere.gguf")
    with pytest.raises(ModelFileError, match=r"gone\.gguf: no such file"):
        find_pair(tmp_path / "m.gguf", tmp_path / "gone.gguf")
    with pytest.raises(OptionError, match="holds no text model"):
        find_pair(touch(tmp_path / "empty", "mmproj-x.gguf"))


@pytest.mark.parametrize(
    "name", ["base", "tiny.en", "large", "large-v3", "large-v3-turbo", "turbo", "distil-large-v3.5"]
)
def test_a_name_of_whispers_is_told_with_where_ours_are(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=f"{name}: that is a model of whisper, .*; eardrop models lists"):
        find_text(name)
    touch(tmp_path, f"{name}/a.gguf")
    assert find_text(name) == Path(name, "a.gguf")


@pytest.mark.parametrize("name", ["bases", "base.gguf", "my-large", "small/"])
def test_other_names_that_are_missing_are_paths(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file or folder; check the path"):
        find_text(tmp_path / name)
