"""Sample with PyMC into a Zarr store, be killed anywhere, and go on bit for bit.

The map of the package, from the top down; a module imports only what is below it:

- `sampling` is `sample()`; `inspection` is `open()` and its `Run`; `views` is what a run shows.
- `trace` is `ZarrTrace`, for `pm.sample(trace=...)`: the same run, drawn by PyMC's drivers.
- `converting` is `convert()`.
- `run` finds or creates what is sampled, `checks` hold it against the call, `driving` draws.
- `chain` drives one chain, `workers` many in processes, `population` many in lock step.
- `rehearsal` repeats draws from recorded states, so that what cannot be resumed shows early.
- `writer` records, commits and seals; `recovery` reads back; `manifest` says what run it is.
- `filling` writes a whole run at once into an empty store.
- `adapters` turn a step method into columns and back; `_pymc` alone knows PyMC's insides.
- `recording`, `rows`, `commit_log`, `sealing`, `arrays` are rows on their way to Zarr;
  `hierarchy` and `contents` are what lies around them, with the checksums of `documents`.
- `pymc_store` and `zarr2` read what PyMC's ZarrTrace wrote; `pymc_run` shows it as a run.
- `stores` keep bytes, as Zarr stores do; `durability` alone syncs; `layout` names every path.
- `verifying` holds a store against its checksums, `replaying` makes recorded draws again.
- `cli` is the command line.
"""

from checkpoint import errors, stores
from checkpoint.converting import convert
from checkpoint.inspection import Run, open
from checkpoint.pymc_run import PyMCRun
from checkpoint.sampling import sample
from checkpoint.trace import ZarrTrace

__all__ = ["PyMCRun", "Run", "ZarrTrace", "convert", "errors", "open", "sample", "stores"]
