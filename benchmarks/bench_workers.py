"""Many short chains on two cores, by each way to start a process, beside `pm.sample`.

Nearly all of such a run is starting processes. With spawn each of them imports PyMC, and the main
module: here a script of its own, as a user's is.
"""

import json
import subprocess
import sys
import tempfile

import pytest

SCRIPT = """
import json, sys, time
from pathlib import Path

import pymc as pm
import pytensor

import checkpoint

ARGUMENTS = {{
    "draws": 100, "tune": 100, "chains": {chains}, "cores": 2, "mp_ctx": {method!r},
    "random_seed": 1, "progressbar": False, "compute_convergence_checks": False,
}}

def model():
    with pm.Model() as model:
        pm.Normal("x", shape=3)
    return model

def ours(name, **other):
    with model():
        checkpoint.sample(Path(sys.argv[1]) / name, quiet=True, **ARGUMENTS | other)

def theirs(name, **other):
    with model(), pytensor.config.change_flags(numba__fastmath=False):
        pm.sample(nuts_sampler="pymc", **ARGUMENTS | other)

if __name__ == "__main__":
    seconds = []
    for sample in (ours, theirs):
        sample("compiled.zarr", cores=1, chains=1)
        began = time.perf_counter()
        sample("fit.zarr")
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds))
"""

BUDGETS = {"fork": "<= 0.8", "forkserver": "none", "spawn": "<= 0.4"}


@pytest.mark.parametrize("method", BUDGETS)
@pytest.mark.parametrize("chains", [8, 24])
def bench_many_chains(chains, method, benchmark, report, tmp_path):
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT.format(chains=chains, method=method))
    pairs = []

    def run():
        folder = tempfile.mkdtemp(dir=tmp_path)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), folder],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        pairs.append(json.loads(done.stdout.splitlines()[-1]))

    benchmark.pedantic(run, rounds=3 if chains == 8 else 1, iterations=1)
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    ours, theirs = pairs[-1]
    report(
        f"wall / pm.sample, {chains} short chains on 2 cores, {method}",
        f"{ratios[len(ratios) // 2]:.2f}  ({ours:.1f} s beside {theirs:.1f} s, {len(pairs)} pairs)",
        BUDGETS[method],
    )
