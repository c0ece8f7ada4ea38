"""Which model is taken: what was named, else what stands."""

from pathlib import Path

import pytest

from eardrop.errors import FetchError, ModelFileError, OptionError
from eardrop.hub import Files, HubName, fetch, is_bundled, locate, standing, use, use_none
from tests.hub.fake_hub import Hub, Repository

REPO = "some/speech-GGUF"
FILES = {f"{kind}m-{weights}.gguf": b"0123456789" for kind in ("", "mmproj-") for weights in ("F16", "Q4_0")}


@pytest.fixture
def published(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub.repositories[REPO] = Repository(FILES)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("eardrop.hub.resolve.BUNDLED", tmp_path / "data")
    return hub


def pair(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("", "mmproj-"):
        (folder / f"{kind}{name}.gguf").touch()
    return folder / f"{name}.gguf"


@pytest.mark.parametrize("name", [f"{REPO}:Q4_0", HubName(REPO, "Q4_0")])
def test_a_name_is_fetched_once_and_then_taken_from_the_cache(published, name):
    files = locate(name)
    assert (files.text.name, files.projector.name) == ("m-Q4_0.gguf", "mmproj-m-Q4_0.gguf")
    published.asked.clear()
    assert locate(name) == files
    assert published.asked == []


def test_a_projector_of_one_s_own_is_kept(published, tmp_path):
    assert locate(f"{REPO}:Q4_0", tmp_path / "mine.gguf").projector == tmp_path / "mine.gguf"
    assert locate(pair(tmp_path, "x"), "mine.gguf") == Files(tmp_path / "x.gguf", Path("mine.gguf"))


@pytest.mark.parametrize("model", ["some/speech-GGUF", "some/other", "nowhere/m.gguf", "./some/speech-GGUF", "models/"])
def test_what_is_a_path_here_never_asks_the_network(published, model):
    pair(Path("some/speech-GGUF"), "m")
    if Path(model) == Path("some/speech-GGUF"):
        assert locate(model).text == Path("some/speech-GGUF/m.gguf")
    else:
        with pytest.raises(ModelFileError, match="no such file or folder"):
            locate(model)
    assert published.asked == []


def test_a_name_on_the_hub_is_no_folder_here(published):
    pair(Path(REPO), "mine")
    assert locate(HubName(REPO, "F16")).text.name == "m-F16.gguf"


def test_the_variable_stands_before_the_default_and_that_before_what_ships(published, tmp_path, monkeypatch):
    with pytest.raises(OptionError, match=r"no model was given; .*-m.*-hf.*EARDROP_MODEL.*eardrop models use"):
        locate(None)
    shipped = pair(tmp_path / "data", "demo-Q8_0")
    assert locate(None).text == shipped
    assert is_bundled(locate(None).text)
    with pytest.raises(OptionError, match="no model was given"):
        locate(None, bundled=False)
    default = pair(tmp_path, "default")
    use(str(default))
    assert locate(None).text == default
    assert not is_bundled(locate(None).text)
    assert standing() == (str(default), "eardrop models use")
    monkeypatch.setenv("EARDROP_MODEL", str(pair(tmp_path / "b", "b")))
    assert locate(None).text == tmp_path / "b" / "b.gguf"
    assert locate(str(default)).text == default
    monkeypatch.delenv("EARDROP_MODEL")
    use_none()
    assert locate(None).text == shipped
    use_none()


def test_a_default_is_a_name_with_its_type_or_a_whole_path(published, tmp_path):
    fetch(HubName(REPO, "Q4_0"))
    assert use(REPO) == f"{REPO}:Q4_0"
    fetch(HubName(REPO))  # another type, which a name alone would mean from now on
    assert locate(None).text.name == "m-Q4_0.gguf"
    pair(Path("models"), "m")
    assert use("models") == str(tmp_path / "here" / "models")


def test_a_default_is_never_fetched(published, monkeypatch):
    with pytest.raises(FetchError, match=f"`eardrop models fetch {REPO}:F16` brings it"):
        use(f"{REPO}:F16")
    monkeypatch.setenv("EARDROP_MODEL", f"{REPO}:F16")
    with pytest.raises(FetchError, match="isn't in the cache"):
        locate(None)
    assert published.asked == []
    fetch(HubName(REPO, "F16"))
    assert locate(None).text.name == "m-F16.gguf"


def test_a_default_that_is_no_model_is_refused(published, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        use("missing.gguf")
    with pytest.raises(OptionError, match="holds no text model"):
        use(str(tmp_path / "here"))
    assert standing() is None
