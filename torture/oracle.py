"""Every row of a store, held against those of a run that nothing happened to, bit for bit."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from checkpoint.chains.restoring import is_clock
from checkpoint.errors import CheckpointError, RunNotFoundError
from checkpoint.reading.run import open_run
from checkpoint.stores import as_store

__all__ = ["Found", "Oracle", "unequal_rows"]


class Found:
    """What a look at a store has found.

    Attributes
    ----------
    n_rows : list of int
        Recorded draws of each chain; zeros if there is no run yet.
    wrong : list of str
        What is not as in the oracle, a line each.
    """

    def __init__(self, n_rows: list[int], wrong: list[str]) -> None:
        self.n_rows, self.wrong = n_rows, wrong


class Oracle:
    """The rows of a finished run: draws, stats without clocks, states of the sampler."""

    def __init__(self, store: Path) -> None:
        records = open_run(as_store(store))._records
        self._rows = [record.rows(0, record.n_rows) for record in records]
        self.n_rows = [record.n_rows for record in records]

    def look(self, store: Path) -> Found:
        """Read all that a store has recorded, beside a live writer or not, and compare it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                records = open_run(as_store(store))._records
        except RunNotFoundError:
            return Found([0] * len(self.n_rows), [])
        except CheckpointError as error:
            return Found([0] * len(self.n_rows), [f"cannot be opened: {error}"])
        wrong: list[str] = []
        for record, whole in zip(records, self._rows, strict=True):
            if record.damage is not None:
                wrong.append(record.damage.describe(store.name, record.chain))
            try:
                rows = record.rows(0, record.n_rows)
            except CheckpointError as error:
                wrong.append(f"chain {record.chain} cannot be read: {error}")
                continue
            wrong += unequal_rows(record.chain, rows, whole)
        return Found([record.n_rows for record in records], wrong)


def unequal_rows(chain: int, rows: Mapping[str, Any], whole: Mapping[str, Any]) -> list[str]:
    """Return the columns in which rows differ from the first of a whole chain, clocks aside."""
    return [
        f"{path} of chain {chain}, from draw {draw_idx} on"
        for path, values in rows.items()
        if not is_clock(path) and (draw_idx := _first_unequal(values, whole[path])) is not None
    ]


def _first_unequal(values: Any, whole: Any) -> int | None:
    """Return the first row in which values differ from the first of another array."""
    n = len(values)
    expected = whole[:n]
    if values.dtype == object:
        pairs = zip(values.tolist(), expected.tolist(), strict=True)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    if values.dtype != expected.dtype or values.shape != expected.shape:
        return 0
    if values.tobytes() == expected.tobytes():
        return None
    a, b = (np.frombuffer(x.tobytes(), "u1").reshape(n, -1) for x in (values, expected))
    return int((a != b).any(axis=1).argmax())
