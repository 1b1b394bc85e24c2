"""Check, before anything is drawn, that a criterion can be asked of the draws of a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint.errors import ArgumentError
from checkpoint.format.manifest import Manifest
from checkpoint.reading.until import Until
from checkpoint.runs.arguments import Options

__all__ = ["check_until"]


def check_until(options: Options, model: Any, found: Manifest | None) -> None:
    """Check that a criterion can be asked of the draws of a model.

    Raises
    ------
    ArgumentError
        If it is none, or names a variable, dimension or label that does not exist.
    """
    criterion = options.until
    if criterion is None:
        return
    if not callable(criterion):
        raise ArgumentError(
            f"until={criterion!r}: expected checkpoint.until(...), or a function that is given the "
            "run and returns whether to stop. Nothing was drawn."
        )
    if not isinstance(criterion, Until):
        return
    chains = options.chains if found is None else found.chains
    if chains == 1 and "rhat" in criterion.bounds:
        raise ArgumentError(
            f"{criterion!r} compares chains, and there is one. Pass chains=2 or more, or "
            "until(rhat=None, ...). Nothing was drawn."
        )
    names = pymc_model.recorded_names(model, options.var_names)
    for name in criterion.var_names or []:
        if name not in names:
            raise _unknown("variable", name, names)
    dims = pymc_model.dims_of(model, criterion.var_names or names)
    labels = pymc_model.result_coords(model)
    for dim, chosen in criterion.coords.items():
        if dim not in dims:
            raise _unknown("dimension", dim, dims)
        missing = [] if isinstance(chosen, slice) else _missing(chosen, labels.get(dim))
        if missing:
            raise _unknown(f"label of {dim}", missing[0], list(labels[dim]))


def _missing(chosen: Any, labels: Any) -> list[Any]:
    """Return the labels that a coordinate lacks; one without labels is counted."""
    if labels is None:
        return []
    known = set(np.asarray(labels).tolist())
    return [label for label in np.atleast_1d(np.asarray(chosen)).tolist() if label not in known]


def _unknown(kind: str, name: Any, known: Sequence[Any]) -> ArgumentError:
    shown = ", ".join(str(item) for item in list(known)[:20])
    return ArgumentError(
        f"until: there is no {kind} {name!r} among what is recorded; expected some of {shown}. "
        "Nothing was drawn."
    )
