"""The page: strangers' words are text, nothing is loaded from elsewhere, and it plays."""

import base64
import hashlib
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from eardrop.audio import SAMPLE_RATE, read
from eardrop.errors import AudioError
from eardrop.transcript import Result, Segment, Word, html
from eardrop.transcript.recording import LEVELS, Recording, hear, link_from
from tests.pages import Nested

HOSTILE = "</script><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\u2028\u202e\x1b[31m"
RESULT = Result(
    (
        Segment(
            0.0, 1.0, " Hello there,", speech=1.0, words=(Word(0, 0.4, "Hello", 0.95), Word(0.4, 1, "there,", 0.6))
        ),
        Segment(4.0, 5.0, "friend", logprob=-1.0, speech=1.0, warnings=("cut off",), speaker="left"),
    ),
    source="talk.mp3",
    model="tiny",
    duration=5.0,
    notes=("truncated",),
    skipped=((1.0, 4.0),),
    words_by="attention",
)
SAMPLES = np.concatenate([np.sin(np.arange(SAMPLE_RATE, dtype=np.float32) / 9), np.zeros(4 * SAMPLE_RATE, np.float32)])


def value(page: str, tag: str, name: str) -> str:
    return next(value for found, key, value in Nested(page).attributes if (found, key) == (tag, name))


def test_a_page_has_text_times_warnings_and_what_was_skipped() -> None:
    page = html.write(RESULT, recording=Recording(SAMPLES))
    text = Nested(page).text
    for said in ("talk.mp3", "Hello there,", "friend", "left", "cut off", "truncated", "3.0 s skipped", "0:04", "50 %"):
        assert said in text
    assert '<rect class="skipped" x="200.0" width="600.0"' in page
    assert '<rect class="warned" x="800.0" width="200.0"' in page
    assert '<span class="unit d2" data-start="0.400" data-end="1.000" data-share="60">there,</span>' in page
    assert '<span class="unit d3" data-start="4.000" data-end="5.000" data-share="37">friend</span>' in page
    assert '<span class="unit" data-start="0.000" data-end="0.400" data-share="95">Hello</span>' in page


def test_strangers_words_are_text_and_steer_nothing() -> None:
    words = tuple(Word(0, 1, word) for word in HOSTILE.split())
    segments = (Segment(0, 1, HOSTILE, words=words, warnings=(HOSTILE,), speaker=HOSTILE), Segment(1, 2, HOSTILE))
    page = html.write(
        Result(segments, HOSTILE, HOSTILE, 2.0, HOSTILE, (HOSTILE,), HOSTILE, words_by=HOSTILE),
        recording=Recording(SAMPLES, link=HOSTILE, most_embedded=10),
    )
    found = Nested(page)
    assert found.tags.count("script") == 1
    assert "img" not in found.tags
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name == "style"]
    assert "<script>alert(1)</script>" in found.text
    assert not {"\x1b", "\u202e", "\u2028"} & set(page)


def test_the_policy_allows_our_style_and_script_and_nothing_from_elsewhere() -> None:
    page = html.write(RESULT, recording=Recording(SAMPLES))
    policy = value(page, "meta", "content")
    for name in ("script", "style"):
        inside = re.search(rf"<{name}>(.*?)</{name}>", page, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "media-src data:;" in policy
    assert "unsafe" not in policy
    assert not re.search(
        r"(?:https?:)?//(?!\s)[\w.]+\.\w+/|https?:|@import|url\((?!#)", re.sub(r"base64,\S+", "", page)
    )


def test_the_sound_is_inside_and_is_what_was_recorded() -> None:
    page = html.write(RESULT, recording=Recording(SAMPLES))
    address = value(page, "audio", "src")
    assert address.startswith("data:audio/webm;base64,")
    heard = read(base64.b64decode(address.partition(",")[2]))
    assert abs(len(heard) / SAMPLE_RATE - 5) < 0.03
    assert np.abs(heard[: SAMPLE_RATE // 2]).max() > 0.5
    assert html.write(RESULT, recording=Recording(SAMPLES)) == page


def test_a_long_recording_is_linked_by_its_name_beside_the_page(tmp_path: Path) -> None:
    page = html.write(RESULT, recording=Recording(SAMPLES, link="a%20b.mp3", most_embedded=100))
    assert value(page, "audio", "src") == "a%20b.mp3"
    assert "media-src 'self' file:;" in page
    assert "it plays a%20b.mp3" in page
    assert link_from(tmp_path / "out" / "a.html", tmp_path / "in" / 'é "#?.mp3') == "../in/%C3%A9%20%22%23%3F.mp3"
    assert link_from(Path("a.html"), "javascript:alert(1)") == "javascript%3Aalert%281%29"
    assert link_from(Path("a.html"), "-") is None
    assert link_from(Path("a.html"), b"bytes") is None


def test_without_a_recording_there_are_text_and_times() -> None:
    for recording in (None, Recording(SAMPLES, most_embedded=100)):
        page = html.write(RESULT, recording=recording)
        assert "audio" not in Nested(page).tags
        assert "can’t be heard" in page
        assert "media-src 'none'" in page


def test_nothing_said_in_no_time_is_a_page() -> None:
    for result in (Result((), "a", "m", 0.0), Result((Segment(0, 0, ""),), "a", "m", 0.0)):
        Nested(html.write(result))
        Nested(html.write(result, recording=Recording(np.zeros(1, np.float32))))


def test_levels_are_where_the_sound_is() -> None:
    levels = hear(Recording(SAMPLES), 5.0).levels
    assert levels.shape == (LEVELS,)
    np.testing.assert_allclose(levels[: LEVELS // 5 - 1], 1, atol=0.1)  # 100 samples hold 1.8 periods
    assert not levels[LEVELS // 5 + 1 :].any()
    np.testing.assert_array_equal(hear(Recording(np.ones(3, np.float32)), 3 / SAMPLE_RATE).levels, 1)


def test_a_result_writes_its_page_beside_its_recording(tmp_path: Path) -> None:
    (tmp_path / "no.mp3").write_bytes(b"no sound")
    RESULT.write(tmp_path / "talk.html", audio=SAMPLES)
    assert "data:audio/webm" in (tmp_path / "talk.html").read_text(encoding="utf-8")
    RESULT.write(tmp_path / "talk.html")
    assert "data:audio/webm" not in (tmp_path / "talk.html").read_text(encoding="utf-8")
    RESULT.write(tmp_path / "talk.txt", audio=tmp_path / "no.mp3")  # which only a page reads
    with pytest.raises(AudioError, match=r"no\.mp3"):
        RESULT.write(tmp_path / "talk.html", audio=tmp_path / "no.mp3")


@pytest.mark.skipif(not shutil.which("node"), reason="node checks the script's syntax")
def test_the_script_is_javascript() -> None:
    with resources.as_file(resources.files("eardrop.transcript") / "page" / "page.js") as script:
        subprocess.run(["node", "--check", str(script)], check=True, timeout=60)


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium runs the page")
def test_the_page_comes_alive_in_a_browser(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "talk.html", audio=SAMPLES)
    ran = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=500"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "talk.html").as_uri()),
        ],
        capture_output=True,
        timeout=120,
    )
    page = ran.stdout.decode()
    assert 'role="slider"' in page  # the policy let the script run
    assert '<div class="controls">' in page  # shown
    assert 'aria-valuetext="0:00 of 0:05"' in page
    assert '<span class="unit now"' in page  # the first word
