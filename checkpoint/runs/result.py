"""The result of a call, from what is recorded."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from checkpoint._pymc.results import Packaging, package, trace_of
from checkpoint.errors import DamagedStoreError, TooFewDrawsError
from checkpoint.format import layout
from checkpoint.format.layout import stat_path
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Values
from checkpoint.hierarchy import clocks
from checkpoint.hierarchy.documents import root_attributes
from checkpoint.reading.datasets import with_groups
from checkpoint.reading.run import RecordedRun
from checkpoint.recording.record import ChainRecord
from checkpoint.runs.active import ActiveRun
from checkpoint.runs.arguments import Options
from checkpoint.runs.driving import Outcome
from checkpoint.runs.interruption import lacking, mark_interrupted
from checkpoint.stores import Store
from checkpoint.stores.held import moved_error

__all__ = ["result", "result_of"]


def result(run: ActiveRun, options: Options, outcome: Outcome) -> Any:
    """Return what `pm.sample` returns, from what is recorded.

    Raises
    ------
    TooFewDrawsError
        If no chain has a draw to return.
    StoreMovedError
        If the store now holds another run.
    """
    with _said_right(run.store, run.manifest):
        records = run.records()
    packaging = Packaging.of(run.preparation)
    packaged = result_of(run.store, run.manifest, records, packaging, options, outcome)
    if outcome.stopped:
        packaged = mark_interrupted(packaged, run, records, outcome.stopped)
    return packaged


def result_of(
    store: Store,
    manifest: Manifest,
    records: Sequence[ChainRecord],
    packaging: Packaging,
    options: Options,
    outcome: Outcome,
) -> Any:
    """Return what `pm.sample` returns, of the draws that the options ask for.

    Raises
    ------
    TooFewDrawsError
        If no chain has a draw to return.
    StoreMovedError
        If the store holds another run by now.
    """
    n_most = manifest.tune + options.draws
    # PyMC discards warm-up then, so it is not read.
    start = manifest.tune if options.discard_tuned_samples else 0
    traces = []
    with _said_right(store, manifest):
        for record in records:
            n_rows = min(record.n_rows, n_most)
            paths = manifest.variable_paths
            values = {name: _rows(record, path, start, n_rows) for name, path in paths.items()}
            taken = {
                (i, name): _rows(record, stat_path(i, name), start, n_rows)
                for i, dtypes in enumerate(packaging.stats_dtypes)
                for name in dtypes
            }
            traces.append(trace_of(packaging, record.chain, values, taken, n_rows))
    _check_same_run(store, manifest)
    try:
        packaged = package(
            packaging,
            traces,
            sampling_time=clocks.read_sampling_time(store, manifest),
            says_time=outcome.has_drawn,
            discard_tuned_samples=options.discard_tuned_samples,
            compute_convergence_checks=options.compute_convergence_checks,
            return_inferencedata=options.return_inferencedata,
            keep_warning_stat=options.keep_warning_stat,
            idata_kwargs=options.idata_kwargs,
            quiet=options.quiet,
        )
    except ValueError as error:
        if "Not enough samples to build a trace" not in str(error):
            raise
        raise TooFewDrawsError(
            f"{store.name}: {outcome.stopped or 'stopped'} before any chain had a draw after "
            f"warm-up, so there is nothing to return. {lacking(manifest, records, n_most)} "
            "All that was drawn is recorded. Run the same command again to continue."
        ) from None
    if options.include_transformed and options.return_inferencedata:
        return with_groups(packaged, _unconstrained(store, manifest, options))
    return packaged


def _rows(record: ChainRecord, path: str, start: int, stop: int) -> Values:
    """Return a column up to `stop`; values of rows before `start` are arbitrary."""
    if stop <= start:
        return record.values(path, 0, stop)
    return record.values(path, start, stop, n_before=start)


@contextlib.contextmanager
def _said_right(store: Store, manifest: Manifest) -> Iterator[None]:
    """Report a store that was moved or replaced as such, and not as damaged."""
    try:
        yield
    except DamagedStoreError:
        _check_same_run(store, manifest)
        raise


def _check_same_run(store: Store, manifest: Manifest) -> None:
    """Check that the store still holds this run; no lock is held, so it may have been replaced."""
    attribute = (root_attributes(store) or {}).get(layout.ATTRIBUTE)
    if not isinstance(attribute, Mapping) or attribute.get("run_id") != manifest.run_id:
        raise moved_error(store.name, store.name)


def _unconstrained(store: Store, manifest: Manifest, options: Options) -> dict[str, Any]:
    """Return the groups that `include_transformed` adds."""
    view = RecordedRun(store, manifest)
    groups = {layout.UNCONSTRAINED: view.unconstrained_posterior.isel(draw=slice(options.draws))}
    if not options.discard_tuned_samples and manifest.tune:
        groups[f"{layout.WARMUP}{layout.UNCONSTRAINED}"] = view.warmup_unconstrained_posterior
    return {name: group for name, group in groups.items() if group.data_vars}
