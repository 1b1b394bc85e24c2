"""Resume before it is needed: a step method whose state is incomplete is found at once.

Twice in a new chain, early in warm-up and just after it, a fresh step method is restored from
what it has committed and repeats a draw. When a chain is continued, its last recorded draw is
repeated from the state before it: whatever changed in model, libraries or machine shows there.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from checkpoint._pymc.steps import copy_generator, copy_step, flatten, start_chain
from checkpoint.adapters import Adapter, make_adapter
from checkpoint.errors import DifferentRunError, IncompleteStateError
from checkpoint.manifest import environment, environment_changes
from checkpoint.recording import Recorder
from checkpoint.recovery import ChainRecord, recover
from checkpoint.rows import RowBuffer, RowSource, Values

if TYPE_CHECKING:
    from checkpoint.chain import ChainTask
    from checkpoint.writer import ChainWriter

__all__ = [
    "CLOCK_STATS",
    "Rehearsal",
    "repeat",
    "replay_last_draw",
    "step_once",
    "unequal_columns",
]

CLOCK_STATS = frozenset({"perf_counter_diff", "process_time_diff", "perf_counter_start", "time"})
"""Stats that tell the time; the only ones in which equal runs differ."""


class Rehearsal:
    """The rehearsals of one new chain."""

    def __init__(self, task: "ChainTask") -> None:
        self._task = task
        tune, last = task.manifest.tune, task.n_rows - 1
        self._draws = {draw for draw in (1, tune + 1) if draw <= last}

    def before(self, draw_idx: int, writer: "ChainWriter") -> None:
        """Commit the state before a draw that will be repeated."""
        if draw_idx in self._draws:
            writer.commit()

    def after(self, draw_idx: int, writer: "ChainWriter") -> bool:
        """Repeat the draw just made; return whether all rehearsals are done.

        Raises
        ------
        IncompleteStateError
            If it comes out different.
        """
        if draw_idx in self._draws:
            writer.commit()
            record = recover(self._task.store, self._task.manifest, self._task.chain)
            made = record.rows(draw_idx, draw_idx + 1)
            global_state = np.random.get_state()
            differing = unequal_columns(made, repeat(self._task, record, draw_idx))
            np.random.set_state(global_state)
            if differing:
                raise IncompleteStateError(self._message(draw_idx, differing))
        return draw_idx >= max(self._draws, default=0)

    def _message(self, draw_idx: int, differing: list[str]) -> str:
        names = ", ".join(schema.name for schema in self._task.schemas)
        pickled = [schema.name for schema in self._task.schemas if schema.is_pickled]
        if pickled:
            return (
                f"{self._task.store.name}: draw {draw_idx} of chain {self._task.chain}, repeated "
                f"from the pickle before it, came out different in {_list(differing)}. The pickle "
                f"of {', '.join(pickled)} leaves out what the next draw depends on, or it draws "
                "from a generator of its own. It cannot be resumed exactly: choose another step "
                "method for these variables, or ask its authors to declare a state."
            )
        return (
            f"{self._task.store.name}: draw {draw_idx} of chain {self._task.chain}, repeated from "
            f"the recorded state before it, came out different in {_list(differing)}. The declared "
            f"state of the step methods ({names}) lacks something that the next draw depends on, "
            "or a draw depends on something outside them. Add it to the `_state_class`; "
            "until then this run could not be resumed exactly."
        )


def replay_last_draw(task: "ChainTask", record: ChainRecord) -> None:
    """Hold that the last recorded draw follows from the state before it, on this machine now.

    Raises
    ------
    DifferentRunError
        If it does not and nothing that may alter the last bits has changed.
    """
    draw_idx = record.n_rows - 1
    first = 1 + task.manifest.first_state(task.chain)  # the state before it is needed
    if draw_idx < first or any(schema.is_pickled for schema in task.schemas):
        return
    made = record.rows(draw_idx, draw_idx + 1)
    differing = unequal_columns(made, repeat(task, record, draw_idx))
    if not differing or task.manifest.fastmath:  # which a warm compile cache alone may explain
        return
    if environment_changes(task.manifest.environment, environment()):
        return  # reported when the run was opened; exactness ends here
    raise DifferentRunError(
        f"{task.store.name}: draw {draw_idx} of chain {task.chain}, repeated from the recorded "
        f"state before it, came out different in {_list(differing)}. The model's code, or data "
        "that it reads by itself, is not what the run began with. Nothing was changed. "
        "Restore them, or begin a new run in another path.",
        [f"draw {draw_idx} of chain {task.chain}: {name}" for name in differing],
    )


def repeat(task: "ChainTask", rows: RowSource, draw_idx: int) -> dict[str, Values]:
    """Make a draw with a fresh step method, restored from the row before; return its row.

    Not of a population, whose chains look at each other.
    """
    from checkpoint.chain import point_at, restore_steps

    manifest = task.manifest
    step = copy_step(task.step)
    start_chain(step, copy_generator(task.rng), manifest.tune, manifest.draws, manifest.sequential)
    adapters = [make_adapter(schema) for schema in task.schemas]
    step = restore_steps(step, adapters, rows, draw_idx - 1)
    point = point_at(manifest, rows, draw_idx - 1)
    return step_once(task, step, adapters, point, draw_idx)


def step_once(
    task: "ChainTask", step: Any, adapters: Sequence[Adapter], point: Any, draw_idx: int
) -> dict[str, Values]:
    """Make a draw with a step method that is ready for it; return its row."""
    buffer = RowBuffer(task.manifest.columns, 1, draw_idx)
    recorder = Recorder(task.plan, task.compute, adapters, flatten(step), buffer)
    if draw_idx == task.manifest.tune:
        step.stop_tuning()
    point, stats = step.step(point)
    recorder.record(point, stats)
    recorder.settle()
    return buffer.slices(0, 1)


def unequal_columns(made: Mapping[str, Values], repeated: Mapping[str, Values]) -> list[str]:
    """Return the columns in which two rows differ, clocks and pickles aside."""
    return [
        path
        for path in made
        if path.rsplit("__", 1)[-1] not in CLOCK_STATS
        and not path.endswith("/pickle")
        and not _same(made[path], repeated[path])
    ]


def _same(a: Values, b: Values) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
