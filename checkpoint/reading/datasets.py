"""xarray datasets and trees with the attributes that PyMC's own results have.

What differs between PyMC 5 (InferenceData) and 6 (DataTree) is here, and PyMC is not imported.
"""

import inspect
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

__all__ = ["STAT_NAMES", "is_tree_returned", "make_dataset", "make_tree", "with_groups"]


def make_dataset(
    data: Mapping[str, Any],
    coords: Mapping[str, Any],
    dims: Mapping[str, list[str]],
    attrs: Mapping[str, Any] | None = None,
    sample_dims: Sequence[str] | None = None,
) -> Any:
    """Return a dataset as PyMC makes it of samples, or of data if `sample_dims` is empty."""
    dict_to_dataset = _dict_to_dataset()
    is_arviz_base = "sample_dims" in inspect.signature(dict_to_dataset).parameters
    extra: dict[str, Any] = {}
    if sample_dims is not None:
        extra["sample_dims" if is_arviz_base else "default_dims"] = list(sample_dims)
    library = {"inference_library": "pymc", "inference_library_version": _pymc_version()}
    return dict_to_dataset(
        dict(data),
        coords=dict(coords),
        dims=dict(dims),
        attrs={**library, **(attrs or {})},
        **extra,
    )


def with_groups(tree: Any, groups: Mapping[str, Any]) -> Any:
    """Return a result of sampling with further groups."""
    if hasattr(tree, "children"):
        from xarray import DataTree

        for name, group in groups.items():
            tree[name] = DataTree(group)
    else:
        tree.add_groups(dict(groups), warn_on_custom_groups=False)
    return tree


def _dict_to_dataset() -> Any:
    """Return the function that the installed PyMC makes its results with."""
    return import_module("arviz_base" if is_tree_returned() else "arviz").dict_to_dataset


def is_tree_returned() -> bool:
    """Return whether the installed PyMC returns a DataTree (6), not an InferenceData (5)."""
    return int(_pymc_version().split(".")[0]) >= 6


@lru_cache(maxsize=1)
def _pymc_version() -> str:
    """Return the version of the installed PyMC, which is not imported for it."""
    return version("pymc")


def make_tree(groups: Mapping[str, Any]) -> Any:
    """Return groups as what `pm.sample` returns: InferenceData on PyMC 5, DataTree on 6."""
    if is_tree_returned():
        from xarray import DataTree

        # The group of observed data is there without data, that of constant data is not.
        return DataTree.from_dict(
            {f"/{n}": g for n, g in groups.items() if g.data_vars or n != "constant_data"}
        )
    from arviz import InferenceData

    is_warmup_kept = any(name.startswith("warmup_") for name in groups)
    return InferenceData(save_warmup=is_warmup_kept, **dict(groups))


STAT_NAMES = {
    "model_logp": "lp",
    "mean_tree_accept": "acceptance_rate",
    "depth": "tree_depth",
    "tree_size": "n_steps",
}
"""PyMC's names of stats -> those in the result."""
