"""The recipes of docs/how-to/schedulers.md, under a parent that sends what the real one sends."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import checkpoint
from compare import unequal
from folders import ROOT, SUPPORT
from killing import children_of, members, needs_proc, recorded
from models import normals
from settings import SMALL

pytestmark = [pytest.mark.slow, needs_proc]

RECIPES = (ROOT / "docs" / "how-to" / "schedulers.md").read_text()

ARGUMENTS = {"draws": 6000, "tune": 300, "chains": 2, "random_seed": 3, "cores": 2, **SMALL}

FIT = """
import sys, time
sys.path.insert(0, {tests!r})
import checkpoint, models, pymc as pm
with models.normals():
    checkpoint.sample("fit.zarr", step=pm.Metropolis(), commit_interval=0.1, **{arguments!r})
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A folder with the script, and with commands that stand in for those of a scheduler."""
    monkeypatch.chdir(tmp_path)
    arguments = {**ARGUMENTS, "draws": 300_000}
    (tmp_path / "fit.py").write_text(FIT.format(tests=str(SUPPORT), arguments=arguments))
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in {
        "checkpoint": f'exec "{sys.executable}" -m checkpoint "$@"',
        "scontrol": 'echo "$@" >> scontrol.txt',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    return tmp_path


def start(command):
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)


def wait_for_draws(process, before):
    """Wait until there are some draws more than before it was started."""
    deadline = time.monotonic() + 90
    while recorded("fit.zarr") < before + 2000:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def family_of(pid):
    return [pid, *(other for child in children_of(pid) for other in family_of(child))]


def finish_and_compare(job):
    """Go on with fewer draws, as is allowed, so that the test ends; compare with one left alone."""
    import pymc as pm

    n = min(checkpoint.open("fit.zarr").draw_idx) - 300 + 200
    with normals():
        given = {**ARGUMENTS, "draws": int(n)}
        result = checkpoint.sample("fit.zarr", step=pm.Metropolis(), **given)
        whole = checkpoint.sample(job / "whole.zarr", step=pm.Metropolis(), **given)
    assert unequal(result, whole) == []


def test_slurm_signals_the_batch_shell_alone_and_the_job_is_requeued(job):
    [recipe] = re.findall(r"```bash\n(.*?)```", RECIPES, re.DOTALL)
    (job / "job.sh").write_text(recipe)
    for life in (1, 2):
        before = recorded("fit.zarr")
        process = start(["bash", "job.sh"])
        wait_for_draws(process, before)
        process.send_signal(signal.SIGUSR1)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGUSR1, said
        assert (job / "scontrol.txt").read_text() == "requeue 4711\n" * life
        assert members(process.pid) == []
        assert checkpoint.open("fit.zarr").history.last.detail == "SIGUSR1"
    finish_and_compare(job)


def test_kubernetes_ends_the_main_process_and_kills_what_is_left(job):
    [command] = re.findall(r"command: \[(.*?)\]", RECIPES)
    for _ in range(2):
        before = recorded("fit.zarr")
        process = start(re.findall(r'"(.*?)"', command))
        wait_for_draws(process, before)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)  # the grace period
        assert process.returncode == 128 + signal.SIGTERM
        assert members(process.pid) == [], "nothing was left to be killed"
    finish_and_compare(job)


def test_a_whole_container_that_is_killed_goes_on(job):
    process = start(["checkpoint", "run", "fit.py"])
    wait_for_draws(process, 0)
    for pid in family_of(process.pid):  # as a cgroup is killed
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    finish_and_compare(job)


def test_htcondor_starts_a_job_again_that_says_it_has_saved(job):
    words = 'max_time="4s", on_deadline="exit", preempt_exit_code=85'
    assert words.replace("4s", "1h") in RECIPES
    script = (job / "fit.py").read_text().replace("commit_interval=0.1", words)
    (job / "fit.py").write_text(script)
    for _ in range(2):
        before = recorded("fit.zarr")
        process = start([sys.executable, "fit.py"])
        _, said = process.communicate(timeout=120)
        assert process.returncode == 85, said
        assert recorded("fit.zarr") > before
    finish_and_compare(job)
