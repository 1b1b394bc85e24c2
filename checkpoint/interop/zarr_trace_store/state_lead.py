"""Find by how many draws a sampling state is ahead of the recorded draws, from its fields."""

from typing import Any

__all__ = ["lead_of_state"]

_WITH_INTERVAL = {"MetropolisState", "DEMetropolisState", "DEMetropolisZState"}
"""State classes that count `steps_until_tune` down at each step.

`BinaryMetropolisState` has that field too, and never changes it.
"""


def lead_of_state(state: Any, draw_idx: int, tune: int, max_lead: int) -> int | None:
    """Return how many draws a state is ahead of the draws recorded with it.

    Parameters
    ----------
    state : object
        PyMC's sampling state of a step method or of a compound.
    draw_idx : int
        Recorded draws, warm-up included.
    tune : int
        Draws of warm-up.
    max_lead : int
        Most draws that the state can be ahead or behind.

    Returns
    -------
    int or None
        0 if the state is that after the last recorded draw, negative if it is behind; None if
        the step methods do not count.
    """
    leads = [_lead_of_method(method, draw_idx, tune, max_lead) for method in _methods(state)]
    others = [lead for lead in leads if lead]
    # Methods step in order: none is ahead of the first.
    return others[0] if others else leads[0] if leads else None


def _methods(state: Any) -> list[Any]:
    if not hasattr(state, "methods"):
        return [state]
    return [inner for method in state.methods for inner in _methods(method)]


def _lead_of_method(state: Any, draw_idx: int, tune: int, max_lead: int) -> int | None:
    names = {base.__name__ for base in type(state).__mro__}
    if hasattr(state, "iter_count"):
        return int(state.iter_count) - draw_idx
    if "SliceState" in names and state.tune and draw_idx < tune:
        return int(state.n_tunes) - draw_idx
    if names & _WITH_INTERVAL:
        interval = int(state.tune_interval)
        lead = int(interval - state.steps_until_tune - draw_idx) % interval
        if interval > 2 * max_lead:
            return lead if lead <= max_lead else lead - interval
        return lead or None
    return None
