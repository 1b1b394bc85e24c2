"""Keep the model and the arguments of a run in its store, and load them again.

Loading runs code that whoever wrote the store chose, so nothing loads them but a call that says so.
"""

from dataclasses import fields
from typing import Any

import cloudpickle

from checkpoint.chains.environment import versions
from checkpoint.errors import ArgumentError
from checkpoint.hierarchy.saved_model import SavedModel
from checkpoint.runs.arguments import Options
from checkpoint.stores import Store

__all__ = ["load_model", "pickled"]

_NOT_SAVED = frozenset(
    [
        "callback",
        "chains",
        "commit_interval",
        "compressor",
        "cores",
        "count_earlier_time",
        "deadline",
        "draws",
        "draws_per_chunk",
        "grace",
        "max_time",
        "mp_ctx",
        "on_deadline",
        "preempt_exit_code",
        "preempt_signals",
        "progressbar",
        "progressbar_theme",
        "quiet",
        "resume",
        "save_model",
        "tune",
        "zarr_format",
    ]
)
"""Arguments of `sample` that concern one call, or that the run itself tells."""


def pickled(model: Any, options: Options) -> SavedModel:
    """Return a pickle of the model and of the arguments that are not defaults.

    Raises
    ------
    ArgumentError
        If cloudpickle cannot pickle them.
    """
    defaults = Options()
    arguments = {
        field.name: value
        for field in fields(options)
        if field.name not in _NOT_SAVED
        and not _is_same(value := getattr(options, field.name), getattr(defaults, field.name))
    }
    try:
        # Together, since a step method refers to the variables of the model.
        data = cloudpickle.dumps({"model": model, "arguments": arguments})
    except Exception as error:  # whatever the parts of a model raise
        raise ArgumentError(
            f"save_model=True: the model cannot be pickled: {type(error).__name__}: {error}. "
            "Nothing was written. Leave save_model out, and continue the run from its script."
        ) from error
    known = versions() | {"cloudpickle": cloudpickle.__version__}
    return SavedModel(data, known, tuple(sorted(arguments)))


def _is_same(value: Any, default: Any) -> bool:
    if isinstance(value, bool | int | float | str | tuple | dict):
        return type(value) is type(default) and value == default
    return value is default


def load_model(store: Store, saved: SavedModel) -> tuple[Any, dict[str, Any]]:
    """Load the model of a run and its arguments of `sample`; this runs code from the store.

    Raises
    ------
    ArgumentError
        If it cannot be loaded.
    """
    try:
        found = cloudpickle.loads(saved.data)
        model, arguments = found["model"], dict(found["arguments"])
    except ModuleNotFoundError as error:
        raise ArgumentError(
            f"{store.name}: the saved model needs the module {error.name}, which is not here. "
            "Install it or add its folder to PYTHONPATH, or pass --model FILE.py:NAME."
        ) from error
    except Exception as error:  # whatever a pickle of other versions raises
        raise ArgumentError(
            f"{store.name}: the saved model cannot be loaded: {type(error).__name__}: {error}. It "
            f"was saved with {saved.written_by}. Use these versions, or pass --model FILE.py:NAME."
        ) from error
    step_kwargs = arguments.pop("step_kwargs", {})
    return model, {**arguments, **step_kwargs}
