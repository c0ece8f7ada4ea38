"""llama-mtmd-cli is a script here, which logs what the real one was seen to log; llama_cpp a package of a few names."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eardrop.bench import peers
from eardrop.bench.review import Question
from eardrop.errors import EardropError, OptionError
from tests.pairs import DATA, pair

TEXT, PROJECTOR = pair()
LOG = """\
0.00.024.291 I cmn  common_init_: warming up the model with an empty run - please wait ... (--no-warmup to disable)
0.00.680.249 I encoding mtmd batch, n_chunks = 1 (done = 1, total = 3)
0.01.695.383 I mtmd batch encoding done in 1016 ms
0.01.695.400 I decoding audio batch 1/1, n_tokens_batch = 41
0.02.254.509 I audio decoded (batch 1/1) in 559 ms
0.02.942.841 I llama_perf_context_print:        load time =      35.48 ms
0.02.942.857 I llama_perf_context_print: prompt eval time =    2466.89 ms /    71 tokens (   34.74 ms per token)
0.02.942.858 I llama_perf_context_print:        eval time =     280.00 ms /     7 runs   (   40.00 ms per token)
0.02.942.859 I llama_perf_context_print:       total time =    2836.96 ms /    78 tokens
"""


@pytest.fixture
def question() -> Question:
    return Question(TEXT, PROJECTOR, DATA / "ms100.wav", tokens=4, runs=peers.LEAST_PAIRS, threads=1, backend="numpy")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "llama-mtmd-cli"
    path.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "if '--version' in sys.argv: sys.exit('version: 7 (abc)')\n"
        f"open({str(tmp_path / 'words')!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n"
        f"sys.stderr.write({LOG!r}); print('\\n\\nhello\\n')\n"
    )
    path.chmod(0o755)
    return path


def test_what_llama_logs_is_understood() -> None:
    said = peers._said_by_llama(LOG)
    assert said == {
        "encoder": 1.016,
        "prefill": pytest.approx(2.46689 - 1.016),
        "decode": pytest.approx(25.0),
        "tokens": 8,
    }


def test_a_log_that_ends_early_says_nothing_of_what_it_lacks() -> None:
    said = peers._said_by_llama("\n".join(LOG.splitlines()[:3]))
    assert said == {"encoder": 1.016, "prefill": None, "decode": None, "tokens": None}


def test_what_we_log_is_understood() -> None:
    log = "eardrop: load          54.20 ms\neardrop: encoder        2.00 ms\neardrop: prefill        4.00 ms\n"
    said = peers._said_by_us(log + 2 * "eardrop: token          8.00 ms\n")
    assert said == {"encoder": 0.002, "prefill": 0.004, "decode": 125.0, "tokens": 3}


def test_both_run_in_turns_on_the_same_question(monkeypatch, question: Question, program: Path) -> None:
    turns, run = [], peers._process
    # eardrop itself is run once for real; what it says is enough for the other turns
    ours = []

    def short(command, said, environment=None):
        turns.append(Path(command[0]).name)
        if command[0] != sys.executable:
            return run(command, said)
        ours[:] = ours or [run(command, said)]
        return ours[0]

    monkeypatch.setattr(peers, "_process", short)
    found = peers.against(peers.peer(str(program)), question)
    python = Path(sys.executable).name
    assert turns == [python, "llama-mtmd-cli"] * (peers.LEAST_PAIRS + 1)
    assert found["tokens"] == [4, 8]
    assert found["texts"][1] == "hello"
    assert not found["same text"]
    assert "version: 7" in found["build"]
    assert found["figures"]["decode"]["theirs"]["median"] == pytest.approx(25.0)
    ratio = found["figures"]["encoder"]["ratio"]["median"]
    assert ratio == pytest.approx(found["figures"]["encoder"]["ours"]["median"] / 1.016)
    (words,) = set((program.parent / "words").read_text().splitlines())
    for part in (
        "'-sys', 'Perform ASR.'",
        "'-p', '<__media__>'",
        "'--temp', '0'",
        "'-n', '4'",
        "'-t', '1'",
        "'-c', '512'",
    ):
        assert part in words
    assert found["flags"][:2] == ["-sys", "Perform ASR."]  # and no path


def pairs(*encoders: float | None) -> list[peers.Process]:
    return [peers.Process(1.0, 1, encoder, 1.0, 1.0, 2, "") for encoder in encoders]


def test_pairs_that_lost_their_log_are_left_out() -> None:
    figure = peers._beside(pairs(*[1.0] * 7), pairs(2.0, None, 2.0, 2.0, None, 2.0, 2.0), "encoder")
    assert (figure["pairs"], figure["ratio"]["median"]) == (5, 0.5)


def test_too_few_pairs_are_not_measured() -> None:
    assert peers._beside(pairs(*[1.0] * 5), pairs(2.0, None, 2.0, 2.0, 2.0), "encoder") is None


def test_fewer_than_five_pairs_are_refused(question: Question, program: Path) -> None:
    with pytest.raises(OptionError, match="at least 5"):
        peers.against(peers.mtmd_cli(program), Question(TEXT, PROJECTOR, question.audio, runs=4))


def test_a_program_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('no such \\x1b model')"]
    with pytest.raises(EardropError, match=r"ended with 1: no such \\x1b model; run it by itself"):
        peers._process(failing, peers._said_by_llama)


def test_a_program_that_is_not_there_is_told(monkeypatch) -> None:
    with pytest.raises(OptionError, match="no program of that name"):
        peers.find("no-such-llama")


def test_memory_is_the_processs_own(tmp_path: Path) -> None:
    hungry = "import time; x = bytearray(200 << 20); time.sleep(0.2)"
    runs = [
        peers._process([sys.executable, "-c", program], peers._said_by_us)
        for program in (hungry, "import time; time.sleep(0.1)")
    ]
    if runs[0].peak_bytes is None:
        pytest.skip("this system doesn't say")
    assert runs[0].peak_bytes > 200 << 20 > runs[1].peak_bytes


def test_the_version_is_read_from_either_stream(program: Path) -> None:
    assert subprocess.run([program, "--version"], capture_output=True, check=False).stderr
    assert peers._build(program) == "version: 7 (abc)"


PACKAGE = {
    "__init__.py": """
__version__ = "0.3.36"
class Llama:
    n_batch, n_tokens, ctx, model, metadata = 512, 0, 1, 2, {"tokenizer.chat_template": "{{ messages }}"}
    def __init__(self, path, **wishes): self.says, self.held = iter([5, 6, 7, 9, 9]), []
    def token_bos(self): return 1
    def token_eos(self): return 7
    def sample(self, *, temp): return next(self.says)
    def eval(self, tokens): self.held += tokens; self.n_tokens += len(tokens)
    def detokenize(self, tokens, special=False): return b"".join(b"<%d>" % token for token in tokens)
""",
    "llama_cpp.py": """
from ctypes import c_int as llama_pos, c_int as llama_seq_id
def llama_model_get_vocab(model): return 3
def llama_vocab_is_eog(vocab, token): return token == 7
""",
    "llama_chat_format.py": """
from types import SimpleNamespace
class Jinja2ChatFormatter:
    def __init__(self, template, end, start, add_generation_prompt): self.given = start, add_generation_prompt
    def __call__(self, messages):
        turns = "".join(turn["role"] + ":" + turn["content"] + "/" for turn in messages)
        return SimpleNamespace(prompt=self.given[0] + turns + "answer:" * self.given[1])
""",
    "mtmd_cpp.py": """
from ctypes import Structure, c_bool, c_char_p, c_int, c_size_t, c_void_p as mtmd_bitmap_p_ctypes
from types import SimpleNamespace
MTMD_INPUT_CHUNK_TYPE_TEXT = 0
class mtmd_input_text(Structure):
    _fields_ = [("text", c_char_p), ("text_len", c_size_t), ("add_special", c_bool), ("parse_special", c_bool)]
def mtmd_context_params_default(): return SimpleNamespace()
def mtmd_init_from_file(path, model, parameters): return None if b"deaf" in path else 4
def mtmd_helper_bitmap_init_from_file(context, path, placeholder): return 5
def mtmd_input_chunks_init(): return []
def mtmd_tokenize(context, chunks, text, bitmaps, count):
    chunks += [2, 0] if count else [0]
    expected = {0: b"system:Perform ASR./", 1: b"\\n" + b"user:<__media__>/answer:"}[count]
    return text._obj.text != expected or text._obj.add_special == (count > 0) or [*bitmaps] != [5] * count
def mtmd_bitmap_free(bitmap): pass
def mtmd_input_chunks_size(chunks): return len(chunks)
def mtmd_input_chunks_get(chunks, index): return chunks[index]
def mtmd_input_chunk_get_type(chunk): return chunk
def mtmd_input_chunk_get_tokens_text(chunk, count): count._obj.value = 2; return [1, 2, 3]
def mtmd_encode_chunk(context, chunk): return 0
def mtmd_get_output_embd(context): return 6
def mtmd_helper_post_decode_callback(): return None
def mtmd_helper_decode_image_chunk(context, ctx, chunk, rows, at, slot, batch, after, callback, data):
    after._obj.value = at.value + 3
    return at.value != 2
def mtmd_input_chunks_free(chunks): pass
""",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This Python, with a llama_cpp of its own."""
    (tmp_path / "llama_cpp").mkdir()
    for name, source in PACKAGE.items():
        (tmp_path / "llama_cpp" / name).write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", [peers.PACKAGE, sys.executable])
def test_the_package_of_a_python_is_a_peer(name: str, package: Path, question: Question) -> None:
    peer = peers.peer(name)
    assert (peer.name, peer.build) == ("llama-cpp-python", "0.3.36")
    assert peer.told(question)[peers.FILE_WORDS :] == peers._words(question)[peers.FILE_WORDS :]
    done = peers.theirs(peer, question)
    assert (done.text, done.tokens) == ("<5><6><7>", 3)  # the third ends it
    assert None not in (done.encoder, done.prefill, done.decode)
    assert done.seconds > done.encoder + done.prefill


def test_an_answer_of_one_token_has_no_steps(package: Path, question: Question) -> None:
    done = peers.theirs(peers.peer(peers.PACKAGE), replace(question, tokens=1))
    assert (done.text, done.tokens, done.decode) == ("<5>", 1, None)


def test_what_the_package_refuses_is_told(package: Path, question: Question) -> None:
    with pytest.raises(EardropError, match=r"ended with 1: libmtmd refuses deaf\.gguf"):
        peers.theirs(peers.peer(peers.PACKAGE), replace(question, projector=Path("deaf.gguf")))


def test_a_python_without_the_package_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise ImportError('libmtmd.so is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(OptionError, match=r"libmtmd.so is missing\); \S+ -m pip install llama-cpp-python compiles it"):
        peers.peer(peers.PACKAGE)


LLAMA_BENCH = '[{"n_prompt": 0, "n_gen": 4, "avg_ts": 101.5, "samples_ts": [101.5]}]'
BATCHED_BENCH = '\n{"pl": 1, "speed_tg": 38.5}\n{"pl": 8, "speed_tg": 68.25}\n\n'


@pytest.fixture
def llama(tmp_path: Path, program: Path) -> peers.Llama:
    """All of llama.cpp's programs, which write down what they were told."""
    for name, out in ((peers.BENCH, LLAMA_BENCH), (peers.BATCHED, BATCHED_BENCH)):
        written = (
            f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'words')!r}, 'a').write(' '.join(sys.argv[1:]))"
        )
        (tmp_path / name).write_text(f"{written}\nprint({out!r})\n")
        (tmp_path / name).chmod(0o755)
    return peers.Llama(tmp_path, 2)


def test_llama_bench_measures_a_decode_or_a_prefill(llama: peers.Llama) -> None:
    for measure, words in ((llama.decode, "-p 0 -n 32 -t 2 -r 1"), (llama.prefill, "-p 32 -n 0 -t 2 -r 1")):
        assert measure(TEXT, 32) == 101.5
        assert words in (llama.folder / "words").read_text()


def test_llama_batched_bench_measures_one_stream_and_all(llama: peers.Llama) -> None:
    assert llama.together(TEXT, rows=16, tokens=50, streams=8) == (38.5, 68.25)
    assert "-npp 16 -ntg 50 -npl 1,8 -t 2 -c 1024" in (llama.folder / "words").read_text()


def test_the_encoder_is_that_of_the_last_clip(llama: peers.Llama) -> None:
    clip = DATA / "ms100.wav"
    assert llama.encoder(TEXT, PROJECTOR, [clip]) == 1.016
    assert "'-p', '<__media__>', '-n', '1'" in (llama.folder / "words").read_text()
    with pytest.raises(EardropError, match="didn't say how long the encoder took, 3 times"):
        llama.encoder(TEXT, PROJECTOR, [clip, clip])  # it logs one
    assert (llama.folder / "words").read_text().count("<__media__><__media__>") == 3


def test_a_folder_without_the_programs_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="llama-mtmd-cli': no program"):
        peers.Llama(tmp_path, 2)


@pytest.mark.parametrize("asked", [peers._package, peers._build])
def test_a_program_that_never_tells_its_version_is_given_up(
    asked: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(peers, "PATIENCE", 0.2)
    with pytest.raises(OptionError, match=r"python hasn't told its version within 0.2 seconds; run it by itself"):
        asked(silent)
