"""`checkpoint status`: a folder of runs, and looking again and again."""

import json
import shutil
import tarfile
from dataclasses import replace

import pytest
from click.testing import CliRunner

from checkpoint.cli import main
from checkpoint.cli.status import _seen_alive, time
from checkpoint.errors import DamagedStoreError, RunNotFoundError
from checkpoint.reading.status import ChainStatus, Status, WriterStatus
from checkpoint.stores.holder import Holder
from folders import FIXTURES

MADE = FIXTURES / "stores" / "2026-11-b"
HERE = json.dumps(Holder.this_process().to_json())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for name in ("interrupted", "finished"):
        with tarfile.open(MADE / f"pymc6_zarr3_{name}.tar.xz") as packed:
            packed.extractall(folder / name, filter="data")
        shutil.move(folder / name / "fit.zarr", folder / f"{name}.zarr")
        (folder / name).rmdir()
        (folder / f"{name}.zarr/_sampling_state/log/.holder").unlink(missing_ok=True)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def call(*arguments):
    return CliRunner().invoke(main, ["status", *map(str, arguments)])


def line_of(name, done):
    # The first is that of the table; messages follow, wrapped anywhere.
    return next(line.split() for line in done.output.splitlines() if line.startswith(name))


def test_a_folder_of_runs_has_a_line_for_each(folder):
    (folder / "notes.txt").write_text("hello")
    (folder / "empty").mkdir()
    done = call(folder)
    assert done.exit_code == 0, done.output
    assert line_of("finished.zarr", done)[2:5] == ["complete", "100", "%"]
    assert line_of("interrupted.zarr", done)[2:5] == ["draws", "83", "%"]
    assert "notes" not in done.output
    assert "empty" not in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    assert [run["recorded"] for run in json.loads(call("--json", folder).output)] == [110, 92]


def test_a_folder_has_the_diagnostics_if_asked_for(folder):
    assert "R-hat" not in call(folder).output
    assert "R-hat" in call("--diagnostics", "quick", folder).output


def test_a_damaged_run_in_a_folder_is_named_and_the_others_are_shown(folder):
    (folder / "interrupted.zarr/zarr.json").write_text("{")
    done = call(folder)
    assert done.exit_code == DamagedStoreError.exit_code
    assert line_of("interrupted.zarr", done)[1] == "error"
    assert line_of("finished.zarr", done)[2] == "complete"
    assert "Restore that file from a copy" in " ".join(done.output.split())
    assert "error" in json.loads(call("--json", folder).output)[1]


def test_a_folder_without_runs_is_none(tmp_path):
    (tmp_path / "empty").mkdir()
    done = call(tmp_path)
    assert done.exit_code == RunNotFoundError.exit_code
    assert "no directory or zip file in it does" in done.output


def test_a_run_that_is_being_created_is_told_from_none(folder):
    log = folder / "new.zarr/_sampling_state/log"
    log.mkdir(parents=True)
    (log / ".holder").write_text(HERE)
    done = call(folder / "new.zarr")
    assert done.exit_code == RunNotFoundError.exit_code
    assert "holds no run yet: process" in done.output
    done = call(folder)
    assert done.exit_code == 0
    assert line_of("new.zarr", done)[1] == "creating"


def test_watching_ends_when_the_run_is_complete_and_waits_for_one_that_is_not_there(
    folder, monkeypatch
):
    place = folder.parent / "later.zarr"
    n_pauses = []

    def sleep(seconds):
        n_pauses.append(seconds)
        name = "interrupted" if len(n_pauses) == 1 else "finished"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / f"{name}.zarr", place)

    monkeypatch.setattr(time, "sleep", sleep)
    done = call("--watch", place)
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert len(n_pauses) == 2
    assert words.index("holds no run") < words.index("draws, 83 %") < words.index("complete, 100 %")


def test_watching_and_json_exclude_each_other(folder):
    assert call("--watch", "--json", folder).exit_code == 2


def test_a_writer_of_another_machine_is_alive_if_it_draws_while_it_is_watched():
    chain = ChainStatus(0, 5, 9, "draws")
    before = Status("a", "draws", 0, 9, (chain,), writer=WriterStatus("node", 1, 1.0, None))
    assert _seen_alive(None, before) is before
    assert _seen_alive(before, before).writer.is_alive is None
    later = replace(before, chains=(replace(chain, recorded=6),))
    assert _seen_alive(before, later).writer.is_alive is True
