import dataclasses

import pytest

from eardrop.cli.flags import Parser, add_model, add_options, given
from eardrop.cli.main import main
from eardrop.cli.transcribe import _parser
from eardrop.errors import OptionError
from eardrop.transcribe import Options
from tests.pairs import pair


def parser():
    made = Parser("do", "Do it.", "  eardrop do it\n", "[options]")
    made.add_argument("-p", "--prompt")
    made.add_argument("-sys", "--system-prompt")
    made.add_argument("-n", "--max-new", type=int)
    made.add_argument("--no-warmup", action="store_true")
    made.add_argument("files", nargs="*")
    return made


@pytest.mark.parametrize("spelling", [["--max-new", "3"], ["--max_new", "3"], ["--max_new=3"], ["-n", "3"]])
def test_hyphens_and_underscores_are_the_same(spelling):
    assert parser().parse(spelling).max_new == 3


def test_underscores_in_values_stay():
    wishes = parser().parse(["--system_prompt", "a_b", "--prompt=c_d", "--no_warmup", "e_f"])
    assert (wishes.system_prompt, wishes.prompt, wishes.no_warmup, wishes.files) == ("a_b", "c_d", True, ["e_f"])


@pytest.mark.parametrize("text", ["-5 degrees", "-", "-1", "a=b", "", "--- x"])
def test_a_value_may_begin_with_a_hyphen(text):
    assert parser().parse(["-p", text]).prompt == text


def test_a_value_is_not_taken_from_the_next_flag():
    with pytest.raises(OptionError, match=r"^-p: expected one argument"):
        parser().parse(["-p", "--no-warmup"])


def test_behind_two_hyphens_are_names():
    assert parser().parse(["--", "--no_warmup", "-p"]).files == ["--no_warmup", "-p"]


def test_an_unknown_flag_is_told_with_the_nearest():
    with pytest.raises(OptionError, match=r"no option is called '--no-warm-up', did you mean --no-warmup\?.*do --help"):
        parser().parse(["--no-warm-up"])


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("0", 0), ("1500", 1500), ("512M", 512 << 20), ("1.5G", 3 << 29), ("2GiB", 2 << 30), ("4kb", 4096)],
)
def test_sizes_of_memory_have_units(text, bytes_):
    made = parser()
    add_model(made)
    assert made.parse(["--gpu-memory", text]).gpu_memory == bytes_


@pytest.mark.parametrize("text", ["", "G", "-1", "2T", "half", "1e9"])
def test_what_is_no_size_is_told(text):
    made = parser()
    add_model(made)
    with pytest.raises(OptionError, match=r"--gpu-memory: expected a size as 512M or 1\.5G, found"):
        made.parse(["--gpu-memory", text])


def test_memory_of_a_gpu_is_refused_where_there_is_none(capsys):
    model, projector = map(str, pair())
    wishes = ["-m", model, "--mmproj", projector, "--backend", "cpu", "--gpu-memory", "2G"]
    assert main(["transcribe", *wishes, "examples/command.flac"]) == 2
    assert "--gpu-memory is of a GPU, and backend 'cpu' has none" in capsys.readouterr().err


def test_abbreviations_are_not_taken():
    with pytest.raises(OptionError, match="no option is called '--max'"):
        parser().parse(["--max", "3"])


def test_the_flags_of_transcribe_are_the_options_of_the_recognizer():
    parser = _parser()
    for field in dataclasses.fields(Options):
        action = parser._option_string_actions[f"--{field.name.replace('_', '-')}"]
        assert action.help == field.metadata["help"]
        assert action.dest == field.name
    assert given(parser.parse(["talk.wav"]), Options) == {}
    asked = parser.parse(["talk.wav", "--max_tokens", "7", "--max-seconds", "1.5", "--track", "1"])
    assert given(asked, Options) == {"max_tokens": 7, "max_seconds": 1.5, "track": 1}


def test_a_wish_of_yes_or_no_becomes_two_flags():
    @dataclasses.dataclass
    class Wishes:
        words: bool = dataclasses.field(default=False, metadata={"help": "times of words"})
        name: str | None = dataclasses.field(default=None, metadata={"help": "a name"})

    made = Parser("do", "Do it.", "", "")
    add_options(made, Wishes)
    assert given(made.parse(["--words", "--name", "x"]), Wishes) == {"words": True, "name": "x"}
    assert given(made.parse(["--no-words"]), Wishes) == {"words": False}
