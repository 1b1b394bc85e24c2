"""What runs of tests are told, and what the tests need to know of where they run."""

import os

SMALL = {"progressbar": False, "compute_convergence_checks": False, "quiet": True}
"""Arguments that keep runs of tests silent."""


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
