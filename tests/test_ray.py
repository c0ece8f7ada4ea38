"""A corpus on a Ray cluster of several node processes. `make test-ray` installs what it needs."""

import json
import re
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eardrop
from eardrop.cli.main import main
from eardrop.errors import AudioError, ModelFileError, OptionError
from tests.examples import BUNDLED, EXAMPLES

pytest.importorskip("ray", reason="Ray is not installed: `make test-ray` installs it")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

import pyarrow as pa  # noqa: E402
import ray  # noqa: E402
from pyarrow import parquet  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from eardrop.ray import HEARD, Transcribe, _room, _share, recordings, transcribe_corpus  # noqa: E402

ROUNDS = 3  # copies of each example
ROOT = Path(__file__).parent.parent
SECONDS = 240  # most that anything is waited for
AGENTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def ports() -> dict[str, int]:
    """Free ones, told beforehand: a node waits 30 seconds to be told by processes that a busy machine starts slowly."""
    sockets = [socket.socket() for _ in AGENTS]
    for one in sockets:
        one.bind(("", 0))
    found = {name: one.getsockname()[1] for name, one in zip(AGENTS, sockets, strict=True)}
    for one in sockets:
        one.close()
    return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that computes nothing, and two nodes with a processor each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **ports()})
    for _ in range(2):
        made.add_node(num_cpus=1, **ports())
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Copies of the examples, and a file that is none; as many as several files of the output hold."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(ROUNDS):
        for audio, _ in EXAMPLES:
            shutil.copy(audio, folder / f"{audio.stem}-{number}{audio.suffix}")
    (folder / "broken.flac").write_bytes(b"fLaC" + bytes(60))
    return folder


def transcribe(source: Path, output: Path, *more: str) -> int:
    return main(["ray", str(source), "-o", str(output), "-m", str(BUNDLED), *more])


def rows(output: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(output.glob("*.parquet")) for row in parquet.read_table(file).to_pylist()]


def single(paths: list[Path]) -> dict[str, str]:
    with eardrop.load(BUNDLED, threads=1) as asr:
        return {str(path): asr.transcribe(path).text for path in paths}


def listening(node: Any) -> bool:
    """Whether a recogniser runs on a node: Ray writes what a process does into its name."""
    (raylet,) = node.all_processes["raylet"]
    children = Path(f"/proc/{raylet.process.pid}/task/{raylet.process.pid}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline") for child in children]
    return any(b"MapWorker" in name.read_bytes() for name in names if name.exists())


def kill_a_node_midway(cluster: Cluster, output: Path, killed: list[int]) -> None:
    """Once something is written, a node that has a recogniser is gone."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if written := len(list(output.glob("*.parquet"))):
            for node in list(cluster.worker_nodes):
                if listening(node):
                    cluster.remove_node(node, allow_graceful=False)
                    killed.append(written)
                    return
        time.sleep(0.05)


def test_a_lost_node_costs_no_recording_and_doubles_none_and_the_same_command_goes_on(
    cluster: Cluster, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, killed = tmp_path / "texts", list[int]()
    murderer = threading.Thread(target=kill_a_node_midway, args=(cluster, output, killed))
    murderer.start()
    assert transcribe(corpus, output) == AudioError.exit_code
    murderer.join()
    written = rows(output)
    (before,) = killed
    assert before < len(list(output.glob("*.parquet")))  # the node went midway
    assert sorted(row["path"] for row in written) == sorted(str(path) for path in corpus.iterdir())
    by_path = {row["path"]: row for row in written}
    broken = by_path.pop(str(corpus / "broken.flac"))
    assert broken["error"].startswith("broken.flac")
    assert broken["text"] is None
    assert {path: row["text"] for path, row in by_path.items()} == single([Path(path) for path in by_path])
    assert all(row["error"] is None and row["coverage"] > 0.9 for row in by_path.values())
    assert not list(output.glob(".*"))

    kept = set(output.iterdir())
    table = tmp_path / "more.csv"
    shutil.copy(EXAMPLES[0][0], tmp_path / "new.flac")
    table.write_text(f"id,file\n1,new.flac\n2,{corpus / 'broken.flac'}\n")
    assert transcribe(table, output, "--column", "file", "--words") == AudioError.exit_code
    (new,) = set(output.iterdir()) - kept
    (row,) = parquet.read_table(new).to_pylist()
    assert row["path"] == str(tmp_path / "new.flac")
    assert eardrop.Result.from_json(row["json"]).segments[0].words
    assert f"{len(written) + 1} recordings, 1 of them with an error" in capsys.readouterr().err


COMMANDS = re.findall(r"^    (eardrop ray .+)$", (ROOT / "docs/guides/cluster.md").read_text(encoding="utf-8"), re.M)


def test_the_commands_of_the_guide_run(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With folders of their own, the model that ships, and one recording."""
    shutil.copytree(BUNDLED, tmp_path / "models")
    for folder in ("recordings", "examples"):
        (tmp_path / folder).mkdir()
        shutil.copy(EXAMPLES[0][0], tmp_path / folder)
    (tmp_path / "calls.csv").write_text(f"file\nrecordings/{EXAMPLES[0][0].name}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eardrop.cli.ray.standing", lambda: (str(BUNDLED), "a test"))
    for command in COMMANDS:
        assert main(shlex.split(command.replace("/shared/", f"{tmp_path}/"))[1:]) == 0
    assert [row["text"] for row in rows(tmp_path / "texts")] == [EXAMPLES[0][1]] * 2


def test_what_concerns_all_is_one_line(
    cluster: Cluster, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ray", str(corpus), "-o", str(tmp_path / "texts"), "-m", "/no/model"]) == ModelFileError.exit_code
    assert "eardrop: /no/model" in capsys.readouterr().err
    assert transcribe(corpus, tmp_path / "texts", "--gpus", "1") == OptionError.exit_code
    assert "no node of the cluster has 1 CPU and 1 GPU" in capsys.readouterr().err


def test_a_batch_of_bytes_keeps_its_other_columns_and_a_recording_that_fails_is_a_row() -> None:
    audio, text = EXAMPLES[0]
    batch = {"bytes": [audio.read_bytes(), b"nothing", None], "path": ["a", "b", "c"], "id": [1, 2, 3]}
    heard = Transcribe(BUNDLED, threads=1, column="bytes")(batch)
    assert heard.column_names == ["path", "id", *HEARD.names]
    assert heard["id"].to_pylist() == [1, 2, 3]
    first, second, third = heard.to_pylist()
    assert (first["text"], first["error"]) == (text, None)
    assert eardrop.Result.from_json(first["json"]).text == text
    assert [row["text"] for row in (second, third)] == [None, None]
    assert all(row["error"] for row in (second, third))


def test_columns_that_would_be_overwritten_are_refused() -> None:
    ears = Transcribe(BUNDLED, threads=1)
    with pytest.raises(OptionError, match="rename text"):
        ears(pa.table({"path": ["a"], "text": ["what was said"]}))
    with pytest.raises(OptionError, match="no column 'path'"):
        ears(pa.table({"file": ["a"]}))


def test_tables_of_all_kinds_name_recordings_beside_them(tmp_path: Path) -> None:
    names = ["007", "b.wav", "/c.wav", "b.wav"]
    (tmp_path / "a.csv").write_text("\n".join(["path", *names]))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"path": name, "other": [1]}) for name in names))
    parquet.write_table(pa.table({"path": names}), tmp_path / "a.parquet")
    expected = [str(tmp_path / "007"), str(tmp_path / "b.wav"), "/c.wav"]
    assert [recordings(tmp_path / f"a{suffix}") for suffix in (".csv", ".jsonl", ".parquet")] == [expected] * 3


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", "path\na.wav\n", "expected a folder or a table"),
        ("a.csv", "file\na.wav\n", "column 'path'"),
        ("a.jsonl", '{"file": "a.wav"}', "column 'path'"),
        ("a.jsonl", "a.wav", "can't be read as a table"),
        ("a.parquet", "path", "can't be read as a table"),
        ("a.csv", "path,id\na.wav,1\n,2\n", "row 2 has no path"),
        ("a.csv", "path\n", "no recording"),
    ],
)
def test_a_bad_table_is_told_with_its_name(name: str, content: str, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(OptionError, match=why) as told:
        recordings(tmp_path / name)
    assert name in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("wish", [{"threads": 0}, {"gpus": -1}, {"recognizers": 0}])
def test_what_a_recogniser_can_not_have_is_refused(wish: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=rf"{next(iter(wish))} is .*, expected at least"):
        transcribe_corpus(["a.wav"], tmp_path / "texts", **wish)
    assert not list(tmp_path.iterdir())


def test_a_recogniser_takes_the_smallest_node_or_its_share_for_each_gpu() -> None:
    head, small, large = {"memory": 1.0}, {"CPU": 8.0}, {"CPU": 32.0, "GPU": 2.0}
    assert _share([head, small, large], 0) == 8
    assert _room([head, small, large], {"CPU": 8, "GPU": 0}) == 5
    assert _share([head, small, large], 0.5) == 8
    assert _room([head, small, large], {"CPU": 8, "GPU": 0.5}) == 4
    with pytest.raises(OptionError, match="no node of the cluster has 64 CPU"):
        _room([head, small, large], {"CPU": 64})
