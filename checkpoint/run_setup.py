"""From PyMC's preparation to a run in a store, and back.

`describe_run` makes one step of a copy to learn what a row looks like; `create_run` writes it.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint import hierarchy, layout
from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.results import stats_columns
from checkpoint._pymc.setup import Arguments, Preparation
from checkpoint._pymc.steps import (
    copy_generator,
    copy_step,
    flatten,
    link_population,
    start_chain,
)
from checkpoint.adapters import AdapterSchema, check_declared, describe, make_adapter
from checkpoint.arrays import Compressor
from checkpoint.checks import seed_text, settings_of
from checkpoint.errors import ChainError, CheckpointError, DamagedStoreError
from checkpoint.generators import generator_from_json, generator_to_json
from checkpoint.manifest import Manifest, environment
from checkpoint.recording import point_path, stat_path, variable_path
from checkpoint.rows import Column, row_nbytes
from checkpoint.stores import Store

__all__ = [
    "StoreSettings",
    "contents_of",
    "create_run",
    "describe_run",
    "extend_run",
    "read_constants",
    "read_start",
]

_CHUNK_NBYTES = 16 << 20
"""Rows of a chunk together take about this much memory in a worker, unless told otherwise."""


@dataclass(frozen=True)
class StoreSettings:
    """How a new store is laid out."""

    zarr_format: int
    draws_per_chunk: int | None
    compressor: Compressor


def describe_run(
    arguments: Arguments,
    preparation: Preparation,
    store_settings: StoreSettings,
    fastmath: bool,
    allow_pickle: bool,
) -> tuple[Manifest, tuple[AdapterSchema, ...]]:
    """Return the manifest of a new run and the schemas of its step methods; write nothing.

    Raises
    ------
    UnsupportedStepError
        If the state of a step method cannot be captured.
    ChainError
        If the first step fails.
    """
    schemas = _probe(preparation, allow_pickle)
    recorder: Any = preparation.recorder
    variables = tuple(recorder.varnames)
    points = {name: point_path(name, variables) for name in preparation.value_names}
    columns = _columns(preparation, schemas, points)
    warmup_chunk, chunk = _chunks(
        store_settings.draws_per_chunk, columns, preparation.tune, arguments.draws
    )
    # What a row cannot tell later: the log-probability, where no stat has it.
    has_stat = pymc_model.records_logp(preparation)
    logps = [] if has_stat else pymc_model.start_logp(preparation)
    codec = store_settings.compressor
    manifest = Manifest(
        run_id=secrets.randbits(53),  # whole in any JSON parser
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
        model=pymc_model.fingerprint(preparation.model),
        settings=settings_of(arguments, preparation, fastmath),
        environment=environment(),
        seed=seed_text(arguments.random_seed),
        rngs=tuple(generator_to_json(rng) for rng in preparation.rngs),
        start_logp=tuple(map(repr, logps)),
        sequential=_is_sequential(preparation),
        fastmath=fastmath,
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
    return hierarchy.create(store, manifest, contents_of(preparation, schemas))


def extend_run(
    store: Store,
    manifest: Manifest,
    preparation: Preparation,
    schemas: Sequence[AdapterSchema],
    draws: int,
) -> Manifest:
    """Make room for more draws and return the new manifest."""
    longer = manifest.with_draws(draws)
    return hierarchy.extend(store, longer, contents_of(preparation, schemas))


def read_constants(store: Store, manifest: Manifest) -> tuple[AdapterSchema, ...]:
    """Return the schemas of a run's step methods, with their constants.

    Raises
    ------
    DamagedStoreError
        If they are none.
    """
    arrays = {
        path: hierarchy.read_array(store, manifest, path) for path in manifest.constant_paths()
    }
    try:
        schemas = tuple(AdapterSchema.from_json(document, arrays) for document in manifest.schemas)
        if lacking := {c for s in schemas for c in make_adapter(s).columns} - {*manifest.columns}:
            raise ValueError(f"{lacking} are no columns")
        return schemas
    except CheckpointError:
        raise
    except Exception as error:  # a kind of field that is none, constants without an order
        raise DamagedStoreError(
            f"{store.name}: its schemas describe no step method: {type(error).__name__}: "
            f"{error!s:.200}. "
            "The metadata of the root group was changed or damaged. Restore it from a copy."
        ) from error


def read_start(
    store: Store, manifest: Manifest
) -> tuple[list[dict[str, np.ndarray[Any, Any]]], list[np.random.Generator]]:
    """Return initial points and generators of all chains.

    Raises
    ------
    DamagedStoreError
        If a start is not as the draws are.
    """
    columns = {column.path: column for column in manifest.columns}
    stacked = {}
    for name, path in manifest.point_paths.items():
        column = columns[path]
        stacked[name] = start = hierarchy.read_array(
            store, manifest, f"{layout.INITIAL_POINT}/{name}"
        )
        if (start.shape, start.dtype) != ((manifest.chains, *column.shape), column.dtype):
            raise DamagedStoreError(
                f"{store.name}: {layout.INITIAL_POINT}/{name} has shape {start.shape} and dtype "
                f"{start.dtype}; expected {manifest.chains} chains of {column}. Restore it from a "
                "copy."
            )
    points = [
        {name: np.asarray(values[chain]) for name, values in stacked.items()}
        for chain in range(manifest.chains)
    ]
    return points, [generator_from_json(document) for document in manifest.rngs]


def _probe(preparation: Preparation, allow_pickle: bool) -> tuple[AdapterSchema, ...]:
    """Make one step of a copy, and describe the state it leaves."""
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
            "Nothing was written. Mend the model or its initvals; model.debug() may help.",
            0,
        ) from error
    finally:
        np.random.set_state(global_state)
    pairs = zip(flatten(step), flatten(preparation.step), strict=True)
    return tuple(
        describe(method, fresh, step_idx, allow_pickle)
        for step_idx, (method, fresh) in enumerate(pairs)
    )


def _columns(
    preparation: Preparation, schemas: Sequence[AdapterSchema], points: Mapping[str, str]
) -> tuple[Column, ...]:
    recorder: Any = preparation.recorder
    columns = {}
    for name in recorder.varnames:
        path = variable_path(name)
        dtype, shape = np.dtype(recorder.var_dtypes[name]), recorder.var_shapes[name]
        columns[path] = Column(path, dtype.str, tuple(int(n) for n in shape))
    for name, path in points.items():
        value = np.asarray(preparation.initial_points[0][name])
        columns.setdefault(path, Column(path, value.dtype.str, value.shape))
    for step_idx, name, dtype in stats_columns(preparation.step):
        path = stat_path(step_idx, name)
        columns[path] = Column(path, dtype)
    for schema in schemas:
        for column in make_adapter(schema).columns:
            columns[column.path] = column
    return tuple(columns.values())


def _chunks(
    draws_per_chunk: int | None, columns: Sequence[Column], tune: int, draws: int
) -> tuple[int, int]:
    """Return draws per chunk, of warm-up and after."""
    if draws_per_chunk is None:
        draws_per_chunk = max(1, _CHUNK_NBYTES // max(1, row_nbytes(columns)))
    return max(1, min(draws_per_chunk, tune)), min(draws_per_chunk, draws)


def contents_of(preparation: Preparation, schemas: Sequence[AdapterSchema]) -> hierarchy.Contents:
    """Return what the hierarchy of a run holds beside its rows."""
    coords, dims = pymc_model.coords_and_dims(preparation.model)
    points = preparation.initial_points
    constants: dict[str, Any] = {}
    for schema in schemas:
        constants |= schema.constant_arrays()
    return hierarchy.Contents(
        coords=coords,
        dims=dims,
        data=pymc_model.data_groups(preparation.model),
        initial_points={name: np.stack([p[name] for p in points]) for name in points[0]},
        constants=constants,
        free=frozenset(str(rv.name) for rv in preparation.model.free_RVs),
    )


def _is_sequential(preparation: Preparation) -> bool:
    if preparation.is_population:
        return preparation.cores == 1
    return preparation.sequential
