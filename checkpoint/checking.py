"""`verify`: check a store against its checksums, and recorded draws against their states."""

import contextlib
from typing import Any

import numpy as np

from checkpoint.errors import ArgumentError, DamagedStoreError, NotARunError
from checkpoint.hierarchy import read_root
from checkpoint.interop.zarr_trace_store.run import PyMCRun
from checkpoint.interop.zarr_trace_store.store import PyMCStore
from checkpoint.reading.damage_report import Verification
from checkpoint.reading.looking import verify_store
from checkpoint.stores import as_store

__all__ = ["verify"]


def verify(
    store: Any,
    replay: int = 0,
    *,
    model: Any = None,
    random_seed: Any = None,
    **arguments: Any,
) -> Verification:
    """Check everything in a store against its checksums; repeat draws, if asked to.

    Checked are the root, the metadata of all nodes, every chunk of every array, the log, and the
    directory of a zip file. Beside a live writer that is what is committed at the time.

    Parameters
    ----------
    store : path, URL, or store
        As in `checkpoint.sample`.
    replay : int
        Number of recorded draws to repeat. They are chosen at random among the draws whose
        preceding state is recorded, made again from that state, and compared bit for bit. This
        finds what no checksum can: a value that was changed and written back with its checksum.
    model : Model, optional
        Model for `replay`. The default is the model of the context.
    random_seed : int or Generator, optional
        Seed for the choice of the draws.
    **arguments
        For `replay`, the arguments of `checkpoint.sample` that the run was sampled with: ``step``,
        ``initvals``, ``init``, ``var_names``, ``compile_kwargs``, ``target_accept`` and others.

    Returns
    -------
    Verification
        The damage found, and how much of each chain is intact. `str` of it is a report.

    Raises
    ------
    DifferentRunError
        If the model or the arguments are not those of the run.
    UnsupportedStepError
        If draws are to be repeated and the state of a step method is a pickle.
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
    >>> found = checkpoint.verify(tmp / "fit.zarr", replay=3, model=model)
    >>> found.ok, found.n_replayed
    (True, 3)
    """
    if not isinstance(replay, int | np.integer) or replay < 0:
        raise ArgumentError(f"replay={replay!r}: expected a whole number, 0 or more.")
    if arguments and not replay:
        raise ArgumentError(f"{', '.join(arguments)}: only for draws that are made again (replay).")
    place = as_store(store)
    if replay:
        from checkpoint.runs import replaying  # which imports PyMC

        with contextlib.suppress(DamagedStoreError, NotARunError):  # `verify_store` reports it
            replaying.check_can_be_repeated(place, read_root.existing_manifest(place))
    try:
        report = verify_store(place)
    except NotARunError:
        if (found := PyMCStore.find(place)) is not None:
            PyMCRun(found).verify()
        raise
    if not replay or not report.chains:
        return report
    return replaying.replay_draws(place, report, int(replay), model, random_seed, arguments)
