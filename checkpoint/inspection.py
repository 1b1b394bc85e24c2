"""`open`: a read-only view of a run, without the model, beside a live writer or after a crash."""

from typing import Any

import numpy as np

from checkpoint import hierarchy, layout
from checkpoint._pymc.results import stat_objects
from checkpoint.adapters import AdapterSchema, StepAdapter
from checkpoint.arrays import TEXT
from checkpoint.errors import (
    ArgumentError,
    CheckpointError,
    DamagedStoreError,
    NotARunError,
    UnsupportedStepError,
)
from checkpoint.manifest import Manifest
from checkpoint.pymc_run import PyMCRun
from checkpoint.pymc_store import PyMCStore
from checkpoint.recovery import ChainRecord, recover_all, warn_of_damage
from checkpoint.run_setup import read_constants
from checkpoint.stores import Store, as_store
from checkpoint.verification import Verification
from checkpoint.views import View

__all__ = ["Run", "open", "open_run"]


def open(store: Any) -> "Run | PyMCRun":
    """Open a run for reading.

    Nothing in the store is changed, and no code in it is run. A store that PyMC's own ZarrTrace
    wrote with zarr 2 is shown in the same way, save the states of the sampler.

    Parameters
    ----------
    store : path, URL, or store
        As in `checkpoint.sample`.

    Returns
    -------
    Run, or PyMCRun for a store of PyMC's ZarrTrace

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
    try:
        run = open_run(place)
    except NotARunError:
        if (found := PyMCStore.find(place)) is None:
            raise
        return PyMCRun(found)
    warn_of_damage(run._records, stacklevel=2)
    return run


def open_run(store: Store) -> "Run":
    """Return the view of a run of ours.

    Raises
    ------
    RunNotFoundError, NotARunError, FormatVersionError
        If there is none that can be read.
    """
    return Run(store, hierarchy.existing_manifest(store))


class Run(View):
    """What a store has recorded at the moment it was opened; open it again to see more.

    Only recorded draws are shown. Where chains have recorded different numbers of draws, groups
    hold those chains, cut to one length, that keep the most draws together, as `pm.sample` does
    after Ctrl-C.
    """

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._records = recover_all(store, manifest)

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def tune(self) -> int:
        return self._manifest.tune

    @property
    def draws(self) -> int:
        return self._manifest.draws

    @property
    def chains(self) -> int:
        return self._manifest.chains

    @property
    def draw_idx(self) -> np.ndarray[Any, Any]:
        return np.array([record.n_rows for record in self._records])

    @property
    def sampling_time(self) -> float:
        return hierarchy.read_sampling_time(self._store, self._manifest)

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
            states.append(self._state(schema, record, draw_idx))
        return states

    def verify(
        self, replay: int = 0, *, model: Any = None, random_seed: Any = None, **arguments: Any
    ) -> Verification:
        """Hold everything in the store against its checksums; make draws again, if asked to.

        Looked at are the root, the metadata of all nodes, every chunk of every array, the log, and
        the directory of a zip file. Beside a live writer that is what is committed at the time.

        Parameters
        ----------
        replay : int
            So many recorded draws, chosen at random among those whose state before them is
            recorded, are made again from it, and must be equal bit for bit. That finds what no
            checksum does: a value that was changed and written back whole.
        model : Model, optional
            For `replay`; that of the context unless given.
        random_seed : int or Generator, optional
            For the choice of the draws.
        **arguments
            What the run was sampled with, as for `checkpoint.sample`, for `replay`: ``step``,
            ``initvals``, ``init``, ``var_names``, ``compile_kwargs``, ``target_accept`` and others.

        Returns
        -------
        Verification
            What was found, and what of each chain is intact. Its text is a report.

        Raises
        ------
        DifferentRunError
            If the model or the arguments are not those of the run.
        UnsupportedStepError
            If draws are to be made again and a step method was pickled.
        StoreUnreachableError
            If the store does not answer.

        Notes
        -----
        Durability: nothing is written, and no lock is taken.

        Examples
        --------
        >>> import checkpoint
        >>> import pymc as pm
        >>> with pm.Model() as model:
        ...     x = pm.Normal("x")
        ...     _ = checkpoint.sample(tmp / "fit.zarr", draws=50, tune=50, chains=2, cores=1,
        ...                           random_seed=1, quiet=True)
        >>> found = checkpoint.open(tmp / "fit.zarr").verify(replay=3, model=model)
        >>> found.ok, found.n_replayed
        (True, 3)
        """
        from checkpoint.replaying import verify_run

        return verify_run(self._store, replay, model, random_seed, arguments)

    def _state(self, schema: AdapterSchema, record: ChainRecord, draw_idx: int) -> dict[str, Any]:
        try:
            return StepAdapter(schema).read(record, draw_idx)
        except CheckpointError:
            raise
        except Exception as error:  # what numbers that belong to no state make of it
            raise DamagedStoreError(
                f"{self._store.name}: the state of {schema.name} after draw {draw_idx} of chain "
                f"{record.chain} is none: {type(error).__name__}: {error}. It was changed or "
                "damaged. Restore the store from a copy."
            ) from error

    def _record(self, chain: int) -> ChainRecord:
        if not 0 <= chain < self.chains:
            raise ArgumentError(
                f"{self._store.name}: chain {chain} does not exist; "
                f"expected 0 to {self.chains - 1}."
            )
        return self._records[chain]

    def _paths(self, group: str) -> list[str]:
        return [
            column.path
            for column in self._manifest.columns
            if column.path.startswith(f"{group}/")
            and column.dtype != TEXT  # warnings, which `pm.sample` drops too
        ]

    def _object_stats(self, warmup: bool) -> dict[str, list[np.ndarray[Any, Any]]]:
        by_name: dict[str, list[np.ndarray[Any, Any]]] = {}
        for column in self._manifest.columns:
            if column.path.startswith(f"{layout.SAMPLE_STATS}/") and column.dtype == TEXT:
                values = stat_objects(self._values(column.path, warmup))
                by_name.setdefault(column.path.split("__", 1)[1], []).append(values)
        return by_name

    def _rows(self, path: str, chain: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        return self._records[chain].values(path, start, stop)

    def _no_rows(self, path: str) -> np.ndarray[Any, Any]:
        column = next(column for column in self._manifest.columns if column.path == path)
        return column.empty(0)

    def _array_names(self, group: str) -> list[str]:
        return hierarchy.array_names(self._store, self._manifest, group)

    def _dims(self, path: str) -> list[str]:
        return hierarchy.read_dims(self._store, self._manifest, path)

    def _whole(self, path: str) -> np.ndarray[Any, Any]:
        return hierarchy.read_array(self._store, self._manifest, path)
