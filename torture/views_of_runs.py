"""What a store shows through the library, part by part, and which keys each part depends on.

A part is a function of the values that it reads. So a part that did not read a key shows the same
whatever becomes of that key, and need not be asked again.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import checkpoint
from checkpoint.errors import DamageWarning
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import clocks
from checkpoint.reading.checksums import Look
from checkpoint.recording.start import read_start
from checkpoint.stores import Store

DATASETS = (
    "posterior",
    "warmup_posterior",
    "unconstrained_posterior",
    "warmup_unconstrained_posterior",
    "sample_stats",
    "warmup_sample_stats",
    "constant_data",
    "observed_data",
)


@dataclass(frozen=True)
class Shown:
    """What a store shows.

    Attributes
    ----------
    manifest : Manifest
    draw_idx : tuple of int
    warned : bool
        Whether draws were said to be lost.
    parts : dict
        By name, what stands for the values, to the bit.
    """

    manifest: Manifest
    draw_idx: tuple[int, ...]
    warned: bool
    parts: Mapping[str, Any]


Part = Callable[[checkpoint.Run], Any]


def parts_of(run: checkpoint.Run) -> dict[str, Part]:
    """Return what shows a run, by name: rows of each column and chain, datasets, starts, states."""
    parts: dict[str, Part] = {}
    for chain in range(run.chains):
        for column in run._manifest.columns:
            if not column.per_commit:
                parts[f"rows {column.path} {chain}"] = partial(_rows, path=column.path, chain=chain)
        parts[f"state {chain}"] = partial(_state, chain=chain)
    parts |= {name: partial(_dataset, name=name) for name in DATASETS}
    parts["start"] = _start
    parts["clock"] = lambda run: run.sampling_time
    parts["warnings"] = lambda run: clocks.read_global_warnings(run._store, run._manifest)
    return parts


def open_run(store: Store) -> tuple[checkpoint.Run, bool]:
    """Return the run in a store, and whether draws were said to be lost."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = checkpoint.open(store)
    return run, any(issubclass(warning.category, DamageWarning) for warning in caught)


def show(run: checkpoint.Run, warned: bool, parts: Mapping[str, Part]) -> Shown:
    """Return what some parts show of a run."""
    draw_idx = tuple(run.draw_idx.tolist())
    return Shown(run._manifest, draw_idx, warned, {n: part(run) for n, part in parts.items()})


def shown_differences(found: Shown, expected: Shown) -> list[str]:
    """Return what is shown that was not there: rows that are missing at the end are none."""
    differing = []
    if found.manifest != expected.manifest:
        differing.append("manifest")
    if any(n > m for n, m in zip(found.draw_idx, expected.draw_idx, strict=True)):
        differing.append("draw_idx")
    is_shorter = found.draw_idx != expected.draw_idx
    for name, value in found.parts.items():
        before = expected.parts[name]
        if name.startswith("rows"):
            n = found.draw_idx[int(name.rsplit(" ", 1)[1])]
            before = before[:n]
        elif is_shorter and name.startswith(("state", "clock", *DATASETS[:6])):
            continue  # of other draws; their rows are held against each other by column
        if value != before:
            differing.append(name)
    return differing


class Touched:
    """Notes which keys of a store are read, or looked for."""

    def __init__(self, store: Store) -> None:
        self.keys: set[str] = set()
        self.prefixes: set[str] = set()
        for name in ("read", "has"):
            setattr(store, name, partial(self._one, getattr(store, name)))
        store.missing = partial(self._many, store.missing)
        for name in ("keys", "names"):
            setattr(store, name, partial(self._below, getattr(store, name)))

    def take(self) -> tuple[frozenset[str], tuple[str, ...]]:
        """Return what was touched since the last call: keys, and folders that were listed."""
        taken = frozenset(self.keys), tuple(self.prefixes)
        self.keys, self.prefixes = set(), set()
        return taken

    def _one(self, method: Callable[[str], Any], key: str) -> Any:
        self.keys.add(key)
        return method(key)

    def _many(self, method: Callable[[list[str]], Any], keys: Any) -> Any:
        asked = list(keys)
        self.keys |= set(asked)
        return method(asked)

    def _below(self, method: Callable[[str], Any], folder: str = "") -> Any:
        self.prefixes.add(folder)
        return method(folder)


Reads = tuple[frozenset[str], tuple[str, ...]]


def depends(reads: Reads, key: str, is_listed_anew: bool) -> bool:
    """Return whether what read this may change with a key, or with its being there."""
    keys, prefixes = reads
    return key in keys or (is_listed_anew and any(key.startswith(prefix) for prefix in prefixes))


def reads_of(store: Store) -> tuple[Shown, dict[str, Reads], dict[tuple[str, Any], Reads]]:
    """Return what a store shows, and what each part of that, and of verifying it, reads."""
    touched = Touched(store)
    run, warned = open_run(store)
    of_parts = {"open": touched.take()}
    parts = parts_of(run)
    values = {}
    for name, part in parts.items():
        values[name] = part(run)
        of_parts[name] = touched.take()
    look = Look(store, run._manifest)
    of_look = {}
    names = list(look.parts())
    touched.take()
    for name in names:
        assert not list(look.findings(*name)), name
        of_look[name] = touched.take()
    return Shown(run._manifest, tuple(run.draw_idx.tolist()), warned, values), of_parts, of_look


def _rows(run: checkpoint.Run, path: str, chain: int) -> Any:
    record = run._records[chain]
    values = record.values(path, 0, record.n_rows)
    return values.tolist() if values.dtype == object else [row.tobytes() for row in values]


def _state(run: checkpoint.Run, chain: int) -> Any:
    return _exact(run.sampling_state(chain, -1)) if run.draw_idx[chain] else None


def _dataset(run: checkpoint.Run, name: str) -> Any:
    dataset = getattr(run, name)
    return {
        str(key): (array.dims, str(array.dtype), array.shape, _bytes(array.values))
        for key, array in dataset.variables.items()
    }


def _start(run: checkpoint.Run) -> Any:
    points, rngs = read_start(run._store, run._manifest)
    return (
        [{name: _bytes(value) for name, value in point.items()} for point in points],
        [rng.bit_generator.state for rng in rngs],
    )


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state, value.bit_generator.seed_seq.state
    return (str(value.dtype), _bytes(value)) if isinstance(value, np.ndarray) else repr(value)


def _bytes(values: Any) -> Any:
    values = np.asarray(values)
    return values.tolist() if values.dtype == object else values.tobytes()
