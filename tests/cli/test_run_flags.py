from pathlib import Path

import pytest

from eardrop.cli.flags import Parser
from eardrop.cli.main import main
from eardrop.cli.run_flags import LLAMA_FLAGS, MOST_PROMPT, OWN_FLAGS, Honoured, Ignored, Refused, add_flags, unescaped
from eardrop.errors import OptionError

KINDS = {kind: [flag for flag in LLAMA_FLAGS if isinstance(flag, kind)] for kind in (Honoured, Ignored, Refused)}

# What spec §8.1 lists of llama-mtmd-cli, by what becomes of it here.
HONOURED = (
    "-m --model -mm --mmproj --audio -p --prompt --no-escape -f --file -sys --system-prompt -n --predict --n-predict -c"
    " --ctx-size -t --threads --temp --temperature --top-k --top-p --min-p -s --seed -v -lv --log-disable -ctk -ctv"
    " -hf --hf-repo --offline"
)
IGNORED = "-b --batch-size -ub --ubatch-size -tb --jinja --no-jinja -ngl --no-mmproj-offload -fa --no-warmup"
REFUSED = "-hff --hf-token --no-mmproj --image --video --repeat-penalty --chat-template -mmdev --log-file --grammar"


def parse(*words):
    parser = Parser("run", "", "", "")
    add_flags(parser)
    return parser.parse(words)


def kind_of(name):
    return next(type(flag) for flag in LLAMA_FLAGS if name in flag.names)


@pytest.mark.parametrize(("names", "kind"), [(HONOURED, Honoured), (IGNORED, Ignored), (REFUSED, Refused)])
def test_the_flags_that_matter_are_in_the_table(names, kind):
    assert {name: kind_of(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


def test_no_name_stands_twice():
    names = [name for flag in (*LLAMA_FLAGS, *OWN_FLAGS) for name in flag.names]
    assert len(names) == len(set(names))


def test_what_is_given_without_flags():
    wishes = parse()
    assert (wishes.prompt, wishes.system, wishes.audio, wishes.predict, wishes.context) == (None, None, [], -1, 0)
    assert (wishes.temperature, wishes.top_k, wishes.top_p, wishes.min_p, wishes.seed) == (None, 40, 0.95, 0.05, -1)
    assert (wishes.escape, wishes.level, wishes.keys, wishes.values, wishes.ignored) == (True, 3, None, None, [])
    assert (wishes.llama_compat, wishes.parse_special, wishes.backend) == (False, False, "auto")


@pytest.mark.parametrize("flag", KINDS[Ignored], ids=lambda flag: flag.names[0])
def test_flags_without_effect_are_taken_with_their_values(flag):
    for name in flag.names:
        wishes = parse(*([name, "1"] if flag.value else [name]), "-p", "x")
        assert (wishes.ignored, wishes.prompt) == ([name], "x")


@pytest.mark.parametrize("flag", KINDS[Refused], ids=lambda flag: flag.names[0])
def test_refused_flags_say_why(flag):
    for name in flag.names:
        with pytest.raises(OptionError, match=f"^{name} something is refused: ") as raised:
            parse(name, "something")
        assert flag.help in str(raised.value)
    if flag.but:
        parse(flag.names[0], flag.but)


def test_a_refused_flag_is_one_line_and_exit_code_2(capsys):
    assert main(["run", "-hff", "LFM2-Audio-1.5B-F16.gguf"]) == 2
    err = capsys.readouterr().err
    assert err == "eardrop: -hff LFM2-Audio-1.5B-F16.gguf is refused: name the weight type, as -hf USER/REPO:Q4_0\n"


def test_harmless_values_of_refused_flags_are_compared_as_numbers():
    parse("--repeat-penalty", "1", "--xtc-probability", "0.00", "--chat-template", "chatml")
    with pytest.raises(OptionError, match="refused"):
        parse("--repeat-penalty", "1.1")


def test_recordings_are_listed_with_commas_and_repeated():
    assert parse("--audio", "a.wav,b c.wav", "--audio", '"d,e.wav"').audio == ["a.wav", "b c.wav", "d,e.wav"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"a\nb\tc", "a\nb\tc"),
        (r"\"\'\\n", "\"'\\n"),
        (r"\x41\xc3\xa9\x0", "Aé\\x0"),
        (r"\q\ \xzz\x", r"\q\ \xzz\x"),
        ("ends with \\", "ends with \\"),
        ("é ☃", "é ☃"),
    ],
)
def test_escapes_are_llama_cpps(written, meant):
    assert unescaped(written) == meant


def test_escapes_that_make_no_text_are_refused():
    with pytest.raises(OptionError, match="expected UTF-8, found the byte 0xff at 1"):
        unescaped(r"a\xff")


def test_a_prompt_may_come_from_a_file(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"two\nlines\n\n")
    assert parse("-f", str(file)).prompt == "two\nlines\n"
    assert parse("-f", str(file), "-p", "last wins").prompt == "last wins"


def test_a_prompt_without_an_end_is_refused(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("ä" * MOST_PROMPT)
    assert len(parse("-f", str(file)).prompt) == MOST_PROMPT
    file.write_text("ä" * (MOST_PROMPT + 1))
    with pytest.raises(OptionError, match=r"prompt\.txt: expected at most 1,048,576 characters"):
        parse("-f", str(file))
    if Path("/dev/zero").exists():
        with pytest.raises(OptionError, match="/dev/zero: expected at most"):
            parse("-f", "/dev/zero")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-f", "no such file"], "no such file: No such file"),
        (["-n", "many"], "^-n: expected a whole number, found 'many'"),
        (["--n_predict=many"], "^--n_predict: expected a whole number, found 'many'"),
        (["--temp", "nan"], "^--temp: expected a number, found 'nan'"),
        (["--temp", "warm"], "expected a number, found 'warm'"),
        (["-ctk", "q8_0"], "kept as f32 or f16, not as q8_0"),
        (["-m"], "expected one argument"),
    ],
)
def test_values_that_make_no_sense_are_told(words, message):
    with pytest.raises(OptionError, match=message):
        parse(*words)


def test_a_recording_s_name_may_hold_a_line_break_in_quotes():
    assert parse("--audio", '"a\nb.wav",c.wav').audio == ["a\nb.wav", "c.wav"]
    with pytest.raises(OptionError, match="line break is put in double quotes"):
        parse("--audio", "a\nb.wav")
