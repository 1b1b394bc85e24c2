"""`open`: a read-only view of a run, without the model, beside a live writer or after a crash."""

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from checkpoint import hierarchy, layout
from checkpoint._pymc.datasets import make_dataset, make_tree
from checkpoint._pymc.results import STAT_NAMES
from checkpoint.adapters import StepAdapter
from checkpoint.arrays import TEXT
from checkpoint.errors import ArgumentError, DamageWarning, RunNotFoundError, UnsupportedStepError
from checkpoint.manifest import Manifest
from checkpoint.recovery import ChainRecord, recover
from checkpoint.rows import Column
from checkpoint.run_setup import read_constants
from checkpoint.stores import Store, as_store

__all__ = ["Run", "open"]


def open(store: Any) -> "Run":
    """Open a run for reading.

    Nothing in the store is changed, and no code in it is run.

    Parameters
    ----------
    store : path, URL, or store
        As in `checkpoint.sample`.

    Returns
    -------
    Run

    Raises
    ------
    RunNotFoundError
        If the store is empty.
    NotARunError, FormatVersionError, DamagedStoreError
        If it holds something else, or cannot be read.

    Warns
    -----
    DamageWarning
        If recorded draws were lost to damage.

    Notes
    -----
    Durability: what a run shows is durable.
    """
    place = as_store(store)
    manifest = hierarchy.read_manifest(place)
    if manifest is None:
        raise RunNotFoundError(f"{place.name} holds no run. Check the path.")
    run = Run(place, manifest)
    for record in run._records:
        if record.damage is not None and record.damage.n_lost:
            warnings.warn(
                f"{record.damage.describe(place.name, record.chain)}. "
                "checkpoint.sample draws them again.",
                DamageWarning,
                stacklevel=2,
            )
    return run


class Run:
    """What a store has recorded at the moment it was opened; open it again to see more.

    Only recorded draws are shown. Where chains have recorded different numbers of draws, groups
    hold those chains, cut to one length, that keep the most draws together, as `pm.sample` does
    after Ctrl-C.
    """

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._records = [recover(store, manifest, chain) for chain in range(manifest.chains)]

    def __repr__(self) -> str:
        draws = ", ".join(map(str, self.draw_idx))
        return (
            f"<Run {self._store.name}: {self.chains} chains at draws {draws} of "
            f"{self._manifest.total} ({self.tune} warm-up)>"
        )

    @property
    def tune(self) -> int:
        """Draws of warm-up of each chain."""
        return self._manifest.tune

    @property
    def draws(self) -> int:
        """Draws after warm-up that each chain is to have."""
        return self._manifest.draws

    @property
    def chains(self) -> int:
        """Number of chains."""
        return self._manifest.chains

    @property
    def draw_idx(self) -> np.ndarray[Any, Any]:
        """Recorded draws of each chain, warm-up included, shape ``(n_chains,)``."""
        return np.array([record.n_rows for record in self._records])

    @property
    def finished(self) -> bool:
        """Whether every chain has all its draws."""
        return bool((self.draw_idx >= self._manifest.total).all())

    @property
    def sampling_time(self) -> float:
        """Seconds spent sampling, over all sessions that ended by themselves."""
        return hierarchy.read_sampling_time(self._store, self._manifest)

    @property
    def posterior(self) -> Any:
        """Recorded variables after warm-up, an xarray Dataset ``(chain, draw, *dims)``."""
        return self._variables(layout.POSTERIOR, warmup=False)

    @property
    def warmup_posterior(self) -> Any:
        """Recorded variables of warm-up, an xarray Dataset ``(chain, draw, *dims)``."""
        return self._variables(layout.POSTERIOR, warmup=True)

    @property
    def unconstrained_posterior(self) -> Any:
        """Transformed values of the free variables after warm-up, an xarray Dataset."""
        return self._variables(layout.UNCONSTRAINED, warmup=False)

    @property
    def warmup_unconstrained_posterior(self) -> Any:
        """Transformed values of the free variables in warm-up, an xarray Dataset."""
        return self._variables(layout.UNCONSTRAINED, warmup=True)

    @property
    def sample_stats(self) -> Any:
        """Stats after warm-up, with ArviZ's names, an xarray Dataset."""
        return self._stats(warmup=False)

    @property
    def warmup_sample_stats(self) -> Any:
        """Stats of warm-up, with ArviZ's names, an xarray Dataset."""
        return self._stats(warmup=True)

    @property
    def constant_data(self) -> Any:
        """The model's constant data, an xarray Dataset."""
        return self._data(layout.CONSTANT_DATA)

    @property
    def observed_data(self) -> Any:
        """The model's observed data, an xarray Dataset."""
        return self._data(layout.OBSERVED_DATA)

    def sampling_state(self, chain: int, draw: int) -> list[dict[str, Any]]:
        """Return the exact state of the sampler after a recorded draw.

        Parameters
        ----------
        chain : int
            Counted from 0.
        draw : int
            Counted from the first draw of warm-up; negative from the last recorded draw.

        Returns
        -------
        list of dict
            For each step method its state, nested by field. Generators are numpy Generators.

        Raises
        ------
        ArgumentError
            If that draw is not recorded, or was imported without the state after it.
        UnsupportedStepError
            If a step method declares no state and was pickled.
        """
        record = self._record(chain)
        draw_idx = draw + record.n_rows if draw < 0 else draw
        if not 0 <= draw_idx < record.n_rows:
            raise ArgumentError(
                f"{self._store.name}: draw {draw} of chain {chain} is not recorded; "
                f"expected 0 to {record.n_rows - 1}, warm-up included."
            )
        first = self._manifest.first_state(chain)
        if draw_idx < first:
            raise ArgumentError(
                f"{self._store.name}: draw {draw_idx} of chain {chain} was imported, without the "
                f"state of the sampler after it; expected {first} to {record.n_rows - 1}."
            )
        states = []
        for schema in read_constants(self._store, self._manifest):
            if schema.is_pickled:
                raise UnsupportedStepError(
                    f"{self._store.name}: the step method {schema.name} declares no state; its "
                    "pickled object is not loaded here. Continue the run with allow_pickle=True."
                )
            states.append(StepAdapter(schema).read(record, draw_idx))
        return states

    def to_inferencedata(self, save_warmup: bool = False) -> Any:
        """Return all groups as one object.

        Parameters
        ----------
        save_warmup : bool
            Whether to include the groups of warm-up.

        Returns
        -------
        DataTree or InferenceData
            As `pm.sample` of the installed PyMC returns.
        """
        groups = {"posterior": self.posterior, "sample_stats": self.sample_stats}
        if save_warmup and self.tune:
            groups["warmup_posterior"] = self.warmup_posterior
            groups["warmup_sample_stats"] = self.warmup_sample_stats
        for name in (layout.OBSERVED_DATA, layout.CONSTANT_DATA):
            group = self._data(name)
            if group.data_vars:
                groups[name] = group
        return make_tree(groups)

    def _record(self, chain: int) -> ChainRecord:
        if not 0 <= chain < self.chains:
            raise ArgumentError(
                f"{self._store.name}: chain {chain} does not exist; "
                f"expected 0 to {self.chains - 1}."
            )
        return self._records[chain]

    def _variables(self, group: str, warmup: bool) -> Any:
        data = {
            column.path.split("/", 1)[1]: self._values(column, warmup)
            for column in self._columns_of(group)
        }
        of_phase = layout.group_of_phase(group, warmup)
        return self._dataset(data, of_phase, warmup)

    def _stats(self, warmup: bool) -> Any:
        by_name: dict[str, list[np.ndarray[Any, Any]]] = {}
        for column in self._columns_of(layout.SAMPLE_STATS):
            if column.dtype == TEXT:
                continue  # warnings, which `pm.sample` drops too
            name = column.path.split("__", 1)[1]
            values = self._values(column, warmup)
            by_name.setdefault(STAT_NAMES.get(name, name), []).append(values)
        data = {
            name: values[0] if len(values) == 1 else np.stack(values, axis=-1)
            for name, values in by_name.items()
        }
        data.pop("tune", None)
        return self._dataset(data, None, warmup)

    def _dataset(self, data: Mapping[str, Any], group: str | None, warmup: bool) -> Any:
        coords, dims = self._coords_and_dims(group, data) if group else ({}, {})
        dataset = make_dataset(
            data,
            coords,
            dims,
            attrs={"sampling_time": self.sampling_time, "tuning_steps": self.tune},
        )
        chains, _ = self._kept(warmup)
        return dataset.assign_coords(chain=np.array(chains, dtype=int)) if data else dataset

    def _data(self, group: str) -> Any:
        names = self._array_names(group)
        dims = {name: self._dims(f"{group}/{name}") for name in names}
        data = {
            name: hierarchy.read_array(self._store, self._manifest, f"{group}/{name}")
            for name in names
            if dims[name] != [name]
        }
        coords, _ = self._coords_and_dims(group, data)
        return make_dataset(data, coords, dims, sample_dims=())

    def _columns_of(self, group: str) -> list[Column]:
        return [c for c in self._manifest.columns if c.path.startswith(f"{group}/")]

    def _values(self, column: Column, warmup: bool) -> np.ndarray[Any, Any]:
        chains, n = self._kept(warmup)
        start = 0 if warmup else self.tune
        if not chains:
            return column.empty(0).reshape(0, 0, *column.shape)
        rows = [self._records[chain].values(column.path, start, start + n) for chain in chains]
        return np.stack(rows)

    def _kept(self, warmup: bool) -> tuple[list[int], int]:
        return self._kept_warmup if warmup else self._kept_draws

    @cached_property
    def _kept_warmup(self) -> tuple[list[int], int]:
        return _most_draws(np.minimum(self.draw_idx, self.tune))

    @cached_property
    def _kept_draws(self) -> tuple[list[int], int]:
        return _most_draws(np.maximum(self.draw_idx - self.tune, 0))

    def _array_names(self, group: str) -> list[str]:
        document = "zarr.json" if self._manifest.zarr_format == 3 else ".zarray"
        return [
            name
            for name in self._store.names(group)
            if self._store.has(f"{group}/{name}/{document}")
        ]

    def _dims(self, path: str) -> list[str]:
        return hierarchy.read_dims(self._store, self._manifest, path)

    def _coords_and_dims(
        self, group: str, data: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, list[str]]]:
        dims = {
            name: [d for d in self._dims(f"{group}/{name}") if d not in ("chain", "draw")]
            for name in data
        }
        coords = {}
        for dim in {dim for names in dims.values() for dim in names}:
            values = hierarchy.read_array(self._store, self._manifest, f"{group}/{dim}")
            coords[dim] = values.astype(str) if values.dtype == object else values
        return coords, dims


def _most_draws(lengths: np.ndarray[Any, Any]) -> tuple[list[int], int]:
    """Return the chains, and the length to cut them to, that keep the most draws."""
    best: tuple[list[int], int] = ([], 0)
    for length in sorted(set(lengths.tolist()) - {0}):
        chains = np.flatnonzero(lengths >= length).tolist()
        if len(chains) * length > len(best[0]) * best[1]:
            best = (chains, length)
    return best
