"""What reads a run imports no PyMC, and opening one imports no xarray either."""

import subprocess
import sys
import tarfile

import pytest

from folders import FIXTURES

ARCHIVE = FIXTURES / "stores" / "2026-11-a" / "pymc6_zarr3_interrupted.tar.xz"
PLACE = "<place>"


def command(*words):
    listed = ", ".join("path" if word is PLACE else repr(word) for word in words)
    return f"from checkpoint.cli import main; main([{listed}], standalone_mode=False)"


LOOKS = {
    "errors": ("checkpoint.errors.ChainError", ["xarray", "zarr"]),
    "version": ("checkpoint.__version__", ["xarray", "zarr"]),
    "open": ("checkpoint.open(path).draw_idx", ["xarray"]),
    "states": ("checkpoint.open(path).sampling_state(0, -1)", ["xarray"]),
    "verify": ("assert checkpoint.verify(path).ok", ["xarray"]),
    "verify of a run": ("assert checkpoint.open(path).verify().ok", ["xarray"]),
    "status": ("print(checkpoint.open(path).status(diagnostics='all'))", ["xarray", "arviz_stats"]),
    "posterior": ("checkpoint.open(path).posterior", []),
    "stats": ("checkpoint.open(path).sample_stats", []),
    "result": ("checkpoint.open(path).to_inferencedata(save_warmup=True)", []),
    "help": (command("--help"), ["xarray", "zarr", "numpy"]),
    "version command": (command("--version"), ["xarray", "zarr", "numpy"]),
    "verify command": (command("verify", PLACE), ["xarray"]),
    "history command": (command("history", PLACE), ["xarray"]),
    "status command": (command("status", PLACE), ["xarray", "arviz_stats", "scipy"]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readers")
    with tarfile.open(ARCHIVE) as packed:
        packed.extractall(folder, filter="data")
    return folder / "fit.zarr"


@pytest.mark.parametrize("look", LOOKS)
def test_no_pymc_is_imported(look, place):
    what, others = LOOKS[look]
    unneeded = ["pymc", "pytensor", "arviz_plots", *others]
    code = (
        f"import sys, checkpoint\npath = {str(place)!r}\n{what}\n"
        f"print([m for m in {unneeded!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_import_would_be_seen():
    code = "import sys, checkpoint; checkpoint.sample; print('pymc' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.stdout == b"True\n"
