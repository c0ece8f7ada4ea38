"""Downloads, from a server on this machine that speaks the hub's protocol."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from eardrop.errors import EardropError, FetchError, OptionError
from eardrop.hub import HubName, ask, cached, every, fetch, remove, take
from tests.hub.fake_hub import COMMIT, Hub, Repository, serving

REPO = "LiquidAI/LFM2.5-Audio-1.5B-GGUF"
TEXT, PROJECTOR = b"the text model " * 9, b"its projector " * 7
FILES = {
    "README.md": b"# Model",
    "LFM2.5-Audio-1.5B-Q4_0.gguf": TEXT,
    "mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf": PROJECTOR,
    "LFM2.5-Audio-1.5B-F16.gguf": b"F16 " + TEXT,
    "mmproj-LFM2.5-Audio-1.5B-F16.gguf": b"F16 " + PROJECTOR,
    "vocoder-LFM2.5-Audio-1.5B-Q4_0.gguf": b"it speaks, and isn't needed",
}
NAME = HubName(REPO, "Q4_0")


@pytest.fixture
def published(hub: Hub) -> Hub:
    hub.repositories[REPO] = Repository(FILES)
    return hub


def contents(files) -> tuple[bytes, bytes]:
    return files.text.read_bytes(), files.projector.read_bytes()


def said(name: HubName, kind: type[EardropError] = FetchError) -> str:
    with pytest.raises(kind) as raised:
        fetch(name)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_pair_is_fetched_and_nothing_else(published):
    assert cached(NAME) is None
    assert contents(fetch(NAME)) == (TEXT, PROJECTOR)
    taken = [path for method, path, _ in published.asked if "/resolve/" in path]
    assert [path.rpartition("/")[2] for path in taken] == [
        "mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf",
        "LFM2.5-Audio-1.5B-Q4_0.gguf",
    ]
    assert all(f"/resolve/{COMMIT}/" in path for path in taken)  # what was chosen, though the branch may move


def test_what_is_in_the_cache_is_found_without_the_network(published):
    fetch(NAME)
    published.asked.clear()
    for revision in ("main", COMMIT, COMMIT[:7]):
        assert contents(cached(HubName(REPO, "Q4_0", revision))) == (TEXT, PROJECTOR)
    assert contents(cached(HubName(REPO))) == (TEXT, PROJECTOR)
    assert cached(HubName(REPO, "F16")) is None
    assert cached(HubName(REPO, "Q4_0", "other")) is None
    assert published.asked == []


def test_nothing_is_taken_twice(published):
    fetch(NAME)
    assert ask(NAME).missing() == []
    fetch(NAME)
    assert len(published.downloads()) == 2


def test_a_newer_revision_brings_what_changed(published):
    fetch(NAME)
    files = {**FILES, "LFM2.5-Audio-1.5B-Q4_0.gguf": b"a better text model"}
    published.repositories[REPO] = Repository(files, commit="d" * 40)
    assert contents(cached(NAME)) == (TEXT, PROJECTOR)  # nobody asked
    assert contents(fetch(NAME)) == (b"a better text model", PROJECTOR)
    assert contents(cached(NAME)) == (b"a better text model", PROJECTOR)
    assert contents(cached(HubName(REPO, "Q4_0", COMMIT))) == (TEXT, PROJECTOR)
    assert len(published.downloads()) == 3


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(published, elsewhere):
    with serving(Hub(published.repositories)) as store:
        sending = store if elsewhere else published
        published.elsewhere = store.address if elsewhere else ""
        sending.breaks = [10, 0, 20]
        assert contents(fetch(NAME)) == (TEXT, PROJECTOR)
        assert sending.downloads() == ["", "bytes=10-", "bytes=10-", "bytes=30-", ""]


def test_a_download_that_was_given_up_goes_on_the_next_time(published):
    published.breaks = [10, 0, 0, 0]
    assert "what came is kept" in said(NAME)
    assert cached(NAME) is None
    published.breaks.clear()
    assert contents(fetch(NAME)) == (TEXT, PROJECTOR)
    assert published.downloads()[-2:] == ["bytes=10-", ""]


def test_a_server_without_ranges_sends_it_all_again(published):
    published.breaks, published.ignores_ranges = [10], True
    assert contents(fetch(NAME)) == (TEXT, PROJECTOR)


def test_a_text_model_without_its_projector_is_not_there_yet(published):
    published.breaks = [1000, 10, 0, 0, 0]  # the projector comes, the text doesn't
    said(NAME)
    assert cached(NAME) is None


def test_a_server_that_is_busy_is_asked_again(published):
    published.statuses = [503, 429]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eardrop.hub.download.PAUSES", (0.0, 0.0, 0.0))
        assert contents(fetch(NAME)) == (TEXT, PROJECTOR)


def test_progress_is_told_in_bytes_from_what_is_here_already(published):
    total, told = len(TEXT) + len(PROJECTOR), []
    published.breaks = [10, 0, 0, 0]
    said(NAME)
    take(ask(NAME), told.append)
    assert told[0] == 0
    assert told == sorted(told)
    assert told[-1] == total
    take(ask(NAME), told.append)
    assert told[-1] == total


def test_bytes_with_another_checksum_are_thrown_away(published):
    published.damaged = True
    assert "another checksum" in said(NAME)
    assert cached(NAME) is None
    published.damaged = False
    assert contents(fetch(NAME)) == (TEXT, PROJECTOR)
    assert published.downloads()[-2:] == ["", ""]


def test_small_files_are_checked_by_git_s_checksum(hub):
    hub.repositories["u/r"] = Repository({"m-F16.gguf": b"text", "mmproj-m-F16.gguf": b"ears"})
    hub.damaged = True
    assert "another checksum" in said(HubName("u/r"))
    hub.damaged = False
    assert contents(fetch(HubName("u/r"))) == (b"text", b"ears")


def test_the_token_is_sent_to_the_hub_and_to_nobody_else(published, monkeypatch):
    published.repositories[REPO] = Repository(FILES, token="secret")
    assert f"no repository {REPO}, or it is private" in said(NAME)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "refused us" in said(NAME)
    monkeypatch.setenv("HF_TOKEN", "secret")
    with serving(Hub({REPO: Repository(FILES)})) as store:
        published.elsewhere = store.address
        assert contents(fetch(NAME)) == (TEXT, PROJECTOR)
        assert {headers.get("authorization") for *_, headers in store.asked} == {None}
    assert published.asked[-1][2]["authorization"] == "Bearer secret"


def test_nothing_is_told_to_the_hub_but_what_is_wanted(published, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    fetch(NAME)
    assert all("/resolve/" in path or f"/api/models/{REPO}/revision/main" == path for _, path, _ in published.asked)
    assert {headers["user-agent"].partition("/")[0] for *_, headers in published.asked} == {"eardrop"}


def test_a_gated_repository_says_how_it_is_opened(published):
    published.repositories[REPO] = Repository(FILES, token="secret", gated=True)
    assert said(NAME) == f"{REPO} is gated: accept its terms at {published.address}/{REPO}, then set HF_TOKEN"


def test_what_is_not_there_is_said(published):
    host = published.address.removeprefix("http://")
    assert said(HubName("nobody/nothing")).startswith(f"{host} has no repository nobody/nothing")
    assert "has no revision v9" in said(HubName(REPO, "", "v9"))
    assert "no text model of type Q5_0; there are F16, Q4_0" in said(HubName(REPO, "Q5_0"), OptionError)
    published.repositories[REPO] = Repository({"m-F16.gguf": TEXT})
    assert "no projector" in said(HubName(REPO), OptionError)


def test_a_hub_that_can_not_be_reached_is_said(published, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "127.0.0.1:9 can't be reached" in said(NAME)


def test_offline_means_offline(published, monkeypatch):
    fetch(NAME)
    published.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "can't be fetched while HF_HUB_OFFLINE is set" in said(HubName(REPO, "F16"))
    assert contents(cached(NAME)) == (TEXT, PROJECTOR)
    assert published.asked == []


@pytest.mark.parametrize(
    "told", [b"<html>log in</html>", b"[]", b"{}", b'{"sha": "../..", "siblings": []}', b'{"sha": 1, "siblings": [1]}']
)
def test_an_address_that_is_no_hub_is_said(published, monkeypatch, told):
    monkeypatch.setattr("tests.hub.fake_hub._Handler._listing", lambda self, *words: self._answer(told, {}))
    assert "is HF_ENDPOINT a hub?" in said(NAME)


def test_a_full_disk_is_said_before_it_is_full(published, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 100))
    assert "make room, or name another folder with HF_HOME" in said(NAME)
    assert published.downloads() == []


def test_a_disk_that_fills_up_is_said(published, monkeypatch):
    def full(*words, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eardrop.hub.download._pour", full)
    assert "the disk is full" in said(NAME)


def test_a_cache_that_can_not_be_written_is_said(published, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    assert "the cache can't be written" in said(NAME)


@pytest.mark.parametrize("links", [True, False])
def test_the_cache_is_the_one_that_others_read(published, monkeypatch, links):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    files = fetch(NAME)
    assert files.text.is_symlink() == links
    theirs = huggingface_hub.hf_hub_download(REPO, files.text.name, local_files_only=True)
    assert Path(theirs) == files.text
    scan = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE)
    assert not scan.warnings
    assert [(repo.repo_id, repo.nb_files) for repo in scan.repos] == [(REPO, 2)]


def test_what_others_fetched_is_found(published):
    for file in ("mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf", "LFM2.5-Audio-1.5B-Q4_0.gguf"):
        huggingface_hub.hf_hub_download(REPO, file)
    assert contents(cached(NAME)) == (TEXT, PROJECTOR)
    assert ask(NAME).missing() == []


def test_the_cache_lists_its_pairs(published):
    fetch(NAME)
    fetch(HubName(REPO, "F16"))
    published.repositories[REPO] = Repository(FILES, commit="d" * 40)
    fetch(NAME)
    found = {str(model.name): (model.commit, model.bytes) for model in every()}
    assert found == {
        f"{REPO}@{COMMIT[:10]}:F16": (COMMIT, len(TEXT) + len(PROJECTOR) + 8),
        f"{REPO}@{COMMIT[:10]}:Q4_0": (COMMIT, len(TEXT) + len(PROJECTOR)),
        f"{REPO}:Q4_0": ("d" * 40, len(TEXT) + len(PROJECTOR)),
    }


def test_removing_a_type_leaves_the_others_whole(published):
    both = FILES | {"LFM2.5-Audio-1.5B-Q5_0.gguf": b"Q5 " + TEXT}  # hears with the projector of F16
    published.repositories[REPO] = Repository(both)
    for weights in ("Q4_0", "F16", "Q5_0"):
        fetch(HubName(REPO, weights))
    assert remove(NAME) == len(TEXT) + len(PROJECTOR)
    assert cached(NAME) is None
    assert remove(HubName(REPO, "F16")) == len(TEXT) + 4
    assert contents(cached(HubName(REPO, "Q5_0"))) == (b"Q5 " + TEXT, b"F16 " + PROJECTOR)


def test_removing_a_repository_leaves_nothing(published):
    fetch(NAME)
    published.breaks = [10, 0, 0, 0]
    said(HubName(REPO, "F16"))
    assert remove(HubName(REPO)) == len(TEXT) + len(PROJECTOR) + 10
    assert not list(Path(constants.HF_HUB_CACHE).glob("models--*"))
    with pytest.raises(OptionError, match="isn't in the cache"):
        remove(HubName(REPO))


def test_removing_keeps_what_is_no_model(published):
    fetch(NAME)
    readme = huggingface_hub.hf_hub_download(REPO, "README.md")
    remove(HubName(REPO))
    assert Path(readme).read_bytes() == b"# Model"


CHILD = "import sys; from eardrop.hub import fetch, require_name; print(fetch(require_name(sys.argv[1])).text)"


def child(hub: Hub, home: Path, **more: str) -> subprocess.Popen[str]:
    """A process that knows of the hub by the variables that its users set."""
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **more}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(NAME)], env=kept | settings, text=True, stdout=-1, stderr=-1
    )


def test_the_hub_s_own_variables_are_honoured(published, tmp_path):
    published.repositories[REPO] = Repository(FILES, token="secret")
    offline = child(published, tmp_path / "home", HF_TOKEN="secret", HF_HUB_OFFLINE="1")
    online = child(published, tmp_path / "home", HF_TOKEN="secret")
    out, err = online.communicate(timeout=60)
    assert (online.returncode, err) == (0, "")
    assert Path(out.strip()).is_relative_to(tmp_path / "home" / "hub")
    assert "HF_HUB_OFFLINE is set" in offline.communicate(timeout=60)[1]


def test_a_process_that_was_killed_leaves_what_it_had(published, tmp_path):
    big = os.urandom(3 << 20)
    published.repositories[REPO] = Repository({**FILES, "mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf": big})
    published.breaks = [2 << 20, *[0] * 99]
    killed = child(published, tmp_path / "home")
    for _ in range(1000):
        if len(published.downloads()) > 2:
            break
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    published.breaks.clear()
    published.asked.clear()
    resumed = child(published, tmp_path / "home")
    assert resumed.communicate(timeout=60)[1] == ""
    assert published.downloads() == [f"bytes={2 << 20}-", ""]
