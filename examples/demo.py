"""Kill a run with SIGKILL, resume it, and compare it with one left alone and with `pm.sample`.

python examples/demo.py [folder]
"""

import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

# ArviZ warns once a day, when it is imported, of a coming release of its own.
warnings.filterwarnings("ignore", "\\s*ArviZ is undergoing", FutureWarning)

import numpy as np
import pymc as pm
import pytensor
from eight_schools import model

import checkpoint

CHAINS, TUNE, DRAWS = 4, 1000, 1000
COUNTERS = struct.Struct(f"{CHAINS}q")
ARGUMENTS: dict[str, Any] = {
    "draws": DRAWS,
    "tune": TUNE,
    "chains": CHAINS,
    "cores": 2,
    "random_seed": 42,
    "commit_interval": 0.2,
    "discard_tuned_samples": False,
    "compute_convergence_checks": False,
    "progressbar": False,
}


def sample_and_die(store: Path, counters: Path) -> None:
    """Sample, counting every draw, and kill all processes of the run on the way."""
    with counters.open("r+b") as file, mmap.mmap(file.fileno(), COUNTERS.size) as memory:

        def count(trace: Any, draw: Any) -> None:
            drawn = list(COUNTERS.unpack(memory[:]))
            drawn[draw.chain] = draw.draw_idx + 1
            memory[:] = COUNTERS.pack(*drawn)
            if sum(drawn) > CHAINS * (TUNE + DRAWS) * 0.4:
                os.killpg(0, signal.SIGKILL)

        with model():
            checkpoint.sample(store, callback=count, quiet=True, **ARGUMENTS)


def main(folder: Path) -> int:
    """Run the demonstration; return 0 if the results are equal."""
    store, counters = folder / "fit.zarr", folder / "drawn"
    counters.write_bytes(bytes(COUNTERS.size))
    command = [sys.executable, __file__, "--die", str(store), str(counters)]
    print(f"Sampling the eight schools into {store} ...", flush=True)
    died = subprocess.run(command, start_new_session=True, check=False)
    print(f"... killed by {signal.Signals(-died.returncode).name}, all processes at once.")
    run = checkpoint.open(store)
    drawn = np.array(COUNTERS.unpack(counters.read_bytes()))
    print(f"    drawn by each chain     {_row(drawn)}   of {TUNE + DRAWS}")
    print(f"    recorded in the store   {_row(run.draw_idx)}")
    print(f"    lost, to be drawn again {_row(drawn - run.draw_idx)}")
    print("Resuming with the same call ...", flush=True)
    with model():
        resumed = checkpoint.sample(store, **ARGUMENTS)
    print("Sampling once more, uninterrupted, into another store ...", flush=True)
    with model():
        whole = checkpoint.sample(folder / "uninterrupted.zarr", **ARGUMENTS, quiet=True)
    print("... and with pm.sample, without a store.", flush=True)
    arguments = {k: v for k, v in ARGUMENTS.items() if k != "commit_interval"}
    with model(), pytensor.config.change_flags(numba__fastmath=False):
        of_pymc = pm.sample(nuts_sampler="pymc", **arguments)
    n_values = 0
    for title, other in (("an uninterrupted run", whole), ("pm.sample", of_pymc)):
        n_values, different = _compare(resumed, other)
        if different:
            print(f"DIFFERENT from {title}: {', '.join(different)}")
            return 1
    print(
        f"Equal to both, bit for bit: {n_values:,} values of draws, warm-up and sampler statistics."
    )
    return 0


def _compare(one: Any, other: Any) -> tuple[int, list[str]]:
    """Return how many values were compared, and the names of those that differ."""
    values = [
        (f"{group}/{name}", one[group][name].values, other[group][name].values)
        for group in ("posterior", "sample_stats", "warmup_posterior", "warmup_sample_stats")
        for name in other[group].data_vars
        if not name.startswith(("perf_counter", "process_time"))  # they tell the time
    ]
    different = [name for name, a, b in values if a.tobytes() != b.tobytes()]
    return sum(a.size for _, a, _ in values), different


def _row(numbers: np.ndarray[Any, Any]) -> str:
    return " ".join(f"{number:6d}" for number in numbers)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--die"]:
        sample_and_die(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:]:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        sys.exit(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            sys.exit(main(Path(temporary)))
