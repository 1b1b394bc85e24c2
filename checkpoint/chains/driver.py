"""The loop that draws one chain: step, record, listen.

The loop depends on no step method, model or store: it is given a `Sampler`, a `Recording` and the
`Rehearsals` that are due. A half-done step is never recorded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from checkpoint.adapters.sampler import BlockSampler, Point, Sampler, Stats
from checkpoint.errors import ChainError, CheckpointError
from checkpoint.format.rows import Values

__all__ = ["Course", "Observer", "Recording", "Rehearsals", "drive"]


class Observer(Protocol):
    """Is notified of each draw of a chain, and may stop the chain."""

    def should_stop(self) -> bool:
        """Return whether to stop before the next draw."""

    def saw(self, chain: int, n_rows: int, point: Point, stats: Any) -> None:
        """Handle a draw that was recorded."""


class Recording(Protocol):
    """Records the draws of one chain."""

    @property
    def n_rows(self) -> int:
        """Draws recorded, warm-up included."""

    def record(self, point: Point, stats: Stats) -> None:
        """Record a draw."""

    def record_block(self, rows: Mapping[str, Values]) -> tuple[Point, Stats]:
        """Record many draws, given as columns; return point and stats of the last."""

    def commit(self) -> None:
        """Make every recorded draw durable."""

    def seal(self) -> None:
        """Bring a finished chain into its final form."""


class Rehearsals(Protocol):
    """Repeats draws of the chain, to check that its recorded state is complete."""

    @property
    def is_due(self) -> bool:
        """Whether there are draws to repeat."""

    def before(self, draw_idx: int) -> None:
        """Keep the state before a draw, if the draw will be repeated."""

    def after(self, draw_idx: int) -> None:
        """Repeat the draw just recorded, if it is due."""


@dataclass(frozen=True)
class Course:
    """The number of draws that a chain should have.

    Attributes
    ----------
    name : str
        Name of the run in messages.
    chain : int
    tune : int
        Draws of warm-up.
    n_rows : int
        Draws to have at the end of this call, warm-up included.
    total : int
        Draws of a finished chain, warm-up included.
    """

    name: str
    chain: int
    tune: int
    n_rows: int
    total: int


def drive(
    course: Course,
    sampler: Sampler,
    point: Point,
    recording: Recording,
    rehearsals: Rehearsals,
    observer: Observer,
) -> None:
    """Draw until the chain has all its draws, or the observer asks to stop.

    Raises
    ------
    ChainError
        If a step raises. What was recorded before is committed.

    Notes
    -----
    Durability: on return every draw is durable; a finished chain is sealed.
    """
    try:
        if isinstance(sampler, BlockSampler):
            _draw_blocks(course, sampler, point, recording, rehearsals, observer)
        else:
            _draw(course, sampler, point, recording, rehearsals, observer)
    except CheckpointError:
        raise
    except Exception as error:
        recording.commit()
        raise ChainError(
            f"{course.name}: chain {course.chain} failed at draw {recording.n_rows} of "
            f"{course.total}: {type(error).__name__}: {error}. The {recording.n_rows} draws "
            "before it are recorded. Fix the cause, then run the same command again.",
            course.chain,
        ) from error
    except BaseException:
        # Asked to stop from inside a step or a callback: what is recorded is whole.
        recording.commit()
        raise
    recording.commit()
    if recording.n_rows == course.total:
        recording.seal()


def _draw(
    course: Course,
    sampler: Sampler,
    point: Point,
    recording: Recording,
    rehearsals: Rehearsals,
    observer: Observer,
) -> None:
    for draw_idx in range(recording.n_rows, course.n_rows):
        if observer.should_stop():
            return
        if draw_idx == course.tune:
            sampler.stop_tuning()
        if rehearsals.is_due:
            rehearsals.before(draw_idx)
        point, stats = sampler.step(point)
        recording.record(point, stats)
        if rehearsals.is_due:
            rehearsals.after(draw_idx)
        sampler.warn(stats)
        observer.saw(course.chain, draw_idx + 1, point, stats)


def _draw_blocks(
    course: Course,
    sampler: BlockSampler,
    point: Point,
    recording: Recording,
    rehearsals: Rehearsals,
    observer: Observer,
) -> None:
    """Draw as `_draw` does, many draws in a call once the rehearsals are over."""
    while recording.n_rows < course.n_rows and not observer.should_stop():
        draw_idx = recording.n_rows
        if draw_idx == course.tune:
            sampler.stop_tuning()
        if rehearsals.is_due:
            rehearsals.before(draw_idx)
        n_draws = 1 if rehearsals.is_due else _block_length(course, sampler, draw_idx)
        point, stats = recording.record_block(sampler.step_block(point, n_draws))
        if rehearsals.is_due:
            rehearsals.after(draw_idx)
        sampler.warn(stats)
        observer.saw(course.chain, draw_idx + n_draws, point, stats)


def _block_length(course: Course, sampler: BlockSampler, draw_idx: int) -> int:
    """Return how many draws to make at once, within one phase and within the missing draws."""
    end = min(course.tune, course.n_rows) if draw_idx < course.tune else course.n_rows
    return min(sampler.block_length, end - draw_idx)
