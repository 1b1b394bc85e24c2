"""What PyMC's drivers draw, with the states that `ZarrTrace` would keep of it."""

import pickle
from typing import Any

import numpy as np
from pymc.sampling import mcmc

from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.results import stats_columns
from checkpoint._pymc.setup import Arguments, prepare
from checkpoint._pymc.steps import copy_step
from checkpoint.interop.zarr_trace_store.state_lead import lead_of_state


class Recorded:
    """A run of PyMC's driver for one process, read as a store of PyMC's is.

    Each chain is stopped after `n_kept` draws, or is not. Its state is that after `lead` draws
    more, as PyMC stores it when it is interrupted.
    """

    def __init__(
        self,
        model: Any,
        *,
        tune: int,
        draws: int,
        n_kept: tuple[int, ...],
        lead: int = 0,
        transformed: bool = True,
        **arguments: Any,
    ) -> None:
        self.name = "a store of PyMC's"
        self.chains, self.tune, self.draws = len(n_kept), tune, draws
        self.draw_idx = np.array(n_kept)
        self.sampling_time = 1.5
        with exact_compilation(False), model:
            given = Arguments(
                model=model, draws=draws, tune=tune, chains=self.chains, cores=1, quiet=True,
                **arguments,
            )  # fmt: skip
            preparation = prepare(given)
            step = preparation.step
            self.stats = [(i, name) for i, name, dtype in stats_columns(step) if dtype != "text"]
            self._traces, self._states = [], []
            for chain in range(self.chains):
                self._draw(preparation, chain, lead)
        self.variables = [
            name for name in preparation.recorder.varnames if transformed or not name.endswith("__")
        ]

    def path(self, name: str) -> str:
        """Return a variable's path: here it is its name."""
        return name

    def _draw(self, preparation: Any, chain: int, lead: int) -> None:
        step = copy_step(preparation.step)
        trace = preparation.recorder.__class__(model=preparation.model)
        trace.setup(self.tune + self.draws, chain, step.stats_dtypes)
        drawing = mcmc._iter_sample(
            draws=self.tune + self.draws,
            step=step,
            start=preparation.initial_points[chain],
            trace=trace,
            chain=chain,
            tune=self.tune,
            rng=preparation.rngs[chain],
            model=preparation.model,
        )
        n = int(self.draw_idx[chain])
        for _ in range(n + lead if n else 0):
            next(drawing)
        self._traces.append(trace)
        self._states.append(pickle.dumps(step.sampling_state))

    draws_per_chunk = 10

    def rows(self, path: str, chain: int, start: int, stop: int) -> np.ndarray[Any, Any]:
        if not path.startswith("sample_stats/"):
            return self._traces[chain].samples[path][start:stop]
        step_idx, _, name = (
            path.removeprefix("sample_stats/").removeprefix("sampler_").partition("__")
        )
        return self._traces[chain]._stats[int(step_idx)][name][start:stop]

    def data(self, group: str) -> dict[str, Any]:
        return {}

    def coords(self) -> dict[str, Any]:
        return {}

    def dims(self, name: str) -> list[str]:
        return []

    def state_lead(self, chain: int, *, allow_pickle: bool) -> int | None:
        state = self.state(chain, allow_pickle=allow_pickle)
        return lead_of_state(state, int(self.draw_idx[chain]), self.tune, 10)

    def state(self, chain: int, *, allow_pickle: bool) -> Any:
        assert allow_pickle
        return pickle.loads(self._states[chain])
