"""Read a recorded run without its model, beside a live writer or after a crash."""

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.declared import StepAdapter
from checkpoint.adapters.objects import CLASSES
from checkpoint.errors import (
    ArgumentError,
    CheckpointError,
    DamagedStoreError,
    UnsupportedStepError,
)
from checkpoint.format import layout, plain
from checkpoint.format.arrays import TEXT
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import nodes, read_root
from checkpoint.hierarchy.sessions import History, read_history
from checkpoint.reading.convergence import most_values
from checkpoint.reading.recorded_status import recorded_status
from checkpoint.reading.status import Status
from checkpoint.reading.view import View
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.recovery import recover_all
from checkpoint.recording.rehearsed import failure_of, read_rehearsed
from checkpoint.recording.session_clock import seconds_spent
from checkpoint.recording.start import read_constants
from checkpoint.stores import Store

__all__ = ["RecordedRun", "open_run", "status_now"]


def open_run(store: Store) -> "RecordedRun":
    """Return the view of a run of this package.

    Raises
    ------
    RunNotFoundError, NotARunError, FormatVersionError
        If the store holds no run that can be read.
    """
    return RecordedRun(store, read_root.existing_manifest(store))


def status_now(store: Store, diagnostics: str = "quick") -> Status:
    """Return how far a run of this package is; see `RecordedRun.status`.

    Raises
    ------
    ArgumentError, RunNotFoundError, NotARunError, FormatVersionError, DamagedStoreError
        As `RecordedRun.status`.
    """
    limit = most_values(diagnostics)
    return open_run(store)._status(limit)


class RecordedRun(View):
    """The draws that a store had recorded when it was opened; open it again to see more.

    Only recorded draws are shown. If chains have recorded different numbers of draws, they are cut
    to one length: the chains and the length are chosen to keep the most draws, as `pm.sample`
    does after Ctrl-C when it discards warm-up.
    """

    def __init__(
        self, store: Store, manifest: Manifest, records: Sequence[ChainRecord] | None = None
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._records = recover_all(store, manifest) if records is None else list(records)

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def tune(self) -> int:
        return self._manifest.tune

    @property
    def draws(self) -> int:
        return self._manifest.draws

    @property
    def chains(self) -> int:
        return self._manifest.chains

    @property
    def draw_idx(self) -> np.ndarray[Any, Any]:
        return np.array([record.n_rows for record in self._records])

    @property
    def sampling_time(self) -> float:
        try:
            last = self.history.last
        except DamagedStoreError:  # verify finds it; no draw is affected
            last = None
        has_ended = last is not None and last.has_ended
        # Of a session that was killed, the rows tell.
        records = [] if has_ended else self._records
        return seconds_spent(self._store, self._manifest, records)

    @property
    def history(self) -> History:
        """The sessions in which the run was sampled, the newest last.

        Raises
        ------
        DamagedStoreError
            If the record of them cannot be read. No draw is affected.
        """
        return read_history(self._store)

    @property
    def failure(self) -> str:
        """Why a rehearsal of the run failed, as the store says now; empty if none did.

        `checkpoint.sample` neither continues nor returns a run that failed.
        """
        return failure_of(read_rehearsed(self._store, self._manifest))

    def status(self, diagnostics: str = "quick") -> Status:
        """Return how far the run is now, also if it has gone on since it was opened.

        Parameters
        ----------
        diagnostics : {"quick", "all", "none"}
            Whether to compute R-hat and effective sample size: of as many recorded numbers as take
            a moment, the small variables first; of all; or of none.

        Returns
        -------
        Status
            `print` shows it as a table; `Status.to_json` returns it as JSON.

        Raises
        ------
        ArgumentError
            If `diagnostics` is none of these.
        RunNotFoundError, NotARunError, FormatVersionError, DamagedStoreError
            If the store does not hold the run any more, or cannot be read.

        Notes
        -----
        Durability: nothing is written, and no lock is taken.
        """
        return status_now(self._store, diagnostics)

    def _status(self, limit: int | None) -> Status:
        return recorded_status(
            self._store, self._manifest, self._records, lambda: self._convergence(limit)
        )

    def sampling_state(self, chain: int, draw: int) -> list[dict[str, Any]]:
        """Return the exact state of the sampler after a recorded draw.

        Parameters
        ----------
        chain : int
            Counted from 0.
        draw : int
            Counted from the first draw of warm-up; negative from the last recorded draw.

        Returns
        -------
        list of dict
            For each step method its state, nested by field. Generators are numpy Generators.

        Raises
        ------
        ArgumentError
            If that draw is not recorded, or was imported without the state after it.
        UnsupportedStepError
            If a step method declares no state and was pickled.
        """
        record = self._record(chain)
        draw = self._whole_number("draw", draw)
        draw_idx = draw + record.n_rows if draw < 0 else draw
        if not 0 <= draw_idx < record.n_rows:
            raise ArgumentError(
                f"{self._store.name}: draw {draw} of chain {chain} is not recorded; "
                f"expected 0 to {record.n_rows - 1}, warm-up included."
            )
        first = self._manifest.first_state(chain)
        if draw_idx < first:
            raise ArgumentError(
                f"{self._store.name}: draw {draw_idx} of chain {chain} was imported, without the "
                f"state of the sampler after it; expected {first} to {record.n_rows - 1}."
            )
        states = []
        for schema in read_constants(self._store, self._manifest):
            if schema.is_pickled:
                raise UnsupportedStepError(
                    f"{self._store.name}: the step method {schema.name} declares no state; its "
                    "pickled object is not loaded here. Continue the run with allow_pickle=True."
                )
            states.append(self._state(schema, record, draw_idx))
        return states

    def _state(self, schema: AdapterSchema, record: ChainRecord, draw_idx: int) -> dict[str, Any]:
        try:
            return StepAdapter(schema).read(record, draw_idx)
        except CheckpointError:
            raise
        except Exception as error:  # what numbers that belong to no state make of it
            raise DamagedStoreError(
                f"{self._store.name}: the state of {schema.name} after draw {draw_idx} of chain "
                f"{record.chain} is not valid: {type(error).__name__}: {error}. It was changed or "
                "damaged. Restore the store from a copy."
            ) from error

    def _whole_number(self, name: str, value: Any) -> int:
        if isinstance(value, bool | np.bool) or not hasattr(value, "__index__"):
            raise ArgumentError(f"{self._store.name}: {name}={value!r}; expected a whole number.")
        return index(value)

    def _record(self, chain: int) -> ChainRecord:
        chain = self._whole_number("chain", chain)
        if not 0 <= chain < self.chains:
            raise ArgumentError(
                f"{self._store.name}: chain {chain} does not exist; "
                f"expected 0 to {self.chains - 1}."
            )
        return self._records[chain]

    def _paths(self, group: str) -> list[str]:
        return [
            column.path
            for column in self._manifest.columns
            if column.path.startswith(f"{group}/")
            and column.dtype != TEXT  # warnings, which `pm.sample` drops too
        ]

    def _object_stats(self, warmup: bool) -> dict[str, list[np.ndarray[Any, Any]]]:
        by_name: dict[str, list[np.ndarray[Any, Any]]] = {}
        for column in self._manifest.columns:
            if column.path.startswith(f"{layout.SAMPLE_STATS}/") and column.dtype == TEXT:
                values = plain.stat_objects(self._values(column.path, warmup), CLASSES)
                by_name.setdefault(column.path.split("__", 1)[1], []).append(values)
        return by_name

    def _rows(self, path: str, chain: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        return self._records[chain].values(path, start, stop)

    def _no_rows(self, path: str) -> np.ndarray[Any, Any]:
        column = next(column for column in self._manifest.columns if column.path == path)
        return column.empty(0)

    def _array_names(self, group: str) -> list[str]:
        names = nodes.array_names(self._store, self._manifest, group)
        order = {layout.stored_name(n): i for i, n in enumerate(self._manifest.data.get(group, ()))}
        return sorted(names, key=lambda name: order.get(name, len(order)))

    def _dims(self, path: str) -> list[str]:
        return nodes.read_dims(self._store, self._manifest, path)

    def _whole(self, path: str) -> np.ndarray[Any, Any]:
        return nodes.read_array(self._store, self._manifest, path)
