"""Repeat early draws from recorded state, to find step methods whose state is incomplete.

Twice in a chain, at the second draw of warm-up and at the second after it, a fresh step method is
restored from what was recorded and repeats a draw. The outcome, with the reason of a failure, is
recorded: draws without one are rehearsed before more is drawn or returned. When a chain is
continued, its last recorded draw is repeated from the state before it as well, which shows changes
of model, libraries or machine.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from checkpoint.chains.environment import environment, environment_changes
from checkpoint.chains.restoring import (
    RowsThen,
    check_has_state,
    make_row,
    ready,
    repeat,
    unequal_columns,
)
from checkpoint.errors import CheckpointError, DifferentRunError, IncompleteStateError
from checkpoint.format.rows import Values
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.rehearsed import write_failed, write_passed

if TYPE_CHECKING:
    from checkpoint.chains.task import ChainTask
    from checkpoint.recording.writer import ChainWriter

__all__ = [
    "Rehearsal",
    "judge",
    "rehearse_recorded",
    "replay_last_draw",
]

Row = Mapping[str, Values]


class Rehearsal:
    """The rehearsals that are due while a chain is drawn.

    Parameters
    ----------
    task : ChainTask
    record : ChainRecord
        Record of the chain. Its draws that have not passed yet are rehearsed at once.

    Raises
    ------
    IncompleteStateError
        If a draw comes out different.
    """

    def __init__(self, task: "ChainTask", record: ChainRecord) -> None:
        self._task = task
        self._record: ChainRecord | None = None
        self._writer: ChainWriter
        rehearse_recorded(task, record)
        due = task.rehearsed.due(task.manifest.tune, task.n_rows)
        self._due = [draw_idx for draw_idx in due if _is_live(draw_idx, record)]

    @property
    def is_due(self) -> bool:
        """Whether there are draws to rehearse."""
        return bool(self._due)

    def look_at(self, writer: "ChainWriter") -> None:
        """Take the draws to repeat from a writer; called once, before the first draw."""
        self._writer = writer

    def before(self, draw_idx: int) -> None:
        """Keep the state before a draw that will be repeated, as a commit would record it."""
        if draw_idx == self._due[0]:
            self._record = self._writer.as_committed()

    def after(self, draw_idx: int) -> None:
        """Repeat the draw just made, if it is due, and record the outcome.

        Raises
        ------
        IncompleteStateError
            If the repeated draw differs.

        Notes
        -----
        Durability: the draw is durable when an error is raised. That it passed is recorded with
        the next commit.
        """
        if draw_idx != self._due[0] or self._record is None:
            return
        task, writer = self._task, self._writer
        record, self._record = self._record, None
        made = writer.as_committed().rows(draw_idx, draw_idx + 1)
        judge(task, draw_idx, made, lambda: repeat(task, record, draw_idx), commit=writer.commit)
        writer.say_passed(draw_idx)
        del self._due[0]


def rehearse_recorded(task: "ChainTask", record: ChainRecord, keep: bool = True) -> None:
    """Rehearse recorded draws of a chain for which no passed rehearsal is recorded.

    Draws are made again, in memory, from the start of the phase: the second of them once by the
    step method that made the first and once by one restored in between. They are compared with each
    other and not with the recorded ones: on another machine these may differ in the last bit.

    Parameters
    ----------
    task : ChainTask
    record : ChainRecord
    keep : bool
        Whether the outcome is recorded; the caller then holds the lock.

    Raises
    ------
    IncompleteStateError
        If a draw comes out different.
    """
    manifest = task.manifest
    due = task.rehearsed.due(manifest.tune, min(task.n_rows, record.n_rows + 1))
    for draw_idx in due:
        if _is_live(draw_idx, record):
            continue
        check_has_state(manifest, record, record.n_rows - 1)
        first = draw_idx - 1
        if manifest.first_state(task.chain):  # imported: there is no state before
            first = max(first, manifest.first_state(task.chain) + 1)
        sampler, point = ready(task, record, first)
        point, row = make_row(task, sampler, point, first)
        rows = RowsThen(record if first else None, row)
        _, made = make_row(task, sampler, point, first + 1)

        def again(rows: RowsThen = rows, at: int = first + 1) -> Row:
            return repeat(task, rows, at)

        judge(task, first + 1, made.slices(0, 1), again, keep)
        if keep:
            write_passed(task.store, manifest, task.chain, draw_idx)


def _is_live(draw_idx: int, record: ChainRecord) -> bool:
    """Return whether one step method will make both this draw and the one before it."""
    return record.n_rows < draw_idx


def judge(
    task: "ChainTask",
    draw_idx: int,
    made: Row,
    again: Callable[[], Row],
    keep: bool = True,
    commit: Callable[[], None] | None = None,
) -> None:
    """Check that a draw is the same when repeated.

    Parameters
    ----------
    task : ChainTask
    draw_idx : int
    made : mapping of str to array
        Its row.
    again : callable
        Makes it again, from the state before it.
    keep : bool
        Whether a failure is recorded.
    commit : callable, optional
        Makes the draw durable; called before a failure is recorded.

    Raises
    ------
    IncompleteStateError
        If it does not.

    Notes
    -----
    Durability: the failure is durable when the error is raised.
    """
    global_state = np.random.get_state()
    try:
        how, repeated = _compare(made, again)
        if not how:
            return
        is_erratic = repeated is not None and bool(_compare(repeated, again)[0])
    finally:
        np.random.set_state(global_state)
    reason = _reason(task, draw_idx, how, is_erratic)
    if commit is not None:
        commit()
    if keep:
        write_failed(task.store, task.manifest, task.chain, reason)
    raise IncompleteStateError(f"{task.store.name}: {reason}")


def _compare(made: Row, again: Callable[[], Row]) -> tuple[str, Row | None]:
    """Repeat a draw; return how it differs (empty if equal), and the repeated draw."""
    try:
        repeated = again()
    except CheckpointError:
        raise
    except Exception as error:  # the step method lacks an attribute, perhaps
        text = f"{type(error).__name__}: {error!s:.300}".replace("\n", " ")
        return f"failed with {text}", None
    differing = unequal_columns(made, repeated)
    return f"came out different in {_list(differing)}" if differing else "", repeated


def _reason(task: "ChainTask", draw_idx: int, how: str, is_erratic: bool) -> str:
    names = ", ".join(schema.name for schema in task.schemas)
    pickled = [schema.name for schema in task.schemas if schema.is_pickled]
    source = "pickle" if pickled else "recorded state"
    what = f"draw {draw_idx} of chain {task.chain}, repeated from the {source} before it, {how}. "
    if is_erratic:
        return what + (
            "Repeated a second time from the same state, it came out different again: it depends "
            "on something outside the sampler, such as numpy's global generator, a file, a clock "
            "or a counter. pm.sample with the same seed is not reproducible either. Make the model "
            f"and the step methods ({names}) depend only on data and on the step method's own "
            "generator."
        )
    if pickled:
        return what + (
            f"The pickle of {', '.join(pickled)} leaves out what the next draw depends on, or it "
            "draws from a generator of its own. The run could not be resumed exactly: choose "
            "another step method for these variables, sample with pm.sample, or ask its authors "
            "to declare a state."
        )
    return what + (
        f"The declared state of the step methods ({names}) lacks something that the next draw "
        "depends on, or something outside that they read has changed since. Add what is missing to "
        "the `_state_class`; until then this run could not be resumed exactly."
    )


def replay_last_draw(task: "ChainTask", record: ChainRecord) -> None:
    """Check that the last recorded draw follows from the state before it, on this machine now.

    Raises
    ------
    DifferentRunError
        If it does not, although nothing that may alter the last bits has changed.
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
        f"state before it, came out different in {_list(differing)}. A function that the model "
        "calls, or data that it reads while it samples, has changed since the run began. Nothing "
        "was changed. Restore it, or begin a new run in another path.",
        [f"draw {draw_idx} of chain {task.chain}: {name}" for name in differing],
    )


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
