"""The model that a command is told of, made by a file of the user's."""

import runpy
from pathlib import Path
from typing import Any

from checkpoint.errors import ArgumentError

__all__ = ["MODEL_HELP", "model_at"]

MODEL_HELP = "Where the model is, or a function that returns it. The file is run."


def model_at(place: str) -> Any:
    """Return the model that a file makes; `place` is FILE.py:NAME."""
    path, separator, name = place.rpartition(":")
    if not separator or not Path(path).is_file():
        raise ArgumentError(f"--model {place}: expected a file and a name in it, FILE.py:NAME.")
    names = runpy.run_path(path)
    if name not in names:
        raise ArgumentError(f"--model {place}: {path} has no {name}.")
    found = names[name]
    return found() if callable(found) and not hasattr(found, "free_RVs") else found
