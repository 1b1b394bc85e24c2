"""`convert`: write a run, or draws of others, into another store, laid out as asked."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from checkpoint.errors import (
    ArgumentError,
    DamagedStoreError,
    DamageWarning,
    NotARunError,
    too_large,
    warn_caller,
)
from checkpoint.format import layout
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import read_root
from checkpoint.hierarchy.contents import read_contents
from checkpoint.interop.importing.import_run import import_run, is_result
from checkpoint.opening import Run
from checkpoint.recording.filling import Block, check_empty, fill
from checkpoint.recording.record import ChainRecord, warn_of_damage
from checkpoint.recording.recovery import recover_all
from checkpoint.recording.rehearsed import read_rehearsed
from checkpoint.runs.arguments import UNSET, Options, check_options
from checkpoint.runs.same_model import check_same_model
from checkpoint.runs.same_numbers import check_numbers_of_model
from checkpoint.stores import Store, as_store

__all__ = ["convert"]


def convert(
    source: Any,
    target: Any,
    *,
    model: Any = None,
    zarr_format: Literal[2, 3] | None = None,
    compressor: Any = UNSET,
    draws_per_chunk: int | None = None,
    allow_pickle: bool = False,
    **arguments: Any,
) -> Run:
    """Write a run, or draws that others recorded, into another store.

    A **run of this package** is copied with all that it has recorded. The model is not needed,
    and no code in the source is run. `checkpoint.sample` continues the run in the target
    as it would in the source, bit for bit.

    A **store of PyMC's ZarrTrace** becomes a run. It continues bit for bit if state and draws
    belong together and transformed variables were stored; both are checked. An **InferenceData or
    DataTree**, with step sizes in its stats and preferably with its warm-up, becomes a run
    that continues as a valid Markov chain, but not bit for bit. Both need the model, and a
    warning says what could not be restored.

    Parameters
    ----------
    source : path, URL, store, InferenceData or DataTree
        A run, as in `checkpoint.sample`; a store of PyMC's; a result, or a netCDF file or Zarr
        store of one. It is read only, and no lock of it is taken: a run may be finished,
        interrupted, torn by a kill, or being sampled. Then what is committed at that moment is
        converted.
    target : path, URL, or store
        As in `checkpoint.sample`. It must be empty.
    model : Model, optional
        Model of draws that others recorded. The default is the model of the context. A run of
        this package needs none; a model that is given is checked against the run.
    zarr_format : {2, 3}, optional
        Zarr format of the target. The default is that of the source; 3 for draws of others.
    compressor : numcodecs or zarr codec, or None, optional
        Compressor of the chunks. The default is that of the source; zstd for draws of others.
    draws_per_chunk : int, optional
        Draws in a chunk of the arrays. The default is that of the source; for draws of others,
        that of `checkpoint.sample`.
    allow_pickle : bool
        Whether pickles in a source of others may be loaded, which can run code: only for stores
        you trust. The sampler state in a store of PyMC's is one.
    **arguments
        What draws of others were sampled with, as for `checkpoint.sample`: ``step``,
        ``random_seed``, ``cores``, ``var_names``, ``initvals``, ``init``, ``n_init``,
        ``jitter_max_retries``, ``backend``, ``compile_kwargs``, ``target_accept`` and others for
        step methods. For results `random_seed` is that of the draws to come.

    Returns
    -------
    Run
        What the target holds now.

    Raises
    ------
    ArgumentError
        If source and target are the same place, an argument cannot be used, or the model is
        missing.
    RunNotFoundError
        If the source is empty.
    RunExistsError, NotARunError
        If the target is not empty. Nothing is changed. `NotARunError` also if the source holds
        neither a run nor draws.
    DifferentRunError
        If the source is of another model or of other step methods; it lists each difference.
    UnsupportedStepError
        If pickles would have to be loaded without `allow_pickle`, or a step method declares no
        state.
    FormatVersionError, DamagedStoreError
        If the source cannot be read.
    RunLockedError
        If another process writes into the target.
    StoreWriteError
        If the target cannot be written.

    Warns
    -----
    DamageWarning
        If draws in the source cannot be read. Those before them are converted, for each chain.
    ExactnessWarning
        If the run in the target does not continue bit for bit, or that cannot be determined.

    Notes
    -----
    Durability: on return the target is durable. If the process is killed before, the target holds
    no run and can be converted into again. Memory holds those draws of a run that are not yet in
    its arrays, and a few chunks of one chain; of a source of others, all draws.

    Of draws of others only the last of each chain has the state of the sampler. Values that the
    source lacks are NaN, 0 or false. A result without warm-up makes a run with ``tune=0``: leave
    `tune` out when it is continued.

    Examples
    --------
    >>> import checkpoint
    >>> import pymc as pm
    >>> with pm.Model():
    ...     x = pm.Normal("x")
    ...     _ = checkpoint.sample(tmp / "fit.zarr", draws=50, tune=50, chains=2, cores=1,
    ...                           random_seed=1, quiet=True)
    >>> run = checkpoint.convert(tmp / "fit.zarr", tmp / "fit.zip", zarr_format=2)
    >>> run.draw_idx.tolist(), run.finished
    ([100, 100], True)
    """
    goal = as_store(target)
    laid_out = {
        "zarr_format": zarr_format,
        "compressor": compressor,
        "draws_per_chunk": draws_per_chunk,
    }
    found = None if is_result(source) else _run_in(as_store(source))
    if found is None:
        import_run(source, goal, model=model, allow_pickle=allow_pickle, **laid_out, **arguments)
        return Run(goal, read_root.existing_manifest(goal))
    if arguments:
        raise ArgumentError(
            f"{', '.join(arguments)}: {found[0].name} holds a run of checkpoint, which is "
            "converted as it is. Nothing was changed. Leave that out."
        )
    options = Options(**laid_out)
    check_options(options)
    if model is not None:
        _check_model(*found, model)
    return Run(goal, _convert_run(*found, goal, options))


def _run_in(source: Store) -> tuple[Store, Manifest] | None:
    """Return a store with the manifest of the run in it, or None if something else is there."""
    try:
        return source, read_root.existing_manifest(source)
    except NotARunError:
        if not source.names(layout.POSTERIOR):
            raise
        return None


def _check_model(source: Store, manifest: Manifest, model: Any) -> None:
    """Check that a model that was given is that of the run.

    Raises
    ------
    DifferentRunError
        If it is not; it lists each difference.
    """
    if not check_same_model(source, manifest, model):
        check_numbers_of_model(source, manifest, model, recover_all(source, manifest))


def _convert_run(source: Store, manifest: Manifest, target: Store, options: Options) -> Manifest:
    """Write a run of ours into another store; return its manifest there."""
    _check_apart(source, target)
    check_empty(target)
    records = recover_all(source, manifest)
    warn_of_damage(records)
    laid_out = _laid_out(source, manifest, options)
    contents = read_contents(source, manifest)
    # Each record is freed once it is written, with the log entries that it holds in memory.
    chains = (_blocks(records.pop(0), laid_out) for _ in range(manifest.chains))
    try:
        return fill(target, laid_out, contents, chains, read_rehearsed(source, manifest))
    except MemoryError as error:
        what = f"a chunk of {laid_out.chunk} draws of {manifest.total}"
        raise too_large(source.name, what, error) from error


def _check_apart(source: Store, target: Store) -> None:
    """Check that writing the target leaves the source as it is."""
    here, there = source.place, target.place
    is_inside = isinstance(here, Path) and isinstance(there, Path) and here in there.parents
    if here == there or is_inside:
        where = "inside the source" if is_inside else "the source itself"
        raise ArgumentError(
            f"target={target.name!r} is {where}, {source.name}. Nothing was changed. "
            "Choose another target."
        )


def _laid_out(source: Store, manifest: Manifest, options: Options) -> Manifest:
    """Return the manifest that the run will have in the target.

    Raises
    ------
    ArgumentError
        If its chunks cannot be of that length.
    """
    changed = manifest
    if options.zarr_format is not None:
        changed = replace(changed, zarr_format=options.zarr_format)
    if options.compressor is not UNSET:
        changed = replace(changed, compressor=options.codec.to_json())
    n = options.draws_per_chunk
    if n is not None:
        changed = replace(
            changed, warmup_chunk=max(1, min(n, manifest.tune)), chunk=min(n, manifest.draws)
        )
    lengths = (manifest.warmup_chunk, manifest.chunk)
    per_commit = [column.path for column in manifest.columns if column.per_commit]
    if per_commit and lengths != (changed.warmup_chunk, changed.chunk):
        # The chunks of the target would end where the source has no value of these columns.
        raise ArgumentError(
            f"draws_per_chunk={n}: {source.name} keeps {per_commit[0]} at the ends of its chunks "
            f"only, of {lengths[0]} draws in warm-up and {lengths[1]} after it. Nothing was "
            "changed. Leave draws_per_chunk out."
        )
    return changed


def _blocks(record: ChainRecord, target: Manifest) -> Iterator[Block]:
    """Return the rows of a chain up to the first damage, one block for each chunk of the target."""
    for start, stop in target.grid.ranges(record.n_rows):
        try:
            rows = record.rows(start, stop)
        except DamagedStoreError as error:
            readable = _readable_stop(record, start, stop)
            _warn_of_loss(record, readable, error)
            if readable > start:
                yield readable - start, record.rows(start, readable)
            return
        yield stop - start, rows


def _readable_stop(record: ChainRecord, start: int, stop: int) -> int:
    """Return the first draw of the first chunk of the source that cannot be read."""
    at = start
    while at < stop:
        end = min(record.manifest.grid.chunk_at(at).stop, stop)
        try:
            record.rows(at, end)
        except DamagedStoreError:
            break
        at = end
    return at


def _warn_of_loss(record: ChainRecord, readable: int, error: DamagedStoreError) -> None:
    warn_caller(
        f"Draws {readable} to {record.n_rows - 1} of chain {record.chain} are left out, as not all "
        f"of them can be read: {error} Or let checkpoint.sample draw them again in the target.",
        DamageWarning,
    )
