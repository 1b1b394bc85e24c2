"""Processes that sample for real, forked from one that has imported and compiled all before."""

import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torture.diary import Diary

__all__ = [
    "Case",
    "Session",
    "Start",
    "Warm",
    "WarmCases",
    "is_alive",
    "processes_of",
    "wait_until",
]

ORACLE = "oracle.zarr"


@dataclass(frozen=True)
class Case:
    """A model and the arguments it is sampled with.

    Attributes
    ----------
    model : callable
        Returns the model.
    arguments : mapping
        Of `checkpoint.sample`.
    step : str
        Name of a step method of PyMC's; the empty string lets PyMC choose.
    """

    model: Callable[[], Any]
    arguments: Mapping[str, Any]
    step: str = ""

    @property
    def total(self) -> int:
        """Draws of a chain, warm-up included."""
        return int(self.arguments["draws"] + self.arguments["tune"])

    def sample(self, store: Any, model: Any, **arguments: Any) -> Any:
        """Sample into a store, or go on."""
        import pymc as pm

        import checkpoint

        with model:
            step = getattr(pm, self.step)() if self.step else None
            return checkpoint.sample(store, step=step, **{**self.arguments, **arguments})


@dataclass(frozen=True)
class Start:
    """How one process of a run is started.

    Attributes
    ----------
    store : Path
    outcome : Path
        Where it says how it ended, if it ends by itself.
    arguments : mapping
        In place of those of the case.
    diary : Path or None
        Where each draw is noted when it is recorded.
    obeys : bool
        Whether permissions hold for it even if it runs as root.
    file_nbytes : int
        The largest size of a file that it may write, from the lock of the store on; 0: no limit.
    holds_back : bool
        Plant a fault: commits come far too seldom.
    loses_last : bool
        Plant a fault: once a signal has come, nothing is committed.
    """

    store: Path
    outcome: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)
    diary: Path | None = None
    obeys: bool = False
    file_nbytes: int = 0
    holds_back: bool = False
    loses_last: bool = False


class Warm:
    """A process that has a model compiled, with the result that every run of it must have.

    Parameters
    ----------
    case : Case
    folder : Path
        For the oracle: a run that nothing happens to, in `oracle`.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.oracle = folder / ORACLE
        folder.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=_serve, args=(case, folder, remote, os.getpid()))
        self._process.start()
        remote.close()
        self._is_ready = False

    def wait(self) -> None:
        """Wait until the oracle is there."""
        if not self._is_ready:
            self._pipe.recv()
            self._is_ready = True

    def start(self, how: Start) -> "Session":
        """Start a run, or go on with it, in a process of its own that leads a group."""
        self.wait()
        how.outcome.unlink(missing_ok=True)
        return Session(self, how, self._ask(how))

    def exit_code(self, pid: int) -> int | None:
        """Return how a process ended, negative for a signal; None while it runs."""
        return self._ask(pid)

    def close(self) -> None:
        self._pipe.close()
        self._process.join(timeout=10)
        self._process.kill()
        self._process.join()

    def __enter__(self) -> "Warm":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _ask(self, request: Any) -> Any:
        self._pipe.send(request)
        return self._pipe.recv()


class WarmCases:
    """Warm processes, one for each case, that live as long as the block.

    Attributes
    ----------
    cases : mapping of str to Case
        What is sampled, by name.
    warm : dict of str to Warm
    """

    def __init__(self, cases: Mapping[str, Case], folder: Path) -> None:
        self.cases = cases
        self.warm = {name: Warm(case, folder / name) for name, case in cases.items()}

    def __enter__(self) -> Self:
        for warm in self.warm.values():
            warm.wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for warm in self.warm.values():
            warm.close()


class Session:
    """One process of a run, with its workers.

    Attributes
    ----------
    pid : int
        Of the process, and of its group.
    """

    def __init__(self, warm: Warm, how: Start, pid: int) -> None:
        self.warm, self.how, self.pid = warm, how, pid
        self.exit_code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone; its workers may not be."""
        if self.exit_code is None:
            self.exit_code = self.warm.exit_code(self.pid)
        return self.exit_code is not None

    @property
    def workers(self) -> list[int]:
        """Processes of the group that are alive, without the first."""
        return [pid for pid in processes_of(self.pid) if pid != self.pid]

    def wait(self, seconds: float) -> bool:
        """Wait until the process is gone; return whether it is."""
        return wait_until(lambda: self.has_ended, seconds)

    def wait_for_workers(self, seconds: float) -> list[int]:
        """Wait until no process of the group is alive; return those that still are."""
        wait_until(lambda: not processes_of(self.pid), seconds)
        return processes_of(self.pid)

    def end(self) -> None:
        """Kill all that is left of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(10)

    @property
    def outcome(self) -> dict[str, Any]:
        """How it ended; empty if it was killed.

        With what the result differs in (`unequal`) and `warnings`, or with `error`, `kinds` (names
        of classes) and `text`.
        """
        if not self.how.outcome.exists():
            return {}
        return dict(json.loads(self.how.outcome.read_text()))


def wait_until(condition: Callable[[], Any], seconds: float) -> bool:
    """Wait until a condition holds; return whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def processes_of(group: int) -> list[int]:
    """Return the processes of a group, without those that only wait to be reaped."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            state = _state_of(name)
            if state and int(state[2]) == group and state[0] != "Z":
                found.append(int(name))
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that waits to be reaped does not."""
    state = _state_of(str(pid))
    return bool(state) and state[0] != "Z"


def _state_of(pid: str) -> list[str]:
    """Return state, parent, group and more of a process; nothing if there is none."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _serve(case: Case, folder: Path, pipe: Any, parent: int) -> None:
    """Make the oracle, then fork whenever a start is asked for."""
    _end_with(parent)
    multiprocessing.set_start_method("fork", force=True)  # as usual, not as this process was
    sys.stdout = sys.stderr = (folder / "log").open("a", buffering=1)
    model = case.model()
    warnings.simplefilter("ignore")
    whole = case.sample(folder / ORACLE, model)
    pipe.send("ready")
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            os._exit(0)
        if isinstance(request, Start):
            pid = os.fork()
            if pid == 0:
                _run(case, model, whole, request, os.getppid())
            pipe.send(pid)
        else:
            pid, status = os.waitpid(request, os.WNOHANG)
            pipe.send(os.waitstatus_to_exitcode(status) if pid else None)


def _run(case: Case, model: Any, whole: Any, how: Start, parent: int) -> None:
    """Sample in a fork and say how it went; never return."""
    code = 1
    try:
        os.setsid()
        _end_with(parent)
        _do_as_told(how)
        outcome = _sample(case, model, whole, how)
        _limit_file_size(None)  # it is to be written whole
        written = how.outcome.with_suffix(".part")
        written.write_text(json.dumps(outcome))
        written.rename(how.outcome)
        code = 0
    except SystemExit as error:  # a signal preempted it
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _sample(case: Case, model: Any, whole: Any, how: Start) -> dict[str, Any]:
    from compare import unequal

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = case.sample(how.store, model, **how.arguments)
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        at = traceback.extract_tb(error.__traceback__)[-1]
        return {
            "error": kinds[0],
            "kinds": kinds,
            "text": str(error),
            "at": f"{at.filename}:{at.lineno}",
        }
    warned = [str(warning.message) for warning in caught]
    return {"unequal": unequal(result, whole), "warnings": warned}


def _do_as_told(how: Start) -> None:
    if how.diary is not None:
        Diary(how.diary).keep()
    if how.holds_back:
        _hold_back()
    if how.loses_last:
        _lose_last()
    if how.file_nbytes:
        _limit_files(how.file_nbytes)
    if how.obeys:
        _obey_permissions()


def _hold_back() -> None:
    """Commit far more seldom than is promised."""
    from checkpoint.recording.writer import ChainWriter

    usual = ChainWriter._wait_for_next

    def wait(self: Any, *arguments: Any, **named: Any) -> None:
        usual(self, *arguments, **named)
        self._pause = 1e9

    ChainWriter._wait_for_next = wait


def _lose_last() -> None:
    """Commit nothing once a signal has come."""
    from checkpoint.chains.signals import Interrupts
    from checkpoint.recording.writer import ChainWriter

    begin = Interrupts._begin

    def lose(self: Any, number: int) -> None:
        ChainWriter.commit = lambda writer: None
        begin(self, number)

    Interrupts._begin = lose


def _limit_files(n_bytes: int) -> None:
    """Limit the size of files from the lock of the store on, not when the model is compiled."""
    from checkpoint.stores.file_lock import WriterLock

    acquire = WriterLock.acquire

    def limited(*arguments: Any) -> None:
        _limit_file_size(n_bytes)
        acquire(*arguments)

    WriterLock.acquire = limited


def _limit_file_size(n_bytes: int | None) -> None:
    """Set the limit that this process and its workers have, or take it away again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if n_bytes is None else n_bytes, hard))


def _obey_permissions() -> None:
    """Give up the right of root to pass over permissions: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    sets[0] &= ~0b110
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies: the bench leaves nobody behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
