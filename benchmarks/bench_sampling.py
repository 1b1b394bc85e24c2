"""Whole runs beside `pm.sample`, and the cost of a draw."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pymc as pm
import pytensor
import pytest

import checkpoint
from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.results import stats_columns
from checkpoint._pymc.setup import Arguments, prepare
from checkpoint.adapters.step_method import StepMethod
from checkpoint.format.compressors import default_compressor
from checkpoint.hierarchy import read_root
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.recorder import Recorder, row_plan
from checkpoint.recording.session_clock import SessionClock
from checkpoint.runs.describe import StoreSettings, describe_run

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import eight_schools  # the example's folder is no package


def radon() -> pm.Model:
    """A varying-intercept regression of the size of the radon data: 919 houses, 85 counties."""
    rng = np.random.default_rng(1)
    county, floor = rng.integers(85, size=919), rng.integers(2, size=919)
    level = 1.3 + 0.3 * rng.normal(size=85)[county] - 0.6 * floor + 0.7 * rng.normal(size=919)
    with pm.Model() as model:
        mu, sigma = pm.Normal("mu", 0, 10), pm.HalfNormal("sigma_county", 1)
        intercept = pm.Deterministic("intercept", mu + sigma * pm.Normal("standard", shape=85))
        slope, noise = pm.Normal("slope", 0, 10), pm.HalfNormal("noise", 1)
        pm.Normal("level", intercept[county] + slope * floor, noise, observed=level)
    return model


def normals() -> pm.Model:
    with pm.Model() as model:
        pm.Normal("x", shape=1000)
    return model


MODELS = {"eight schools": eight_schools.model, "radon": radon, "1,000 normals": normals}
QUIET = {"progressbar": False, "compute_convergence_checks": False, "random_seed": 1}


def with_pymc(model, fastmath, **arguments):
    with model, pytensor.config.change_flags(numba__fastmath=fastmath):
        return pm.sample(nuts_sampler="pymc", **QUIET, **arguments)


@pytest.mark.parametrize("fastmath", [False, True], ids=["same flags", "PyMC's flags"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("chains", "cores"), [(4, 2), (1, 1)])
def bench_wall(name, chains, cores, fastmath, paired, fresh):
    model = MODELS[name]()
    arguments = {"draws": 1000, "tune": 1000, "chains": chains, "cores": cores}

    def run():
        with model:
            checkpoint.sample(fresh(), **QUIET, **arguments)

    flags = "PyMC's flags" if fastmath else "same flags"
    paired(
        f"wall / pm.sample, {name}, {chains} chains on {cores} cores, {flags}",
        run,
        lambda: with_pymc(model, fastmath, **arguments),
        "<= 1.00" if cores == 2 else "<= 1.05",
    )


@pytest.mark.parametrize("name", ["eight schools", "1,000 normals"])
def bench_until(name, paired, report, fresh):
    """Time a run that is asked 11 times whether it is good, and a last time when it is."""
    model = MODELS[name]()
    arguments = {"draws": 1184, "tune": 500, "chains": 4, "cores": 2, "quiet": True}
    asked = []

    def good(run):
        asked.append(run)
        return len(asked) % 12 == 0 and checkpoint.until(rhat=2, ess_bulk=1, ess_tail=1)(run)

    def sample(**criterion):
        with model:
            began = time.perf_counter()
            checkpoint.sample(fresh(), **QUIET, **arguments, **criterion)
            seconds.append(time.perf_counter() - began)

    seconds: list[float] = []
    paired(
        f"until, asked 12 times / not asked, {name}, 4 x 1,184 draws",
        lambda: sample(until=good),
        sample,
        "none",
        rounds=5,
    )
    # Those with and without come in turn, after one of each.
    more = np.median(np.subtract(seconds[3::2], seconds[2::2]))
    report(f"a round and a question, {name}, 4 chains on 2 cores", f"{more / 12:.3f} s", "none")


@pytest.mark.parametrize(("chains", "cores"), [(4, 2), (1, 1)])
def bench_zarr_trace(chains, cores, paired, fresh):
    """Time PyMC's own drivers with a ZarrTrace, and without."""
    model = MODELS["eight schools"]()
    arguments = {"draws": 1000, "tune": 1000, "chains": chains, "cores": cores}

    def run():
        with checkpoint.ZarrTrace(fresh()) as trace:
            with_pymc(model, False, trace=trace, **arguments)

    paired(
        f"pm.sample with ZarrTrace / without, eight schools, {chains} chains on {cores} cores",
        run,
        lambda: with_pymc(model, False, **arguments),
        "none",
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("at", [100, 50_000])
def bench_capture_and_record(name, at, benchmark, report):
    """Time recording, without the recorded variables, which `pm.sample` computes as well."""
    n = 2000
    with exact_compilation(fastmath=False):
        arguments = Arguments(
            MODELS[name](), draws=at + n, tune=0, chains=1, cores=1, random_seed=1, quiet=True
        )
        preparation = prepare(arguments)
        settings = StoreSettings(3, n, default_compressor())
        manifest, schemas = describe_run(arguments, preparation, settings, False, False)
    method = StepMethod.of(preparation.step, schemas, manifest)
    sampler = method.sampler(preparation.rngs[0])
    sampler.start()
    step = sampler.method
    step.stop_tuning()
    plan = row_plan(manifest, stats_columns(step))
    values = preparation.recorder.fn(*preparation.initial_points[0].values())
    recorder = Recorder(
        plan,
        lambda *_: values,
        sampler,
        RowBuffer(manifest.columns, n, 0),
    )
    point, stats = step.step(preparation.initial_points[0])
    stats[0]["warning"] = None  # a divergence is rare, and is kept with its whole state
    # What grows with a run are lists of the step method; they grow with their appends.
    for _ in range(at):
        step.step_adapt.update(0.8, False)

    def record_all():
        for _ in range(n):
            step.step_adapt.update(0.8, False)  # as a step does after warm-up
            recorder.record(point, stats)
        recorder.settle()
        recorder.start_chunk(n)

    benchmark.pedantic(record_all, rounds=15, iterations=1, warmup_rounds=1)
    per_draw = benchmark.stats.stats.median / n * 1e6
    began = time.perf_counter()
    for _ in range(300):
        point, _ = step.step(point)
    per_step = (time.perf_counter() - began) / 300 * 1e6
    report(
        f"capture + record, {name}, at draw {at:,}",
        f"{per_draw:.1f} us, {per_draw / per_step:.1%} of a step",
        "<= 10 us",
    )


class Stop:
    def __init__(self, n):
        self.n = n

    def __call__(self, trace, draw):
        self.n -= 1
        if self.n == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("draws", [1_000, 100_000])
def bench_resume(draws, benchmark, report, fresh):
    """Time what a resumed run does before its first new draw, beyond importing and compiling."""
    from checkpoint._pymc.setup import prepare_again
    from checkpoint.chains import chain as chains
    from checkpoint.recording.recovery import recover
    from checkpoint.recording.start import read_constants, read_start
    from checkpoint.runs.active import ActiveRun, tasks_of
    from checkpoint.runs.same_run import check_logp
    from checkpoint.stores import DirectoryStore

    with pm.Model() as model:
        pm.Normal("x", shape=2)
    path = fresh()
    with model:
        checkpoint.sample(path, draws=draws, tune=100, chains=4, cores=2, quiet=True, **QUIET)
    store = DirectoryStore(path)
    with exact_compilation(fastmath=False):
        manifest = read_root.read_manifest(store)
        points, rngs = read_start(store, manifest)
        arguments = Arguments(model, draws=draws, tune=100, chains=4, cores=2, quiet=True)
        preparation = prepare_again(arguments, points, rngs, {})

    def resume():
        manifest = read_root.read_manifest(store)
        schemas = read_constants(store, manifest)
        read_start(store, manifest)
        run = ActiveRun(store, manifest, preparation, schemas, draws)
        records = [recover(store, manifest, chain) for chain in range(4)]
        check_logp(store, manifest, preparation, records)
        for record in records:
            [task] = tasks_of(
                ActiveRun(store, manifest, preparation, schemas, draws + 1),
                [record],
                manifest.tune + draws + 1,
                1.0,
                SessionClock(),
            )
            chains.prepare_sampler(task, record)
        return run

    benchmark.pedantic(resume, rounds=9, iterations=1, warmup_rounds=1)
    report(
        f"resume of 4 chains x {draws:,} draws",
        f"{benchmark.stats.stats.median:.3f} s",
        "<= 0.5 s",
    )


MEMORY = """
import sys
sys.path.insert(0, {examples!r})
import checkpoint, pymc as pm
seen = {{}}
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
from checkpoint.adapters import step_method
count = 0
def counting(stats):
    global count
    count += 1
    if count in (100_000, 200_000):
        print(count, round(rss(), 1), flush=True)
step_method.log_warnings_of = counting
with pm.Model():
    pm.Normal("x")
    try:
        checkpoint.sample({store!r}, draws=199_900, tune=100, chains=1, cores=1, quiet=True,
                          progressbar=False, compute_convergence_checks=False)
    finally:
        pass
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def bench_memory(benchmark, report, fresh):
    code = MEMORY.format(examples=str(Path(__file__).parents[1] / "examples"), store=str(fresh()))
    run = benchmark.pedantic(
        lambda: subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], text=True, capture_output=True, check=True
        ),
        rounds=1,
        iterations=1,
    )
    sizes = dict(map(float, line.split()) for line in run.stdout.splitlines())
    growth = sizes[200_000] - sizes[100_000]
    report(
        "memory, draw 100,000 to 200,000",
        f"{growth:+.1f} MiB of {sizes[200_000]:.0f}",
        "independent of run length",
    )


@pytest.mark.parametrize("name", MODELS)
def bench_disk(name, benchmark, report, fresh):
    path = fresh()

    def run():
        with MODELS[name]():
            checkpoint.sample(fresh(), draws=1000, tune=1000, chains=2, cores=2, **QUIET)

    with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
        benchmark.pedantic(run, rounds=1, iterations=1)
    on_disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    raw = 0
    run = checkpoint.open(path)
    import numcodecs

    zstd = numcodecs.Zstd(level=3)
    for record in run._records:
        for column in run._manifest.columns:
            for start, stop in ((0, 1000), (1000, 2000)):
                values = record.values(column.path, start, stop)
                if values.dtype == object:
                    raw += len(zstd.encode("\0".join(values).encode()))
                else:
                    raw += len(zstd.encode(np.ascontiguousarray(values).tobytes()))
    report(f"bytes on disk / compressed columns, {name}", f"{on_disk / raw:.2f}", "<= 1.3")
