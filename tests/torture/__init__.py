"""The torture bench: what may happen to a run is done to it, many times, and what is left compared.

    cd tests && python -m torture             # some minutes: a sample of everything
    cd tests && python -m torture --long      # hours: what docs/guarantees.md shows

Each trial is a module with one function, ``trial(effort, seed, folder)``, which returns rows of the
table of guarantees. The oracle is always the same: a run that nothing happened to, compared with
``==``.
"""
