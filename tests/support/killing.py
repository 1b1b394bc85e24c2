"""Runs in processes of their own, which are killed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import checkpoint
from folders import SUPPORT
from settings import SMALL

ARGUMENTS = {
    "draws": 2000,
    "tune": 600,
    "chains": 3,
    "random_seed": 8,
    "discard_tuned_samples": False,
    **SMALL,
}
INTERVAL = 0.1

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import checkpoint, models
from killing import INTERVAL, arguments_of, step_of
with models.{model}():
    checkpoint.sample({store!r}, cores={cores}, commit_interval=INTERVAL, step=step_of({model!r}),
                      **arguments_of({model!r}))
"""


def script(store: Path, model: str, cores: int, **others) -> str:
    code = SCRIPT.format(tests=str(SUPPORT), model=model, store=str(store), cores=cores)
    usual = f"**arguments_of({model!r})"
    assert usual in code
    return code.replace(usual, f"**{{{usual}, **{others!r}}}")


def step_of(model):
    import pymc as pm

    return pm.DEMetropolisZ() if model == "normals" else None


def arguments_of(model):
    # Its draws are so fast that a run of 2000 would be over within a few commit intervals.
    return {**ARGUMENTS, "draws": 20_000} if model == "normals" else ARGUMENTS


def start(store: Path, model: str, cores: int, **others) -> subprocess.Popen:
    """Start a run in a process; `others` are arguments of `sample` instead of the usual ones."""
    code = script(store, model, cores, **others)
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], start_new_session=True)


def recorded(store: Path) -> int:
    try:
        return int(checkpoint.open(store).draw_idx.sum())
    except checkpoint.errors.RunNotFoundError:
        return 0


def wait_for(condition, process, seconds=90):
    """Wait until a condition holds; return False if the process ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)
    return True


def children_of(pid: int) -> list[int]:
    """Return the processes whose parent is `pid`, without those that only wait to be reaped."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def members(session: int) -> list[int]:
    """Return the processes of a session that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def finish(store, model, cores, **others):
    with model():
        return checkpoint.sample(
            store,
            cores=cores,
            resume="must",
            step=step_of(model.__name__),
            **{**arguments_of(model.__name__), **others},
        )


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
