"""Every crash point: the process is gone before, in, and after each system call that writes.

A run is sampled once and its calls recorded. For each number of calls the files are laid out as
they were then, the run is opened, held against the oracle, gone on with, and compared again.
"""

import itertools
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from torture.disk import Tree
from torture.report import Effort, Row
from torture.scene import Promised, lay_out
from torture.spread import spread
from torture.stories import KINDS, Story, after_a_kill, stories

__all__ = ["trial"]

_BY_USER = 25
"""One outcome of so many is gone on with by the whole command; others with what it prepares."""


_EVERY = {".zarr": (700, 60), ".zip": (90, 4)}
"""Of so many kills one is followed by a second; in the short form and in the long one."""


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Kill runs of directories and zip files after each of their system calls."""
    rows = []
    for kind, kind_name in KINDS.items():
        told = [*stories(folder / kind_name, kind)]
        points = [(story, n) for story in told for n in story.points()][:: effort.of(29, 1)]
        found = [*spread(_kill, points)]
        of = f"{len(told)} runs, begun, sealed, finished, extended, merged, converted"
        rows.append(_row(kind_name, "at any system call", of, found))
        # A second kill, in going on after a first one.
        again = [(story, n) for story in told[1:3] for n in story.points()]
        again = again[:: effort.of(*_EVERY[kind])]
        kill_again = partial(_kill_again, stride=effort.of(9, 1))
        found = [*itertools.chain(*spread(kill_again, again, chunk=1))]
        of = f"what goes on with a run that was killed, after {len(again)} kills"
        rows.append(_row(kind_name, "again while it goes on from a kill", of, found))
    return rows


def _row(kind: str, when: str, of: str, found: list[tuple[int, list[str]]]) -> Row:
    n_outcomes = sum(n for n, _ in found)
    return Row(
        fails=f"the process, {when} ({kind})",
        survives="every committed draw; the run is gone on with and equals one left alone",
        tested=f"killed before, in and after {len(found):,} system calls of {of}; each outcome "
        "opened, all rows compared, finished, compared",
        n_tried=n_outcomes,
        broken=[line for _, lines in found for line in lines],
    )


def _kill(at: tuple[Story, int]) -> tuple[int, list[str]]:
    """Kill a story after so many calls, and in the middle of the next if it writes."""
    story, n = at
    disk, promised = story.after(n)
    promised = replace(promised, n_rows=dict(promised.n_rows))
    trees = [disk.now()]
    if n < len(story.operations) and len(story.operations[n].data) > 1:
        trees.append(disk.half_way(story.operations[n]))
    wrong = [
        f"{story.name}, after {n} calls{', in the next' if i else ''}: {line}"
        for i, tree in enumerate(trees)
        for line in _check(story, n, tree, promised)
    ]
    return len(trees), wrong


def _kill_again(at: tuple[Story, int], stride: int) -> list[tuple[int, list[str]]]:
    story, n = at
    with tempfile.TemporaryDirectory() as folder:
        again = after_a_kill(story, n, Path(folder))
    return [_kill((again, m)) for m in [*again.points()][::stride]]


def _check(story: Story, n: int, tree: Tree, promised: Promised) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        lay_out(work, tree)
        store = work / story.store
        wrong = story.scene.look(store, promised).wrong
        if story.name.startswith("converting") and not promised.draws:
            return wrong  # no run, or all of it; there is nothing to go on with
        try:
            finish = story.scene.finish_as_user if n % _BY_USER == 0 else story.scene.finish
            return wrong + finish(store)
        except Exception as error:
            return [*wrong, f"cannot be gone on with: {type(error).__name__}: {error}"]
