"""Every kind of store tells which process writes it, without taking its lock."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from checkpoint.stores import as_store, file_lock
from checkpoint.stores.file_lock import NoLocksError
from checkpoint.stores.holder import Holder, _start_of
from killing import needs_proc
from places import KINDS, ONE_OF_EACH


def no_locks(descriptor):
    raise NoLocksError


@pytest.fixture(params=["locks", "no locks"])
def _locks(request, monkeypatch):
    if request.param == "no locks":
        monkeypatch.setattr(file_lock, "is_taken", no_locks)


@pytest.mark.filterwarnings("ignore:.*has no locks")
@pytest.mark.usefixtures("_locks")
@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_the_writer_is_named_while_it_holds_the_store_and_not_after(kind, tmp_path):
    place = KINDS[kind](tmp_path)
    store, reader = as_store(place()), as_store(place())
    assert reader.writer_holder() is None
    store.lock()
    try:
        found = reader.writer_holder()
        assert (found.pid, found.is_alive) == (os.getpid(), True)
        store.check_held()
    finally:
        store.unlock()
    assert reader.writer_holder() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', "\xff"])
def test_a_note_that_names_no_process_is_none(text, tmp_path):
    folder = tmp_path / "fit.zarr/_sampling_state/log"
    folder.mkdir(parents=True)
    (folder / ".holder").write_text(text)
    assert as_store(tmp_path / "fit.zarr").writer_holder() is None


@needs_proc
def test_a_process_that_was_killed_is_dead_also_before_its_parent_asks_how_it_ended():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    holder = replace(Holder.this_process(), pid=process.pid, started=_start_of(process.pid))
    assert holder.is_alive is True
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_alive is False
    process.wait()
    assert holder.is_alive is False
