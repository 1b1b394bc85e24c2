"""Sample with PyMC into a Zarr store, be killed anywhere, and continue bit for bit.

The map of the package. A room imports only rooms below it; each verb is a file of its own.

- `sampling`, `opening`, `converting`, `checking`: `sample`, `open`, `convert`, `verify`.
- `cli`: the command line, one file for each verb.
- `interop`: `ZarrTrace` for `pm.sample(trace=...)`, draws of others, stores that PyMC wrote.
- `runs`: one call: the same run or another, create, extend, draw, hand over.
- `chains`: when to step: one chain, restoring, rehearsal, populations, worker processes.
- `reading`: what a run shows without its model, how far it is, and whether it is whole.
- `recording`: rows on their way to disk, and back after a crash.
- `hierarchy`: the Zarr tree: root, nodes, documents.
- `adapters`: step method <-> columns.
- `_pymc`: PyMC's insides; nothing else knows them.
- `stores`: keys and values, locks, claims, durability.
- `format`: bytes <-> values; knows no store and no PyMC.
- `errors`: what can go wrong, and what to do.
- `printable`: text of others, as it may be shown.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from checkpoint import errors, stores
    from checkpoint.checking import verify
    from checkpoint.converting import convert
    from checkpoint.errors import Preempted
    from checkpoint.interop.trace.zarr_trace import ZarrTrace
    from checkpoint.interop.zarr_trace_store.run import PyMCRun
    from checkpoint.opening import Run, open
    from checkpoint.reading.damage_report import Verification
    from checkpoint.reading.status import Status
    from checkpoint.reading.until import until
    from checkpoint.sampling import sample

__all__ = [
    "Preempted",
    "PyMCRun",
    "Run",
    "Status",
    "Verification",
    "ZarrTrace",
    "convert",
    "errors",
    "open",
    "sample",
    "stores",
    "until",
    "verify",
]

# Where each public name is. It is imported when it is first asked for, so that opening a run and
# looking at it do not import PyMC.
_HOMES = {
    "Preempted": "checkpoint.errors",
    "PyMCRun": "checkpoint.interop.zarr_trace_store.run",
    "Run": "checkpoint.opening",
    "Status": "checkpoint.reading.status",
    "Verification": "checkpoint.reading.damage_report",
    "ZarrTrace": "checkpoint.interop.trace.zarr_trace",
    "convert": "checkpoint.converting",
    "open": "checkpoint.opening",
    "sample": "checkpoint.sampling",
    "until": "checkpoint.reading.until",
    "verify": "checkpoint.checking",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pymc-checkpoint")
    if name in ("errors", "stores"):
        return import_module(f"checkpoint.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
