"""PyMC's own sampling states: put into a step method, and held against the draws they are of.

`ZarrTrace` stores what `step.sampling_state` returns. It lacks the counter of divergences. It
may be ahead of the draws: PyMC writes it when sampling is interrupted, after draws that it then
does not write, and before the count of draws when it is killed in between.
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
from checkpoint._pymc.steps import StateItem, flatten, state_items, step_name

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
    """A state is of another step method than it is to be put into."""


def root_generator(state: Any, chain: int) -> tuple[Any, np.random.Generator]:
    """Return the seed of the run that a chain's state is of, and a generator made of it.

    The state has the entropy of the run and the place of the chain among its children.
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
    """Give the mass matrix that `pm.init_nuts` made what is fixed in a state of it."""
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
        For each step method its last stat of that name.

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
    """Yield what the script decided of each step method, as (its place, item)."""
    for step_idx, method in enumerate(flatten(step)):
        for item in state_items(method):
            if item.role == "constant":
                yield step_idx, item


def lacks_mass_matrix(preparation: Preparation) -> bool:
    """Return whether PyMC's state leaves out the mass matrix that the initialisation found."""
    if not preparation.is_initialised:
        return False
    potential = preparation.step.potential
    is_fixed = isinstance(potential, QuadPotentialDiag | QuadPotentialFull)
    return is_fixed and not isinstance(potential, QuadPotentialFullAdapt)


def set_back(step: Any, n_draws: int, tune: int) -> None:
    """Set what counts draws in a state that is ahead of them, so that the chain goes on."""
    for method in flatten(step):
        if isinstance(method, BaseHMC):
            method.iter_count = n_draws
            del method.step_adapt._tuned_stats[max(0, n_draws - tune) :]
        if isinstance(method, pm.DEMetropolisZ):
            del method._history[n_draws:]
        if isinstance(getattr(method, "tune", None), bool) and n_draws < tune:
            method.tune = True


def divergence_stats(stats: Mapping[tuple[int, str], Any], n_methods: int) -> list[int | None]:
    """Return the last count of divergences of each step method, or None where there is none."""
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
