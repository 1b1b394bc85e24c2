"""The status of a run, beside the process that writes it and after it was killed."""

import json
import os
import signal
import subprocess
import sys

import pytest

import checkpoint
from checkpoint.runs import log_lines
from folders import FIXTURES
from killing import needs_proc, recorded, start, step_of, wait_for
from models import normals
from settings import SMALL, slowly
from terminal import in_terminal, without_styles

COMMAND = [sys.executable, "-W", "ignore", "-m", "checkpoint"]
SHORT = {"draws": 10, "tune": 10, "chains": 3, "cores": 1, "random_seed": 4, **SMALL}
ZARR_TRACE = FIXTURES / "pymc_zarr" / "pymc5_finished.zip"


def look(*arguments):
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@needs_proc
@pytest.mark.parametrize("name", ["fit.zarr", *slowly("fit.zip")])
def test_a_live_run_is_told_from_one_that_was_killed(name, tmp_path):
    store = tmp_path / name
    process = start(store, "normals", 1, draws=300_000)  # which no machine has made by then
    try:
        assert wait_for(lambda: recorded(store) > 2000, process)
        alive = checkpoint.open(store).status()
        shown = look("status", store)
        assert wait_for(lambda: recorded(store) > alive.recorded, process)
        later = json.loads(look("status", "--json", store).stdout)
        assert process.poll() is None, "the run was over too soon"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (alive.writer.pid, alive.writer.is_alive) == (process.pid, True)
    assert alive.chains[0].draws_per_second > 0
    assert alive.seconds_left > 0
    assert alive.stopped is None
    assert shown.returncode == 0
    assert f"process {process.pid} on" in shown.stdout
    assert ", alive, since" in shown.stdout
    assert later["recorded"] > alive.recorded

    dead = checkpoint.open(store).status()
    assert (dead.writer.pid, dead.writer.is_alive) == (process.pid, False)
    assert dead.stopped.how == "killed"
    assert dead.seconds_left is None
    assert dead.recorded >= later["recorded"]
    assert [c.recorded for c in dead.chains] == checkpoint.open(store).draw_idx.tolist()

    code, seen = in_terminal([*COMMAND, "status", store])
    text = without_styles(seen)
    assert code == 0
    assert "is dead: it was killed" in " ".join(text.split())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[" in seen  # colour, at a terminal only
    assert "\x1b" not in shown.stdout


def test_the_status_of_what_is_no_run_is_an_error_with_a_code_of_the_table(tmp_path):
    (tmp_path / "photo.zip").write_bytes(b"\x89PNG" + bytes(100))
    for place, words in (
        (tmp_path / "nothing.zarr", "holds no run"),
        (tmp_path / "photo.zip", "is not a zip file"),
    ):
        done = look("status", place)
        assert done.returncode == checkpoint.errors.RunNotFoundError.exit_code
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_store_of_zarr_trace_shows_what_it_records():
    done = look("status", ZARR_TRACE)
    assert done.returncode == 0
    assert "ZarrTrace recorded it" in done.stdout


def test_the_history_is_a_table_that_fits_a_terminal_and_json(tmp_path):
    with normals():
        checkpoint.sample(tmp_path / "fit.zarr", step=step_of("normals"), **SHORT)
    code, seen = in_terminal([*COMMAND, "history", tmp_path / "fit.zarr"])
    text = without_styles(seen)
    assert code == 0
    assert "1 session drew 60 draws in" in " ".join(text.split())
    assert "finished" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    [session] = json.loads(look("history", "--json", tmp_path / "fit.zarr").stdout)["sessions"]
    assert (session["how"], session["n_gained"]) == ("finished", 60)
    assert look("history", ZARR_TRACE).returncode == 3
    assert look("history", tmp_path / "nothing").returncode == 3


@pytest.mark.parametrize(
    ("options", "is_told"), [({}, True), ({"quiet": True}, False), ({"progressbar": False}, False)]
)
def test_a_log_file_gets_a_line_unless_silence_is_asked_for(
    options, is_told, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("TERM", "dumb")  # where the tests themselves run at a terminal
    monkeypatch.setattr(log_lines, "_FIRST", 0.0)
    caplog.set_level("INFO")
    loud = {"quiet": False, "progressbar": True}
    with normals():
        checkpoint.sample(tmp_path / "fit.zarr", **SHORT | loud | options, step=step_of("normals"))
    lines = [r.getMessage() for r in caplog.records if "chains complete" in r.getMessage()]
    assert bool(lines) == is_told
    assert all(line.startswith(f"{tmp_path / 'fit.zarr'}: ") for line in lines)
