"""No wait for a process that writes is without an end."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import zarr.storage

from checkpoint.stores import WrappedStore, serving


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")
def test_a_process_that_was_stopped_is_ended(monkeypatch):
    monkeypatch.setattr(serving, "_AFTER_A_SIGNAL", 0.05)
    server = serving.StoreServer(WrappedStore(zarr.storage.MemoryStore({})))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os.kill(process.pid, signal.SIGSTOP)
    server._note(process.pid, is_there=True)
    ender = threading.Thread(target=server.end_workers, args=(0.05,), daemon=True)
    ender.start()
    assert process.wait(timeout=60) == -signal.SIGKILL
    ender.join(timeout=60)
    assert not ender.is_alive()
    server.close()
