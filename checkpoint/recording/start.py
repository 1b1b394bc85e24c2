"""Read what a run started from: constants of its step methods, initial points, generators."""

from typing import Any

import numpy as np

from checkpoint.adapters.base import AdapterSchema
from checkpoint.errors import CheckpointError, DamagedStoreError
from checkpoint.format import layout
from checkpoint.format.generators import generator_from_json
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import nodes
from checkpoint.stores import Store

__all__ = ["read_constants", "read_start"]


def read_constants(store: Store, manifest: Manifest) -> tuple[AdapterSchema, ...]:
    """Return the schemas of a run's step methods, with their constants.

    Raises
    ------
    DamagedStoreError
        If the schemas describe no step method, or a constant is missing or damaged.
    """
    arrays = {path: nodes.read_array(store, manifest, path) for path in manifest.constant_paths()}
    try:
        schemas = tuple(AdapterSchema.from_json(document, arrays) for document in manifest.schemas)
        if lacking := {c for s in schemas for c in s.columns} - {*manifest.columns}:
            raise ValueError(f"{lacking} are no columns")
        return schemas
    except CheckpointError:
        raise
    except Exception as error:  # such as an unknown kind of field
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
        If an initial point differs from the draws in shape or dtype, or is damaged.
    """
    columns = {column.path: column for column in manifest.columns}
    stacked = {}
    for name, path in manifest.point_paths.items():
        column = columns[path]
        at = layout.initial_point_path(path)
        stacked[name] = start = nodes.read_array(store, manifest, at)
        if (start.shape, start.dtype) != ((manifest.chains, *column.shape), column.dtype):
            raise DamagedStoreError(
                f"{store.name}: {at} has shape {start.shape} and dtype "
                f"{start.dtype}; expected {manifest.chains} chains of {column}. Restore it from a "
                "copy."
            )
    points = [
        {name: np.asarray(values[chain]) for name, values in stacked.items()}
        for chain in range(manifest.chains)
    ]
    return points, [generator_from_json(document) for document in manifest.rngs]
