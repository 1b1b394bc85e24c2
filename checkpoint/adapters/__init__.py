"""Step method <-> columns. Knows nothing of zarr.

Read `steps.py` first: a `StepAdapter` captures and restores one step method through the
fields of `fields.py`. `pickled.py` is the way for step methods that declare no state.
"""

from checkpoint.adapters.base import Adapter, AdapterSchema
from checkpoint.adapters.pickled import PickledAdapter
from checkpoint.adapters.schema import check_declared, describe, make_adapter, with_lists
from checkpoint.adapters.steps import StepAdapter

__all__ = [
    "Adapter",
    "AdapterSchema",
    "PickledAdapter",
    "StepAdapter",
    "check_declared",
    "describe",
    "make_adapter",
    "with_lists",
]
