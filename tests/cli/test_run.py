import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import eardrop
from eardrop.audio import read
from eardrop.backends import BACKENDS
from eardrop.bench.pairs import PAIRS, write_pair
from eardrop.cli.main import main
from eardrop.printable import printable
from eardrop.text import Tokenizer
from tests.cli.interrupts import heed_interrupts
from tests.pairs import CACHE, CLIPS, DATA

MARGIN = {"F16": 0.027, "Q8_0": 0.58}  # golden/check.py: below it another token is excused
ASK = ("-n", "30", "--temp", "0", "-sys", "Perform ASR.", "-p", "<__media__>")
GOLDEN = ("ms20", "ms100", "chirp1", "silence1", "speech3", "speech9", "pcm24", "float32")
WHOLE = ("ms20", "ms100")  # no margin of theirs is small


def certain(asr, path, pair):
    """What llama.cpp's record at `path` is sure of: bytes up to the first token whose margin is small."""
    with np.load(path) as recorded:
        sure = recorded["margin"] > MARGIN[PAIRS[pair].text.mix.most.name]
        count = len(sure) if sure.all() else int(np.argmin(sure))
        return b"\n\n" + b"".join(map(asr.model.tokenizer.piece, recorded["greedy"][:count].tolist()))


def check_bytes(out, expected, sure, name):
    assert expected.startswith(sure)
    assert out.startswith(sure)
    assert out.startswith(b"\n\n")
    assert out.endswith(b"\n\n")
    if name in WHOLE:
        assert out == expected


@pytest.mark.parametrize("name", CLIPS)
def test_llama_compat_prints_llama_mtmd_clis_bytes(name, model, asr, clip, capfdbinary):
    assert main(["run", "--llama-compat", "-m", model, "--audio", clip(name), *ASK]) == 0
    check_bytes(
        capfdbinary.readouterr().out,
        (DATA / f"{name}.stdout").read_bytes(),
        certain(asr, DATA / f"{name}.npz", "micro"),
        name,
    )


@pytest.mark.parametrize("name", GOLDEN)
def test_llama_compat_prints_the_recorded_bytes(name, golden, model, asr, capfdbinary):
    (path,) = (golden / "clips").glob(f"{name}.*")
    assert main(["run", "--llama-compat", "-m", model, "--audio", str(path), *ASK]) == 0
    check_bytes(
        capfdbinary.readouterr().out,
        (golden / "expected" / "cli" / f"micro.{name}.stdout").read_bytes(),
        certain(asr, golden / "expected" / "micro" / f"{name}.npz", "micro"),
        name,
    )


def test_an_answer_that_ends_by_itself_has_a_newline_more(golden, clip, capfdbinary):
    text, projector = write_pair("micro-q8_0", CACHE)
    words = ["-m", str(text), "--mmproj", str(projector), "--audio", clip("silence1"), *ASK]
    assert main(["run", "--llama-compat", "--backend", "numpy", *words]) == 0
    expected = (golden / "expected" / "cli" / "micro-q8_0.silence1.stdout").read_bytes()
    assert expected.endswith(b"\n\n\n")
    assert capfdbinary.readouterr().out == expected


@pytest.mark.parametrize("backend", [name for name, choice in BACKENDS.items() if choice.missing() is None])
def test_a_quantised_pair_prints_the_recorded_bytes_up_to_the_first_near_tie(golden, clip, capfdbinary, backend):
    text, projector = write_pair("micro-q8_0", CACHE)
    words = ["-m", str(text), "--mmproj", str(projector), "--audio", clip("silence1"), "--backend", backend, *ASK]
    assert main(["run", "--llama-compat", *words]) == 0
    check_bytes(
        capfdbinary.readouterr().out,
        (golden / "expected" / "cli" / "micro-q8_0.silence1.stdout").read_bytes(),
        certain(eardrop.load(text, projector=projector), golden / "expected/micro-q8_0/silence1.npz", "micro-q8_0"),
        "silence1",
    )


def test_text_is_utf8_with_one_newline_and_no_control_tokens(model, asr, clip, capfdbinary):
    assert main(["run", "-m", model, "--audio", clip("ms20"), "-sys", "Perform ASR.", "-n", "30"]) == 0
    out = capfdbinary.readouterr().out
    tokens = list(asr.generate(system="Perform ASR.", audio=read(clip("ms20")), max_tokens=30))
    kept = b"".join(token.piece for token in tokens if not asr.model.tokenizer.is_control(token.id))
    assert out.decode() == printable(kept.decode("utf-8", "replace"), keep="\n\t") + "\n"


def test_it_says_that_it_is_greedy_unless_it_was_told(model, clip, capsys):
    ask = ["run", "-m", model, "--audio", clip("ms20"), "-n", "1"]
    assert main(ask) == 0
    note = "eardrop: greedy (llama-mtmd-cli draws at 0.2; --temp 0.2 for that)\n"
    assert capsys.readouterr().err.count(note) == 1
    for told in (["--temp", "0"], ["--temp", "0.2"], ["--log-disable"], ["-lv", "2"]):
        main([*ask, *told])
        assert note not in capsys.readouterr().err


def test_log_disable_does_not_silence_the_answer(model, clip, capsys):
    ask = ["run", "-m", model, "--audio", clip("ms20"), "-n", "5"]
    main(ask)
    said = capsys.readouterr().out
    assert len(said) > 2
    main([*ask, "--log-disable"])
    assert capsys.readouterr() == (said, "")


@pytest.mark.parametrize("words", [["-p", ""], ["-p", "<__media__>"], []])
def test_a_recording_without_words_is_asked_about_alone(words, model, clip, capsys):
    main(["run", "-m", model, "--audio", clip("ms20"), "-sys", "Perform ASR.", "-n", "8", "-p", "<__media__>"])
    with_marker = capsys.readouterr().out
    assert main(["run", "-m", model, "--audio", clip("ms20"), "-sys", "Perform ASR.", "-n", "8", *words]) == 0
    assert capsys.readouterr().out == with_marker


def test_text_alone_is_one_turn(model, capsys):
    assert main(["run", "-m", model, "-p", r"one\ntwo", "-n", "3"]) == 0
    put_in = capsys.readouterr().out
    main(["run", "-m", model, "-p", "one\ntwo", "-n", "3", "--no-escape"])
    assert capsys.readouterr().out == put_in


def test_markers_must_fit_the_recordings(model, clip, capsys):
    assert main(["run", "-m", model, "--audio", clip("ms20"), "-p", "<__media__><__media__>"]) == 2
    err = capsys.readouterr().err
    assert "number of media markers (2) does not match number of recordings (1)" in err


def test_the_same_seed_draws_the_same(model, clip, capsys):
    ask = ["run", "-m", model, "--audio", clip("ms20"), "-n", "12", "--temp", "1.5", "--top-k", "0", "--top-p", "1"]
    said = []
    for seed in ("1", "1", "2"):
        assert main([*ask, "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_a_full_context_ends_the_answer_with_a_warning(model, clip, capsys):
    assert main(["run", "-m", model, "--audio", clip("ms20"), "-c", "40"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\n")
    assert "eardrop: stopped: the context of 40 rows is full\n" in err


def test_a_prompt_that_fits_no_context_is_exit_code_6(model, clip, capsys):
    assert main(["run", "-m", model, "--audio", clip("speech3"), "-c", "40"]) == 6
    assert "the model's context has 40" in capsys.readouterr().err


def test_more_context_than_the_model_has_is_told(model, clip, capsys):
    assert main(["run", "-m", model, "--audio", clip("ms20"), "-n", "1", "-c", "99999"]) == 0
    assert "--ctx-size 99,999 is more than the model's 32,768" in capsys.readouterr().err


@pytest.mark.parametrize("types", [["-ctk", "f16"], ["-ctv", "f32"], ["-ctk", "f16", "-ctv", "f16"]])
def test_keys_and_values_are_kept_as_was_asked(types, model, clip, capsys):
    assert main(["run", "-m", model, "--audio", clip("ms20"), "-n", "2", *types]) == 0


def test_keys_and_values_of_two_types_are_refused(model, capsys):
    assert main(["run", "-m", model, "-p", "x", "-ctk", "f16", "-ctv", "f32"]) == 2
    assert "-ctk and -ctv differ" in capsys.readouterr().err


def test_flags_without_effect_are_told_once(model, clip, capsys):
    words = ["-ngl", "99", "-fa", "on", "--no-warmup", "--no_warmup", "-tb", "2"]
    assert main(["run", "-m", model, "--audio", clip("ms20"), "-n", "1", *words]) == 0
    assert "eardrop: without effect here: -ngl, -fa, --no-warmup, -tb\n" in capsys.readouterr().err


def test_times_are_told_to_those_who_ask(model, clip, capsys, monkeypatch):
    ask = ["run", "-m", model, "--audio", clip("ms100"), "-n", "4"]
    main(ask)
    assert "loaded" not in capsys.readouterr().err
    for words in ["-v"], ["-lv", "4"]:
        main([*ask, *words])
        err = capsys.readouterr().err
        assert "eardrop: loaded micro in " in err
        assert "eardrop: heard ms100.wav: 0.1 s of audio became 2 rows" in err
        assert "tokens a second" in err


def test_stages_are_told_under_eardrop_debug(model, clip, capsys, monkeypatch):
    monkeypatch.setenv("EARDROP_DEBUG", "1")
    assert main(["run", "-m", model, "--audio", clip("ms100"), "-n", "4"]) == 0
    err = capsys.readouterr().err
    assert all(f"eardrop: {stage} " in err for stage in ("load", "log-mel", "encoder", "prefill", "token"))


@pytest.mark.parametrize(
    ("content", "code"), [(None, 4), (b"", 4), (b"RIFF", 4), (b"only text", 4), (b"RIFF\x04\0\0\0WAVE", 4)]
)
def test_a_recording_that_can_not_be_read_is_one_line(content, code, model, tmp_path, capsys):
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    assert main(["run", "-m", model, "--audio", str(path), "--temp", "0"]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "bad.wav" in err


def test_more_than_a_window_is_refused_in_one_line(model, tmp_path, capsys):
    path = tmp_path / "long.wav"
    head = b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\xff\xff\xff\x7f"
    path.write_bytes(head + b"\x80" * 8000 * 330)
    assert main(["run", "-m", model, "--audio", str(path), "--temp", "0"]) == 4
    err = capsys.readouterr().err
    assert err == "eardrop: long.wav is longer than 327.84 seconds, the most one window holds; cut it first\n"
    assert main(["run", "-m", model, "--audio", str(path), "--temp", "0", "--max-seconds", "2"]) == 4
    assert "the limit of 2 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "no model was given; name its text file with -m"),
        (["-m", "none.gguf"], 3, "none.gguf: no such file"),
        (["-m", __file__, "--mmproj", __file__], 3, "test_run.py"),
        (["-m", __file__, "--seed", "-5", "--temp", "1"], 2, "--seed is -5"),
        (["-m", __file__, "--backend", "abacus"], 2, "no backend is called 'abacus'"),
    ],
)
def test_what_can_not_work_is_told_with_its_exit_code(words, code, message, capsys):
    assert main(["run", "-p", "x", "--temp", "0", *words]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.parametrize("words", [[], ["--llama-compat"]])
def test_a_hostile_vocabulary_can_not_steer_a_terminal(words, model, clip, terminal, capsys, monkeypatch):
    terminal("stdout")
    monkeypatch.setattr(Tokenizer, "piece", lambda self, token: b"\x1b]0;owned\x07[red][link=http://x]\xc2\x9b")
    assert main(["run", "-m", model, "--audio", clip("ms20"), "-n", "2", *words]) == 0
    assert capsys.readouterr().out.strip() == r"\x1b]0;owned\x07[red][link=http://x]\x9b" * 2


@contextmanager
def started(model, clip):
    """An answer without end, on its way into a pipe."""
    command = [sys.executable, "-m", "eardrop", "run", "-m", model, "--audio", clip("speech3"), "--temp", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_interrupts
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_text_appears_as_it_is_generated_and_ctrl_c_leaves_it_there(model, clip):
    with started(model, clip) as process:
        beginning = os.read(process.stdout.fileno(), 10)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=10)
    assert beginning
    assert process.returncode == 130
    assert (beginning + rest).endswith(b"\n")
    assert err == b""


def test_a_reader_who_leaves_in_the_middle_ends_it_quietly(model, clip):
    with started(model, clip) as process:
        os.read(process.stdout.fileno(), 10)
        process.stdout.close()
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == b""


def test_what_is_wrong_with_a_recording_is_told(tmp_path, model, clip, capsys):
    with open(clip("chirp1"), "rb") as whole:  # noqa: PTH123
        (tmp_path / "cut.wav").write_bytes(whole.read(9000))
    assert main(["run", "-m", model, "-n", "1", "--temp", "0", "--audio", str(tmp_path / "cut.wav")]) == 0
    assert "cut.wav is cut off: it has 9000 of the 32044 bytes" in capsys.readouterr().err
