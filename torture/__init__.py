"""The torture bench: what may happen to a run is done to it, many times, and what is left compared.

    python -m torture             # some minutes: a sample of everything
    python -m torture --long      # hours: everything

Each trial is a module with one function, ``trial(effort, seed, folder)``, which returns rows of the
table of guarantees. Beside them lie what several of them need:

- `report` is a row of the table; `__main__` runs trials and prints it.
- `recorder` writes down system calls, `disk` follows them as a disk does, `stories` are the runs
  that are recorded, `scene` begins, opens and finishes them, `spread` uses all processors: for
  `crash_points` and `power_loss`.
- `warm` starts runs in processes that are killed, `diary` keeps when each draw was made, `oracle`
  compares rows: for `kills`, `full_disk`, `long_run`. `file_systems` mounts small ones.
- `views_of_runs` is all that a run shows: for `damage`. `attacks` are those of `hostile`, `readers`
  those that `fuzzing` and `coverage_guided` feed.

The oracle is always the same: a run that nothing happened to, compared with ``==``.
"""

import sys
from pathlib import Path

# The models and comparisons of the tests serve the bench too.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
