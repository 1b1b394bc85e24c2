"""`ZarrTrace`: the trace backend that PyMC documents, for `pm.sample(trace=...)`."""

import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from checkpoint._pymc import backends
from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.model import coords_and_dims, current_model, result_coords
from checkpoint._pymc.steps import is_population, uses_fastmath
from checkpoint.errors import ArgumentError, RunExistsError, StoreWriteError, UnknownArgumentError
from checkpoint.format import layout
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import read_root
from checkpoint.interop.trace.chain import ZarrChain
from checkpoint.interop.trace.groups import GroupWriter
from checkpoint.interop.trace.session import Session, make_room, unset_of_ours, warn_of_fastmath
from checkpoint.interop.trace.view import TraceView
from checkpoint.runs.active import start_run, tasks_of
from checkpoint.runs.arguments import UNSET, Options, check_options
from checkpoint.runs.describe import StoreSettings, describe_run
from checkpoint.stores import Store, as_store

__all__ = ["ZarrTrace"]


class ZarrTrace(TraceView, backends.TraceBase):  # type: ignore[misc]  # PyMC's class is not typed everywhere
    """Records what `pm.sample` draws, durably, so that a killed run can be continued.

    The interface of `pymc.backends.zarr.ZarrTrace`. Pass it as ``pm.sample(trace=...)``; after a
    crash `checkpoint.sample` with the same arguments and `store` continues the run. Within a
    ``with`` statement models are compiled without fastmath, so that this is exact to the last bit.

    Parameters
    ----------
    store : path, URL, store, or None
        As in `checkpoint.sample`; None for memory, which ends with the process.
    synchronizer : None
        Not supported: each chunk has one writer, so there is nothing to synchronize.
    compressor : numcodecs or zarr codec, or None, optional
        For the chunks; None for none. The default is zstd.
    draws_per_chunk : int, optional
        Draws in a chunk of the arrays, which are chunked ``(1, draws_per_chunk, *shape)``. The
        default makes the rows of a chunk take 16 MiB. Draws are durable long before a chunk is
        full; see `commit_interval`.
    include_transformed : bool
        Whether the result has the values on the unconstrained space too. They are stored in any
        case.
    overwrite : bool
        Whether a run, or another Zarr group, in the store may be erased.
    zarr_format : {2, 3}
    commit_interval : float
        Seconds between commits: at most so much work is lost. 0 commits every draw.

    Attributes
    ----------
    straces : list of ZarrChain
        One for each chain, once `init_trace` was called.

    Raises
    ------
    RunExistsError
        If the store holds a run, and `overwrite` is false. `from_store` opens it.
    NotARunError
        If it holds something else.
    UnknownArgumentError
        If a synchronizer is given.

    Notes
    -----
    Durability: as of `checkpoint.sample`. The lock of the run is held from `init_trace` until
    `pm.sample` returns or raises, or `close` is called.

    The hierarchy is that of PyMC's class, with these differences. Warm-up lies in groups of its
    own from the first draw, so there is nothing to split at the end. The state of the step methods
    is kept for every draw, as plain arrays below ``_sampling_state``. Results hold recorded draws
    only, without padding.

    Examples
    --------
    >>> import pymc as pm
    >>> with pm.Model():
    ...     x = pm.Normal("x")
    ...     with ZarrTrace(tmp / "fit.zarr") as trace:
    ...         idata = pm.sample(50, tune=50, chains=2, cores=1, random_seed=1, trace=trace,
    ...                           progressbar=False, compute_convergence_checks=False)
    >>> trace.posterior.x.shape
    (2, 50)
    """

    def __init__(
        self,
        store: Any = None,
        synchronizer: None = None,
        compressor: Any = UNSET,
        draws_per_chunk: int | None = None,
        include_transformed: bool = False,
        *,
        overwrite: bool = False,
        zarr_format: int | None = None,
        commit_interval: float = 1.0,
    ) -> None:
        if synchronizer is not None:
            raise UnknownArgumentError(
                f"synchronizer={synchronizer!r} is not supported: every chunk has one writer, so "
                "there is nothing to synchronize. Leave it out."
            )
        options = Options(
            compressor=unset_of_ours(compressor),
            draws_per_chunk=draws_per_chunk,
            include_transformed=include_transformed,
            zarr_format=zarr_format,  # type: ignore[arg-type]  # checked in the next line
            commit_interval=commit_interval,
        )
        check_options(options)
        self._prepare(as_store({} if store is None else store), options)
        make_room(self._store, options.zarr_format or 3, overwrite)

    def _prepare(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._session: Session | None = None
        self._manifest: Manifest | None = None
        self._stack = ExitStack()
        self.include_transformed = options.include_transformed
        self.straces: list[ZarrChain] = []

    @classmethod
    def from_store(cls, store: Any, include_transformed: bool = False) -> "ZarrTrace":
        """Open an existing run to read it; `checkpoint.sample` continues it.

        Raises
        ------
        RunNotFoundError
            If there is none.
        NotARunError, FormatVersionError, DamagedStoreError
            If it cannot be read.
        """
        place = as_store(store)
        manifest = read_root.existing_manifest(place)
        self = cls.__new__(cls)
        self._prepare(place, Options(include_transformed=include_transformed))
        self._manifest = manifest
        return self

    def __enter__(self) -> "ZarrTrace":
        self._stack.enter_context(exact_compilation(fastmath=False))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        self.close()

    def __repr__(self) -> str:
        return f"<ZarrTrace {self._store.name}>"

    # Sampling

    def init_trace(
        self,
        chains: int,
        draws: int,
        tune: int,
        step: Any,
        model: Any = None,
        vars: Sequence[Any] | None = None,  # noqa: A002  # PyMC's name
        test_point: Mapping[str, Any] | None = None,
    ) -> None:
        """Create the run in the store, and `straces` to record its draws with.

        Parameters
        ----------
        chains, draws, tune : int
            Chains, and draws of each after and in warm-up.
        step : step method
            The one that will make the draws.
        model : Model, optional
            By default that of the context.
        vars : sequence of variables, optional
            Value variables and deterministics to record; by default all.
        test_point : dict, optional
            An initial point.

        Raises
        ------
        RuntimeError
            If the trace has a run already.
        RunExistsError, RunLockedError
            If another process began one, or is about to.
        UnsupportedStepError
            If the state of a step method cannot be captured.

        Notes
        -----
        Durability: on return the run is durable, without draws.
        """
        if self._manifest is not None:
            raise RuntimeError(
                f"The ZarrTrace of {self._store.name} has a run already. To continue it, call "
                "checkpoint.sample with its store; to begin another, make another ZarrTrace."
            )
        if draws < 1:
            raise ArgumentError(
                f"draws={draws}: expected at least 1 after warm-up. Nothing was written."
            )
        self.model = current_model(model)
        self.coords, self.vars_to_dims = coords_and_dims(self.model)
        arguments, preparation = backends.prepared(
            step,
            model=self.model,
            variables=vars,
            start=test_point,
            chains=chains,
            draws=draws,
            tune=tune,
        )
        if is_population(step) and preparation.cores > 1:
            raise ArgumentError(
                f"cores={preparation.cores}: PyMC keeps the states of a population of chains "
                "(DEMetropolis) in processes that a trace cannot ask. Nothing was written. Pass "
                "cores=1, or call checkpoint.sample instead of pm.sample."
            )
        if not preparation.recorder.varnames:
            raise ArgumentError(
                "var_names=[]: expected at least one variable to record. Nothing was written."
            )
        self.vars, self.varnames = preparation.recorder.vars, list(preparation.recorder.varnames)
        fastmath = uses_fastmath(step)
        if fastmath:
            warn_of_fastmath(self._store)
        options = self._options
        settings = StoreSettings(options.zarr_format or 3, options.draws_per_chunk, options.codec)
        manifest, schemas = describe_run(
            arguments, preparation, settings, fastmath, allow_pickle=False
        )
        run = start_run(self._store, manifest, preparation, schemas, draws)
        try:
            in_workers = preparation.cores > 1 and not is_population(step)
            self._session = session = Session(run, in_workers)
            tasks = tasks_of(run, run.records(), run.n_rows, options.commit_interval, session.clock)
        except BaseException:
            run.store.unlock()
            raise
        self._manifest = manifest
        weakref.finalize(self, session.end)
        self.straces = [ZarrChain(task, step, session.door, session.end) for task in tasks]

    def close(self) -> None:
        """End the session, so that others can write; `pm.sample` does so when it returns.

        Notes
        -----
        Durability: on return all that was recorded in this process is durable.
        """
        try:
            for strace in self.straces:
                strace.flush()
        finally:
            if self._session is not None:
                self._session.end()

    def _end(self, seconds: float) -> None:
        if self._session is not None:
            self._session.seconds = seconds
        self.close()

    def split_warmup_groups(self) -> None:
        """Do nothing: warm-up is in groups of its own from the first draw."""

    def split_warmup(self, group_name: str, error_if_already_split: bool = True) -> None:
        """Do nothing, or raise: warm-up is in groups of its own from the first draw.

        Raises
        ------
        KeyError
            If there is no such group.
        RuntimeError
            If it has warm-up, and `error_if_already_split`.
        """
        names = self.groups()
        if group_name not in names:
            raise KeyError(group_name)
        if error_if_already_split and f"{layout.WARMUP}{group_name}" in names:
            raise RuntimeError(f"Warmup data for {group_name} has already been split")

    # Writing groups

    def create_group(self, name: str, data_dict: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Write arrays into a group of the root, with their dimensions and coordinates.

        Returns
        -------
        zarr.Group or None
            None if there is nothing to write.

        Raises
        ------
        RunExistsError
            If the group is part of the run that the trace has.
        ArgumentError
            If a name leads out of the store.
        """
        if not data_dict:
            return None
        self._check_free(name)
        self._groups().write_data(name, data_dict)
        return self.root[name]

    def init_group_with_empty(
        self,
        group: Any,
        var_dtype_and_shape: Mapping[str, tuple[Any, Sequence[int]]],
        chains: int,
        draws: int,
        extra_var_attrs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Any:
        """Make arrays ``(chains, draws, *shape)`` without values in a group; return the group.

        Raises
        ------
        RunExistsError, ArgumentError
            As `create_group`.
        """
        self._check_free(group.path)
        self._groups().write_empty(
            group.path, var_dtype_and_shape, chains, draws, extra_var_attrs or {}
        )
        return self.root[group.path]

    def init_sampling_state_group(self, tune: int, chains: int) -> None:
        """Make the group ``_sampling_state`` of a run without draws; `init_trace` does so."""
        self._check_free(layout.STATE)
        self._groups().write_sampling_state(tune, chains)

    def _check_free(self, group: str) -> None:
        if self._store.read_only:
            raise StoreWriteError(f"{self._store.name} was opened read-only. Open it for writing.")
        if self._manifest is not None and group.split("/")[0] in layout.GROUPS:
            raise RunExistsError(
                f"{self._store.name} has the group {group} of a run, which would be lost. "
                "Nothing was changed. Choose another name, or make another ZarrTrace."
            )

    def _groups(self) -> GroupWriter:
        options, manifest = self._options, self._manifest
        coords = result_coords(self.model) if hasattr(self, "model") else {}
        dims = getattr(self, "vars_to_dims", {})
        zarr_format = manifest.zarr_format if manifest else options.zarr_format or 3
        codec = manifest.codec if manifest else options.codec
        return GroupWriter(
            self._current_store, zarr_format, codec, options.draws_per_chunk or 1, coords, dims
        )
