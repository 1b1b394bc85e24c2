"""Describe a call that a signal or a deadline stopped, and mark its result."""

import signal
from collections.abc import Sequence
from typing import Any

from checkpoint.errors import InterruptedWarning, warn_caller
from checkpoint.format.manifest import Manifest
from checkpoint.recording.record import ChainRecord
from checkpoint.runs.active import ActiveRun

__all__ = ["interruption", "lacking", "mark_interrupted"]

_GROUPS = ("posterior", "warmup_posterior")
"""Groups of a result that hold draws; a `MultiTrace` has none."""

_MOST_CHAINS = 8
"""Chains that a message names one by one."""


def interruption(number: int | None) -> str:
    """Return how a call was stopped, as the beginning of a clause.

    >>> interruption(2), interruption(15), interruption(None)
    ('interrupted by Ctrl-C (SIGINT)', 'stopped by SIGTERM', 'stopped')
    """
    if number is None:
        return "stopped"
    name = signal.Signals(number).name
    return f"interrupted by Ctrl-C ({name})" if number == signal.SIGINT else f"stopped by {name}"


def lacking(manifest: Manifest, records: Sequence[ChainRecord], n_rows: int) -> str:
    """Return a sentence that says how many of the requested draws each chain has."""
    lines = [
        f"chain {record.chain} has {_n_of(manifest, record.n_rows, n_rows)}"
        for record in records
        if record.n_rows < n_rows
    ]
    if (n_more := len(lines) - _MOST_CHAINS) > 1:
        lines = [*lines[:_MOST_CHAINS], f"{n_more} more chains lack draws"]
    n_complete = sum(record.n_rows >= n_rows for record in records)
    if n_complete:
        lines.append(f"{n_complete} chain{'s are' if n_complete > 1 else ' is'} complete")
    return f"{'; '.join(lines).capitalize()}."


def _n_of(manifest: Manifest, n: int, n_rows: int) -> str:
    if n == 0:
        return "no draws"
    if n <= manifest.tune:
        return f"{n} of {manifest.tune} draws of warm-up"
    return f"{n - manifest.tune} of {n_rows - manifest.tune} draws"


def mark_interrupted(
    result: Any, run: ActiveRun, records: Sequence[ChainRecord], stopped: str
) -> Any:
    """Warn that a result lacks draws, and say so in its attributes; return it.

    `stopped` is how the call was stopped, as a clause.

    Warns
    -----
    InterruptedWarning
    """
    shown = lacking(run.manifest, records, run.n_rows)
    groups = [getattr(result, name) for name in _GROUPS if hasattr(result, name)]
    chains = groups[0]["chain"].values if groups else result.chains
    n_draws = groups[0].sizes["draw"] if groups else len(result)
    of_warmup = "" if hasattr(result, "posterior") or not groups else " of warm-up"
    kept = (
        f"What is returned has {n_draws} draws{of_warmup} of "
        f"{'all chains' if len(chains) == run.manifest.chains else _chains_named(chains)}."
    )
    warn_caller(
        f"{run.store.name}: {stopped} before all draws were made. {shown} {kept} All "
        "that was drawn is recorded: run the same command again to continue.",
        InterruptedWarning,
    )
    for group in [result, *groups] if groups else []:
        group.attrs["interrupted"] = f"{stopped}. {shown} {kept}"
    return result


def _chains_named(chains: Sequence[int]) -> str:
    names = [str(int(chain)) for chain in chains[:_MOST_CHAINS]]
    if (n_more := len(chains) - len(names)) > 0:
        names.append(f"{n_more} more")
    return f"chain{'s' if len(chains) > 1 else ''} {', '.join(names)}"
