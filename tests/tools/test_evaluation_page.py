import base64
import hashlib
import re

from eardrop.tools.corpus import Heard
from eardrop.tools.evaluate import Run, score
from eardrop.tools.evaluation_page import MOST_SHOWN, page
from tests.pages import Nested

HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e"


def parsed(run):
    return Nested(page(run))


def run(*said, about=None, left_out=None):
    scored = [
        score(name, group, text, Heard(heard, 5.0, 1.0, error), normalizer="none")
        for name, group, text, heard, error in said
    ]
    return Run(about or {"corpus": "c"}, "none", scored, left_out or {})


WHOLE = run(
    ("a.wav", "x", "the quick fox", "the fox jumps", None),
    ("b.wav", "y", "", "thank you", None),
    ("c.wav", "y", "all is well", "all is well", None),
)


def test_a_page_shows_figures_groups_and_mistakes():
    text = parsed(WHOLE).text
    for words in ("66.7 %", "By group", "speech alone", "wrote on silence", "5.0 ×", "thank you", "2 of 3", "a.wav"):
        assert words in text


def test_strangers_words_are_text_and_steer_nothing():
    hostile = run(
        (HOSTILE, HOSTILE, HOSTILE, f"{HOSTILE} more", HOSTILE),
        ("b", "g", "x y", "x", None),
        about={"corpus": HOSTILE, HOSTILE: HOSTILE},
        left_out={HOSTILE: HOSTILE},
    )
    found = parsed(hostile)
    assert "script" not in found.tags
    assert "<script>alert(1)</script>" in found.text
    assert not {"\x1b", "\u202e"} & set(page(hostile))


def test_nothing_is_loaded_or_run():
    document, found = page(WHOLE), parsed(WHOLE)
    assert "http://" not in document
    assert "https://" not in document
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name in ("style", "src", "href")]
    style = re.search(r"<style>(.*?)</style>", document, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = document.split('Policy" content="')[1].split('"')[0]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "url(" not in style
    assert "@import" not in style


def test_odd_runs_have_a_page():
    for odd in (
        run(("a", "", "x", "x", None)),
        run(("a", "", "", "", None)),
        run(("a", "", "", "x", None), ("b", "", "", "", None)),
        run(("a", "g", "x", " ".join("y" * 50), None), ("b", "h", "x", "x", None)),
    ):
        parsed(odd)
    assert "None." in parsed(run(("a", "", "x", "x", None))).text


def test_a_page_stays_small_enough_to_open():
    many = run(*((f"{n}.wav", "", "a b", "a c", None) for n in range(MOST_SHOWN + 7)))
    assert parsed(many).tags.count("details") == MOST_SHOWN
    assert "7 more are not shown" in parsed(many).text
