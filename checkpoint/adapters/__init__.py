"""Step method <-> columns. Knows nothing of zarr.

Read `declared.py` first: a `StepAdapter` captures and restores one step method through the
fields of `fields.py`. `pickled.py` does so for step methods that declare no state, and
`describing.py` chooses between the two. `step_method.py` steps a chain with PyMC's step methods.
These last three import PyMC's internals; `fields.py` and `objects.py` do so only when needed.
"""
