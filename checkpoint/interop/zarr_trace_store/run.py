"""A store of PyMC's ZarrTrace, with the same view as a run."""

from typing import Any, NoReturn

import numpy as np

from checkpoint.errors import NotARunError, UnsupportedStepError
from checkpoint.format import layout
from checkpoint.interop.zarr_trace_store.store import PyMCStore
from checkpoint.reading.convergence import most_values
from checkpoint.reading.status import ChainStatus, Status, phase_at, phase_of
from checkpoint.reading.view import View

__all__ = ["PyMCRun"]


class PyMCRun(View):
    """A view of what PyMC's ZarrTrace has recorded in a store; open it again to see more.

    Only recorded draws are shown, without ZarrTrace's fill values. If chains have recorded
    different numbers of draws, groups hold those chains, cut to one length, that keep the most
    draws in total, as `pm.sample` does after Ctrl-C when it discards warm-up.
    """

    def __init__(self, store: PyMCStore) -> None:
        self._store = store
        self._draw_idx = store.draw_idx

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def tune(self) -> int:
        return self._store.tune

    @property
    def draws(self) -> int:
        return self._store.draws

    @property
    def chains(self) -> int:
        return self._store.chains

    @property
    def draw_idx(self) -> np.ndarray[Any, Any]:
        return self._draw_idx.copy()

    @property
    def sampling_time(self) -> float:
        return self._store.sampling_time

    def status(self, diagnostics: str = "quick") -> Status:
        """Return how far the run was when it was opened.

        ZarrTrace records neither who writes the run nor when it drew: the status has the number of
        draws, divergences, R-hat and effective sample size alone.

        Parameters
        ----------
        diagnostics : {"quick", "all", "none"}
            As in `Run.status`.

        Raises
        ------
        ArgumentError
            If `diagnostics` is none of these.
        """
        limit = most_values(diagnostics)
        total = self.tune + self.draws
        chains = tuple(
            ChainStatus(
                chain,
                int(n),
                total,
                phase_at(int(n), self.tune, total),
                divergences=self._divergences(chain, int(n)),
            )
            for chain, n in enumerate(self._draw_idx)
        )
        return Status(
            name=self.name,
            phase=phase_of(chains),
            tune=self.tune,
            draws=self.draws,
            chains=chains,
            convergence=self._convergence(limit),
            recorded_by="ZarrTrace",
        )

    def _divergences(self, chain: int, n: int) -> int | None:
        paths = [p for p in self._paths(layout.SAMPLE_STATS) if p.endswith("__diverging")]
        start = min(self.tune, n)
        rows = [self._rows(path, chain, start, n) for path in paths]
        return sum(int(values.sum()) for values in rows) if paths else None

    def sampling_state(self, chain: int, draw: int) -> NoReturn:
        """Refuse: ZarrTrace keeps one state of each chain, as a pickle.

        Raises
        ------
        UnsupportedStepError
            Always.
        """
        raise UnsupportedStepError(
            f"{self.name}: ZarrTrace keeps only the last state of chain {chain}, as a pickle, "
            "which is not loaded here. Turn the store into a run with "
            "checkpoint.convert(old, new, model=model, allow_pickle=True)."
        )

    def verify(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: what ZarrTrace wrote has no checksums.

        Raises
        ------
        NotARunError
            Always.
        """
        raise NotARunError(
            f"{self.name} is a store of PyMC's ZarrTrace, which has no checksums to verify. "
            "Nothing was changed. Turn it into a run first, with "
            "checkpoint.convert(old, new, model=model, allow_pickle=True)."
        )

    def _paths(self, group: str) -> list[str]:
        if group == layout.SAMPLE_STATS:
            return self._store.stat_paths
        return self._store.variable_paths(group)

    def _rows(self, path: str, chain: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        return self._store.rows(path, chain, start, stop)

    def _no_rows(self, path: str) -> np.ndarray[Any, Any]:
        return self._store.empty(path)

    def _array_names(self, group: str) -> list[str]:
        return [path.removeprefix(f"{group}/") for path in self._store.arrays(group)]

    def _dims(self, path: str) -> list[str]:
        return self._store.array_dims(path)

    def _whole(self, path: str) -> np.ndarray[Any, Any]:
        return self._store.read(path)
