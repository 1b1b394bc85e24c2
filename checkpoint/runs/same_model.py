"""Compare the model of a call with that of the run, and name each difference."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.fingerprint import (
    facts_and_graph,
    graph_differences,
    has_same_versions,
    is_decided,
)
from checkpoint.chains.environment import fact_differences
from checkpoint.errors import CheckpointError, DifferentRunError
from checkpoint.format.layout import stored_name
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.nodes import read_array
from checkpoint.stores import Store

__all__ = ["check_same_model", "refuse"]


def check_same_model(store: Store, manifest: Manifest, model: Any) -> bool:
    """Check that the model is that of the run in the store, as far as its structure tells.

    Nothing is compiled, unless a shape must be computed.

    Returns
    -------
    bool
        Whether the structure tells all. If not (another version of PyTensor wrote it, it has
        parts that cannot be seen from outside, the store has none), numbers must tell.

    Raises
    ------
    DifferentRunError
        If it is another model; it lists each difference.
    """
    if not manifest.graph:
        found = fact_differences(manifest.model, pymc_model.old_fingerprint(model))
        refuse(store, "of another model", _with_data(store, manifest, model, found))
        return False
    facts, graph = facts_and_graph(model)
    found = fact_differences(manifest.model, facts)
    if has_same_versions(manifest.graph, graph):
        found = graph_differences(manifest.graph, graph) + found
    refuse(store, "of another model", _with_data(store, manifest, model, found))
    return is_decided(manifest.graph, graph)


def refuse(store: Store, kind: str, found: Sequence[str]) -> None:
    """Raise if anything was found to differ.

    Raises
    ------
    DifferentRunError
        With a line for each difference.
    """
    if found:
        lines = "\n".join(f"  - {line}" for line in found)
        raise DifferentRunError(
            f"{store.name} holds a run {kind}:\n{lines}\nNothing was changed. Restore what "
            "differs to continue that run, or begin a new one in another path.",
            found,
        )


def _with_data(store: Store, manifest: Manifest, model: Any, found: Sequence[str]) -> list[str]:
    """Return the lines, those of data with where and by how much they differ."""
    if not found:
        return []
    groups = pymc_model.data_groups(model)
    coords = pymc_model.result_coords(model)
    lines = []
    for line in found:
        subject = line.partition(":")[0]
        kind, _, name = subject.partition(" ")
        if kind in groups and name in groups[kind]:
            path = f"{kind}/{stored_name(name)}"
            line = _changed(store, manifest, line, path, groups[kind][name])
        elif subject.startswith("coords of ") and (dim := name[3:]) in coords:
            line = _changed_coords(store, manifest, line, dim, coords[dim])
        lines.append(line)
    return lines


def _changed_coords(store: Store, manifest: Manifest, line: str, dim: str, now: Any) -> str:
    """Return the line with what is changed; any group that has the dimension has its values."""
    for group in sorted({column.path.partition("/")[0] for column in manifest.columns}):
        if (changed := _changed(store, manifest, line, f"{group}/{stored_name(dim)}", now)) != line:
            return changed
    return line


def _changed(store: Store, manifest: Manifest, line: str, path: str, now: Any) -> str:
    """Return what is changed in an array of the store, or the line if that cannot be told."""
    try:
        recorded = read_array(store, manifest, path)
        text = pymc_model.changed_values(recorded, np.asarray(now))
    except (CheckpointError, TypeError, ValueError):  # the digests have told it already
        return line
    subject = line.partition(":")[0].replace("_data ", " ")
    return f"{subject}: {text}" if text else line
