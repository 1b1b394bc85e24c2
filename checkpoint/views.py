"""What every view of a store shows: datasets of recorded draws, cut where chains differ."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from checkpoint import layout
from checkpoint._pymc.datasets import make_dataset, make_tree
from checkpoint._pymc.results import STAT_NAMES
from checkpoint.errors import DamagedStoreError

__all__ = ["View"]


class View(ABC):
    """What a store has recorded at the moment it was opened; open it again to see more.

    Only recorded draws are shown. Where chains have recorded different numbers of draws, groups
    hold those chains, cut to one length, that keep the most draws together, as `pm.sample` does
    after Ctrl-C.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What a person calls the store."""

    @property
    @abstractmethod
    def tune(self) -> int:
        """Draws of warm-up of each chain."""

    @property
    @abstractmethod
    def draws(self) -> int:
        """Draws after warm-up that each chain is to have."""

    @property
    @abstractmethod
    def chains(self) -> int:
        """Number of chains."""

    @property
    @abstractmethod
    def draw_idx(self) -> np.ndarray[Any, Any]:
        """Recorded draws of each chain, warm-up included, shape ``(n_chains,)``."""

    @property
    @abstractmethod
    def sampling_time(self) -> float:
        """Seconds spent sampling, over all sessions that ended by themselves."""

    @abstractmethod
    def sampling_state(self, chain: int, draw: int) -> list[dict[str, Any]]:
        """Return the state of the sampler after a recorded draw, if that can be read."""

    @abstractmethod
    def _paths(self, group: str) -> list[str]:
        """Return the paths of arrays of draws below a group, those of objects left out."""

    def _object_stats(self, warmup: bool) -> dict[str, list[np.ndarray[Any, Any]]]:
        """Return the stats that are objects, by name, an array for each step method."""
        return {}

    @abstractmethod
    def _rows(self, path: str, chain: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return recorded draws of an array, counted with warm-up."""

    @abstractmethod
    def _no_rows(self, path: str) -> np.ndarray[Any, Any]:
        """Return no draws of an array, ``(0, *shape)``."""

    @abstractmethod
    def _array_names(self, group: str) -> list[str]:
        """Return the names of the arrays in a group of data, coordinates included."""

    @abstractmethod
    def _dims(self, path: str) -> list[str]:
        """Return the dimension names of an array."""

    @abstractmethod
    def _whole(self, path: str) -> np.ndarray[Any, Any]:
        """Return all values of an array that is not of draws."""

    def __repr__(self) -> str:
        draws = ", ".join(map(str, self.draw_idx))
        return (
            f"<{type(self).__name__} {self.name}: {self.chains} chains at draws {draws} of "
            f"{self.tune + self.draws} ({self.tune} warm-up)>"
        )

    @property
    def finished(self) -> bool:
        """Whether every chain has all its draws."""
        return bool((self.draw_idx >= self.tune + self.draws).all())

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

    def to_inferencedata(self, save_warmup: bool = False, keep_warning_stat: bool = False) -> Any:
        """Return all groups as one object.

        Parameters
        ----------
        save_warmup : bool
            Whether to include the groups of warm-up.
        keep_warning_stat : bool
            Whether to include the stat ``warning``, of objects, which no file format takes.

        Returns
        -------
        DataTree or InferenceData
            As `pm.sample` of the installed PyMC returns.
        """
        groups = {
            "posterior": self.posterior,
            "sample_stats": self._stats(warmup=False, with_objects=keep_warning_stat),
        }
        if save_warmup and self.tune:
            groups["warmup_posterior"] = self.warmup_posterior
            groups["warmup_sample_stats"] = self._stats(True, with_objects=keep_warning_stat)
        for name in (layout.OBSERVED_DATA, layout.CONSTANT_DATA):
            group = self._data(name)
            if group.data_vars:
                groups[name] = group
        return make_tree(groups)

    def _variables(self, group: str, warmup: bool) -> Any:
        data = {path.split("/", 1)[1]: self._values(path, warmup) for path in self._paths(group)}
        # Coordinates are the same in both phases, and this one has its group in any case.
        return self._dataset(data, group, warmup)

    def _stats(self, warmup: bool, with_objects: bool = False) -> Any:
        by_name: dict[str, list[np.ndarray[Any, Any]]] = {}
        for path in self._paths(layout.SAMPLE_STATS):
            name = path.split("__", 1)[1]
            by_name.setdefault(STAT_NAMES.get(name, name), []).append(self._values(path, warmup))
        with self._fitting(by_name):
            data = {
                name: values[0] if len(values) == 1 else np.stack(values, axis=-1)
                for name, values in by_name.items()
            }
        if with_objects:  # PyMC keeps the axis of step methods for these
            objects = self._object_stats(warmup)
            data |= {name: np.stack(values, axis=-1) for name, values in objects.items()}
        data.pop("tune", None)
        return self._dataset(data, None, warmup)

    def _dataset(self, data: Mapping[str, Any], group: str | None, warmup: bool) -> Any:
        coords, dims = self._coords_and_dims(group, data) if group else ({}, {})
        attrs = {"sampling_time": self.sampling_time, "tuning_steps": self.tune}
        with self._fitting(data):
            dataset = make_dataset(data, coords, dims, attrs=attrs)
            chains, _ = self._kept(warmup)
            return dataset.assign_coords(chain=np.array(chains, dtype=int)) if data else dataset

    def _data(self, group: str) -> Any:
        names = self._array_names(group)
        dims = {name: self._dims(f"{group}/{name}") for name in names}
        data = {name: self._whole(f"{group}/{name}") for name in names if dims[name] != [name]}
        coords, _ = self._coords_and_dims(group, data)
        with self._fitting(data):
            return make_dataset(data, coords, dims, sample_dims=())

    @contextlib.contextmanager
    def _fitting(self, names: Iterable[str]) -> Iterator[None]:
        """Hold that arrays fit together: of those that nobody has changed they do."""
        try:
            yield
        except (KeyError, MemoryError, TypeError, ValueError) as error:
            raise DamagedStoreError(
                f"{self.name}: {', '.join(names)} do not fit together: {error}. The metadata was "
                "changed or damaged. Restore it from a copy."
            ) from error

    def _values(self, path: str, warmup: bool) -> np.ndarray[Any, Any]:
        chains, n = self._kept(warmup)
        start = 0 if warmup else self.tune
        if not chains:
            empty = self._no_rows(path)
            return empty.reshape(0, *empty.shape)
        return np.stack([self._rows(path, chain, start, start + n) for chain in chains])

    def _kept(self, warmup: bool) -> tuple[list[int], int]:
        return self._kept_warmup if warmup else self._kept_draws

    @cached_property
    def _kept_warmup(self) -> tuple[list[int], int]:
        return _most_draws(np.minimum(self.draw_idx, self.tune))

    @cached_property
    def _kept_draws(self) -> tuple[list[int], int]:
        return _most_draws(np.maximum(self.draw_idx - self.tune, 0))

    def _coords_and_dims(
        self, group: str, data: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, list[str]]]:
        dims = {
            name: [d for d in self._dims(f"{group}/{name}") if d not in ("chain", "draw")]
            for name in data
        }
        coords = {}
        for dim in {dim for names in dims.values() for dim in names}:
            values = self._whole(f"{group}/{dim}")
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
