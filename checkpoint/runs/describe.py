"""Describe a prepared run by its manifest, and write it to a store.

`describe_run` makes one step with a copy of the step method to find the columns of a row;
`create_run` writes the run, and `resize_run` makes room for more draws.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.fingerprint import facts_and_graph
from checkpoint._pymc.population_size import check_population
from checkpoint._pymc.results import stats_columns
from checkpoint._pymc.setup import Arguments, Preparation
from checkpoint._pymc.steps import copy_generator, copy_step, flatten, link_population, start_chain
from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.describing import check_declared, describe
from checkpoint.chains.environment import environment
from checkpoint.errors import ChainError, CheckpointError
from checkpoint.format import layout
from checkpoint.format.compressors import Compressor
from checkpoint.format.generators import generator_to_json
from checkpoint.format.layout import point_path, stat_path, variable_path
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Column, row_nbytes
from checkpoint.hierarchy import write_root
from checkpoint.hierarchy.contents import Contents
from checkpoint.recording.record import read_draw_idx
from checkpoint.runs.randomness import check_not_random
from checkpoint.runs.same_run import call_of, seed_text, settings_of
from checkpoint.stores import Store

__all__ = [
    "StoreSettings",
    "chunk_sizes",
    "contents_of",
    "create_run",
    "describe_run",
    "resize_run",
]

_CHUNK_NBYTES = 16 << 20
"""Rows of a chunk together take about this much memory in a worker, unless told otherwise."""


@dataclass(frozen=True)
class StoreSettings:
    """The layout of a new store."""

    zarr_format: int
    draws_per_chunk: int | None
    compressor: Compressor


def describe_run(
    arguments: Arguments,
    preparation: Preparation,
    store_settings: StoreSettings,
    fastmath: bool,
    allow_pickle: bool,
    is_imported: bool = False,
) -> tuple[Manifest, tuple[AdapterSchema, ...]]:
    """Return the manifest of a new run and the schemas of its step methods; write nothing.

    Parameters
    ----------
    arguments : Arguments
    preparation : Preparation
    store_settings : StoreSettings
    fastmath, allow_pickle : bool
    is_imported : bool
        Whether the first draws are imported; they do not determine the state of the sampler.

    Raises
    ------
    ArgumentError
        If no store can hold the coordinates or the names of the model.
    UnsupportedStepError
        If the state of a step method cannot be captured.
    ChainError
        If the first step fails.
    RandomModelError
        If the model draws random numbers of its own.
    """
    check_not_random(arguments, preparation)
    check_population(preparation)
    pymc_model.check_coords(preparation.model)
    pymc_model.check_names(preparation.model)
    recorder: Any = preparation.recorder
    variables = tuple(recorder.varnames)
    transformed = pymc_model.transformed_names(preparation.model)
    recorded = {name: variable_path(name, name in transformed) for name in variables}
    points = {
        name: variable_path(name, True)
        if name in transformed
        else recorded.get(name) or point_path(name)
        for name in preparation.value_names
    }
    of_variables = _columns_of_variables(preparation, recorded, points)
    # The chains of a population share their mass matrix.
    is_alone = not (is_imported or preparation.is_population)
    adapting = {name: of_variables[path] for name, path in points.items() if is_alone}
    schemas = _probe(preparation, allow_pickle, adapting)
    columns = _columns(preparation, schemas, of_variables)
    warmup_chunk, chunk = chunk_sizes(
        store_settings.draws_per_chunk, columns, preparation.tune, arguments.draws
    )
    # If no stat has the log-probability, rows cannot tell it later: keep that of the start.
    has_stat = pymc_model.records_logp(preparation)
    logps = [] if has_stat else pymc_model.start_logp(preparation)
    codec = store_settings.compressor
    facts, graph = facts_and_graph(preparation.model)
    manifest = Manifest(
        run_id=secrets.randbits(53),  # exact in any JSON parser
        zarr_format=store_settings.zarr_format,
        chains=preparation.chains,
        tune=preparation.tune,
        draws=arguments.draws,
        warmup_chunk=warmup_chunk,
        chunk=chunk,
        compressor=codec.to_json(),
        columns=columns,
        schemas=tuple(schema.to_json() for schema in schemas),
        point_paths=points,
        variables=variables,
        model=facts,
        graph=graph,
        call=call_of(arguments, preparation.tune, fastmath),
        settings=settings_of(arguments, preparation, fastmath),
        environment=environment(),
        seed=seed_text(arguments.random_seed),
        rngs=tuple(generator_to_json(rng) for rng in preparation.rngs),
        start_logp=tuple(map(repr, logps)),
        sequential=_is_sequential(preparation),
        fastmath=fastmath,
        grows=True,
        data={g: list(names) for g, names in pymc_model.data_groups(preparation.model).items()},
    )
    return manifest, schemas


def create_run(
    store: Store,
    manifest: Manifest,
    preparation: Preparation,
    schemas: Sequence[AdapterSchema],
) -> Manifest:
    """Write a new run, without draws; return its manifest as it was written.

    Notes
    -----
    Durability: on return the run is durable.
    """
    return write_root.create(store, manifest, contents_of(preparation, schemas))


def resize_run(
    store: Store,
    manifest: Manifest,
    preparation: Preparation,
    schemas: Sequence[AdapterSchema],
    draws: int,
    stopped_by: str = "",
) -> Manifest:
    """Make room for more draws, or for no more than are recorded; return the new manifest.

    `stopped_by` is the criterion for which no more are drawn.
    """
    resized = manifest.with_draws(draws, stopped_by)
    counts = [read_draw_idx(store, manifest, chain) for chain in range(manifest.chains)]
    return write_root.resize(store, resized, contents_of(preparation, schemas), counts)


def _probe(
    preparation: Preparation, allow_pickle: bool, points: Mapping[str, Column]
) -> tuple[AdapterSchema, ...]:
    """Make one step with a copy of the step method, and describe the state after it."""
    for step in flatten(preparation.step):
        check_declared(step, allow_pickle)
    step = copy_step(preparation.step)
    rng = copy_generator(preparation.rngs[0])
    tune = preparation.tune
    if not preparation.is_started:
        sequential = preparation.sequential and not preparation.is_population
        start_chain(step, rng, tune, 1, sequential)
    if preparation.is_population:
        link_population(step, [dict(point) for point in preparation.initial_points], 0)
    global_state = np.random.get_state()
    try:
        step.step(dict(preparation.initial_points[0]))
    except CheckpointError:
        raise
    except Exception as error:
        raise ChainError(
            f"The first step of chain 0 failed: {type(error).__name__}: {error}. "
            "Nothing was written. Fix the model or its initvals; model.debug() may help.",
            0,
        ) from error
    finally:
        np.random.set_state(global_state)
    pairs = zip(flatten(step), flatten(preparation.step), strict=True)
    return tuple(
        describe(method, fresh, step_idx, allow_pickle, points)
        for step_idx, (method, fresh) in enumerate(pairs)
    )


def _columns_of_variables(
    preparation: Preparation, recorded: Mapping[str, str], points: Mapping[str, str]
) -> dict[str, Column]:
    recorder: Any = preparation.recorder
    columns = {}
    for name, path in recorded.items():
        dtype, shape = np.dtype(recorder.var_dtypes[name]), recorder.var_shapes[name]
        columns[path] = Column(path, dtype.str, tuple(int(n) for n in shape))
    for name, path in points.items():
        value = np.asarray(preparation.initial_points[0][name])
        columns.setdefault(path, Column(path, value.dtype.str, value.shape))
    return columns


def _columns(
    preparation: Preparation,
    schemas: Sequence[AdapterSchema],
    of_variables: Mapping[str, Column],
) -> tuple[Column, ...]:
    columns = dict(of_variables)
    for step_idx, name, dtype in stats_columns(preparation.step):
        path = stat_path(step_idx, name)
        columns[path] = Column(path, dtype)
    for schema in schemas:
        for column in schema.columns:
            columns[column.path] = column
    columns[layout.ELAPSED] = Column(layout.ELAPSED, "<f8")
    return tuple(columns.values())


def chunk_sizes(
    draws_per_chunk: int | None, columns: Sequence[Column], tune: int, draws: int
) -> tuple[int, int]:
    """Return the draws per chunk in warm-up and after it."""
    if draws_per_chunk is None:
        draws_per_chunk = max(1, _CHUNK_NBYTES // max(1, row_nbytes(columns)))
    return max(1, min(draws_per_chunk, tune)), min(draws_per_chunk, draws)


def contents_of(preparation: Preparation, schemas: Sequence[AdapterSchema]) -> Contents:
    """Return the contents of a run's hierarchy other than its rows."""
    points = preparation.initial_points
    constants: dict[str, Any] = {}
    for schema in schemas:
        constants |= schema.constant_arrays()
    return Contents(
        coords=pymc_model.result_coords(preparation.model),
        dims=pymc_model.result_dims(preparation.model),
        data=pymc_model.data_groups(preparation.model),
        initial_points={name: np.stack([p[name] for p in points]) for name in points[0]},
        constants=constants,
        free=frozenset(str(rv.name) for rv in preparation.model.free_RVs),
    )


def _is_sequential(preparation: Preparation) -> bool:
    if preparation.is_population:
        return preparation.cores == 1
    return preparation.sequential
