"""What threads of one process share while they compile."""

import os
import threading

import pytensor
import pytest

from checkpoint._pymc import exactness, setup


def test_one_run_is_set_up_at_a_time(monkeypatch):
    """PyTensor's flags are those of all threads."""
    inside, most = [], []

    def compile_something(arguments):
        inside.append(arguments)
        most.append(len(inside))
        # As PyTensor does while it infers shapes; the second to leave would put back "".
        with pytensor.config.change_flags(cxx=""):
            threading.Event().wait(0.02)
        inside.pop()

    monkeypatch.setattr(setup, "_prepare", compile_something)
    before = pytensor.config.cxx
    threads = [threading.Thread(target=setup.prepare, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert pytensor.config.cxx == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_fork_finds_the_lock_free():
    began, may_end = threading.Event(), threading.Event()

    def hold():
        with exactness.compiling():
            began.set()
            may_end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    began.wait()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks of a process with threads
        pid = os.fork()
    if pid == 0:
        os._exit(0 if exactness._COMPILING.lock.acquire(timeout=1) else 1)
    may_end.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_of_two_that_ask_for_exactness_the_last_to_leave_gives_the_flag_back():
    before = pytensor.config.numba__fastmath
    first, second = exactness.exact_compilation(False), exactness.exact_compilation(False)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not pytensor.config.numba__fastmath
    second.__exit__(None, None, None)
    assert pytensor.config.numba__fastmath == before
