"""What `eardrop ray` says where there is no Ray; with one, tests/test_ray.py."""

import sys

import pytest

from eardrop.cli.main import main
from eardrop.errors import MissingExtra, OptionError


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.delitem(sys.modules, "eardrop.ray", raising=False)


def test_what_is_missing_is_told_with_the_command_that_installs_it(tmp_path, capsys):
    assert main(["ray", str(tmp_path), "-o", str(tmp_path / "texts")]) == MissingExtra.exit_code
    assert capsys.readouterr().err.splitlines()[-1].endswith("pip install 'eardrop[ray]'")
    assert not (tmp_path / "texts").exists()


def test_help_needs_none(capsys):
    assert main(["ray", "--help"]) == 0
    assert "--recognizers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--window", "0"], "--window is 0"),
        (["--offline"], "--offline"),
        (["-m", "a", "-hf", "b/c"], "give one of the two"),
    ],
)
def test_wrong_wishes_are_told_before_anything_is_started(words, why, tmp_path, capsys):
    assert main(["ray", str(tmp_path), "-o", str(tmp_path / "texts"), *words]) == OptionError.exit_code
    assert why in capsys.readouterr().err
