"""Read a store of PyMC's ZarrTrace, without PyMC and without zarr 2.

ZarrTrace allocates one array for all draws of a variable, warm-up first, and fills what is not
drawn yet with NaN or 0. When `pm.sample` returns, after Ctrl-C too, it splits each into two, the
first below `warmup_`. If it is killed meanwhile, some arrays are split and others are not.
"""

import pickle
import re
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from checkpoint.errors import (
    ArgumentError,
    DamagedStoreError,
    UnsupportedStepError,
    too_large,
)
from checkpoint.format import layout
from checkpoint.hierarchy import read_root
from checkpoint.interop.zarr_trace_store.state_lead import lead_of_state
from checkpoint.interop.zarr_trace_store.zarr2 import Zarr2Array, open_array
from checkpoint.stores import Store

__all__ = ["PyMCStore"]

_DRAWS = (layout.POSTERIOR, layout.UNCONSTRAINED)

_MOST_CHAINS = 1 << 16

_STAT = re.compile(rf"{layout.SAMPLE_STATS}/sampler_(\d+)__(.+)")


class PyMCStore:
    """A store that `pymc.backends.zarr.ZarrTrace` wrote, read-only.

    Nothing in it is executed, except in `state` and `state_lead` if the caller allows it. Each
    method raises DamagedStoreError where something recorded is missing or cannot be decoded.

    Parameters
    ----------
    store : Store
        One that `find` has recognised.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._arrays: dict[str, Zarr2Array] = {}

    @classmethod
    def find(cls, store: Store) -> "PyMCStore | None":
        """Return the reader of a store, or None if ZarrTrace did not write it."""
        return cls(store) if read_root.is_zarr_trace(store) else None

    @property
    def name(self) -> str:
        """Name of the store, for messages."""
        return self.store.name

    @cached_property
    def tune(self) -> int:
        """Draws of warm-up of each chain."""
        return int(self._number("tuning_steps"))

    @cached_property
    def chains(self) -> int:
        """Number of chains."""
        found = self._with_dims(layout.DRAW_IDX, 1).shape[0]
        if not 0 < found <= _MOST_CHAINS:
            raise DamagedStoreError(
                f"{self.name}: {layout.DRAW_IDX} is of {found} chains; expected 1 to "
                f"{_MOST_CHAINS}. Nothing was changed. Restore that array from a copy."
            )
        return found

    @cached_property
    def draws(self) -> int:
        """Draws after warm-up that there is room for in each chain."""
        lengths = [self._array(path).shape[1] for path in self._paths]
        all_split = bool(self.tune) and all(map(self._has_warmup, self._paths))
        # An array may be there both whole and split, if the writer was killed in between.
        return min(lengths) if all_split else max(lengths) - self.tune

    @cached_property
    def is_split(self) -> bool:
        """Whether the draws of warm-up are in groups of their own."""
        return all(map(self._is_split, self._paths))

    @cached_property
    def draw_idx(self) -> np.ndarray[Any, Any]:
        """Recorded draws of each chain, warm-up included, shape ``(n_chains,)``."""
        found = self._array(layout.DRAW_IDX).read()
        total = self.tune + self.draws
        is_count = found.dtype.kind in "iu" and min(self.tune, self.draws) >= 0
        if not is_count or not ((found >= 0) & (found <= total)).all():
            raise DamagedStoreError(
                f"{self.name}: {layout.DRAW_IDX} says {found}; expected 0 to {total}. "
                "Nothing was changed. Restore that array from a copy."
            )
        return found.astype(int)

    @property
    def draws_per_chunk(self) -> int:
        """Draws that ZarrTrace wrote at a time, together with one state."""
        return max(self._array(path).chunk_shape[1] for path in self._paths)

    @property
    def sampling_time(self) -> float:
        """Seconds spent sampling; 0 if `pm.sample` did not return."""
        return self._number("sampling_time")

    @cached_property
    def variables(self) -> list[str]:
        """Recorded variables, the transformed ones (with ``__`` at the end) last."""
        return list(self._path_of)

    def values(self, name: str, chain: int) -> np.ndarray[Any, Any]:
        """Return the recorded draws of a variable, warm-up first, ``(draw_idx[chain], *shape)``."""
        return self.rows(self.path(name), chain, 0, self._n_rows(chain))

    def kind(self, name: str) -> str:
        """Return ``"freeRV"`` or ``"deterministic"``."""
        return str(self._array(self.path(name)).attributes.get("kind", "freeRV"))

    def dims(self, name: str) -> list[str]:
        """Return the dimensions of a variable beside chain and draw."""
        return list(self._array(self.path(name)).dims[2:])

    def coords(self, group: str = layout.POSTERIOR) -> dict[str, np.ndarray[Any, Any]]:
        """Return the coordinates of a group by dimension, without chain and draw."""
        return {
            path.removeprefix(f"{group}/"): self._array(path).read()
            for path in self._in_group(group)
            if self._array(path).is_coordinate and path.split("/")[-1] not in ("chain", "draw")
        }

    def data(self, group: str) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays of `constant_data` or `observed_data` by name; objects are left out."""
        return {
            path.removeprefix(f"{group}/"): self._array(path).read()
            for path in self.arrays(group)
            if not self._array(path).is_coordinate
        }

    def data_dims(self, group: str, name: str) -> list[str]:
        """Return the dimensions of an array of `constant_data` or `observed_data`."""
        return list(self._array(layout.member(group, name)).dims)

    @cached_property
    def stats(self) -> list[tuple[int, str]]:
        """Stats as (step method, PyMC's name); those that are objects are left out."""
        return [_stat_of(path) for path in self.stat_paths]

    def stat(self, step_idx: int, name: str, chain: int) -> np.ndarray[Any, Any]:
        """Return the recorded values of a stat, warm-up first, ``(draw_idx[chain], *shape)``.

        PyMC hands on `model_logp` of the last step method only. The others have 0, as they have
        in the result of `pm.sample`.
        """
        if (step_idx, name) not in self.stats:
            raise ArgumentError(
                f"{self.name} has no stat {name} of step method {step_idx}; it has {self.stats}."
            )
        path = f"{layout.SAMPLE_STATS}/sampler_{step_idx}__{name}"
        return self.rows(path, chain, 0, self._n_rows(chain))

    def state(self, chain: int, *, allow_pickle: bool) -> Any:
        """Return PyMC's sampling state of the step method, as it was stored last.

        Parameters
        ----------
        chain : int
            Counted from 0.
        allow_pickle : bool
            Whether the pickle in the store may be loaded. Loading a pickle can run any code that
            its author chose.

        Returns
        -------
        object or None
            None if no state of the chain was stored.

        Raises
        ------
        UnsupportedStepError
            Without `allow_pickle`, or if the installed versions cannot load the state.
        DamagedStoreError
            If the state is missing although draws are recorded, or is no whole pickle.
        """
        n_rows = self._n_rows(chain)
        if not allow_pickle:
            raise UnsupportedStepError(
                f"{self.name}: ZarrTrace keeps the states of its step methods as pickles, and "
                "loading one runs whatever code it names. If you trust the store, pass "
                "allow_pickle=True. The draws can be read without."
            )
        key = layout.state_path("sampling_state")
        raw = self._array(key).raw_chunk(chain)
        if raw is None:
            if n_rows:
                raise DamagedStoreError(
                    f"{self.name}: the state of chain {chain} is missing although {n_rows} draws "
                    f"are recorded. Nothing was changed. Restore {key}/{chain} from a copy."
                )
            return None
        try:
            return np.asarray(pickle.loads(raw), dtype=object).item()
        except MemoryError as error:
            raise too_large(self.name, f"the state of chain {chain}", error) from error
        except (pickle.UnpicklingError, EOFError) as error:
            raise DamagedStoreError(
                f"{self.name}: the state of chain {chain} is damaged ({error!r}). Nothing was "
                f"changed. Restore {key}/{chain} from a copy."
            ) from error
        except Exception as error:  # of code that the pickle names, which other versions lack
            raise UnsupportedStepError(
                f"{self.name}: the state of chain {chain} cannot be loaded with PyMC "
                f"{version('pymc')} and numpy {np.__version__} ({error!r}). Nothing was changed. "
                "ZarrTrace does not record its versions: install those that wrote the store. If "
                f"these are they, the state is damaged: restore {key}/{chain} from a copy."
            ) from error

    def state_lead(self, chain: int, *, allow_pickle: bool) -> int | None:
        """Return how many draws the stored state is ahead of the recorded draws.

        ZarrTrace writes draws, state and `draw_idx` one after the other, and after Ctrl-C or an
        error stores the state although the draws since the last full chunk are dropped. Only a
        state with lead 0 continues the recorded draws.

        Parameters
        ----------
        chain : int
        allow_pickle : bool
            As for `state`.

        Returns
        -------
        int or None
            None if it cannot be known. It is known for NUTS, HamiltonianMC, Metropolis,
            DEMetropolis and DEMetropolisZ, for Slice in warm-up, and for a compound whose first
            step method is one of these. Other step methods do not count draws.
        """
        state = self.state(chain, allow_pickle=allow_pickle)
        if state is None:
            return 0
        return lead_of_state(state, self._n_rows(chain), self.tune, self.draws_per_chunk)

    def state_is_ahead(self, chain: int, *, allow_pickle: bool) -> bool | None:
        """Return whether the state is not that after the last recorded draw; see `state_lead`."""
        lead = self.state_lead(chain, allow_pickle=allow_pickle)
        return None if lead is None else lead != 0

    def rows(self, path: str, chain: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return some draws of an array of draws, counted with warm-up."""
        if path.endswith("__model_logp") and not self._is_written(path, chain):
            return np.zeros(stop - start)
        if not self._is_split(path):
            return self._of_chain(path, chain, start, stop)
        warmup = layout.path_of_phase(path, warmup=True)
        parts = [
            self._of_chain(warmup, chain, min(start, self.tune), min(stop, self.tune)),
            self._of_chain(path, chain, max(start - self.tune, 0), max(stop - self.tune, 0)),
        ]
        return np.concatenate(parts)

    def empty(self, path: str) -> np.ndarray[Any, Any]:
        """Return an empty array for an array of draws, ``(0, *shape)``."""
        return self._of_chain(path, 0, 0, 0)

    def read(self, path: str) -> np.ndarray[Any, Any]:
        """Return a whole array."""
        return self._array(path).read()

    def array_dims(self, path: str) -> list[str]:
        """Return the dimension names of an array."""
        return list(self._array(path).dims)

    def arrays(self, group: str) -> list[str]:
        """Return the paths of the arrays in a group, those of objects left out."""
        return [path for path in self._in_group(group) if self._array(path).dtype is not None]

    @cached_property
    def stat_paths(self) -> list[str]:
        """Paths of the stats, in the order of the step methods."""
        return sorted(filter(_STAT.fullmatch, self.arrays(layout.SAMPLE_STATS)), key=_stat_of)

    def variable_paths(self, group: str) -> list[str]:
        """Return the paths of the variables of `posterior` or `unconstrained_posterior`."""
        return [path for path in self._in_group(group) if not self._array(path).is_coordinate]

    @cached_property
    def _path_of(self) -> Mapping[str, str]:
        return {
            path.removeprefix(f"{group}/"): path
            for group in _DRAWS
            for path in self.variable_paths(group)
        }

    def path(self, name: str) -> str:
        """Return the path of the array of a variable."""
        if name not in self._path_of:
            raise ArgumentError(
                f"{self.name} has no variable {name}; it has {', '.join(self.variables)}."
            )
        return self._path_of[name]

    @cached_property
    def _paths(self) -> list[str]:
        """Paths of all arrays of draws."""
        groups = (*_DRAWS, layout.SAMPLE_STATS)
        arrays = {path: self._array(path) for group in groups for path in self._in_group(group)}
        paths = [path for path, array in arrays.items() if array.dims[:2] == ("chain", "draw")]
        warmup = [path for group in groups for path in self._in_group(f"{layout.WARMUP}{group}")]
        # PyMC removes an array before it writes the split one: if killed there, half of it is lost.
        lost = {path.removeprefix(layout.WARMUP) for path in warmup} - set(arrays)
        misshapen = {p for p in paths if len(s := arrays[p].shape) < 2 or s[0] != self.chains}
        if not paths or lost or misshapen:
            raise DamagedStoreError(
                f"{self.name} should have the draws of {self.chains} chains; missing or of another "
                f"shape: {', '.join(sorted(lost | misshapen)) or 'all'}. Nothing was changed. "
                "Restore them from a copy."
            )
        return paths

    def _in_group(self, group: str) -> list[str]:
        """Return the paths of the arrays in a group."""
        paths = [layout.member(group, name) for name in self.store.names(group)]
        return [path for path in paths if self.store.has(layout.member(path, layout.ARRAY_V2))]

    def _array(self, path: str) -> Zarr2Array:
        if path not in self._arrays:
            self._arrays[path] = open_array(self.store, path)
        return self._arrays[path]

    def _number(self, name: str) -> float:
        value = self._with_dims(layout.state_path(name), 0).read()[()]
        if value.dtype.kind not in "iuf" or not np.isfinite(value):
            raise DamagedStoreError(
                f"{self.name}: {layout.STATE}/{name} is {value!r:.100}; expected a number. "
                "Nothing was changed. Restore that array from a copy."
            )
        return float(value)

    def _with_dims(self, path: str, n_dims: int) -> Zarr2Array:
        array = self._array(path)
        if len(array.shape) != n_dims:
            raise DamagedStoreError(
                f"{self.name}: {path} has the shape {array.shape}; expected {n_dims} dimensions. "
                "Nothing was changed. Restore that array from a copy."
            )
        return array

    def _has_warmup(self, path: str) -> bool:
        of_warmup = layout.path_of_phase(path, warmup=True)
        return self.store.has(layout.member(of_warmup, layout.ARRAY_V2))

    def _is_split(self, path: str) -> bool:
        length = self._array(path).shape[1]
        if length not in (self.draws, self.draws + self.tune):
            raise DamagedStoreError(
                f"{self.name}: {path} has {length} draws, others have {self.draws} and "
                f"{self.tune} of warm-up. Nothing was changed. Restore it from a copy."
            )
        return bool(self.tune) and length == self.draws

    def _is_written(self, path: str, chain: int) -> bool:
        """Return whether a stat was recorded, or left out of every draw.

        ZarrTrace writes no chunk of a stat that is left out, or NaN when it splits the array.
        """
        first = layout.path_of_phase(path, warmup=True) if self._is_split(path) else path
        if all(name.startswith(".") for name in self.store.names(first)):
            return False
        return not np.isnan(self._of_chain(first, chain, 0, min(1, self._n_rows(chain)))).any()

    def _of_chain(self, path: str, chain: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        rows: np.ndarray[Any, Any] = self._array(path).read((chain, chain + 1), (start, stop))[0]
        return rows

    def _n_rows(self, chain: int) -> int:
        if not 0 <= chain < self.chains:
            raise ArgumentError(
                f"{self.name}: chain {chain} does not exist; expected 0 to {self.chains - 1}."
            )
        return int(self.draw_idx[chain])


def _stat_of(path: str) -> tuple[int, str]:
    step_idx, name = _STAT.fullmatch(path).groups()  # type: ignore[union-attr]  # filtered before
    return int(step_idx), name
