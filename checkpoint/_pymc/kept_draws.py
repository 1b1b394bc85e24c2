"""Warn of random variables whose Op keeps data of each draw that a store does not have."""

from typing import Any

from checkpoint.errors import CheckpointWarning, warn_caller

__all__ = ["warn_of_kept_draws"]


def warn_of_kept_draws(model: Any) -> None:
    """Warn if a model has variables of pymc-bart: a store does not keep their trees."""
    names = [
        str(rv.name) for rv in model.free_RVs if hasattr(getattr(rv.owner, "op", None), "all_trees")
    ]
    if names:
        warn_caller(
            f"{', '.join(names)}: pymc-bart keeps the trees of each draw in the model, and a store "
            "does not have them. The draws of a run that is continued or returned are right; what "
            "pymc-bart makes of the trees is not: posterior predictive draws, partial dependence, "
            "variable importance. For these, sample with pm.sample.",
            CheckpointWarning,
        )
