"""Find the mass matrices of PyMC that the draws of their chain determine."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from pymc.step_methods.hmc.quadpotential import QuadPotentialDiagAdapt

__all__ = ["mass_matrix_variables"]


def mass_matrix_variables(step: Any, fresh: Any, point: Sequence[str]) -> list[str]:
    """Return the variables, in order, from whose draws a diagonal mass matrix is adapted.

    Parameters
    ----------
    step, fresh : step method
        The step method after one step, and before it.
    point : sequence of str
        Value variables in the order of a point.

    Returns
    -------
    list of str
        Empty if the draws do not determine the mass matrix: it is of another kind, or was adapted
        before the first draw.
    """
    potential = getattr(fresh, "potential", None)
    if type(potential) is not QuadPotentialDiagAdapt or not _is_new(potential):
        return []
    # As `ArrayStepShared.step` joins them.
    return [str(name) for name in (step.var_names if step.shared else point)]


def _is_new(potential: Any) -> bool:
    """Return whether a mass matrix still has its initial values."""
    new = copy(potential)
    new.reset()
    return (
        potential._n_samples == 0
        and all(
            np.array_equal(getattr(potential, name), getattr(new, name))
            for name in ("_var", "_stds", "_inv_stds")
        )
        and all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for a, b in (
                (potential._foreground_var, new._foreground_var),
                (potential._background_var, new._background_var),
            )
            for name in ("n_samples", "mean", "raw_var")
        )
    )
