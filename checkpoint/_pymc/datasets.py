"""xarray datasets and trees with the attributes that PyMC's own results have."""

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import pymc as pm

__all__ = ["make_dataset", "make_tree", "with_groups"]


def make_dataset(
    data: Mapping[str, Any],
    coords: Mapping[str, Any],
    dims: Mapping[str, list[str]],
    attrs: Mapping[str, Any] | None = None,
    sample_dims: Sequence[str] | None = None,
) -> Any:
    """Return a dataset as PyMC makes it of samples, or of data if `sample_dims` is empty."""
    dict_to_dataset = _dict_to_dataset()
    known = inspect.signature(dict_to_dataset).parameters
    if "inference_library" in known:
        extra: dict[str, Any] = {"inference_library": pm}
        if sample_dims is not None:
            extra["sample_dims"] = list(sample_dims)
    else:
        extra = {"library": pm}
        if sample_dims is not None:
            extra["default_dims"] = list(sample_dims)
    return dict_to_dataset(
        dict(data), coords=dict(coords), dims=dict(dims), attrs=dict(attrs or {}), **extra
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
    try:
        return import_module("arviz_base").dict_to_dataset
    except ImportError:  # PyMC 5
        return import_module("arviz").dict_to_dataset


def make_tree(groups: Mapping[str, Any]) -> Any:
    """Return groups as what `pm.sample` returns: InferenceData on PyMC 5, DataTree on 6."""
    if int(pm.__version__.split(".")[0]) >= 6:
        from xarray import DataTree

        return DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    from arviz import InferenceData

    return InferenceData(**dict(groups))
