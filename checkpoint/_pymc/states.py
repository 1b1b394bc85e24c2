"""Put PyMC's own sampling states into step methods, and adjust them to the recorded draws.

PyMC's `ZarrTrace` stores what `step.sampling_state` returns, which lacks the counter of
divergences. The state may be ahead of the recorded draws: on an interrupt PyMC stores it but drops
the draws since the last full chunk, and a kill may come between the state and the count of draws.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.step_methods.hmc.base_hmc import BaseHMC
from pymc.step_methods.hmc.quadpotential import (
    QuadPotentialDiag,
    QuadPotentialFull,
    QuadPotentialFullAdapt,
)

from checkpoint._pymc.setup import Preparation
from checkpoint._pymc.steps import Role, StateItem, flatten, state_items, step_name

__all__ = [
    "StateMismatchError",
    "adopt_potential",
    "constants_of",
    "divergence_stats",
    "lacks_mass_matrix",
    "root_generator",
    "set_back",
    "set_state",
]


class StateMismatchError(Exception):
    """A state belongs to another step method than the one it is put into."""


def root_generator(state: Any, chain: int) -> tuple[Any, np.random.Generator]:
    """Return the seed of the run that a chain's state belongs to, and its root generator.

    The state has the entropy of the run, and the index of the chain among its spawned children.
    """
    depth = 0
    while hasattr(state, "methods"):
        depth, state = depth + 1, state.methods[0]
    kind, seed = state.rng.bit_generator_state["bit_generator"], dict(state.rng.seed_seq_state)
    key = tuple(seed["spawn_key"])
    of_chain = key[: len(key) - depth]
    n_before = of_chain[-1] - chain if of_chain else -1
    if n_before < 0:
        raise StateMismatchError(f"the generator of chain {chain} has the spawn key {key}")
    seed |= {"spawn_key": of_chain[:-1], "n_children_spawned": n_before}
    sequence = np.random.SeedSequence(**seed)
    return seed["entropy"], np.random.Generator(getattr(np.random, kind)(sequence))


def adopt_potential(preparation: Preparation, state: Any) -> None:
    """Set the fixed attributes of the mass matrix that `pm.init_nuts` made from a state."""
    if not preparation.is_initialised:
        return
    potential: Any = preparation.step.potential
    found: Any = getattr(state, "potential", None)
    if type(found) is not potential._state_class:
        raise StateMismatchError(
            f"the mass matrix is kept in a {type(found).__name__}; expected a "
            f"{potential._state_class.__name__}, as init makes it"
        )
    for field in dataclasses.fields(found):
        if field.metadata.get("frozen"):
            setattr(potential, field.name, getattr(found, field.name))
    potential.reset()


def set_state(step: Any, state: Any, n_divergences: Sequence[int | None]) -> None:
    """Put a started step method into a state of PyMC's.

    Parameters
    ----------
    step : step method
    state : StepMethodState or CompoundStepState
    n_divergences : sequence of int or None
        For each step method the last value of its stat `divergences`.

    Raises
    ------
    StateMismatchError
        If the state is of another step method.
    """
    states = list(_flat(state))
    methods = flatten(step)
    if len(states) != len(methods):
        raise StateMismatchError(f"{len(states)} states for {len(methods)} step methods")
    for method, found, n in zip(methods, states, n_divergences, strict=True):
        try:
            method.sampling_state = found
        except (AssertionError, AttributeError, ValueError) as error:
            raise StateMismatchError(f"{step_name(method)}: {error}") from error
        if n is not None:
            method.divergences = n


def constants_of(step: Any) -> Iterator[tuple[int, StateItem]]:
    """Yield the constants of each step method, as (index of the step method, item)."""
    for step_idx, method in enumerate(flatten(step)):
        for item in state_items(method):
            if item.role is Role.CONSTANT:
                yield step_idx, item


def lacks_mass_matrix(preparation: Preparation) -> bool:
    """Return whether PyMC's state leaves out the mass matrix that the initialisation found."""
    if not preparation.is_initialised:
        return False
    potential = preparation.step.potential
    is_fixed = isinstance(potential, QuadPotentialDiag | QuadPotentialFull)
    return is_fixed and not isinstance(potential, QuadPotentialFullAdapt)


def set_back(step: Any, n_draws: int, tune: int) -> None:
    """Set the counters of a state that is ahead of the draws back to `n_draws`."""
    for method in flatten(step):
        if isinstance(method, BaseHMC):
            method.iter_count = n_draws
            del method.step_adapt._tuned_stats[max(0, n_draws - tune) :]
        if isinstance(method, pm.DEMetropolisZ):
            del method._history[n_draws:]
        if isinstance(getattr(method, "tune", None), bool) and n_draws < tune:
            method.tune = True


def divergence_stats(stats: Mapping[tuple[int, str], Any], n_methods: int) -> list[int | None]:
    """Return the last count of divergences of each step method, None if it has no such stat."""
    return [
        int(stats[i, "divergences"][-1]) if (i, "divergences") in stats else None
        for i in range(n_methods)
    ]


def _flat(state: Any) -> Iterator[Any]:
    if hasattr(state, "methods"):
        for inner in state.methods:
            yield from _flat(inner)
    else:
        yield state
