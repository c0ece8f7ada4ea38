"""Where transcripts go: below the folder, each to its own, and where they went before."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eardrop.errors import OptionError
from eardrop.transcript import output_paths

OUT = Path("out")


def named(sources, formats=("txt",), folder=OUT, **more):
    outputs = output_paths(sources, formats, folder=folder, **more)
    return [path.relative_to(folder).as_posix() for output in outputs.values() for path in output.paths.values()]


def test_a_name_that_is_taken_gets_its_suffix_then_a_number() -> None:
    assert named(["a.mp3", "a.wav", "x/a.wav", "y/a.wav"]) == ["a.txt", "a.wav.txt", "a.wav-2.txt", "a.wav-3.txt"]


def test_all_formats_of_a_recording_are_called_the_same() -> None:
    assert named(["a.mp3", "a.wav"], ["txt", "srt"]) == ["a.txt", "a.srt", "a.wav.txt", "a.wav.srt"]


def test_names_that_some_systems_take_for_one_are_one() -> None:
    assert named(["A.mp3", "a.wav", "e\u0301.mp3", "é.wav"]) == ["A.txt", "a.wav.txt", "e\u0301.txt", "é.wav.txt"]


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    source = str(tmp_path / "talk.json")
    assert named([source], ["json"], tmp_path) == ["talk.json.json"]


def test_templates_have_fields_and_folders() -> None:
    template = "{folder}/{number:03}-{stem}-{suffix}.{format}"
    assert named(["x/a.mp3", "-"], template=template)[0] == "x/001-a-mp3.txt"
    assert named(["a.mp3"], template="{name}") == ["a.mp3.txt"]
    assert named(["a.mp3", "b.mp3"], template="talk") == ["talk.txt", "talk-2.txt"]
    assert named(["-"]) == ["stdin.txt"]


def test_what_was_decided_stands_when_recordings_come_or_go() -> None:
    before = output_paths(["b/a.mp3", "c/a.wav"], ["txt"], folder=OUT, template="{stem}-{number}")
    after = output_paths(["a/a.mp3", "c/a.wav"], ["txt", "srt"], folder=OUT, template="{stem}-{number}", kept=before)
    assert after["c/a.wav"].paths["txt"] == before["c/a.wav"].paths["txt"]
    assert after["c/a.wav"].paths["srt"] == OUT / "a-2.srt"
    assert after["a/a.mp3"].paths["txt"] != before["b/a.mp3"].paths["txt"]  # which isn't here, but was written
    second = {"a.wav": output_paths(["a.mp3", "a.wav"], ["txt"], folder=OUT)["a.wav"]}
    assert output_paths(["a.wav"], ["txt"], folder=OUT, kept=second) == second
    plain = output_paths(["a.wav"], ["txt"], folder=OUT)
    assert output_paths(["a.mp3", "a.wav"], ["txt"], folder=OUT, kept=plain)["a.wav"] == plain["a.wav"]


@pytest.mark.parametrize(
    "template",
    ["../{stem}", "/etc/{stem}", "a/../../{stem}", "C:{stem}", "\\\\host\\x\\{stem}", "..\\{stem}", "", "./", "a\0b"],
)
def test_a_template_that_leaves_the_folder_is_refused(template: str) -> None:
    with pytest.raises(OptionError, match="must name a file in the output folder"):
        named(["a.mp3"], template=template)


@pytest.mark.parametrize(
    "template", ["{stem.__class__}", "{0}", "{}", "{stem!r}", "{stem:9}", "{number:{stem}}", "{x}"]
)
def test_a_template_has_our_fields_alone(template: str) -> None:
    with pytest.raises(OptionError, match=r"the fields are \{stem\}, \{name\}"):
        named(["a.mp3"], template=template)
    with pytest.raises(OptionError, match="stray brace"):
        named(["a.mp3"], template="{stem")


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_link_in_the_folder_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").symlink_to(tmp_path)
    with pytest.raises(OptionError, match="through a link"):
        named(["x/a.mp3"], folder=tmp_path / "out", template="{folder}/{stem}")


def test_a_name_of_dots_is_no_way_up() -> None:
    assert named(["..", "x/a. .mp3"], template="{stem}/x") == ["_/x.txt", "a/x.txt"]


def test_devices_and_long_names_are_files_that_systems_take() -> None:
    assert named(["con.mp3", "NUL.wav", "Com1"]) == ["_con.txt", "_NUL.txt", "_Com1.txt"]
    first, second = named(["é" * 200 + "a.mp3", "é" * 200 + "b.mp3"])
    assert first != second
    assert all(len(name.encode()) <= 255 and name.endswith(".txt") for name in (first, second))


STRANGE = st.text(st.sampled_from("aA./\\\0\n:*\u202eé\udce9{}-"), min_size=1, max_size=12)
TEMPLATES = st.sampled_from(
    ["{stem}", "{folder}/{stem}.{format}", "{stem}/{name}", "{suffix}/{number}", "{name}{suffix}"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STRANGE, min_size=1, max_size=6, unique=True), TEMPLATES)
@example(["..:"], "{stem}")
def test_whatever_recordings_are_called_their_paths_lie_below_and_differ(sources: list[str], template: str) -> None:
    outputs = output_paths(sources, ["txt", "srt"], folder=OUT, template=template)
    paths = [path for output in outputs.values() for path in output.paths.values()]
    assert len({str(path).casefold() for path in paths}) == 2 * len(sources)
    for path in paths:
        inner = path.relative_to(OUT)
        assert not inner.is_absolute()
        assert not {"..", "."} & set(inner.parts)
        assert not set("\0\n\\\u202e") & set(str(inner))
    assert output_paths(sources, ["txt", "srt"], folder=OUT, template=template, kept=outputs) == outputs


def test_a_thousand_of_one_name_take_no_time_to_tell_apart() -> None:
    names = named([f"{n}/a.wav" for n in range(1000)])
    assert len(set(names)) == 1000
