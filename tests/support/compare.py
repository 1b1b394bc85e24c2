"""The oracle: two results are equal, value for value, clocks aside."""

from typing import Any

import numpy as np

from checkpoint.chains.restoring import CLOCK_STATS
from checkpoint.format import plain

GROUPS = ("posterior", "sample_stats", "warmup_posterior", "warmup_sample_stats")


def unequal(a: Any, b: Any) -> list[str]:
    """Return what differs between two results of sampling; an empty list if nothing does."""
    found = []
    for group in GROUPS:
        if _has(a, group) and _has(b, group):
            found += _unequal_groups(group, a[group], b[group])
        elif _has(a, group) or _has(b, group):
            found.append(f"{group} is in one only")
    return found


def _has(tree: Any, group: str) -> bool:
    return group in (tree.children if hasattr(tree, "children") else tree.groups())


def _unequal_groups(group: str, a: Any, b: Any) -> list[str]:
    found = []
    names = set(a.data_vars) | set(b.data_vars)
    for name in sorted(names):
        if name not in a.data_vars or name not in b.data_vars:
            found.append(f"{group}/{name} is in one only")
        elif name not in CLOCK_STATS and not _same(a[name], b[name]):
            found.append(f"{group}/{name}")
    return found


def _same(a: Any, b: Any) -> bool:
    if a.dims != b.dims or a.dtype != b.dtype or a.shape != b.shape:
        return False
    x, y = a.values, b.values
    if x.dtype == object:  # warnings
        return [_text(item) for item in x.ravel()] == [_text(item) for item in y.ravel()]
    # Equal as numbers and not a number in the same places. The bytes as well: -0.0 is not 0.0.
    return bool(np.array_equal(x, y, equal_nan=x.dtype.kind == "f")) and x.tobytes() == y.tobytes()


def _text(warning: Any) -> str:
    return plain.dumps(warning)
