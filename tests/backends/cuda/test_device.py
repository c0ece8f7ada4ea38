"""What is missing is said in one line, by its kind, and without importing torch."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from eardrop.backends import choose
from eardrop.backends.cuda import device
from eardrop.errors import MissingExtra, OptionError


def test_asking_imports_neither_torch_nor_triton() -> None:
    ask = "import sys; from eardrop.backends import BACKENDS; BACKENDS['cuda'].missing();"
    ask += "sys.exit(bool({'torch', 'triton'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"'cuda' can't run here: torch and triton not installed.*eardrop\[cuda\]"):
        choose("cuda")


@pytest.mark.parametrize(("visible", "words"), [("", "CUDA_VISIBLE_DEVICES"), ("0", "driver")])
def test_a_missing_gpu_is_said(visible: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(device, "find_spec", lambda name: SimpleNamespace(origin=None))
    monkeypatch.setattr(device, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(device.ctypes, "CDLL", absent)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = device.missing()
    assert isinstance(reason, OptionError)
    assert words in str(reason)


def test_the_interpreter_needs_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_spec", lambda name: SimpleNamespace(origin=None))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert device.missing() is None
