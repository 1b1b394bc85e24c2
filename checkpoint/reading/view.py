"""What every view of a store shows: datasets of recorded draws, cut where chains differ."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from checkpoint.errors import DamagedStoreError, too_large
from checkpoint.format import layout
from checkpoint.printable import printable
from checkpoint.reading.convergence import Convergence, convergence
from checkpoint.reading.datasets import STAT_NAMES, make_dataset, make_tree
from checkpoint.reading.status import Status

if TYPE_CHECKING:  # xarray is imported when a group is asked for
    from xarray import Dataset, DataTree

__all__ = ["View"]


class View(ABC):
    """The draws that a store had recorded when it was opened; open it again to see more.

    Only recorded draws are shown. If chains have recorded different numbers of draws, they are cut
    to one length: the chains and the length are chosen to keep the most draws, as `pm.sample`
    does after Ctrl-C when it discards warm-up.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the store in messages."""

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
    def status(self, diagnostics: str = "quick") -> Status:
        """Return how far the run is now."""

    @abstractmethod
    def sampling_state(self, chain: int, draw: int) -> list[dict[str, Any]]:
        """Return the state of the sampler after a recorded draw, if that can be read."""

    @abstractmethod
    def _paths(self, group: str) -> list[str]:
        """Return the paths of arrays of draws below a group, except those of objects."""

    def _object_stats(self, warmup: bool) -> dict[str, list[np.ndarray[Any, Any]]]:
        """Return the stats that are objects, by name, an array for each step method."""
        return {}

    @abstractmethod
    def _rows(self, path: str, chain: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return recorded draws of an array, counted with warm-up."""

    @abstractmethod
    def _no_rows(self, path: str) -> np.ndarray[Any, Any]:
        """Return an empty array of draws, ``(0, *shape)``."""

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
            f"<{type(self).__name__} {printable(self.name)}: {self.chains} chains "
            f"at draws {draws} of {self.tune + self.draws} ({self.tune} warm-up)>"
        )

    @property
    def finished(self) -> bool:
        """Whether every chain has all its draws."""
        return bool((self.draw_idx >= self.tune + self.draws).all())

    @property
    def posterior(self) -> "Dataset":
        """Recorded variables after warm-up, an xarray Dataset ``(chain, draw, *dims)``."""
        return self._variables(layout.POSTERIOR, warmup=False)

    def posterior_of(self, var_names: Sequence[str] | None) -> "Dataset":
        """Return some of the variables of `posterior`, or all for None; no other is read."""
        return self._variables(layout.POSTERIOR, warmup=False, var_names=var_names)

    @property
    def warmup_posterior(self) -> "Dataset":
        """Recorded variables of warm-up, an xarray Dataset ``(chain, draw, *dims)``."""
        return self._variables(layout.POSTERIOR, warmup=True)

    @property
    def unconstrained_posterior(self) -> "Dataset":
        """Transformed values of the free variables after warm-up, an xarray Dataset."""
        return self._variables(layout.UNCONSTRAINED, warmup=False)

    @property
    def warmup_unconstrained_posterior(self) -> "Dataset":
        """Transformed values of the free variables in warm-up, an xarray Dataset."""
        return self._variables(layout.UNCONSTRAINED, warmup=True)

    @property
    def sample_stats(self) -> "Dataset":
        """Stats after warm-up, with ArviZ's names, an xarray Dataset."""
        return self._stats(warmup=False)

    @property
    def warmup_sample_stats(self) -> "Dataset":
        """Stats of warm-up, with ArviZ's names, an xarray Dataset."""
        return self._stats(warmup=True)

    @property
    def constant_data(self) -> "Dataset":
        """The model's constant data, an xarray Dataset."""
        return self._data(layout.CONSTANT_DATA)

    @property
    def observed_data(self) -> "Dataset":
        """The model's observed data, an xarray Dataset."""
        return self._data(layout.OBSERVED_DATA)

    def to_inferencedata(
        self, save_warmup: bool = False, keep_warning_stat: bool = False
    ) -> "DataTree | Any":
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
        with_warmup = bool(save_warmup and self.tune)
        groups = {}
        for warmup in (True, False) if with_warmup else (False,):
            name = layout.group_of_phase(layout.POSTERIOR, warmup)
            groups[name] = self._variables(layout.POSTERIOR, warmup)
        for warmup in (True, False) if with_warmup else (False,):
            name = layout.group_of_phase(layout.SAMPLE_STATS, warmup)
            groups[name] = self._stats(warmup, with_objects=keep_warning_stat)
        for name in (layout.OBSERVED_DATA, layout.CONSTANT_DATA):
            groups[name] = self._data(name)
        return make_tree(groups)

    def _convergence(self, limit: int | None) -> Convergence | None:
        """Return the worst R-hat and effective sample size; see `convergence`."""
        paths = {
            layout.name_of(path.split("/", 1)[1]): path
            for path in self._paths(layout.POSTERIOR)
            if self._no_rows(path).dtype.kind in "fiub"
        }
        shapes = {name: self._no_rows(path).shape[1:] for name, path in paths.items()}
        chains, n = self._kept(warmup=False)
        return convergence(
            shapes, lambda name: self._values(paths[name], False), len(chains), n, limit
        )

    def _variables(self, group: str, warmup: bool, var_names: Sequence[str] | None = None) -> Any:
        paths = {path.split("/", 1)[1]: path for path in self._paths(group)}
        data = {
            name: self._values(path, warmup)
            for name, path in paths.items()
            if var_names is None or layout.name_of(name) in var_names
        }
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
        chains, _ = self._kept(warmup)
        coords["chain"] = np.array(chains, dtype=int)
        with self._fitting(data):
            return make_dataset(_named(data), coords, dims, attrs=attrs)

    def _data(self, group: str) -> Any:
        names = self._array_names(group)
        dims = {name: self._dims(layout.member(group, name)) for name in names}
        data = {
            name: self._whole(layout.member(group, name)) for name in names if dims[name] != [name]
        }
        coords, of_data = self._coords_and_dims(group, data)
        with self._fitting(data):
            dataset = make_dataset(_named(data), coords, of_data, sample_dims=())
        # PyMC 5 makes a vector of a number that was observed, and none of a constant.
        made_up = (
            []
            if group == layout.OBSERVED_DATA
            else [
                f"{layout.name_of(name)}_dim_0" for name, values in data.items() if values.ndim == 0
            ]
        )
        return dataset.squeeze([dim for dim in made_up if dim in dataset.sizes], drop=True)

    @contextlib.contextmanager
    def _fitting(self, names: Iterable[str]) -> Iterator[None]:
        """Report arrays that do not fit together, which only a change from outside can cause."""
        try:
            yield
        except MemoryError as error:
            raise too_large(self.name, ", ".join(names), error) from error
        except (KeyError, TypeError, ValueError) as error:
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
            name: [d for d in self._dims(layout.member(group, name)) if d not in ("chain", "draw")]
            for name in data
        }
        coords = {}
        for dim in dict.fromkeys(dim for names in dims.values() for dim in names):
            values = self._whole(layout.member(group, dim))
            coords[layout.name_of(dim)] = values.astype(str) if values.dtype == object else values
        return coords, {name: [*map(layout.name_of, of)] for name, of in _named(dims).items()}


def _named(by_name: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by their names in the model; some are stored under other names."""
    return {layout.name_of(name): value for name, value in by_name.items()}


def _most_draws(lengths: np.ndarray[Any, Any]) -> tuple[list[int], int]:
    """Return the chains, and the length to cut them to, that keep the most draws."""
    best: tuple[list[int], int] = ([], 0)
    for length in sorted(set(lengths.tolist()) - {0}):
        chains = np.flatnonzero(lengths >= length).tolist()
        if len(chains) * length > len(best[0]) * best[1]:
            best = (chains, length)
    return best
