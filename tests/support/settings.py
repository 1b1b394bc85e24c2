"""What runs of tests are told, and what the tests need to know of where they run."""

import os
from typing import Any

import pytest

SMALL = {"progressbar": False, "compute_convergence_checks": False, "quiet": True}
"""Arguments that keep runs of tests silent."""


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def slowly(*values: Any) -> list[Any]:
    """Return parameters that are tried with the slow tests only."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
