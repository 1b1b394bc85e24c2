"""What a type checker sees of the public functions."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import get_overloads

import pytest

import checkpoint

ROOT = Path(checkpoint.__file__).parent.parent

USE = """
from typing import assert_type
import checkpoint
from pymc.backends.base import MultiTrace
from xarray import DataArray, Dataset, DataTree

tree: DataTree = checkpoint.sample("a.zarr", 10)
trace: MultiTrace = checkpoint.sample("a.zarr", 10, return_inferencedata=False, target_accept=0.9)
reveal_type(checkpoint.sample("a.zarr"))
run = checkpoint.sample("a.zarr").posterior
view = checkpoint.open("a.zarr")
assert_type(view.posterior, Dataset)
assert_type(view.warmup_sample_stats, Dataset)
assert_type(view.observed_data["y"], DataArray)
checkpoint.sample("a.zarr", draws="ten")
"""


def test_overloads_of_sample_have_its_arguments():
    of_sample = inspect.signature(checkpoint.sample).parameters
    returns = []
    for overload in get_overloads(checkpoint.sample):
        parameters = dict(inspect.signature(overload).parameters)
        returns.append(parameters.pop("return_inferencedata").annotation)
        expected = {n: p for n, p in of_sample.items() if n != "return_inferencedata"}
        assert parameters == expected
    assert [str(annotation) for annotation in returns] == [
        "typing.Literal[False]",
        "<class 'bool'>",
    ]


@pytest.mark.slow
def test_a_type_checker_knows_what_sample_and_open_return(tmp_path):
    (tmp_path / "use.py").write_text(USE)
    options = ["--follow-imports=silent", "--ignore-missing-imports", "--config-file="]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={tmp_path}", "use.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert 'note: Revealed type is "xarray.core.datatree.DataTree | Any"' in lines
    errors = [line for line in lines if line.startswith("error")]
    words = 'error: No overload variant of "sample" matches argument types "str", "str"'
    assert errors == [f"{words}  [call-overload]"], done.stdout
