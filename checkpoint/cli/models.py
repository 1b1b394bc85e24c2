"""Load the model that the option ``--model`` names, from a Python file of the user."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpoint.errors import ArgumentError

__all__ = ["MODEL_HELP", "model_at"]

MODEL_HELP = "Where the model is, or a function that returns it. The file is run."


def model_at(place: str) -> Any:
    """Run a Python file and return the model that it defines; `place` is FILE.py:NAME.

    The file can import modules that lie beside it, as when it is run as a script.

    Raises
    ------
    ArgumentError
        If the file or the name does not exist, the file or the function fails, or the result is
        no model.
    """
    path, separator, name = place.rpartition(":")
    if not separator or not name or not Path(path).is_file():
        raise ArgumentError(f"--model {place}: expected a file and a name in it, FILE.py:NAME.")
    sys.path.insert(0, str(Path(path).resolve().parent))
    names = _of_user(place, path, lambda: runpy.run_path(path))
    if name not in names:
        found = ", ".join(sorted(n for n, value in names.items() if _is_model(value))) or "none"
        raise ArgumentError(
            f"--model {place}: {path} has no {name}. Models in it: {found}. Name one of them, or a "
            "function that returns one."
        )
    found = names[name]
    if callable(found) and not _is_model(found):
        found = _of_user(place, f"{name}()", found)
    if not _is_model(found):
        raise ArgumentError(
            f"--model {place}: {name} is of type {type(found).__name__}; expected a PyMC model, or "
            "a function that returns one."
        )
    return found


def _of_user(place: str, what: str, make: Callable[[], Any]) -> Any:
    """Call code of the user and return its result; an error names the line that failed."""
    try:
        return make()
    except (Exception, SystemExit) as error:
        trace, line = error.__traceback__, ""
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            if Path(file).name == Path(place.rpartition(":")[0]).name:
                line = f" at line {trace.tb_lineno}"
            trace = trace.tb_next
        raise ArgumentError(
            f"--model {place}: {what} fails{line}: {type(error).__name__}: {error}. Nothing was "
            "changed. Run the file by itself to find the error."
        ) from error


def _is_model(value: Any) -> bool:
    return hasattr(value, "free_RVs") and not isinstance(value, type)
