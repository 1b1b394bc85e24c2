"""Tell the process that supervises this one which store is sampled into."""

import contextlib
import os

__all__ = ["STORES", "note_store"]

STORES = "CHECKPOINT_RUN_STORES"
"""Environment variable: the file in which `checkpoint run` finds the stores of a script."""


def note_store(name: str) -> None:
    """Note a store, if this process is supervised; what cannot be noted is not missed."""
    path = os.environ.get(STORES)
    if path:
        with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as notes:
            notes.write(f"{name}\n")
