"""A sampler that compiles nothing: a random walk in numpy, and runs of it.

It is to the driver what PyMC's step methods are: a `Method` that makes a `Sampler` for each chain.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.declared import StepAdapter
from checkpoint.adapters.fields import ArrayField, ScalarField
from checkpoint.adapters.generator_field import GeneratorField
from checkpoint.chains.task import ChainTask, RunTask
from checkpoint.format.compressors import default_compressor
from checkpoint.format.generators import generator_from_json, generator_to_json
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Column
from checkpoint.hierarchy import write_root
from checkpoint.hierarchy.contents import Contents
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.recorder import Recorder, row_plan
from checkpoint.stores import Store

N = 2
STATS = [(0, "accepted", "|b1"), (0, "scale", "<f8")]


class RandomWalk:
    """Metropolis on a standard normal; the scale is adapted in warm-up."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.scale, self.tune, self.mean = rng, 1.0, True, np.zeros(N)

    def start(self) -> None: ...

    def restore(self, rows: Any, draw_idx: int) -> None:
        StepAdapter(SCHEMA).restore(self, rows, draw_idx)

    def step(self, point: Any) -> tuple[Any, Any]:
        x = point["x"]
        proposed = x + self.scale * self.rng.normal(size=N)
        accepted = bool(np.log(self.rng.random()) < (x @ x - proposed @ proposed) / 2)
        x = proposed if accepted else x
        if self.tune:
            self.scale *= 1.1 if accepted else 0.95
        self.mean = 0.9 * self.mean + 0.1 * x
        return {"x": x}, [{"accepted": accepted, "scale": self.scale}]

    def stop_tuning(self) -> None:
        self.tune = False

    def warn(self, stats: Any) -> None: ...

    def attach(self, data: Any) -> None:
        self._adapter = StepAdapter(SCHEMA)
        self._adapter.attach(self, data)
        self.capture, self.settle = self._adapter.take, self._adapter.settle


class BlockWalk(RandomWalk):
    """The same draws, made many at a time."""

    block_length = 7

    def step_block(self, point: Any, n_draws: int) -> dict[str, Any]:
        recorder = Recorder(PLAN, compute, self, RowBuffer(COLUMNS, n_draws, 0))
        for _ in range(n_draws):
            point, stats = self.step(point)
            recorder.record(point, stats)
        recorder.settle()
        return recorder.buffer.slices(0, n_draws)


RNG = np.random.Generator(np.random.PCG64(5))
SCHEMA = AdapterSchema(
    0,
    "RandomWalk(x)",
    (
        GeneratorField.of("rng", RNG.spawn(1)[0]),
        ScalarField("scale", "<f8", "float"),
        ScalarField("tune", "|b1", "bool"),
        ArrayField("mean", "<f8", (N,), "C"),
    ),
)
COLUMNS = (
    Column("posterior/x", "<f8", (N,)),
    *(Column(f"sample_stats/sampler_0__{name}", dtype) for _, name, dtype in STATS),
    *SCHEMA.columns,
)


def compute(x: Any) -> list[Any]:
    return [x]


@dataclass(frozen=True)
class Walks:
    """The method of a run: its walks, one by one or in blocks."""

    kind: type[RandomWalk] = RandomWalk
    schemas: tuple[AdapterSchema, ...] = (SCHEMA,)

    def sampler(self, rng: np.random.Generator) -> Any:
        return self.kind(generator_from_json(generator_to_json(rng)))

    def samplers(self, rngs: Any, sources: Any, n_rows: int) -> list[Any]:
        samplers = [self.sampler(rng) for rng in rngs]
        for sampler, rows in zip(samplers, sources, strict=True):
            sampler.restore(rows, n_rows - 1) if n_rows else sampler.start()
        return samplers

    def link(self, samplers: Any, population: Any) -> None: ...

    @property
    def context(self) -> Any:
        return nullcontext


def manifest_of(chains: int, tune: int, draws: int, chunk: int) -> Manifest:
    rngs = np.random.Generator(np.random.PCG64(5)).spawn(chains)
    return Manifest(
        run_id=1,
        zarr_format=3,
        chains=chains,
        tune=tune,
        draws=draws,
        warmup_chunk=chunk,
        chunk=chunk,
        compressor=default_compressor().to_json(),
        columns=COLUMNS,
        schemas=(SCHEMA.to_json(),),
        point_paths={"x": "posterior/x"},
        variables=("x",),
        model={},
        settings={},
        environment={},
        seed="5",
        rngs=tuple(generator_to_json(rng) for rng in rngs),
        start_logp=(),
        sequential=True,
        fastmath=False,
    )


PLAN = row_plan(manifest_of(1, 1, 1, 1), STATS)


def begin_run(
    store: Store, chains: int = 2, tune: int = 30, draws: int = 50, chunk: int = 20
) -> Manifest:
    """Write a run without draws."""
    write_root.write_placeholder(store, 3)
    start = {"x": np.zeros((chains, N))}
    contents = Contents({}, {}, {}, start, {}, frozenset(["x"]))
    return write_root.create(store, manifest_of(chains, tune, draws, chunk), contents)


def tasks_of(
    store: Store,
    manifest: Manifest,
    method: Any = None,
    n_rows: int | None = None,
    commit_interval: float = 1000.0,
) -> Sequence[ChainTask]:
    """Return the tasks of all chains."""
    n_rows = manifest.total if n_rows is None else n_rows
    run = RunTask(store, manifest, method or Walks(), PLAN, compute, commit_interval)
    return [
        ChainTask(run, chain, {"x": np.zeros(N)}, generator_from_json(document), n_rows)
        for chain, document in enumerate(manifest.rngs)
    ]


class StopAfter:
    """An observer that stops its chain once it has so many draws."""

    def __init__(self, n_rows: int | None = None) -> None:
        self.n_rows = n_rows
        self.seen: list[int] = []

    def should_stop(self) -> bool:
        return self.n_rows is not None and bool(self.seen) and self.seen[-1] >= self.n_rows

    def saw(self, chain: int, n_rows: int, point: Any, stats: Any) -> None:
        self.seen.append(n_rows)


def rows_of(store: Store, manifest: Manifest, chain: int) -> dict[str, Any]:
    """Return all that a chain has recorded, by column."""
    from checkpoint.recording.recovery import recover

    record = recover(store, manifest, chain)
    return record.rows(0, record.n_rows)
