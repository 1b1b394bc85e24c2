"""`checkpoint run`: signals are passed on, and a script that crashes is started again."""

import os
import signal
import subprocess
import sys
import time

import pytest

import checkpoint
from compare import unequal
from folders import SUPPORT
from killing import members, needs_proc, recorded
from models import normals
from settings import SMALL, slowly

COMMAND = [sys.executable, "-m", "checkpoint", "run", "--pause", "0.05"]


def supervise(tmp_path, code, *options, **how):
    script = tmp_path / "script.py"
    script.write_text(code)
    return subprocess.Popen(
        [*COMMAND, *options, str(script), "an argument"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
        **how,
    )


def ended(process):
    out, said = process.communicate(timeout=120)
    return process.returncode, out, " ".join(said.split())


def test_a_script_gets_its_arguments_and_its_exit_code_is_passed_on(tmp_path):
    code, out, said = ended(supervise(tmp_path, "import sys; print(sys.argv[1:])"))
    assert (code, out) == (0, "['an argument']\n")
    assert "It ended with exit code 0" in said


def test_a_module_runs_as_with_python(tmp_path):
    (tmp_path / "mine.py").write_text("print(__name__)")
    done = subprocess.run(
        [*COMMAND, "-m", "mine"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "__main__\n"


def test_what_gains_nothing_is_not_started_for_ever(tmp_path):
    began = time.monotonic()
    code, _, said = ended(supervise(tmp_path, "raise SystemExit(7)", "--retries", "2"))
    assert code == 7
    assert said.count("is started, as process") == 3
    assert "started again in 0.05 s" in said
    assert "started again in 0.1 s" in said, "the pause grows"
    assert "nothing was gained in 3 starts in a row" in said
    assert time.monotonic() - began >= 0.15


@pytest.mark.parametrize(
    ("end", "options", "code"),
    [
        ("sys.exit(85)", ["--final", "85"], 85),
        ("os.kill(os.getpid(), 9)", ["--on-oom", "stop"], 137),
        ("sys.exit(143)", [], 143),  # a deadline, or a signal that only the script got
    ],
)
def test_what_is_final_is_not_started_again(end, options, code, tmp_path):
    found, _, said = ended(supervise(tmp_path, f"import os, sys; {end}", *options))
    assert found == code
    assert said.count("is started, as process") == 1


WAITS = """
import os, signal, sys, time
number = signal.{name}
signal.signal(number, lambda *_: (print("got it", flush=True), sys.exit(128 + number)))
print("ready", flush=True)
time.sleep(60)
"""


@needs_proc
@pytest.mark.parametrize("to", ["process", *slowly("group")])
@pytest.mark.parametrize(
    "name", ["SIGTERM", "SIGINT", *slowly("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM")]
)
def test_a_signal_is_passed_on_once_and_nothing_is_started_again(name, to, tmp_path):
    process = supervise(tmp_path, WAITS.format(name=name))
    assert process.stdout.readline() == "ready\n"
    (os.kill if to == "process" else os.killpg)(process.pid, getattr(signal, name))
    code, out, said = ended(process)
    assert (code, out) == (128 + getattr(signal, name), "got it\n")
    assert said.count("is started, as process") == 1
    assert members(process.pid) == []


def test_a_signal_in_the_pause_ends_it(tmp_path):
    process = supervise(tmp_path, "raise SystemExit(1)", "--pause", "60")
    while "started again in 60 s" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    code, _, said = ended(process)
    assert code == 143
    assert "Not started again: SIGTERM came" in said


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    code = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = supervise(tmp_path, code)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ended(process)[1] == "True\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.py"], "nothing.py does not exist"),
        ([], "Name a script"),
        (["-m", "no.such.module"], "there is no module"),
        (["--retries", "-1", "x.py"], "-1 is not in the range"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, words, tmp_path):
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr


SAMPLES = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import checkpoint, models, pymc as pm
def die(trace, draw):
    if draw.draw_idx and draw.draw_idx % 40 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
with models.normals():
    checkpoint.sample("fit.zarr", step=pm.Metropolis(), callback=die, commit_interval=0,
                      cores=1, **{arguments!r})
"""
ARGUMENTS = {"draws": 100, "tune": 50, "chains": 1, "random_seed": 3, **SMALL}


def test_a_run_that_is_killed_again_and_again_is_finished_while_it_gains_draws(tmp_path):
    code = SAMPLES.format(tests=str(SUPPORT), arguments=ARGUMENTS)
    found, _, said = ended(supervise(tmp_path, code, "--retries", "0"))
    assert found == 0, said
    assert said.count("It was killed by SIGKILL (out of memory, perhaps)") == 3
    assert "40 draws more are recorded" in said
    store = tmp_path / "fit.zarr"
    assert recorded(store) == 150
    import pymc as pm

    with normals():
        whole = checkpoint.sample(tmp_path / "whole.zarr", step=pm.Metropolis(), **ARGUMENTS)
        result = checkpoint.sample(store, step=pm.Metropolis(), **ARGUMENTS)
    assert unequal(result, whole) == []
    log = (tmp_path / "fit.zarr.log").read_text().splitlines()
    assert len(log) == 8
    assert "is started, as process" in log[0]
    assert "exit code 0" in log[-1]
