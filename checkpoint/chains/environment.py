"""What draws depend on besides the model: versions, processor, threads."""

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["environment", "environment_changes", "fact_differences", "versions"]

_LIBRARIES = ("pymc", "pytensor", "numpy", "scipy", "numba", "pymc-checkpoint")


_ADDED_LATER = {"blas kernel"}
"""Facts that older runs do not have."""


def fact_differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each fact that differs between two runs."""
    lines = []
    for key in sorted(set(before) | set(now)):
        if before.get(key) == now.get(key):
            continue
        if key not in now:
            lines.append(f"{key}: recorded as {before[key]}, now missing")
        elif key not in before:
            lines.append(f"{key}: new ({now[key]})")
        else:
            lines.append(f"{key}: recorded as {before[key]}, now {now[key]}")
    return lines


def environment() -> dict[str, str]:
    """Return facts, other than the model, that may alter the last bits of a draw."""
    facts = versions() | {"machine": platform.machine()}
    facts["processor features"] = _processor_features()
    facts["blas threads"] = _blas_threads()
    facts["blas kernel"] = _blas_kernel()
    facts["system"] = sys.platform
    return facts


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that make draws."""
    found = {name: _version(name) for name in _LIBRARIES}
    known = {name: version for name, version in found.items() if version is not None}
    return {"python": platform.python_version()} | known


@cache
def _version(library: str) -> str | None:
    """Return the version of an installed library; cached, since the look-up reads files."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def environment_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each change that may alter the last bits of a draw."""
    harmless = {"pymc-checkpoint"} | (_ADDED_LATER - set(before))
    return [line for line in fact_differences(before, now) if line.split(":")[0] not in harmless]


def _processor_features() -> str:
    try:
        features = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return "unknown"
    return " ".join(sorted(name for name, present in features.items() if present))


def _blas_pools() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    # Other pools come and go with what is imported.
    return [pool for pool in threadpool_info() if pool["user_api"] == "blas"]


def _blas_threads() -> str:
    counts = {str(pool["num_threads"]) for pool in _blas_pools()}
    pinned = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.endswith("_NUM_THREADS")]
    return " ".join([*sorted(counts), *pinned])


def _blas_kernel() -> str:
    """Return the kernel that BLAS chose for this processor; kernels sum in different orders."""
    kernels = {str(pool.get("architecture", "unknown")) for pool in _blas_pools()}
    return " ".join(sorted(kernels))
