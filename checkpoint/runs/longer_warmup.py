"""Ask for a longer warm-up of a run in which no chain has finished it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from checkpoint.format.manifest import Manifest
from checkpoint.recording.record import ChainRecord
from checkpoint.runs.describe import chunk_sizes

__all__ = ["cannot_be_known", "cannot_be_longer", "with_tune"]

_NEEDS_TUNE = "grad"
"""Part of the names of `init` whose mass matrix stops adapting at a draw that `tune` sets."""


def cannot_be_longer(manifest: Manifest, records: Sequence[ChainRecord], tune: int) -> str:
    """Return why the warm-up of a run cannot be `tune` draws now; empty if it can.

    A longer one is that of a run that asked for it from the start, if nothing that was drawn
    depends on its length.
    """
    if tune < manifest.tune:
        return "a warm-up cannot be cut"
    finished = [record.chain for record in records if record.n_rows >= manifest.tune]
    if finished:
        return f"chain {finished[0]} has finished it"
    if _NEEDS_TUNE in manifest.settings.get("init", ""):
        return f"init={manifest.settings['init']!r} adapts by its length"
    return ""


def cannot_be_known(steps: Sequence[Any]) -> str:
    """Return why step methods may depend on the length of warm-up; empty if PyMC's own do not."""
    others = [step for step in steps if not type(step).__module__.startswith("pymc.")]
    return f"{type(others[0]).__name__} may depend on its length" if others else ""


def with_tune(manifest: Manifest, tune: int, draws_per_chunk: int | None) -> Manifest:
    """Return the manifest of a run with a longer warm-up."""
    chunk = manifest.warmup_chunk
    if chunk == manifest.tune:  # it was cut to the warm-up, and no chain has filled it
        chunk, _ = chunk_sizes(draws_per_chunk, manifest.columns, tune, manifest.draws)
    call = {**manifest.call, "tune": str(tune)} if manifest.call else manifest.call
    settings = {**manifest.settings, "tune": str(tune)}
    return replace(manifest, tune=tune, warmup_chunk=chunk, call=call, settings=settings)
