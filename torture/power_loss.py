"""Power loss: what was not synced is kept, dropped, torn or garbage; names are kept or undone.

The system calls of a recorded run fall into intervals, each up to where something is synced. For
each it is drawn, many times, what a disk may be left with: half of the outcomes after its last
call, where all can be left that could be earlier, the others after any of its calls. Those that
differ are opened and held against the oracle; some of them are gone on with.
"""

import random
import tempfile
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import zarr

from torture.disk import Tree
from torture.report import Effort, Row
from torture.scene import Promised, lay_out
from torture.spread import spread
from torture.stories import KINDS, Story, after_a_kill, stories

__all__ = ["trial"]


@dataclass
class _Found:
    """What came of the outcomes of one interval."""

    n_drawn: int = 0
    n_distinct: int = 0
    n_finished: int = 0
    wrong: list[str] = field(default_factory=list)


_EVERY_KILL = {".zarr": (250, 120), ".zip": (40, 8)}
_EVERY_INTERVAL = {".zarr": (9, 1), ".zip": (4, 1)}
"""One of so many is followed; in the short form and in the long one."""


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Cut the power in each interval between syncs, of runs in directories and zip files."""
    rows = []
    for kind, kind_name in KINDS.items():
        told = [*stories(folder / kind_name, kind)]
        # Killed, gone on with, and only then the power fails: nobody synced what was left.
        new = told[0]
        kills = [*new.points()][:: effort.of(*_EVERY_KILL[kind])]
        told += [after_a_kill(new, n, folder / f"{kind_name}-{n}") for n in kills]
        intervals = [(story, calls) for story in told for calls in story.intervals()]
        intervals = intervals[:: effort.of(*_EVERY_INTERVAL[kind])]
        cut = partial(_cut_power, seed=seed, n_outcomes=effort.of(40, 2000))
        found = [*spread(cut, intervals)]
        n_calls = sum(len(calls) for _, calls in intervals)
        rows.append(_row(kind_name, len(told), n_calls, found))
    return rows


def _row(kind: str, n_stories: int, n_calls: int, found: list[_Found]) -> Row:
    return Row(
        fails=f"the power ({kind})",
        survives="every committed draw; what was not synced is there or not, never wrong",
        tested=f"{n_calls:,} system calls of {n_stories} runs make {len(found):,} intervals "
        f"between syncs; in each, {max(one.n_drawn for one in found):,} seeded outcomes, half of "
        "them after its last call: unsynced writes kept, dropped, torn or garbage, unsynced names "
        "kept or undone; "
        f"{sum(one.n_distinct for one in found):,} differed and were opened, all rows compared; "
        f"{sum(one.n_finished for one in found):,} of them finished and compared",
        n_tried=sum(one.n_drawn for one in found),
        broken=[line for one in found for line in one.wrong],
    )


def _cut_power(at: tuple[Story, range], seed: int, n_outcomes: int) -> _Found:
    """Cut the power in an interval of a story, in many ways."""
    story, calls = at
    rng = random.Random(f"{seed} {calls}")
    anywhere = [rng.choice(calls) for _ in range(n_outcomes // 2)]
    times = sorted([*anywhere, *[calls[-1]] * (n_outcomes - len(anywhere))])
    found, seen = _Found(), set()
    before: Tree | None = None
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        for i, n in enumerate(times):
            disk, promised = story.after(n)
            tree = disk.crash(random.Random(f"{seed} {n} {i}"))
            found.n_drawn += 1
            key = hash((frozenset(tree.items()), promised.draws, *promised.n_rows.values()))
            if key in seen:
                continue
            seen.add(key)
            found.n_distinct += 1
            lay_out(work, tree, before)
            before = tree
            wrong = story.scene.look(work / story.store, promised).wrong
            is_to_finish = len(seen) <= 2 or len(seen) % 100 == 0
            if is_to_finish and not (story.name == "converting" and not promised.draws):
                found.n_finished += 1
                wrong += _finish(story, work / story.store, promised)
                before = None
            found.wrong += [f"{story.name}, after {n} calls, seed {seed} {i}: {w}" for w in wrong]
    return found


def _finish(story: Story, store: Path, promised: Promised) -> list[str]:
    try:
        if promised.draws and store.is_dir():
            _read_with_zarr(store)
        return story.scene.finish(store)
    except Exception as error:
        return [f"cannot be gone on with: {type(error).__name__}: {error}"]


def _read_with_zarr(store: Path) -> None:
    """Read the draws in arrays as any other program does."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, node in zarr.open_group(store, mode="r").members(max_depth=None):
            if isinstance(node, zarr.Array) and node.name.startswith("/posterior"):
                node[...]
