"""Compute logp and variables of the model at recorded draws; compare with the recorded values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.setup import Preparation
from checkpoint.errors import DamagedStoreError
from checkpoint.format.layout import stat_path
from checkpoint.format.manifest import Manifest
from checkpoint.recording.record import ChainRecord
from checkpoint.runs.same_model import refuse
from checkpoint.stores import Store

__all__ = [
    "LOGP_TOLERANCE",
    "Numbers",
    "check_numbers",
    "check_numbers_of_model",
    "check_some_numbers",
]

LOGP_TOLERANCE = 1e-6
"""Another processor or library may move the last bits of a log-probability, not its sixth digit."""

_SINGLE_TOLERANCE = 1e-3
"""The same for values of single precision."""


@dataclass(frozen=True)
class Numbers:
    """Functions that compute the numbers of a model at a point.

    Attributes
    ----------
    logp : callable
        Log-probability, as in the stat `model_logp`; returns None if the run lacks that stat.
    variables : callable
        Recorded variables as (name, value).
    """

    logp: Callable[[Mapping[str, Any]], float | None]
    variables: Callable[[Mapping[str, Any]], Iterable[tuple[str, Any]]]

    @staticmethod
    def of(preparation: Preparation) -> "Numbers":
        """Return the functions that the sampler of a run has compiled."""
        recorder: Any = preparation.recorder

        def variables(point: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
            values = recorder.fn(*[point[name] for name in preparation.value_names])
            return zip(recorder.varnames, values, strict=True)

        return Numbers(lambda point: pymc_model.last_logp(preparation, point), variables)

    def number_differences(self, record: ChainRecord, draw_idx: int) -> list[str]:
        """Return a line for each number of a recorded draw that differs from the model's."""
        manifest, chain = record.manifest, record.chain
        paths = manifest.point_paths.items()
        point = {name: np.array(record.value(path, draw_idx)) for name, path in paths}
        found = []
        now = None if manifest.start_logp else self.logp(point)
        if now is not None:
            path = stat_path(len(manifest.schemas) - 1, "model_logp")
            recorded = float(record.value(path, draw_idx))
            # Imported rows may lack it.
            if not np.isnan(recorded) and not _close(recorded, now):
                found.append(f"logp of chain {chain}: recorded as {recorded!r}, now {now!r}")
        for name, value in self.variables(point):
            before = record.value(manifest.variable_paths[name], draw_idx)
            if not _close(before, value):
                changed = pymc_model.changed_values(before, value)
                found.append(f"{name} at draw {draw_idx} of chain {chain}: {changed}")
        return found


def check_numbers(
    store: Store, manifest: Manifest, preparation: Preparation, records: Sequence[ChainRecord]
) -> None:
    """Check that the model gives the numbers recorded with the last draw of each chain.

    Raises
    ------
    DifferentRunError
        If it does not, for any chain.
    """
    found = _starts(manifest, preparation)
    numbers = Numbers.of(preparation)
    for record in records:
        if record.n_rows:
            found += numbers.number_differences(record, record.n_rows - 1)
    _refuse(store, found)


def check_some_numbers(
    store: Store,
    manifest: Manifest,
    preparation: Preparation,
    records: Sequence[ChainRecord],
    draws: Sequence[tuple[int, int]],
) -> None:
    """Check that the model reproduces the numbers of at least half of some draws.

    If it does not, it is another model: at a few draws another model may give nearly the same
    numbers by chance. A few draws that differ may have been changed in the store.

    Raises
    ------
    DifferentRunError
        If most of the draws, given as (chain, draw), have other numbers; it names those of the
        first of each chain.
    """
    if found := _starts(manifest, preparation):
        _refuse(store, found)
    numbers = Numbers.of(preparation)
    named = set()
    n_equal = n_differing = 0
    for chain, draw_idx in draws:
        try:
            differing = numbers.number_differences(records[chain], draw_idx)
        except DamagedStoreError:  # its checksum reports it
            continue
        if not differing:
            n_equal += 1
            continue
        n_differing += 1
        if chain not in named:
            found += differing
            named.add(chain)
    if n_differing > n_equal:
        _refuse(store, found)


def check_numbers_of_model(
    store: Store, manifest: Manifest, model: Any, records: Sequence[ChainRecord]
) -> None:
    """Check that a model, without a sampler, gives the numbers of the last draws.

    Raises
    ------
    DifferentRunError
        If it does not, for any chain.
    """
    logp, variables = pymc_model.compiled_numbers(model, manifest.variables)
    has_stat = stat_path(len(manifest.schemas) - 1, "model_logp") in manifest.lengths
    numbers = Numbers(logp if has_stat else lambda point: None, variables)
    found = []
    for record in records:
        if record.n_rows:
            found += numbers.number_differences(record, record.n_rows - 1)
    _refuse(store, found)


def _refuse(store: Store, found: Sequence[str]) -> None:
    is_logp = any(line.startswith("logp of chain") for line in found)
    what = "log-probability" if is_logp else "formula of what it records"
    refuse(store, f"of a model with another {what}", found)


def _starts(manifest: Manifest, preparation: Preparation) -> list[str]:
    """Return differences of the log-probabilities at the start, for runs without that stat."""
    if not manifest.start_logp:
        return []
    pairs = zip(manifest.start_logp, pymc_model.start_logp(preparation), strict=True)
    return [
        f"logp of chain {chain}: recorded as {float(recorded)!r}, now {now!r}"
        for chain, (recorded, now) in enumerate(pairs)
        if not _close(float(recorded), now)
    ]


def _close(recorded: Any, now: Any) -> bool:
    before, after = np.asarray(recorded), np.asarray(now)
    if before.shape != after.shape:
        return False
    if before.dtype.kind not in "fc" or after.dtype.kind not in "fc":
        return bool(np.array_equal(before, after))
    is_single = min(before.dtype.itemsize, after.dtype.itemsize) <= 4
    tolerance = _SINGLE_TOLERANCE if is_single else LOGP_TOLERANCE
    finite = np.abs(before[np.isfinite(before)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    return bool(np.allclose(after, before, rtol=tolerance, atol=tolerance * scale, equal_nan=True))
