"""Draws from an ArviZ InferenceData or an xarray DataTree, which keep no state of the sampler.

Each chain continues as a valid Markov chain, adapted by its recorded stats and draws.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.adaptation import adapt, needs_stats, stepped_once
from checkpoint._pymc.points import unconstrained_draws
from checkpoint._pymc.results import stats_columns
from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.states import lacks_mass_matrix
from checkpoint.errors import ArgumentError, ChainError
from checkpoint.format.arrays import TEXT
from checkpoint.format.generators import generator_spawned_beside
from checkpoint.format.rows import Values
from checkpoint.interop.importing.histories import ChainHistory
from checkpoint.interop.importing.trees import open_groups
from checkpoint.reading.datasets import STAT_NAMES

__all__ = ["TreeSource"]

_N_SHOWN = 1000
"""Draws of each chain that a mass matrix is estimated from, if there is no warm-up."""


class TreeSource:
    """A result of sampling, as `import_run` reads it.

    Attributes
    ----------
    name : str
        Name for messages.
    chains, tune, draws : int
        As of a run: `tune` is the number of recorded draws of warm-up.
    variables : frozenset of str
        Recorded variables, transformed ones too.
    notes : list of str
        What an import could not take over, as text for messages. Complete after `histories`.
    is_exact, is_certain : bool
        Whether the continuation is exact, and whether that is certain; here it never is exact.
    """

    is_exact, is_certain = False, True

    def __init__(self, source: Any, allow_pickle: bool) -> None:
        self.name, self._groups = open_groups(source, allow_pickle)
        self._phases = [p for p in ("warmup_", "") if not p or f"{p}posterior" in self._groups]
        if "posterior" not in self._groups:
            raise ArgumentError(
                f"{self.name} has no group posterior; found {', '.join(self._groups) or 'none'}. "
                "Nothing was written. Expected what pm.sample returns, with its stats."
            )
        sizes = [self._groups[f"{phase}posterior"].sizes for phase in self._phases]
        self.chains, self.draws = int(sizes[-1]["chain"]), int(sizes[-1]["draw"])
        self.tune = int(sizes[0]["draw"]) if len(sizes) == 2 else 0
        if any(size["chain"] != self.chains for size in sizes) or not self.draws:
            raise ArgumentError(
                f"{self.name} has {[dict(size) for size in sizes]} draws in warm-up and after it; "
                "expected the same chains in both, and a draw after warm-up. Nothing was written."
            )
        self.notes: list[str] = []
        self.sampling_time = float(self._groups["posterior"].attrs.get("sampling_time", 0.0))

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(
            str(name)
            for group in ("posterior", "unconstrained_posterior")
            if group in self._groups
            for name in self._groups[group].data_vars
        )

    def seed(self, random_seed: Any) -> tuple[Any, Any]:
        """Return the seed for messages, and the one to prepare the run with."""
        return random_seed, random_seed

    def data_differences(self, model: Any) -> list[str]:
        """Return a line for each coordinate and each datum that is not the model's."""
        posterior = self._groups["posterior"]
        dims = {str(dim) for name in posterior.data_vars for dim in posterior[name].dims[2:]}
        coords = {dim: posterior[dim].values for dim in dims if dim in posterior.coords}
        data: dict[str, dict[str, Any]] = {
            group: {str(name): array.values for name, array in self._groups[group].items()}
            for group in ("observed_data", "constant_data")
            if group in self._groups
        }
        return pymc_model.data_differences(model, coords, data)

    def histories(self, preparation: Preparation) -> list[ChainHistory]:
        """Return the draws of each chain, with a step method that continues from the last.

        Raises
        ------
        ArgumentError
            If there are no step sizes where the step methods need them.
        """
        stats = self._stats(preparation)
        if lacks_mass_matrix(preparation):
            self.notes.append("the mass matrix, which was initialised again")
        model = preparation.model
        _, dims = pymc_model.coords_and_dims(model)
        draws = {name: self._values(name, dims.get(name, [])) for name in self.variables}
        if any(name not in draws for name in preparation.value_names):
            self.notes.append(
                "values on the unconstrained space, which are computed from the constrained ones "
                "and may differ in the last bit"
            )
        chains = []
        for chain in range(self.chains):
            of_chain = {name: values[chain] for name, values in draws.items()}
            chains.append(of_chain | unconstrained_draws(model, of_chain))
        return [
            self._history(preparation, chain, chains, {k: v[chain] for k, v in stats.items()})
            for chain in range(self.chains)
        ]

    def _history(
        self,
        preparation: Preparation,
        chain: int,
        chains: list[dict[str, Values]],
        stats: Mapping[tuple[int, str], Values],
    ) -> ChainHistory:
        n_rows = self.tune + self.draws
        # Other random numbers than those that a run with this seed begins with.
        rng = generator_spawned_beside(preparation.rngs[chain], preparation.chains * n_rows)
        points = [{name: of[name][-1] for name in preparation.value_names} for of in chains]
        try:
            step = stepped_once(preparation, rng, points, chain)
        except Exception as error:
            raise ChainError(
                f"{self.name}: the model cannot draw from the last point of chain {chain}: "
                f"{type(error).__name__}: {error}. Nothing was written. Pass the model, with the "
                "data, that it was drawn from.",
                chain,
            ) from error
        draws = {name: chains[chain][name] for name in preparation.value_names}
        lost = adapt(step, self._shown(preparation, chain, chains), draws, stats, self.tune)
        self.notes += [note for note in lost if note not in self.notes]
        return ChainHistory(n_rows, chains[chain], stats, step)

    def _shown(
        self, preparation: Preparation, chain: int, chains: list[dict[str, Values]]
    ) -> dict[str, Values]:
        """Return the points that the mass matrix of a chain is estimated from.

        If there is warm-up, they are the chain's own draws of warm-up. The mass matrix is then the
        recorded chain's, apart from rounding and, after few draws, its initial value. Otherwise
        they are the last draws of all chains, those of the chain itself at the end.
        """
        if self.tune:
            return {name: chains[chain][name][: self.tune] for name in preparation.value_names}
        order = [*(other for other in range(self.chains) if other != chain), chain]
        return {
            name: np.concatenate([chains[other][name][-_N_SHOWN:] for other in order])
            for name in preparation.value_names
        }

    def _values(self, name: str, dims: list[str]) -> Values:
        """Return a variable of all chains, ``(n_chains, n_rows, *shape)``."""
        parts = []
        for phase in self._phases:
            groups = [f"{phase}posterior", f"{phase}unconstrained_posterior"]
            arrays = [self._groups[g][name] for g in groups if name in self._groups.get(g, {})]
            if not arrays:
                raise ArgumentError(
                    f"{self.name}: {name} is missing in {groups[0]}. Nothing was written. Drop "
                    "the groups of warm-up from the source to import the draws after it alone."
                )
            array = arrays[0].transpose("chain", "draw", ...)
            if dims and set(array.dims[2:]) == set(dims):
                array = array.transpose("chain", "draw", *dims)
            parts.append(array.values)
        return np.concatenate(parts, axis=1)

    def _stats(self, preparation: Preparation) -> dict[tuple[int, str], Values]:
        """Return the recorded stats of all chains by step method and PyMC's name."""
        columns = stats_columns(preparation.step)
        owners: dict[str, list[int]] = {}
        for step_idx, name, _ in columns:
            owners.setdefault(name, []).append(step_idx)
        found: dict[tuple[int, str], Values] = {}
        for step_idx, name, _ in columns:
            at = owners[name].index(step_idx)
            values = self._stat(name, at if len(owners[name]) > 1 else None)
            if values is not None:
                found[step_idx, name] = values
        for step_idx, name in needs_stats(preparation.step):
            other = found.get((step_idx, "step_size"))
            both = found.get((step_idx, name), other)
            if both is None:
                raise ArgumentError(
                    f"{self.name} has no stat step_size_bar or step_size (of warm-up too, if that "
                    "is there), so the chains would have to adapt again. Nothing was written. "
                    "Begin a new run instead, with the last draws as initvals: "
                    "checkpoint.sample(store, initvals=...)."
                )
            found[step_idx, name] = both
            found.setdefault((step_idx, "step_size"), both)
        missing = {name for i, name, dtype in columns if (i, name) not in found and dtype != TEXT}
        if missing:
            self.notes.append(f"the stats {', '.join(sorted(missing))} (NaN, 0 or false)")
        return found

    def _stat(self, name: str, at: int | None) -> Values | None:
        """Return a stat of all chains, ``(n_chains, n_rows)``; None if it is not there."""
        parts = []
        for phase in self._phases:
            group = self._groups.get(f"{phase}sample_stats", {})
            key = STAT_NAMES.get(name, name)
            if key not in group:
                return None
            values = group[key].transpose("chain", "draw", ...).values
            if values.ndim != (2 if at is None else 3):
                return None
            parts.append(values if at is None else values[..., at])
        return np.concatenate(parts, axis=1)
