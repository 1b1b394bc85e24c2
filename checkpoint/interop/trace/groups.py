"""The groups that a `ZarrTrace` writes by name, and its view of the sampling state."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoint._pymc.steps import plain_classes
from checkpoint.errors import (
    ArgumentError,
    CheckpointWarning,
    RunLockedError,
    StoreWriteError,
    warn_caller,
)
from checkpoint.format import layout, plain
from checkpoint.format.arrays import TEXT, ArraySpec, group_document, whole_array
from checkpoint.format.compressors import Compressor
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import clocks
from checkpoint.hierarchy.contents import coord_of, dims_of
from checkpoint.interop.trace.zarr_groups import Group, open_root
from checkpoint.recording.recovery import recover_all
from checkpoint.stores import Store
from checkpoint.stores.base import checked_key

__all__ = ["GroupWriter", "SamplingState"]


class GroupWriter:
    """Writes groups of arrays with dimensions and coordinates, as xarray expects them.

    Parameters
    ----------
    store : Store
    zarr_format : int
    compressor : Compressor
    draws_per_chunk : int
    coords, dims : mapping
        Of the model: values by dimension, dimensions by variable.
    """

    def __init__(
        self,
        store: Store,
        zarr_format: int,
        compressor: Compressor,
        draws_per_chunk: int,
        coords: Mapping[str, Any],
        dims: Mapping[str, list[str]],
    ) -> None:
        self._store = store
        self._zarr_format = zarr_format
        self._compressor = compressor
        self._draws_per_chunk = draws_per_chunk
        self._coords = coords
        self._dims = dims

    def write_data(self, group: str, data: Mapping[str, Any]) -> None:
        """Write arrays with their values and coordinates."""
        keys = group_document(group, self._zarr_format)
        coords: dict[str, Any] = {}
        for name, values in data.items():
            dims = dims_of(name, np.shape(values), self._dims)
            keys |= self._array(layout.member(group, name), values, dims)
            for dim, size in zip(dims, np.shape(values), strict=True):
                coords.setdefault(dim, coord_of(dim, size, self._coords))
        self._write(keys | self._coord_arrays(group, coords))

    def write_empty(
        self,
        group: str,
        variables: Mapping[str, tuple[Any, Sequence[int]]],
        chains: int,
        draws: int,
        attributes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Write the metadata of arrays ``(chains, draws, *shape)``, and their coordinates."""
        keys: dict[str, bytes] = {}
        coords: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(draws)}
        for name, (dtype, variable_shape) in variables.items():
            shape = tuple(variable_shape or ())
            dims = dims_of(name, shape, self._dims)
            kind = np.dtype(dtype)
            spec = ArraySpec(
                path=layout.member(group, name),
                dtype=TEXT if kind.kind in "OUS" else kind.str,
                shape=(chains, draws, *shape),
                chunk_shape=(1, self._draws_per_chunk, *(max(1, n) for n in shape)),
                dimension_names=("chain", "draw", *dims),
                zarr_format=self._zarr_format,
                compressor=self._compressor,
                attributes=dict(attributes.get(name, {})),
            )
            keys |= spec.documents()
            for dim, size in zip(dims, shape, strict=True):
                coords.setdefault(dim, coord_of(dim, size, self._coords))
        self._write(keys | self._coord_arrays(group, coords))

    def write_sampling_state(self, tune: int, chains: int) -> None:
        """Write the group of the sampling state of a run without draws, except its columns."""
        keys = group_document(layout.STATE, self._zarr_format)
        for name in ("chain", "draw_idx"):
            values = np.arange(chains) if name == "chain" else np.zeros(chains, int)
            keys |= self._array(layout.state_path(name), values, ("chain",))
        clocks = {"tuning_steps": tune, "sampling_time": 0.0, "sampling_start_time": 0.0}
        for name, value in clocks.items():
            keys |= self._array(layout.state_path(name), value, ())
        self._write(keys)

    def _write(self, keys: Mapping[str, bytes]) -> None:
        try:
            self._store.write({checked_key(key): value for key, value in keys.items()})
        except ValueError as error:
            raise ArgumentError(f"{error} Nothing was written. Choose another name.") from error

    def _coord_arrays(self, group: str, coords: Mapping[str, Any]) -> dict[str, bytes]:
        keys: dict[str, bytes] = {}
        for dim, values in coords.items():
            keys |= self._array(layout.member(group, dim), values, (dim,))
        return keys

    def _array(self, path: str, values: Any, dims: Sequence[str]) -> dict[str, bytes]:
        _, keys = whole_array(path, values, dims, self._zarr_format, self._compressor)
        return keys


class SamplingState(Group):
    """The group ``_sampling_state``; `draw_idx` counts the draws in the log too."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        super().__init__(open_root(store).group(layout.STATE)._async_group)
        # A frozen dataclass of zarr's.
        object.__setattr__(self, "_run", (store, manifest))

    @property
    def draw_idx(self) -> np.ndarray[Any, Any]:
        """Recorded draws of each chain, warm-up included, shape ``(n_chains,)``."""
        return np.array([record.n_rows for record in recover_all(*self._run)])

    @property
    def global_warnings(self) -> "GlobalWarnings":
        """The warnings of the convergence checks."""
        return GlobalWarnings(*self._run)


class GlobalWarnings(Sequence[Any]):
    """PyMC's warnings about a run, kept in it as text."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]

    def __len__(self) -> int:
        return len(self._read())

    def append(self, found: Sequence[Any]) -> None:
        """Add warnings; what they refer to (`extra`, such as all r-hats) is not kept.

        Notes
        -----
        Durability: on return they are durable.
        """
        kept = [dataclasses.replace(warning, extra=None) for warning in found]
        text = plain.dumps([*self._read(), *kept])
        try:
            clocks.write_global_warnings(self._store, self._manifest, text)
        except (RunLockedError, StoreWriteError) as error:  # the draws are kept, and matter more
            warn_caller(f"Warnings could not be kept: {error}", CheckpointWarning)

    def _read(self) -> list[Any]:
        text = clocks.read_global_warnings(self._store, self._manifest)
        return list(plain.loads(text, plain_classes()))
