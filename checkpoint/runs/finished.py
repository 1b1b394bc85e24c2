"""Return a finished run without compiling the model, if recorded texts show it is the same run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from checkpoint._pymc.results import Packaging
from checkpoint.format.arrays import TEXT
from checkpoint.format.layout import stat_path
from checkpoint.format.manifest import Manifest
from checkpoint.recording.recovery import recover_all
from checkpoint.recording.showing import show_whole
from checkpoint.runs.active import arguments_of
from checkpoint.runs.arguments import Options
from checkpoint.runs.driving import Outcome
from checkpoint.runs.following import announce_finished
from checkpoint.runs.refusing import has_passed
from checkpoint.runs.result import result_of
from checkpoint.runs.same_model import check_same_model
from checkpoint.runs.same_run import call_of, check_store_options
from checkpoint.stores import Store

__all__ = ["result_of_finished"]


def result_of_finished(
    store: Store, manifest: Manifest | None, options: Options, model: Any
) -> Any | None:
    """Return the result of a finished run, or None if the run must be set up to tell.

    It must be set up if it is missing or unfinished, if the model or the call have parts that no
    text identifies, if other versions recorded them, or if anything in the run is damaged.

    Raises
    ------
    DifferentRunError
        If the run is of another model, or its store has another layout than the call asks for.
    IncompleteStateError
        If a rehearsal of the run has failed.
    """
    if manifest is None or options.resume == "never" or not options.return_inferencedata:
        return None
    if options.draws > manifest.draws or any(schema["is_pickled"] for schema in manifest.schemas):
        return None
    tune = manifest.tune if options.tune is None else options.tune
    arguments = replace(arguments_of(options, model), tune=tune)
    call = call_of(arguments, tune, bool(options.fastmath))
    if not call or call != manifest.call or not check_same_model(store, manifest, model):
        return None
    check_store_options(store, manifest, options)
    n_rows = manifest.tune + options.draws
    records = recover_all(store, manifest)
    if any(record.n_rows < n_rows or record.damage is not None for record in records):
        return None
    if not has_passed(store, manifest, n_rows):
        return None
    show_whole(store, manifest)
    store.mend()
    packaging = Packaging.without_compiling(
        model, _variables(manifest), _stats_dtypes(manifest), manifest.tune
    )
    announce_finished(store, manifest, options)
    outcome = Outcome(has_drawn=False)
    return result_of(store, manifest, records, packaging, options, outcome)


def _variables(manifest: Manifest) -> Mapping[str, tuple[Any, tuple[int, ...]]]:
    columns = {column.path: column for column in manifest.columns}
    paths = manifest.variable_paths
    found = {name: columns[paths[name]] for name in manifest.variables}
    return {name: (np.dtype(column.dtype), column.shape) for name, column in found.items()}


def _stats_dtypes(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the stats of each step method in PyMC's order; those kept as text are objects."""
    dtypes: list[dict[str, Any]] = []
    for step_idx in range(len(manifest.schemas)):
        start = stat_path(step_idx, "")
        dtypes.append(
            {
                column.path.removeprefix(start): object
                if column.dtype == TEXT
                else np.dtype(column.dtype).type
                for column in manifest.columns
                if column.path.startswith(start)
            }
        )
    return dtypes
