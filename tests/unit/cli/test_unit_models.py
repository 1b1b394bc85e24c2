"""The model of the command line: found beside its file, or refused with the reason."""

import sys

import pytest

from checkpoint.cli.models import model_at
from checkpoint.errors import ArgumentError

MODEL = """
from types import SimpleNamespace
import beside_unit_models
made = SimpleNamespace(free_RVs=[])
def make():
    return made
def fails():
    return 1 / 0
number = 3
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "beside_unit_models.py").write_text("")
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


@pytest.mark.parametrize("name", ["made", "make"])
def test_a_file_may_import_what_lies_beside_it(file, name):
    assert model_at(f"{file}:{name}").free_RVs == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing", "has no missing. Models in it: made."),
        ("number", "number is of type int; expected a PyMC model"),
        ("fails", r"fails\(\) fails at line 8: ZeroDivisionError"),
        ("", "expected a file and a name"),
    ],
)
def test_what_is_no_model_is_refused(file, name, expected):
    with pytest.raises(ArgumentError, match=expected):
        model_at(f"{file}:{name}")


@pytest.mark.parametrize("code", ["import nowhere_at_all", "raise SystemExit(3)", "x = ("])
def test_a_file_that_fails_is_named(tmp_path, code, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "model.py").write_text(code)
    with pytest.raises(ArgumentError, match=r"model\.py fails.*Nothing was changed"):
        model_at(f"{tmp_path}/model.py:model")
