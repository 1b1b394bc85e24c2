"""`ZarrTrace`, for `pm.sample(trace=...)`: the same run, drawn by PyMC's drivers."""
