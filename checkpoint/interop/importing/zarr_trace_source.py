"""Draws from a store of PyMC's `ZarrTrace`, with the last state of the sampler of each chain.

If that state is the one after the last draw, the run continues as PyMC would have drawn it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.points import unconstrained_draws
from checkpoint._pymc.results import stats_columns
from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.states import (
    StateMismatchError,
    adopt_potential,
    constants_of,
    divergence_stats,
    lacks_mass_matrix,
    root_generator,
    set_back,
    set_state,
)
from checkpoint._pymc.steps import copy_generator, copy_step, flatten, start_chain
from checkpoint.errors import (
    ArgumentError,
    DamagedStoreError,
    DifferentRunError,
    UnsupportedStepError,
)
from checkpoint.format.arrays import TEXT
from checkpoint.format.layout import stat_path
from checkpoint.format.rows import Values
from checkpoint.interop.importing.histories import ChainHistory
from checkpoint.interop.zarr_trace_store.store import PyMCStore
from checkpoint.runs.same_run import seed_text

__all__ = ["PyMCSource"]


_NEVER_NAN = frozenset({"step_size", "scaling"})
"""Stats that are NaN only if a draw was not written."""


class PyMCSource:
    """A store of PyMC's, as `import_run` reads it.

    Parameters
    ----------
    store : PyMCStore
    allow_pickle : bool
        Whether the states, which are pickled, may be loaded.

    Attributes
    ----------
    name : str
        Name for messages.
    chains, tune, draws : int
        As of a run.
    variables : frozenset of str
    notes : list of str
        What an import could not take over, as text for messages. Complete after `histories`.
    is_exact : bool
        Whether the continuation is what PyMC would have drawn. Known after `histories`.
    is_certain : bool
        Whether `is_exact` is certain. PyMC stores a state from the middle of a draw if it is
        interrupted in one process.
    """

    def __init__(self, store: PyMCStore, allow_pickle: bool) -> None:
        self.name = name = store.name
        if not allow_pickle:
            raise UnsupportedStepError(
                f"{name} keeps the state of the sampler as pickles, and loading them can run "
                "code. Nothing was loaded. Pass allow_pickle=True if you trust this store."
            )
        self._store = store
        self.chains, self.tune, self.draws = int(store.chains), int(store.tune), int(store.draws)
        self.sampling_time = float(store.sampling_time)
        self.variables = frozenset(store.variables)
        self.notes: list[str] = []
        self.is_exact = self.is_certain = True
        self._n_rows = [int(n) for n in store.draw_idx]
        if not any(self._n_rows):
            raise ArgumentError(
                f"{name} has no draw of any chain. Nothing was written. Begin a new run with "
                "checkpoint.sample."
            )
        self._states = [
            store.state(chain, allow_pickle=True) if n else None
            for chain, n in enumerate(self._n_rows)
        ]

    def seed(self, random_seed: Any) -> tuple[Any, Any]:
        """Return the run's seed for messages, and its generator to prepare the run with.

        Raises
        ------
        DifferentRunError
            If another is given.
        """
        found = [
            self._explained(root_generator, state, chain)
            for chain, state in enumerate(self._states)
            if state is not None
        ]
        entropy, generator = found[0]
        recorded = {seed_text(other) for other, _ in found}
        if random_seed is not None:
            recorded.add(seed_text(random_seed))
        if len(recorded) > 1:
            raise self._differs("with another seed", [f"random_seed: {', '.join(recorded)}"])
        return entropy, generator

    def data_differences(self, model: Any) -> list[str]:
        """Return a line for each coordinate and each datum that is not the model's."""
        groups = ("observed_data", "constant_data")
        dims = {dim for name in self._store.variables for dim in self._store.dims(name)}
        coords = {dim: v for dim, v in self._store.coords().items() if dim in dims}
        return pymc_model.data_differences(model, coords, {g: self._store.data(g) for g in groups})

    def histories(self, preparation: Preparation) -> list[ChainHistory]:
        """Return the draws of each chain, with a step method that continues from the last.

        Raises
        ------
        DifferentRunError
            If a state is of other step methods, or of other settings.
        """
        first = next(state for state in self._states if state is not None)
        self._explained(adopt_potential, preparation, first)
        if lacks_mass_matrix(preparation):
            self._note("the mass matrix, which PyMC does not store and which was initialised again")
        self._leads = [
            self._store.state_lead(chain, allow_pickle=True) if n else 0
            for chain, n in enumerate(self._n_rows)
        ]
        for chain, lead in enumerate(self._leads):
            if lead and self._are_written(chain, lead):
                # PyMC was killed between the state and the count of these draws.
                self._n_rows[chain] += lead
                self._leads[chain] = 0
        first_n = min(self._n_rows)
        if preparation.is_population and max(self._n_rows) > first_n:
            # They step together, so all must continue from the same draw.
            self._note(f"draws from {first_n} on, which not all chains of the population have")
            self._leads = [
                (lead or 0) + n - first_n for lead, n in zip(self._leads, self._n_rows, strict=True)
            ]
            self._n_rows = [first_n] * self.chains
        return [self._history(preparation, chain) for chain in range(self.chains)]

    def _are_written(self, chain: int, n_draws: int) -> bool:
        """Return whether draws that `draw_idx` does not count are in the store.

        PyMC writes them together, before the state; values that were not written are NaN.
        """
        start = self._n_rows[chain]
        if n_draws != min(self._store.draws_per_chunk, self.tune + self.draws - start):
            return False
        paths = [self._store.path(name) for name in self._store.variables]
        # Some stats are NaN in every draw.
        paths += [stat_path(*stat) for stat in self._store.stats if stat[1] in _NEVER_NAN]
        try:
            rows = [self._store.rows(path, chain, start, start + n_draws) for path in paths]
        except DamagedStoreError:  # a chunk is not there
            return False
        return not any(np.isnan(values).any() for values in rows if values.dtype.kind in "fc")

    def _history(self, preparation: Preparation, chain: int) -> ChainHistory:
        n_rows = self._n_rows[chain]
        stats = self._stats(preparation, chain)
        if not n_rows:
            return ChainHistory(0, {}, {}, None)
        draws: dict[str, Values] = {
            name: self._store.rows(self._store.path(name), chain, 0, n_rows)
            for name in self._store.variables
        }
        if any(name not in draws for name in preparation.value_names):
            self._note(
                "values on the unconstrained space (PyMC stores them with "
                "include_transformed=True), which are computed from the constrained ones and may "
                "differ in the last bit"
            )
        draws |= unconstrained_draws(preparation.model, draws)
        return ChainHistory(n_rows, draws, stats, self._step(preparation, chain, stats))

    def _step(
        self, preparation: Preparation, chain: int, stats: Mapping[tuple[int, str], Values]
    ) -> Any:
        """Return a step method in the state that was stored for a chain."""
        step = copy_step(preparation.step)
        rng = copy_generator(preparation.rngs[chain])
        start_chain(step, rng, self.tune, self.draws, preparation.sequential)
        n_rows = self._n_rows[chain]
        counts = divergence_stats(stats, len(flatten(step)))
        self._explained(set_state, step, self._states[chain], counts)
        self._check_constants(preparation, step, chain)
        lead = self._leads[chain]
        if lead:
            set_back(step, n_rows, self.tune)
            self._note(
                f"the state after the last draw of chain {chain}: PyMC stored that {lead} draws "
                "later, whose adaptation is used"
            )
        elif n_rows < self.tune + self.draws:
            self.is_certain = False
        return step

    def _check_constants(self, preparation: Preparation, step: Any, chain: int) -> None:
        """Check that the constants of the step methods, set by the script, are the state's."""
        now = {(i, item.path): item.value for i, item in constants_of(preparation.step)}
        found = [
            f"step {i} {item.path}: recorded as {item.value!r}, now {now.get((i, item.path))!r}"
            for i, item in constants_of(step)
            if not _equal(item.value, now.get((i, item.path)))
        ]
        if found:
            raise self._differs("with other settings", found)

    def _stats(self, preparation: Preparation, chain: int) -> dict[tuple[int, str], Values]:
        n_rows = self._n_rows[chain]
        recorded = set(self._store.stats)
        stats = {}
        for step_idx, name, dtype in stats_columns(preparation.step):
            if (step_idx, name) in recorded:
                path = stat_path(step_idx, name)
                stats[step_idx, name] = self._store.rows(path, chain, 0, n_rows)
            elif dtype != TEXT and (note := f"the stat {name} (NaN, 0 or false)") not in self.notes:
                self.notes.append(note)
        return stats

    def _note(self, note: str) -> None:
        """Note something lost that the next draw depends on: the import is not exact."""
        self.is_exact = False
        if note not in self.notes:
            self.notes.append(note)

    def _explained(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except StateMismatchError as error:
            raise self._differs("with other step methods", [str(error)]) from error

    def _differs(self, kind: str, found: list[str]) -> DifferentRunError:
        lines = "\n".join(f"  - {line}" for line in found)
        return DifferentRunError(
            f"{self.name} holds a run of PyMC {kind}:\n{lines}\nNothing was written. Pass the "
            "model and the arguments that it was sampled with.",
            found,
        )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)
