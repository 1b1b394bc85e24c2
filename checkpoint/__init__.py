"""Sample with PyMC into a Zarr store, be killed anywhere, and go on bit for bit.

The map of the package, from the top down; a module imports only what is below it:

- `sampling` is `sample()`; `inspection` is `open()` and its `Run`; `views` is what a run shows.
- `run` finds or creates what is sampled, `checks` hold it against the call, `driving` draws.
- `chain` drives one chain, `workers` many in processes, `population` many in lock step.
- `rehearsal` repeats draws from recorded states, so that what cannot be resumed shows early.
- `writer` records, commits and seals; `recovery` reads back; `manifest` says what run it is.
- `adapters` turn a step method into columns and back; `_pymc` alone knows PyMC's insides.
- `recording`, `rows`, `commit_log`, `sealing`, `hierarchy`, `arrays` are rows on their way to Zarr.
- `pymc_store` and `zarr2` read what PyMC's ZarrTrace wrote; `pymc_run` shows it as a run.
- `stores` keep bytes, as Zarr stores do; `durability` alone syncs; `layout` names every path.
- `cli` is the command line.
"""

from checkpoint import errors, stores
from checkpoint.inspection import Run, open
from checkpoint.pymc_run import PyMCRun
from checkpoint.sampling import sample

__all__ = ["PyMCRun", "Run", "errors", "open", "sample", "stores"]
