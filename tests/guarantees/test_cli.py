"""The commands, as a user calls them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import checkpoint
from checkpoint.cli import main
from checkpoint.stores import ZipStore
from folders import FIXTURES, SUPPORT
from models import positive
from settings import SMALL

ARGUMENTS = {"draws": 6, "tune": 6, "chains": 2, "cores": 1, "random_seed": 4, **SMALL}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "fit.zip"
    with positive():
        checkpoint.sample(path, **ARGUMENTS)
    return path


@pytest.fixture
def archive(finished, tmp_path):
    shutil.copy(finished, tmp_path / "fit.zip")
    return tmp_path / "fit.zip"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_is_installed(archive):
    command = Path(sys.executable).with_name("checkpoint")
    done = subprocess.run([command, "repair", archive], capture_output=True, text=True, check=True)
    assert "Nothing to repair." in done.stdout


def test_a_whole_archive_is_left_alone(archive):
    before = archive.read_bytes()
    done = run("repair", archive)
    assert done.exit_code == 0
    assert "its directory was whole" in done.output
    assert archive.read_bytes() == before


def test_a_torn_archive_is_mended_and_its_values_kept(archive):
    values = {key: ZipStore(archive).read(key) for key in [*ZipStore(archive).keys()]}
    data = archive.read_bytes()
    torn = data[: data.find(b"PK\x01\x02") - 1]  # in the middle of the last value
    archive.write_bytes(torn)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(archive)
    done = run("repair", archive)
    assert done.exit_code == 0
    assert "found by their headers" in done.output
    assert "Left out:" in done.output
    with zipfile.ZipFile(archive) as mended:
        assert mended.testzip() is None
        found = {name: mended.read(name) for name in mended.namelist()}
    assert len(found) == len(values) - 1
    assert found == {key: values[key] for key in found}
    assert "Nothing to repair." in run("repair", archive).output


def test_damage_is_named_and_the_exit_code_tells(archive):
    data = bytearray(archive.read_bytes())
    at = data.find(b"posterior/x/c.0.0.0") + 40
    data[at] ^= 1
    archive.write_bytes(data)
    done = run("repair", archive)
    assert done.exit_code == checkpoint.errors.DamagedStoreError.exit_code
    assert "Damaged: " in done.output
    assert "posterior/x/c.0.0.0" in done.output
    assert archive.read_bytes() == data


def test_compacting_says_what_it_saved(archive):
    store = ZipStore(archive)
    store.write({"a": bytes(50_000)})
    store.write({"a": b"1"})
    before = archive.stat().st_size
    done = run("compact", archive)
    assert done.exit_code == 0
    assert f"{before / 1024:.1f} KiB before" in done.output
    assert archive.stat().st_size < before - 50_000
    assert ZipStore(archive).read("a") == b"1"


@pytest.mark.parametrize("verb", ["repair", "compact"])
def test_bad_input_ends_with_a_line_and_a_code(verb, archive, tmp_path):
    done = run(verb, tmp_path / "nothing.zip")
    assert done.exit_code == 3
    assert "does not exist" in done.output
    assert not (tmp_path / "nothing.zip").exists()
    (tmp_path / "photo.zip").write_bytes(b"\x89PNG" + bytes(100))
    done = run(verb, tmp_path / "photo.zip")
    assert done.exit_code == 3
    assert "is not a zip file" in done.output
    store = ZipStore(archive)
    store.lock()
    done = run(verb, archive)
    store.unlock()
    assert done.exit_code == 4
    assert f"process {os.getpid()} on" in done.output


def test_converting_says_what_was_found_and_written(archive, tmp_path):
    done = run(
        "convert", archive, tmp_path / "fit.zarr", "--zarr-format", 2, "--compressor", "none",
        "--draws-per-chunk", 4,
    )  # fmt: skip
    assert done.exit_code == 0
    assert done.output.startswith(f"{archive}: 2 chains, draws 12, 12, finished (6 warm-up).\n")
    assert "Zarr format 2, no compressor, 4 draws in a chunk, " in done.output
    assert done.output.endswith("KiB.\n")
    assert checkpoint.open(tmp_path / "fit.zarr").draw_idx.tolist() == [12, 12]
    done = run("convert", tmp_path / "fit.zarr", f"memory://{tmp_path}", "--compressor", "blosc")
    assert done.exit_code == 0
    assert done.output.endswith("Zarr format 2, blosc, 4 draws in a chunk.\n")


def test_converting_what_pymc_wrote(tmp_path):
    old = FIXTURES / "pymc_zarr" / "pymc5_slice.zip"
    (tmp_path / "script.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(SUPPORT)!r})\n"
        "from pymc_cases import CASES\n"
        "model = CASES['slice'].model\n"
    )
    model = ["--model", f"{tmp_path / 'script.py'}:model"]
    without = run("convert", old, tmp_path / "fit.zarr", *model)
    assert without.exit_code == checkpoint.errors.UnsupportedStepError.exit_code
    assert "allow_pickle=True" in without.output
    # The model's own choice would be NUTS; another step method can be named in Python only.
    other = run("convert", old, tmp_path / "fit.zarr", "--allow-pickle", *model)
    assert other.exit_code == checkpoint.errors.DifferentRunError.exit_code
    assert "other step methods" in other.output
    old = old.with_name("pymc5_finished.zip")
    (tmp_path / "script.py").write_text(
        (tmp_path / "script.py").read_text().replace("slice", "finished")
    )
    done = run("convert", old, tmp_path / "fit.zarr", "--allow-pickle", *model)
    assert done.exit_code == 0, done.output
    assert "finished" in done.output
    for bad in ("nothing.py:model", f"{tmp_path / 'script.py'}:nothing", "script"):
        wrong = run("convert", old, tmp_path / "b.zarr", "--model", bad)
        assert wrong.exit_code == checkpoint.errors.ArgumentError.exit_code
        assert "--model" in wrong.output


def test_converting_warns_of_damage_in_a_line(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    data[data.find(b"warmup_posterior/x/c.1.0.0") + 40] ^= 1
    archive.write_bytes(data)
    done = run("convert", archive, tmp_path / "fit.zarr")
    assert done.exit_code == 0
    assert "Warning: Draws 0 to 11 of chain 1 are left out" in done.output
    assert "2 chains, draws 12, 0, of 12 (6 warm-up)" in done.output


def test_converting_ends_with_a_code_for_each_kind_of_error(archive, tmp_path):
    before = archive.read_bytes()
    (tmp_path / "photo.zip").write_bytes(b"\x89PNG" + bytes(100))
    other = tmp_path / "other.zarr"
    store = ZipStore(tmp_path / "locked.zip")
    store.lock()
    for arguments, code, text in (
        ((tmp_path / "nothing.zip", other), 3, "holds no run"),
        ((tmp_path / "photo.zip", other), 3, "is not a zip file"),
        ((archive, tmp_path / "photo.zip"), 3, "is not a zip file"),
        ((archive, archive), 2, "the source itself"),
        ((archive, other, "--compressor", "pickle"), 2, "expected one of zstd"),
        ((archive, other, "--zarr-format", "4"), 2, "zarr_format=4"),
        ((archive, other, "--draws-per-chunk", "0"), 2, "draws_per_chunk=0"),
        ((archive, tmp_path / "locked.zip"), 4, f"process {os.getpid()} on"),
    ):
        done = run("convert", *arguments)
        assert (done.exit_code, text in done.output) == (code, True), done.output
    store.unlock()
    assert archive.read_bytes() == before
    assert not other.exists()
    assert run("convert", archive, other).exit_code == 0
    assert run("convert", archive, other).exit_code == checkpoint.errors.RunExistsError.exit_code
