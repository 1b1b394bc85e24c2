"""A structural fingerprint of a model: the definition of each variable as readable text.

It needs no compilation. If the texts cannot decide whether two models are the same, because other
versions wrote them or a part of the model is unknown, `is_decided` is false, and the models must be
compared by the numbers that they compute.
"""

import sys
from collections.abc import Mapping
from typing import Any

import pymc as pm
import pytensor
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant

from checkpoint._pymc.graph_text import GraphText
from checkpoint._pymc.model import fingerprint
from checkpoint._pymc.python_text import UNKNOWN, shortened, without_marks

__all__ = [
    "facts_and_graph",
    "graph_differences",
    "graph_of",
    "has_same_versions",
    "is_decided",
    "text_of",
]

MADE_BY = "made by"
"""The fact that names the versions on which the other facts depend."""

_SCHEME = 1
_LONGEST = 240
_MOST_CHARACTERS = 200_000
"""Limit of all texts together: they are in the root document, which every reader reads."""


def facts_and_graph(model: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return facts on names, shapes and data of a model, and the text of each variable."""
    facts = fingerprint(model)
    groups = ("constant_data ", "observed_data ")
    known = frozenset(key.split(" ", 1)[1] for key in facts if key.startswith(groups))
    return facts, graph_of(model, known)


def graph_of(model: Any, known: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the definition of each variable of a model as text, by the name of the fact.

    Parameters
    ----------
    model : Model
    known : frozenset of str
        Names of data whose values are recorded elsewhere.
    """
    text = GraphText(_names(model))
    facts: dict[str, str] = {}
    for rv in model.basic_RVs:
        is_observed = rv in model.observed_RVs
        facts[f"{'likelihood' if is_observed else 'prior'} of {rv.name}"] = text.definition(rv)
        transform = model.rvs_to_transforms.get(rv)
        if transform is not None:
            facts[f"transform of {rv.name}"] = text.value(transform)
        value = model.rvs_to_values[rv]
        if is_observed and value.owner is not None:
            facts[f"observed value of {rv.name}"] = text.definition(value)
        start = model.rvs_to_initial_values.get(rv)
        if start is not None:
            facts[f"start of {rv.name}"] = text.value(start)
    for rv in model.deterministics:
        facts[f"deterministic {rv.name}"] = text.definition(rv)
    for rv in model.potentials:
        facts[f"potential {rv.name}"] = text.definition(rv)
    for name, variable in model.named_vars.items():
        if name not in known and isinstance(variable, SharedVariable | Constant):
            facts[f"data {name}"] = text.definition(variable)
    for dim, length in model.dim_lengths.items():
        facts[f"length of {dim}"] = text.definition(length)
    n_shown = max(64, min(_LONGEST, _MOST_CHARACTERS // max(1, len(facts))))
    return {MADE_BY: _versions(), **{k: shortened(v, n_shown) for k, v in facts.items()}}


def text_of(model: Any, value: Any) -> str:
    """Return the text of a Python value that may hold variables of a model."""
    return GraphText(_names(model)).value(value)


def _names(model: Any) -> dict[Any, str]:
    names = {variable: name for name, variable in model.named_vars.items()}
    return names | {length: f"len({dim})" for dim, length in model.dim_lengths.items()}


def _versions() -> str:
    tag = sys.implementation.cache_tag
    return f"{_SCHEME}; PyMC {pm.__version__}; PyTensor {pytensor.__version__}; {tag}"


def graph_differences(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each fact that differs, apart from versions and marks."""
    lines = []
    for key in [*recorded, *(key for key in now if key not in recorded)]:
        before, after = recorded.get(key, "nothing"), now.get(key, "nothing")
        if key != MADE_BY and without_marks(before) != without_marks(after):
            lines.append(f"{key}: {before} in the store, {after} now")
    return lines


def has_same_versions(recorded: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Return whether the same versions wrote both, so that other texts mean another model."""
    return recorded.get(MADE_BY) == now.get(MADE_BY)


def is_decided(recorded: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Return whether the texts alone prove that two models are the same."""
    return dict(recorded) == dict(now) and not any(UNKNOWN in text for text in now.values())
