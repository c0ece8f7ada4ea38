"""The examples of the documentation run as they stand, and its links lead somewhere."""

import re
import shutil
from pathlib import Path

import pytest

from tests.pairs import DATA, pair

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES, *sorted((ROOT / "docs" / "guides").glob("*.md"))]  # whose examples tests/test_guides.py runs
EXAMPLES = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M))
]


@pytest.fixture
def beside_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, projector = pair()
    (tmp_path / "models").mkdir()
    shutil.copy(text, tmp_path / "models" / "LFM2-Audio-1.5B-F16.gguf")
    shutil.copy(projector, tmp_path / "models" / "mmproj-LFM2-Audio-1.5B-F16.gguf")
    shutil.copy(DATA / "ms100.wav", tmp_path / "talk.mp3")  # what it is, its bytes say
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.usefixtures("beside_a_model")
def test_example_runs(example: str) -> None:
    exec(compile(example, "an example of the documentation", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
